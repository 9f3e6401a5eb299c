"""The scribe: what is gathered becomes durable, whatever the storage does meanwhile."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from raysweep.core.events import CancelAsked
from raysweep.errors import StaleEpochError
from raysweep.runtime import scribe as scribe_module
from raysweep.runtime.scribe import Scribe
from raysweep.runtime.sweep_clock import SweepClock
from raysweep.storage import journal
from raysweep.storage.journal import Journal
from raysweep.storage.segments import FileSegments


class Moody(FileSegments):
    """A storage that fails as it is told to."""

    error: OSError | None = None  # of every write
    blind: OSError | None = None  # of every look at who has the sweep

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answers = threading.Event()  # a write waits for it
        self.answers.set()

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write, or not."""
        self.answers.wait(30)
        if self.error is not None:
            raise self.error
        super().append(epoch, offset, block)

    def exists(self, epoch: int) -> bool:
        """Look, or not."""
        if self.blind is not None:
            raise self.blind
        return super().exists(epoch)


Story = Callable[[Scribe, Moody], Coroutine[Any, Any, None]]


def tell(folder: Path, story: Story, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a story happen to a scribe; returns the reasons that are in the journal in the end."""
    monkeypatch.setattr(scribe_module, "AGAIN", 0.01)
    monkeypatch.setattr(scribe_module, "SLOW", 0.05)
    segments = Moody(folder)
    opened, _ = Journal.open(segments)

    async def happen() -> None:
        one = Scribe(opened, SweepClock(0.0))
        writing = asyncio.create_task(one.write_on())
        try:
            await story(one, segments)
            if writing.done():
                await writing
        finally:
            segments.answers.set()
            writing.cancel()

    asyncio.run(asyncio.wait_for(happen(), 30))
    return [
        event.reason
        for event, _ in journal.read(FileSegments(folder))
        if isinstance(event, CancelAsked)
    ]


def gather(one: Scribe, reason: str) -> None:
    """Something has happened."""
    one.gather(CancelAsked(time=0.0, reason=reason), [])


async def until(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    while not reached():  # noqa: ASYNC110  (what is waited for has no event)
        await asyncio.sleep(0.005)


def test_all_that_was_gathered_is_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`committed` returns once all of it is durable."""

    async def story(one: Scribe, segments: Moody) -> None:
        del segments
        for reason in "abc":
            gather(one, reason)
        await one.committed()
        assert ["a", "b", "c"] == [
            event.reason
            for event, _ in journal.read(FileSegments(tmp_path))
            if isinstance(event, CancelAsked)
        ]

    assert ["a", "b", "c"] == tell(tmp_path, story, monkeypatch)


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EDQUOT]
)
def test_a_storage_that_refuses_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It says why meanwhile, the sweep's time stands still, and nothing is lost or out of order."""

    async def story(one: Scribe, segments: Moody) -> None:
        segments.error = OSError(number, "it does not want to")
        gather(one, "a")
        await until(lambda: bool(one.refused))
        assert "the storage refuses: it does not want to" == one.refused
        gather(one, "b")
        before = one._clock.now()
        await asyncio.sleep(0.05)
        assert before == one._clock.now()
        segments.error = None
        await one.committed()
        assert not one.refused
        await until(lambda: one._clock.now() > before)

    assert ["a", "b"] == tell(tmp_path, story, monkeypatch)


def test_a_storage_that_does_not_answer_counts_as_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that hangs is no error; it is noticed all the same."""

    async def story(one: Scribe, segments: Moody) -> None:
        segments.answers.clear()
        gather(one, "a")
        await asyncio.sleep(0.1)
        one.look(unseen=60.0)
        assert one.refused.startswith("the storage has not answered for")
        segments.answers.set()
        await one.committed()
        assert not one.refused

    assert ["a"] == tell(tmp_path, story, monkeypatch)


def test_a_controller_that_was_replaced_while_paused_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at the epoch does not wait for the storage to take writes again."""

    async def story(one: Scribe, segments: Moody) -> None:
        segments.error = OSError(errno.ENOSPC, "full")
        gather(one, "a")
        await until(lambda: bool(one.refused))
        other, _ = Journal.open(FileSegments(tmp_path))
        other.close()
        await asyncio.sleep(0.2)

    with pytest.raises(StaleEpochError):
        tell(tmp_path, story, monkeypatch)
    assert not list(journal.read(FileSegments(tmp_path)))


def test_who_cannot_look_is_sure_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verified` tells when it was last sure that no other controller has the sweep."""

    async def story(one: Scribe, segments: Moody) -> None:
        sure = one.verified
        segments.blind = OSError(errno.EIO, "gone")
        await one.verify()
        assert sure == one.verified
        await asyncio.sleep(0.02)
        one.look(unseen=0.01)
        assert one.refused.startswith("the storage has not been seen for")
        before = one._clock.now()
        segments.blind = None
        await one.verify()
        assert sure < one.verified
        assert not one.refused
        await until(lambda: one._clock.now() > before)

    tell(tmp_path, story, monkeypatch)


def test_a_snapshot_is_kept_when_the_journal_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, once for so many bytes; one that fails is only a slower replay."""
    asked: list[str] = []

    def kept(uri: str) -> int:
        asked.append(uri)
        return 0

    monkeypatch.setattr(scribe_module, "_kept_snapshot", kept)
    monkeypatch.setattr(scribe_module, "SNAPSHOT_EVERY", 200)

    async def story(one: Scribe, segments: Moody) -> None:
        del segments
        await one.keep_snapshot("here")
        assert [] == asked
        gather(one, "a" * 200)
        await one.committed()
        await one.keep_snapshot("here")
        await one.keep_snapshot("here")
        assert ["here"] == asked

    tell(tmp_path, story, monkeypatch)


def test_a_process_that_keeps_no_snapshot_is_no_error(tmp_path: Path) -> None:
    """There is no such sweep; whoever ordered it goes on."""
    assert 0 == scribe_module._kept_snapshot(str(tmp_path / "none"))
