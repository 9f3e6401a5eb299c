"""Copies of a state: in memory that is used again, of which no more is taken than there is."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

from raysweep.errors import UnstorableError
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Copies, Taken, copies

FREE_MEMORY = copies.free_memory


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with memory to spare, whatever else runs on this one."""
    monkeypatch.setattr(copies, "free_memory", lambda: 2**40)


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


def test_two_copies_have_a_memory_each() -> None:
    """Which is free when they are closed."""
    made = Copies()
    first, second = made.taken(state()), made.taken(state())
    assert address(first) != address(second)
    first.release()
    second.release()
    made.close()
    assert made.taken(state()).copied


def test_without_room_a_state_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written from where it is, unless a buffer is free that was made when there was room."""
    made = Copies()
    made.taken(state()).release()
    monkeypatch.setattr(copies, "free_memory", lambda: 4_000)
    assert made.taken(state()).copied
    tensors = state(100_000)
    taken = made.taken(tensors)
    assert not taken.copied
    assert tensors["w"].data_ptr() == address(taken)


def test_a_fork_leaves_the_memory_where_it_is() -> None:
    """A child would else make each page a new one, at the next copy."""
    where = address(taken := Copies().taken(state()))
    mapping = r"([0-9a-f]+)-([0-9a-f]+) (?:.*\n)+?VmFlags: (.*)\n"
    found = re.findall(mapping, Path("/proc/self/smaps").read_text())
    [flags] = [flags for start, end, flags in found if int(start, 16) <= where < int(end, 16)]
    assert "dc" in flags.split()
    taken.release()


def test_large_states_are_moved_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces that all arrive, whatever their number and the number of threads."""
    monkeypatch.setattr(copies, "PIECE", 1000)
    monkeypatch.setattr(copies, "WORTH_THREADS", 1)
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(copies, "THREADS", threads)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=threads: range(n))
        tensors = [torch.randn(size) for size in (1, 250, 251, 3000)]
        made = Copies()
        rows = made.taken([*tensors, np.arange(999)]).rows
        expected = [*(tensor.numpy().tobytes() for tensor in tensors), np.arange(999).tobytes()]
        assert expected == [bytes(leaf.flat()) for _, leaf in rows]
        made.close()


def test_an_interrupted_copy_ends_before_its_memory_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads that go on would write into the next state's copy."""
    monkeypatch.setattr(copies, "WORTH_THREADS", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    ended, move = [], copies._move_in_turn

    def slowly(moves: list[tuple[int, int, int]]) -> None:
        time.sleep(0.1)
        move(moves)
        ended.append(True)

    def interrupt(_: Future[None]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copies, "_move_in_turn", slowly)
    monkeypatch.setattr(Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Copies().taken([torch.ones(1000), torch.ones(1000)])
    assert [True, True] == ended


def test_what_lies_between_the_fields_of_records_is_not_that_of_other_states() -> None:
    """Padding is no part of an array, and the memory was another state's."""
    made = Copies()
    made.taken({"secret": torch.full((1000,), 7.0)}).release()
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    [(_, leaf)] = made.taken(np.zeros(20, padded)[::2]).rows
    assert bytes(10 * padded.itemsize) == bytes(leaf.flat())


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


@pytest.mark.parametrize("version", [0, 1], ids=["cgroup v2", "cgroup v1"])
def test_the_memory_that_is_free_is_the_machines_or_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Whichever is less; files that are kept while there is room do not count, and "max" is no limit."""
    names = ("limit", "used", "stat")
    *_, field = copies.CONTAINERS[version]
    for name, content in zip(names, ("5000000", "2000000", f"anon 7\n{field} 1000\n"), strict=True):
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(copies, "CONTAINERS", [(*(tmp_path / name for name in names), field)])
    assert 3_001_000 == FREE_MEMORY()
    (tmp_path / "used").write_text("6000000")
    assert 0 == FREE_MEMORY()
    (tmp_path / "limit").write_text("max\n")
    assert 3_001_000 < FREE_MEMORY() < 2**50


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
