"""The journal: what is committed comes back; what is damaged is refused, never shortened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysweep.core.events import (
    Assign,
    AttemptId,
    Checkpoint,
    Discard,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Proposed,
    Reports,
    SlotLost,
    Stop,
    StopCause,
)
from raysweep.errors import JournalDamagedError, StaleEpochError
from raysweep.storage import journal
from raysweep.storage.blocks import HEADER
from raysweep.storage.journal import Journal, Place, Record, UnknownPlaceError
from raysweep.storage.segments import FileSegments

ID = AttemptId(0, 1)


def events() -> list[Record]:
    """One record of each shape that matters."""
    checkpoint = Checkpoint(id=ID, report=1, path="c/1.arrow", size=10, checksum="ab")
    block = Reports(id=ID, first=1, names=("loss", "é"), times=bytes(16), values=bytes(32))
    exchanged = Exchanged(
        time=2.0,
        slot=0,
        incarnation=1,
        places=1,
        begun=(ID,),
        reports=(block,),
        checkpoints=(checkpoint,),
        ends=(End(id=ID, last_report=2, ending=Ending.RAISED, error="x", traceback="y\nz"),),
    )
    discard = Discard(id=ID, report=1, paths=("c/0.arrow",))
    assign = Assign(id=ID, slot=0, incarnation=1, params={"x": [1, None, {"y": True}]})
    stop = Stop(id=ID, report=2, cause=StopCause.POLICY, reason="why")
    return [
        Record(Opened(time=0.0, epoch=1, slots_kept=True), []),
        Record(Proposed(time=1.0, params=({"x": 0.1}, {"x": None})), []),
        Record(exchanged, [discard, assign, stop]),
        Record(SlotLost(time=3.0, slot=0, incarnation=1, cause="killed"), []),
    ]


def written(folder: Path, records: list[Record]) -> Path:
    """A journal with a commit for each record; returns its segment."""
    writer, _ = Journal.open(FileSegments(folder))
    for record in records:
        writer.append(record.event, record.commands)
        writer.write(writer.seal())
    writer.close()
    return folder / f"{writer.epoch:08d}.journal"


def test_gives_back_what_was_committed(tmp_path: Path) -> None:
    """Every event and command comes back equal, in order."""
    written(tmp_path, events())
    assert list(journal.read(FileSegments(tmp_path))) == events()


def test_an_empty_folder_is_an_empty_journal(tmp_path: Path) -> None:
    """Nothing written, nothing read."""
    assert list(journal.read(FileSegments(tmp_path / "none"))) == []


def test_one_commit_holds_all_that_was_gathered(tmp_path: Path) -> None:
    """A group commit is one block."""
    writer, _ = Journal.open(FileSegments(tmp_path))
    for record in events():
        writer.append(record.event, record.commands)
    writer.write(writer.seal())
    writer.append(*events()[0])  # gathered, never committed
    writer.close()
    assert list(journal.read(FileSegments(tmp_path))) == events()


def test_a_new_controller_goes_on_after_the_last(tmp_path: Path) -> None:
    """Segments follow each other, an epoch each."""
    written(tmp_path, events()[:2])
    written(tmp_path, events()[2:])
    writer, records = Journal.open(FileSegments(tmp_path))
    writer.close()
    assert writer.epoch == 3
    assert list(records) == events()


@pytest.mark.parametrize("kept", range(1, 200))
def test_a_torn_tail_is_cut_to_the_last_whole_commit(tmp_path: Path, kept: int) -> None:
    """Whatever part of a commit was written when the controller died, those before it stay."""
    whole = written(tmp_path / "whole", events()[:3])
    before = written(tmp_path / "before", events()[:2]).stat().st_size
    if before + kept >= whole.stat().st_size:
        return
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "00000001.journal").write_bytes(whole.read_bytes()[: before + kept])
    assert list(journal.read(FileSegments(torn))) == events()[:2]
    writer, records = Journal.open(FileSegments(torn))
    writer.append(*events()[3])
    writer.write(writer.seal())
    writer.close()
    assert list(records) == events()[:2]
    assert list(journal.read(FileSegments(torn))) == [*events()[:2], events()[3]]


def test_a_tail_whose_pages_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    """After a loss of power the file may be long enough and hold zeros."""
    segment = written(tmp_path, events()[:2])
    before = segment.stat().st_size
    segment.write_bytes(segment.read_bytes() + bytes(5000))
    assert list(journal.read(FileSegments(tmp_path))) == events()[:2]
    assert segment.stat().st_size == before + 5000


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """No flip of a byte, wherever it is, shortens a journal or changes what it says."""
    segment = written(tmp_path, events())
    good = segment.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 0x40
        segment.write_bytes(bad)
        with pytest.raises(JournalDamagedError, match="is damaged at byte"):
            list(journal.read(FileSegments(tmp_path)))


def test_damage_in_an_earlier_segment_is_found(tmp_path: Path) -> None:
    """A segment that others follow must be whole up to where they took over."""
    segment = written(tmp_path, events()[:2])
    written(tmp_path, events()[2:])
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalDamagedError, match=r"00000001\.journal is damaged"):
        list(journal.read(FileSegments(tmp_path)))


def test_the_journal_of_another_version_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, and someone can read it."""
    with monkeypatch.context() as earlier:
        earlier.setattr(journal, "FORMAT", journal.FORMAT - 1)
        written(tmp_path, events())
    with pytest.raises(JournalDamagedError, match=r"has format .* that its spec\.json names"):
        list(journal.read(FileSegments(tmp_path)))


def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    """A journal without its beginning is no journal."""
    written(tmp_path, events()[:2]).unlink()
    segment = written(tmp_path, events()[:2])
    written(tmp_path, events()[2:])
    segment.unlink()
    with pytest.raises(JournalDamagedError, match="is missing"):
        list(journal.read(FileSegments(tmp_path)))


def test_the_message_of_damage_says_how_to_go_on(tmp_path: Path) -> None:
    """Cutting where it says leaves a journal that reads."""
    segment = written(tmp_path, events())
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalDamagedError) as caught:
        list(journal.read(FileSegments(tmp_path)))
    size = int(str(caught.value).rpartition("truncate -s ")[2].split()[0])
    os.truncate(segment, size)
    assert list(journal.read(FileSegments(tmp_path))) == events()[:-1]


def test_a_replaced_controller_acknowledges_nothing(tmp_path: Path) -> None:
    """Once a later epoch is there, the earlier one's commits fail, and are never read."""
    old, _ = Journal.open(FileSegments(tmp_path))
    old.append(*events()[0])
    old.write(old.seal())
    new, records = Journal.open(FileSegments(tmp_path))
    old.append(*events()[1])
    with pytest.raises(StaleEpochError):
        old.write(old.seal())
    new.append(*events()[3])
    new.write(new.seal())
    old.close()
    new.close()
    assert list(records) == [events()[0]]
    assert list(journal.read(FileSegments(tmp_path))) == [events()[0], events()[3]]


def test_a_commit_that_failed_is_written_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full takes a part of a commit; the next try replaces it."""
    writer, _ = Journal.open(FileSegments(tmp_path))
    writer.append(*events()[0])
    payload = writer.seal()
    real = os.pwrite

    def full(file: int, data: memoryview, offset: int) -> int:
        real(file, bytes(data)[:7], offset)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            writer.write(payload)
    assert list(journal.read(FileSegments(tmp_path))) == []
    writer.write(payload)
    writer.close()
    assert list(journal.read(FileSegments(tmp_path))) == [events()[0]]


def test_a_controller_that_died_before_its_first_commit_leaves_no_trace(tmp_path: Path) -> None:
    """An epoch was claimed and nothing written: the one before is the newest."""
    written(tmp_path, events()[:2])
    (tmp_path / "00000002.journal").touch()
    writer, records = Journal.open(FileSegments(tmp_path))
    writer.close()
    assert writer.epoch == 3
    assert list(records) == events()[:2]


def test_a_commit_costs_few_bytes_beside_its_values(tmp_path: Path) -> None:
    """50 reports of one metric take at most 40 bytes a report on disk."""
    block = Reports(id=ID, first=1, names=("loss",), times=bytes(400), values=bytes(400))
    event: Event = Exchanged(time=1.0, slot=0, incarnation=1, places=1, reports=(block,))
    segment = written(tmp_path, [Record(event, [])])
    header = written(tmp_path / "empty", []).stat().st_size
    assert segment.stat().st_size - header <= 40 * 50
    assert HEADER.size == 20


class Overtaken(FileSegments):
    """A storage in which another controller takes over right after a header was written."""

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write, and be overtaken."""
        super().append(epoch, offset, block)
        if offset == 0:
            other, _ = Journal.open(FileSegments(self.folder))
            other.append(*events()[0])
            other.write(other.seal())
            other.close()


def test_a_controller_that_is_overtaken_at_once_leaves_what_the_other_follows(
    tmp_path: Path,
) -> None:
    """The later one's segment follows its own, which so must stay."""
    with pytest.raises(StaleEpochError):
        Journal.open(Overtaken(tmp_path))
    assert list(journal.read(FileSegments(tmp_path))) == [events()[0]]


def test_a_header_that_a_full_disk_did_not_take_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried; the journal before it is the one that counts."""
    written(tmp_path, events()[:2])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                Journal.open(FileSegments(tmp_path))
    writer, records = Journal.open(FileSegments(tmp_path))
    writer.close()
    assert events()[:2] == list(records)


def test_a_controller_that_gives_up_leaves_none_before_it_acknowledging(tmp_path: Path) -> None:
    """Of three, the second fails while it begins: the first must see that there was one."""
    first, _ = Journal.open(FileSegments(tmp_path))
    damaged = FileSegments(tmp_path)
    with pytest.raises(UnknownPlaceError):
        Journal.open(damaged, Place(1, 10**6, 0))
    third, _ = Journal.open(FileSegments(tmp_path))
    first.append(*events()[0])
    with pytest.raises(StaleEpochError):
        first.write(first.seal())
    first.close()
    third.close()
