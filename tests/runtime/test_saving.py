"""Saving beside the training: in order, one copy waited for, errors heard."""

from __future__ import annotations

import dataclasses
import errno
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_trial_save import Listener

from raysweep.core.events import AttemptId
from raysweep.errors import Stopped, UnstorableError
from raysweep.runtime import trial as trials
from raysweep.runtime.messages import Order
from raysweep.runtime.saving import Saver
from raysweep.runtime.trial import Trial, run
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Taken, copies


def test_states_are_saved_in_order_beside_who_takes_them() -> None:
    """Two are taken while nothing is saved yet; all are saved as they were."""
    saved: list[float] = []
    go_on, weights = threading.Event(), torch.zeros(10)

    def save(taken: Taken) -> None:
        assert go_on.wait(10)
        saved.append(torch.frombuffer(taken.rows[0][1].flat(), dtype=torch.float32).mean().item())

    saver = Saver(go_on.set)  # which is heard when the third has to wait
    for number in range(5):
        weights.fill_(number)
        saver.take({"w": weights}, save)
        assert [] == saved or number > 1
    saver.close()
    assert [0.0, 1.0, 2.0, 3.0, 4.0] == saved
    with pytest.raises(RuntimeError, match="nothing more can be saved"):
        saver.take({}, save)


def test_no_more_than_two_states_wait_for_a_slow_storage() -> None:
    """Whatever they are made of: bytes need no copy, and still take memory."""
    go_on, heard = threading.Event(), threading.Event()

    def save(_: Taken) -> None:
        assert go_on.wait(10)

    saver = Saver(heard.set)
    for _ in range(2):
        saver.take(b"files", save)
    assert not heard.is_set()
    third = threading.Thread(target=saver.take, args=(b"files", save))
    third.start()
    assert heard.wait(10)
    assert third.is_alive()
    go_on.set()
    third.join(10)
    assert not third.is_alive()
    saver.close()


def test_memory_that_another_state_gives_back_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is room for one copy, the second state waits for it and is copied then."""
    room = [2**40]
    monkeypatch.setattr(copies, "free_memory", lambda: room[0])
    copied: list[bool] = []
    go_on = threading.Event()

    def save(taken: Taken) -> None:
        room[0] = 0
        assert go_on.wait(10)
        copied.append(taken.copied)

    saver = Saver(go_on.set)
    for _ in range(3):
        saver.take({"w": torch.zeros(10)}, save)
    saver.close()
    assert [True] * 3 == copied


def test_without_memory_for_a_copy_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved when `take` returns may change."""
    monkeypatch.setattr(copies, "free_memory", lambda: 0)
    saved: list[Taken] = []
    saver = Saver(lambda: None)
    saver.take({"w": torch.zeros(10)}, saved.append)
    assert 1 == len(saved)
    saver.close()


def test_what_goes_wrong_reaches_the_trial_once() -> None:
    """At its next checkpoint or at its end; what comes after it is saved all the same."""

    def fail(_: Taken) -> None:
        raise OSError(errno.ENAMETOOLONG, "too long")

    before = set(threading.enumerate())
    saved: list[Taken] = []
    saver = Saver(lambda: None)
    saver.take(1, fail)
    with pytest.raises(OSError, match="too long"):
        saver.settle()
    saver.take(2, saved.append)
    saver.take(3, fail)
    with pytest.raises(OSError, match="too long"):
        saver.close()
    assert 1 == len(saved)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_an_interrupt_does_not_leave_anything_unsaved() -> None:
    """Whoever waits for the end is interrupted, and goes when all is saved."""
    saved: list[Taken] = []
    interrupted = threading.Event()

    def save(taken: Taken) -> None:
        assert interrupted.wait(10)
        saved.append(taken)

    def hear() -> None:
        interrupted.set()
        raise KeyboardInterrupt

    saver = Saver(hear)
    saver.take(1, save)
    saver.take(2, save)
    with pytest.raises(KeyboardInterrupt):
        saver.close()
    assert 2 == len(saved)


# Within a trial


@pytest.fixture
def listener() -> Listener:
    """What hears the trial."""
    return Listener()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """What a trial is told to do."""
    return Order(
        id=AttemptId(3, 2), params={}, seed=1, folder=str(tmp_path), start=5, metric="score"
    )


def kinds(listener: Listener) -> list[object]:
    """What was said, but for the metrics' names."""
    return [message[0] for message in listener.heard if message[0] != "metrics"]


def test_the_end_waits_for_all_checkpoints(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is over before the first of them is on the disk, and each is announced before the end."""
    trained, write = threading.Event(), checkpoints.write

    def slowly(*arguments: object) -> checkpoints.Saved:
        assert trained.wait(10)
        return write(*arguments)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(checkpoints, "write", slowly)

    def train(trial: Trial) -> None:
        for number in range(2):
            trial.report(score=number, checkpoint={"w": torch.full((3,), number)})
        trial.report(other=1)
        trained.set()

    run(train, order, listener)
    assert ["report", "report", "report", "saved", "saved", "end"] == kinds(listener)
    paths = [Path(order.folder) / message[2] for message in listener.heard if message[0] == "saved"]
    assert [0, 1] == [checkpoints.load(path)["w"][0].item() for path in paths]
    assert [(1, 6), (2, 7)] == [
        (about["report"], about["interval"]) for about in map(checkpoints.metadata, paths)
    ]
    told = checkpoints.metadata(paths[1])
    assert (3, 2, {"score": 1}) == (told["trial"], told["attempt"], told["metrics"])


def refusing(error: int, times: float = float("inf")) -> Callable[..., checkpoints.Saved]:
    """A storage that takes nothing at first."""
    left, write = [times], checkpoints.write

    def refuse(*arguments: object) -> checkpoints.Saved:
        left[0] -= 1
        if left[0] < 0:
            return write(*arguments)  # type: ignore[arg-type]  # as it was called
        raise OSError(error, "refused")

    return refuse


def test_a_storage_that_is_full_is_waited_for(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial goes on meanwhile, and its end waits."""
    monkeypatch.setattr(trials, "RETRY", 0.01)
    monkeypatch.setattr(checkpoints, "write", refusing(errno.ENOSPC, times=3))
    run(lambda trial: trial.report(score=1, checkpoint=1), order, listener)
    assert ["report", "saved", "end"] == kinds(listener)


def test_a_trial_that_is_stopped_does_not_wait_for_a_storage_that_is_full(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends without its last checkpoint, which nobody was promised."""
    monkeypatch.setattr(trials, "RETRY", 0.01)
    monkeypatch.setattr(checkpoints, "write", refusing(errno.ENOSPC))

    def train(trial: Trial) -> None:
        trial.report(score=1, checkpoint=1)
        listener.told.append(["stop", "the policy"])

    run(train, order, listener)
    assert ["report", "end"] == kinds(listener)
    assert "returned" == listener.heard[-1][1]


def test_settling_does_not_hide_that_a_checkpoint_was_left_out(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits until all is durable hears of the stop instead."""
    monkeypatch.setattr(trials, "RETRY", 0.01)
    monkeypatch.setattr(checkpoints, "write", refusing(errno.ENOSPC))
    trial = Trial(order, listener)
    trial.report(score=1, checkpoint=1)
    listener.told.append(["stop", "the policy"])
    with pytest.raises(Stopped, match="the policy"):
        trial.settle()
    trial.finish()


def test_a_checkpoint_that_cannot_be_saved_fails_the_trial(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that will not pass is the trial's, though its function has returned."""
    monkeypatch.setattr(checkpoints, "write", refusing(errno.ENAMETOOLONG))
    run(lambda trial: trial.report(score=1, checkpoint=1), order, listener)
    assert ["end", "raised", "OSError: [Errno 36] refused"] == listener.heard[-1][:3]


@pytest.mark.parametrize(("leaves", "ending"), [(False, "raised"), (True, "lost")])
def test_a_failed_save_hides_no_other_end(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch, ending: str, *, leaves: bool
) -> None:
    """What the training function raised is what the trial ends with; the log has the other."""
    monkeypatch.setattr(checkpoints, "write", refusing(errno.ENAMETOOLONG))

    def train(trial: Trial) -> None:
        listener.told.extend([["leave"]] if leaves else [])
        trial.report(score=1, checkpoint=1)
        raise ZeroDivisionError("mine")

    run(train, order, listener)
    assert ["end", ending] == listener.heard[-1][:2]
    assert leaves or "ZeroDivisionError: mine" == listener.heard[-1][2]


def test_what_a_checkpoint_cannot_be_restored_for_is_the_trials_end(
    listener: Listener, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not damaged, so it is not given up: the trial fails with the reason."""
    path = Path(order.folder) / "c.arrow"
    checkpoints.save(path, {"w": torch.ones(1)})
    monkeypatch.setitem(sys.modules, "torch", None)
    run(lambda _: None, dataclasses.replace(order, checkpoint="c.arrow"), listener)
    kind, ending, error, *_, damaged = listener.heard[-1]
    assert ("end", "raised", "") == (kind, ending, damaged)
    assert "holds w, which is a tensor, but torch cannot be imported here" in error


def test_a_signals_handler_may_save_while_the_trial_does(listener: Listener, order: Order) -> None:
    """As on a machine that is about to be taken away, at whatever moment it hears of that."""

    class Interrupted:
        def state_dict(self) -> dict[str, int]:
            signal.raise_signal(signal.SIGUSR1)
            return {"mine": 1}

    def train(trial: Trial) -> None:
        def handle(*_: object) -> None:
            trial.report(score=2, checkpoint={"handlers": torch.ones(3)})

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            trial.report(score=1, checkpoint=Interrupted())
        finally:
            signal.signal(signal.SIGUSR1, before)

    run(train, order, listener)
    assert [2, 1] == [message[1] for message in listener.heard if message[0] == "saved"]
    assert "returned" == listener.heard[-1][1]


def test_a_restored_state_is_not_kept_for_longer_than_it_is_of_use(
    listener: Listener, order: Order
) -> None:
    """After the first report the training has its own, which may be as large."""
    checkpoints.save(Path(order.folder) / "c.arrow", {"w": torch.ones(3)})
    given: list[weakref.ref[torch.Tensor]] = []

    def train(trial: Trial) -> None:
        assert trial.restored
        given.append(weakref.ref(trial.checkpoint()["w"]))
        trial.report(score=1)
        assert trial.checkpoint() is None
        assert trial.restored

    run(train, dataclasses.replace(order, checkpoint="c.arrow"), listener)
    assert "returned" == listener.heard[-1][1]
    assert [None] == [reference() for reference in given]


def test_what_cannot_be_stored_is_said_at_once(listener: Listener, order: Order) -> None:
    """By the report that it was handed to, not by a later one."""

    def train(trial: Trial) -> None:
        with pytest.raises(UnstorableError, match="model is a set"):
            trial.report(score=1, checkpoint={"model": {1}})

    run(train, order, listener)
    assert "returned" == listener.heard[-1][1]
