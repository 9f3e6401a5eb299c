"""Copies of a state: in memory that is used again, of which no more is taken than there is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from raysweep.errors import Stopped, UnstorableError
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Copies, Taken, copies


def address(taken: Taken, row: int = 0) -> int:
    """Where a leaf's bytes are."""
    return int(np.frombuffer(taken.rows[row][1].flat(), np.uint8).ctypes.data)


def state(size: int = 1000) -> dict[str, torch.Tensor]:
    """A state of one tensor."""
    return {"w": torch.ones(size)}


def test_memory_is_used_again() -> None:
    """A released copy's memory is the next one's, if it is large enough."""
    made = Copies()
    first = made.taken(state())
    where = address(first)
    first.release()
    second = made.taken(state(900))
    assert where == address(second)
    second.release()
    grown = made.taken(state(100_000))
    grown.release()
    assert address(grown) == address(made.taken(state()))


def test_two_copies_are_there_at_once_and_the_third_waits() -> None:
    """Whoever takes it is heard meanwhile, and goes on when one of them is released."""
    made = Copies()
    first, second = made.taken(state()), made.taken(state())
    assert address(first) != address(second)
    where, waited = address(first), threading.Event()

    def heed() -> None:
        if not waited.is_set():
            waited.set()
            first.release()

    assert where == address(made.taken(state(), heed))
    assert waited.is_set()


def test_waiting_for_memory_can_be_ended() -> None:
    """What is heard meanwhile is passed on, and nothing is lost by it."""
    made = Copies()
    held = [made.taken(state()) for _ in range(copies.IN_FLIGHT)]

    def stop() -> None:
        raise Stopped("the policy")

    with pytest.raises(Stopped):
        made.taken(state(), stop)
    for each in held:
        each.release()
    assert made.taken(state()).copied


def test_without_room_for_a_second_copy_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next waits for it; without room for any, the state is written from where it is."""
    free = [10_000_000]
    monkeypatch.setattr(copies, "free_memory", lambda: free[0])
    made = Copies()
    first = made.taken(state())
    free[0] = 4_000
    threading.Timer(0.2, first.release).start()
    began = time.monotonic()
    second = made.taken(state())
    assert second.copied
    assert time.monotonic() - began > 0.1
    second.release()
    tensors = state(100_000)
    taken = made.taken(tensors)
    assert not taken.copied
    assert tensors["w"].data_ptr() == address(taken)


def test_what_cannot_change_is_not_copied() -> None:
    """Strings and bytes are taken as they are."""
    content = bytes(1000)
    assert content is Copies().taken({"a": content, "b": 1}).rows[0][1].data


def test_a_file_that_cannot_be_copied_costs_no_memory(tmp_path: Path) -> None:
    """The error names its path, and the buffer is free again."""
    made = Copies()
    made.taken(state()).release()
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a").write_bytes(b"12")
    held = checkpoints.Files.of(folder)
    (folder / "a").write_bytes(b"1")
    for _ in range(3):
        with pytest.raises(UnstorableError, match=r"^x/a .*was written to while it was saved"):
            made.taken({"x": held})
    assert made.taken(state()).copied


def test_the_memory_that_is_free_is_the_machines_or_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is less; "max" is no limit."""
    machine = copies.free_memory()
    assert 0 < machine < 2**50
    for name, content in (("LIMIT", "5000000"), ("USED", "2000000")):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(copies, name, tmp_path / name)
    assert 3_000_000 == copies.free_memory()
    (tmp_path / "LIMIT").write_text("max\n")
    assert copies.free_memory() > 3_000_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_tensors_are_copied_in_the_order_of_its_work() -> None:
    """What it is told to do after the copy was taken does not reach the copy."""
    made, tensor = Copies(), torch.zeros(10_000_000, device="cuda")
    for number in range(3):
        tensor.fill_(number)
        taken = made.taken({"w": tensor})
        tensor.fill_(-1)
        taken.wait()
        found = np.frombuffer(taken.rows[0][1].flat(), np.float32)
        assert [number, number] == [found.min(), found.max()]
        taken.release()
