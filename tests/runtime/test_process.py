"""A trial's process, without Ray: started clean, heard to its end, killed with all it left behind."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
import xml
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from sweeps import alive

from raysweep.core.events import AttemptId
from raysweep.runtime.messages import Message, Order
from raysweep.runtime.process import Processes, TrialProcess
from raysweep.storage.folder import SweepFolder

TRIES = 20  # trials, in which a template has learnt what it ever will
PATIENCE = 60.0  # seconds until a test gives up; never a measure of speed


def run(folder: Path, code: bytes, act: Callable[[Processes], Awaitable[Any]]) -> Any:  # noqa: ANN401  (whatever the test wants back)
    """Let a test act on the processes of a slot whose training function is `code`."""
    sweep = SweepFolder(folder)
    sweep.code.parent.mkdir(parents=True, exist_ok=True)
    sweep.log(0).parent.mkdir(exist_ok=True)
    sweep.code.write_bytes(code)

    async def acted() -> object:
        processes = Processes(sweep, os.environ)
        try:
            return await asyncio.wait_for(act(processes), PATIENCE)
        finally:
            await processes.close()

    return asyncio.run(acted())


def order(folder: Path, **params: object) -> Order:
    """Trial 0, with these parameters."""
    return Order(id=AttemptId(0, 1), params=params, seed=7, folder=str(folder))


async def said_by(trial: TrialProcess) -> AsyncIterator[Message]:
    """What a trial says, each report as ["report", seconds, {metric: value}]."""
    names: list[str] = []
    async for batch in trial.messages(lambda: 0.0):
        for message in batch:
            if message[0] == "metrics":
                names = message[1]
            elif message[0] == "report":
                numbers = array("d", message[1])
                for at in range(0, len(numbers), 1 + len(names)):
                    row = numbers[at + 1 : at + 1 + len(names)]
                    yield ["report", numbers[at], dict(zip(names, row, strict=True))]
            else:
                yield message


async def heard(trial: TrialProcess) -> list[Message]:
    """All that a trial says until it is gone."""
    said = [message async for message in said_by(trial)]
    await trial.gone.wait()
    return said


def test_a_trial_says_what_it_reports_and_how_it_ended(tmp_path: Path) -> None:
    """Reports come in order, the end comes last."""

    def train(trial: Any) -> None:  # noqa: ANN401  (a raysweep Trial)
        trial.report(loss=1)
        trial.report({"val/loss": 0.5})

    async def act(processes: Processes) -> list[Message]:
        return await heard(await processes.start(order(tmp_path)))

    said = run(tmp_path, cloudpickle.dumps(train), act)
    assert [message[0] for message in said] == ["report", "report", "end"]
    assert [message[2] for message in said[:2]] == [{"loss": 1.0}, {"val/loss": 0.5}]
    assert said[-1] == ["end", "returned", "", "", "", ""]


def test_a_trial_that_is_killed_has_said_all_that_it_reported(tmp_path: Path) -> None:
    """Nothing waits in its process, however fast it reports."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        for number in range(trial.params["reports"]):
            trial.report(loss=number)
        os.kill(os.getpid(), signal.SIGKILL)

    async def act(processes: Processes) -> list[Message]:
        return await heard(await processes.start(order(tmp_path, reports=30_000)))

    said = run(tmp_path, cloudpickle.dumps(train), act)
    assert [message[2]["loss"] for message in said] == list(range(30_000))


def test_what_a_trial_prints_is_in_its_log_even_if_it_is_killed(tmp_path: Path) -> None:
    """A killed trial's last lines are wanted most."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        print("width", trial.params["width"])  # noqa: T201  (what is tested)
        os.system("echo from a child")
        os.kill(os.getpid(), signal.SIGKILL)

    async def act(processes: Processes) -> TrialProcess:
        trial = await processes.start(order(tmp_path, width=16))
        await heard(trial)
        return trial

    trial = run(tmp_path, cloudpickle.dumps(train), act)
    assert trial.unsaid_end()[2].startswith("killed by SIGKILL; if nobody sent it, the machine ran")
    assert SweepFolder(tmp_path).log(0).read_text() == "width 16\nfrom a child\n"


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (lambda _: os._exit(3), "its process exited with code 3 without an end"),
        (lambda _: os.abort(), "killed by SIGABRT"),
    ],
)
def test_an_end_that_was_not_told_is_named(
    tmp_path: Path, leave: Callable[[object], None], error: str
) -> None:
    """However a process ends, the end says how."""

    async def act(processes: Processes) -> Message:
        trial = await processes.start(order(tmp_path))
        assert await heard(trial) == []
        return trial.unsaid_end()

    assert run(tmp_path, cloudpickle.dumps(leave), act)[2] == error


def test_sys_exit_is_an_error_unless_it_is_zero(tmp_path: Path) -> None:
    """`sys.exit(2)` fails the trial, `sys.exit()` ends it well."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        raise SystemExit(trial.params["code"])

    async def act(processes: Processes) -> list[Message]:
        trials = [await processes.start(order(tmp_path, code=code)) for code in (0, 2)]
        return [(await heard(trial))[-1] for trial in trials]

    well, badly = run(tmp_path, cloudpickle.dumps(train), act)
    assert well[1] == "returned"
    assert badly[1:3] == ["raised", "SystemExit: 2"]


def test_code_that_cannot_be_imported_fails_every_trial_with_its_error(tmp_path: Path) -> None:
    """The import's error is the trial's."""

    async def act(processes: Processes) -> Message | None:
        assert await heard(await processes.start(order(tmp_path))) == []
        return processes.broken

    broken = run(tmp_path, b"cno_such_module\ntrain\n.", act)
    assert broken[1:4] == [
        "raised",
        "ModuleNotFoundError: No module named 'no_such_module'",
        "import",
    ]


def test_code_whose_import_kills_its_process_fails_every_trial(tmp_path: Path) -> None:
    """An import that does not come back is no reason to wait, or to try for ever."""

    class Deadly:
        def __reduce__(self) -> tuple[object, tuple[int]]:
            return os._exit, (9,)

    async def act(processes: Processes) -> Message | None:
        await heard(await processes.start(order(tmp_path)))
        return processes.broken

    broken = run(tmp_path, cloudpickle.dumps(Deadly()), act)
    assert broken[2] == "importing the training code ended its process, 3 times in a row"


def test_code_that_starts_a_thread_is_run_in_new_interpreters(tmp_path: Path) -> None:
    """A fork beside a thread may hang: every trial imports for itself, and the reason is told."""

    class Threaded:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            source = (
                "__import__('threading').Thread(target=__import__('time').sleep, args=(60,),"
                " daemon=True, name='poller').start() or (lambda trial: trial.report(a=trial.seed))"
            )
            return eval, (source,)

    async def act(processes: Processes) -> tuple[list[Message], str]:
        return await heard(await processes.start(order(tmp_path))), processes.afresh

    said, why = run(tmp_path, cloudpickle.dumps(Threaded()), act)
    assert why == "importing the training code started threads (poller)"
    assert [message[0] for message in said] == ["report", "end"]
    assert said[0][2] == {"a": 7.0}


def test_a_trial_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """Grace, SIGTERM, SIGKILL, and nobody of the group is left."""
    note = tmp_path / "child"

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child:
            Path(trial.params["note"]).write_text(str(child))
            trial.report(a=1)
        while True:
            time.sleep(1)

    async def act(processes: Processes) -> TrialProcess:
        trial = await processes.start(order(tmp_path, note=str(note)))
        said = said_by(trial)  # kept: a connection that nobody reads is closed
        await anext(said)
        await asyncio.sleep(0.3)  # beyond the look for a stop that follows a report
        await trial.stop("enough", grace=0.2)
        await trial.gone.wait()
        return trial

    trial = run(tmp_path, cloudpickle.dumps(train), act)
    assert trial.unsaid_end()[2].startswith("killed by SIGKILL")
    assert not alive(int(note.read_text()))


def test_a_child_that_left_the_group_ends_with_its_trial(tmp_path: Path) -> None:
    """A daemon that inherited the trial's socket and output is not waited for, and not left."""
    note = tmp_path / "daemon"

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        daemon = os.fork()
        if not daemon:
            os.setsid()
            time.sleep(120)
            os._exit(0)
        Path(trial.params["note"]).write_text(str(daemon))
        trial.report(a=1)

    async def act(processes: Processes) -> list[Message]:
        return await heard(await processes.start(order(tmp_path, note=str(note))))

    said = run(tmp_path, cloudpickle.dumps(train), act)
    assert not alive(int(note.read_text()))
    assert [message[0] for message in said] == ["report", "end"]


def test_a_process_that_stands_by_begins_with_its_order(tmp_path: Path) -> None:
    """It is there before its trial begins, and runs nothing until then."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report(pid=os.getpid(), began=time.monotonic())

    async def act(processes: Processes) -> tuple[int, float, list[Message]]:
        await heard(await processes.start(order(tmp_path)))  # from now on there is a template
        processes.stand_by([order(tmp_path)])
        _, waiting = processes._standing_by[AttemptId(0, 1)]
        while not waiting.pid:  # noqa: ASYNC110  (nothing in the house waits for it)
            await asyncio.sleep(0.01)
        ordered = time.monotonic()
        return waiting.pid, ordered, await heard(await processes.start(order(tmp_path)))

    pid, ordered, said = run(tmp_path, cloudpickle.dumps(train), act)
    assert ["report", "end"] == [message[0] for message in said]
    assert pid == said[0][2]["pid"]
    assert said[0][2]["began"] > ordered


def test_a_process_that_stands_by_for_nothing_ends(tmp_path: Path) -> None:
    """What is not to begin after all leaves nothing; what ran before left nothing either."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        if os.fork() == 0:
            os.setsid()
            time.sleep(120)
        trial.report(a=1)

    async def act(processes: Processes) -> str:
        await heard(await processes.start(order(tmp_path)))
        processes.stand_by([order(tmp_path)])
        _, waiting = processes._standing_by[AttemptId(0, 1)]
        processes.stand_by([order(tmp_path)])
        assert waiting is processes._standing_by[AttemptId(0, 1)][1]
        processes.stand_by([])
        await waiting.gone.wait()
        return children_of(processes._template)

    assert run(tmp_path, cloudpickle.dumps(train), act) == ""


def test_what_a_trial_imports_late_is_there_for_later_ones(tmp_path: Path) -> None:
    """The template imports what was missing of packages that it has."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report(known=f"{xml.__name__}.dom.minidom" in sys.modules)
        importlib.import_module("xml.dom.minidom")

    assert is_known_to_a_later_trial(tmp_path, train)


def test_what_would_start_a_thread_is_not_imported_for_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried where it does no harm, and trials are forked as before."""
    threaded = module("threaded", "", tmp_path, monkeypatch)
    late = "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()"
    (SweepFolder(tmp_path).sources / "threaded" / "late.py").write_text(late)

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report(known=f"{threaded.__name__}.late" in sys.modules)
        importlib.import_module("threaded.late")

    assert not is_known_to_a_later_trial(tmp_path, train)


def module(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401  (a module)
    """A package of the user's, which a training function finds where it was written."""
    sources = SweepFolder(folder).sources
    (sources / name).mkdir(parents=True)
    (sources / name / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(sources)
    return importlib.import_module(name)


def is_known_to_a_later_trial(folder: Path, train: Callable[[Any], None]) -> bool:
    """Whether one of the next trials says so."""

    async def act(processes: Processes) -> bool:
        for _ in range(TRIES):
            report, *_ = await heard(await processes.start(order(folder)))
            assert not processes.afresh
            if report[2]["known"]:
                return True
            await asyncio.sleep(0.05)
        return False

    known: bool = run(folder, cloudpickle.dumps(train), act)
    return known


def test_what_was_to_be_finalized_before_the_fork_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary folder that the user's code made when it was imported is there for every trial."""
    text = "import tempfile; folder = tempfile.TemporaryDirectory()"
    holder = module("holder", text, tmp_path, monkeypatch)

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report(there=Path(holder.folder.name).exists())

    async def act(processes: Processes) -> list[float]:
        said = [await heard(await processes.start(order(tmp_path))) for _ in range(3)]
        return [report[2]["there"] for report, *_ in said]

    assert [1.0] * 3 == run(tmp_path, cloudpickle.dumps(train), act)
    holder.folder.cleanup()


def children_of(pid: int) -> str:
    """The process ids of a process's children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_a_killed_template_is_replaced_and_its_trials_are_gone(tmp_path: Path) -> None:
    """The trials of a template that dies end with it; the next trial runs on another."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report(pid=os.getpid())
        time.sleep(trial.params["pause"])

    async def act(processes: Processes) -> tuple[list[Message], int, list[Message]]:
        first = await processes.start(order(tmp_path, pause=100))
        said = said_by(first)
        pid = int((await anext(said))[2]["pid"])
        os.kill(processes._template, signal.SIGKILL)
        await first.gone.wait()
        second = await heard(await processes.start(order(tmp_path, pause=0)))
        return first.unsaid_end(), pid, second

    end, pid, said = run(tmp_path, cloudpickle.dumps(train), act)
    assert end[2] == "its process was lost with the slot's template process"
    assert not alive(pid)
    assert [message[0] for message in said] == ["report", "end"]


def test_a_trial_whose_import_hangs_is_given_up_after_its_grace(tmp_path: Path) -> None:
    """A stop reaches a trial that has not started; the next one gets another template."""
    hang = tmp_path / "hang"
    hang.touch()

    class Hanging:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            source = (
                "__import__('time').sleep(1000 if __import__('os').path.exists("
                f"{str(hang)!r}) else 0) or (lambda trial: trial.report(a=1))"
            )
            return eval, (source,)

    async def act(processes: Processes) -> tuple[Message, list[Message]]:
        first = await processes.start(order(tmp_path))
        await first.stop("enough", grace=1.0)
        assert await heard(first) == []
        hang.unlink()
        return first.unsaid_end(), await heard(await processes.start(order(tmp_path)))

    end, said = run(tmp_path, cloudpickle.dumps(Hanging()), act)
    assert end[1] == "lost"
    assert [message[0] for message in said] == ["report", "end"]


def test_a_template_whose_import_hangs_ends_with_its_slot(tmp_path: Path) -> None:
    """Nothing waits for an import that nobody needs any more, even one that never returns."""

    class Hanging:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, ("int('9' * 4000) ** 4_000_000",)  # one call that holds the GIL for hours

    async def act(processes: Processes) -> int:
        await asyncio.sleep(3)  # until it hangs; that it does is all that the test needs
        assert not processes._ready
        return processes._template

    template = run(tmp_path, cloudpickle.dumps(Hanging()), act)
    assert not alive(template)


@pytest.mark.parametrize("name", [3, "", "bad \udc80"])
def test_a_metric_needs_a_name_that_can_be_written(tmp_path: Path, name: object) -> None:
    """What cannot be journaled fails the trial at once."""

    async def act(processes: Processes) -> list[Message]:
        return await heard(await processes.start(order(tmp_path)))

    said = run(tmp_path, cloudpickle.dumps(lambda trial: trial.report({name: 1.0})), act)
    assert said[-1][1] == "raised"
    assert "a metric's name must be a string" in said[-1][2]


def test_too_many_metrics_for_a_message_are_refused_by_name(tmp_path: Path) -> None:
    """The error says how much it was and what to do."""

    def train(trial: Any) -> None:  # noqa: ANN401  (the same)
        trial.report({f"metric-{number}": 1.0 for number in range(50_000)})

    async def act(processes: Processes) -> list[Message]:
        return await heard(await processes.start(order(tmp_path)))

    said = run(tmp_path, cloudpickle.dumps(train), act)
    assert "report() holds too many metrics for one message (638," in said[-1][2]
