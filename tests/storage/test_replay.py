"""Replay: what a sweep comes to, from a snapshot and the journal after it, whatever became of either."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from writers import SPEC, Writer

from raysweep.core.state import SweepState
from raysweep.errors import JournalDamagedError, StaleEpochError
from raysweep.storage import journal, replay
from raysweep.storage.blocks import sealed
from raysweep.storage.folder import SweepFolder
from raysweep.storage.journal import Journal
from raysweep.storage.segments import FileSegments


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A sweep with a snapshot after its third trial, and three more trials since."""
    one = Writer(FileSegments(tmp_path / "journal")).train(3)
    replay.keep_snapshot(one.segments, SPEC)
    one.train(3)
    yield one
    one.journal.close()


def path_of(writer: Writer) -> Path:
    """The folder of its segments."""
    assert isinstance(writer.segments, FileSegments)
    return writer.segments.folder


def snapshot_of(writer: Writer) -> Path:
    """The snapshot's file."""
    return path_of(writer) / "snapshot"


def test_a_snapshot_and_what_follows_come_to_the_same(writer: Writer) -> None:
    """The state is that of a replay of everything, which reads nothing before the snapshot."""
    assert writer.state == replay.replayed(writer.segments, SPEC)
    (path_of(writer) / "00000001.journal").write_bytes(b"")  # so a whole replay finds nothing
    snapshot_of(writer).unlink()
    assert not replay.replayed(writer.segments, SPEC).trials


def test_a_replay_begins_at_the_snapshot(writer: Writer) -> None:
    """A damaged byte before it is not even read; a replay of everything finds it."""
    segment = path_of(writer) / "00000001.journal"
    data = bytearray(segment.read_bytes())
    data[30] ^= 1
    segment.write_bytes(data)
    assert writer.state == replay.replayed(writer.segments, SPEC)
    with pytest.raises(JournalDamagedError):
        list(journal.read(writer.segments))


def test_a_flipped_byte_of_a_snapshot_costs_time_alone(writer: Writer) -> None:
    """Wherever it is: then all of the journal is replayed."""
    good = snapshot_of(writer).read_bytes()
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 0x10
        snapshot_of(writer).write_bytes(bad)
        assert writer.state == replay.replayed(writer.segments, SPEC)


@pytest.mark.parametrize("length", [0, 3, 8, 100])
def test_a_torn_snapshot_costs_time_alone(writer: Writer, length: int) -> None:
    """So does one that is cut short."""
    snapshot_of(writer).write_bytes(snapshot_of(writer).read_bytes()[:length])
    assert writer.state == replay.replayed(writer.segments, SPEC)


def test_a_snapshot_of_another_layout_is_none(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raysweep whose trials have other fields does not read it."""
    monkeypatch.setattr(replay, "LAYOUT", [*replay.LAYOUT, "more"])
    assert writer.state == replay.replayed(writer.segments, SPEC)


def test_a_snapshot_beyond_a_cut_is_none(writer: Writer) -> None:
    """Somebody cut the journal before it, as the message of damage says: the journal counts."""
    segment = path_of(writer) / "00000001.journal"
    segment.write_bytes(segment.read_bytes()[:200])
    records = list(journal.read(writer.segments))
    state = SweepState(SPEC)
    for record in records:
        state.apply(record.event, record.commands)
    assert state == replay.replayed(writer.segments, SPEC)


def test_a_snapshot_of_what_was_never_acknowledged_is_none(writer: Writer) -> None:
    """One that a replaced controller's process kept, after another had taken over, is not used."""
    old = writer
    new = Writer(FileSegments(path_of(writer))).train(1)
    offset = old.journal.size
    old.journal._segments.append(1, offset, sealed(b"", old.journal._checksum)[0])
    stale, place = replay._replayed(old.segments, SPEC)
    assert stale == new.state
    content = msgpack.packb(
        [replay.FORMAT, replay.LAYOUT, [1, offset, old.journal._checksum], old.state.kept()]
    )
    checksum = zlib.crc32(content).to_bytes(4, "little")
    snapshot_of(new).write_bytes(replay.MAGIC + checksum + content)
    assert new.state == replay.replayed(new.segments, SPEC)
    assert place is not None
    new.journal.close()


def test_another_controller_goes_on_from_the_snapshot(writer: Writer) -> None:
    """It reads less, knows as much, and its own records follow."""
    whole = writer.journal.size
    writer.journal.close()
    other = Writer(FileSegments(path_of(writer)))
    assert 0 < other.journal.replayed < whole
    assert writer.state.trials == other.state.trials
    other.train(2)
    assert 8 == len(replay.replayed(other.segments, SPEC).trials)
    other.journal.close()


def test_a_snapshot_may_be_kept_of_a_snapshot(writer: Writer) -> None:
    """Each stands for all before it, over as many controllers as there were."""
    writer.journal.close()
    for _ in range(3):
        other = Writer(FileSegments(path_of(writer))).train(2)
        replay.keep_snapshot(other.segments, SPEC)
        other.journal.close()
    assert other.state == replay.replayed(other.segments, SPEC)


def test_a_sweep_without_a_commit_has_no_snapshot(tmp_path: Path) -> None:
    """There is nothing to keep."""
    segments = FileSegments(tmp_path / "journal")
    replay.keep_snapshot(segments, SPEC)
    assert segments.read_snapshot() is None


def test_a_process_keeps_a_snapshot(tmp_path: Path) -> None:
    """As the controller has it done: `python -m raysweep.storage.replay FOLDER`."""
    folder = SweepFolder(tmp_path / "s")
    folder.path.mkdir()
    folder.create(SPEC, origin={}, files={})
    one = Writer(folder.journal).train(2)
    one.journal.close()
    replay.main(str(folder.path))
    assert one.state == replay.replayed(folder.journal, SPEC)
    assert (folder.path / "journal" / "snapshot").exists()


def test_taking_over_twice_at_once_gives_two_epochs(tmp_path: Path) -> None:
    """The later one's records count, the earlier one's do not."""
    first, second = Writer(FileSegments(tmp_path)), Writer(FileSegments(tmp_path))
    assert (1, 2) == (first.journal.epoch, second.journal.epoch)
    with pytest.raises(StaleEpochError):
        first.train(1)
    second.train(1)
    assert 1 == len(replay.replayed(second.segments, SPEC).trials)
    opened, _ = Journal.open(second.segments)
    assert 3 == opened.epoch
