"""A sweep's state from its storage: the snapshot that was kept last, and the journal after it.

One rule: a snapshot is a replay that was written down, and never counts against the journal. One that is
damaged, was kept by a raysweep whose state looked otherwise, or names a place that the journal does
not lead to is as good as none: then all of the journal is replayed.

`python -m raysweep.storage.replay FOLDER` keeps a snapshot of the sweep in that folder, beside the
controller and at its order, so that the controller's own loop never waits for it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import zlib
from collections.abc import Iterable
from typing import Any

import msgpack

from raysweep.core.spec import Limits, SweepSpec
from raysweep.core.state import SweepState
from raysweep.core.trials import Trial
from raysweep.storage import journal
from raysweep.storage.folder import SweepFolder
from raysweep.storage.journal import Journal, Place, Record, UnknownPlaceError
from raysweep.storage.segments import Segments

FORMAT = 2  # raised when the state comes to keep other things
MAGIC = b"RSS\x01"
CHECKSUM = 4  # bytes

# A snapshot that was made of other fields is none of ours.
LAYOUT = [field.name for kind in (Trial, Limits) for field in dataclasses.fields(kind)]


def replayed(segments: Segments, spec: SweepSpec) -> SweepState:
    """The state of a sweep as far as it is committed.

    Raises:
        JournalDamagedError: what is committed after the snapshot fails its checksum.
    """
    state, _ = _replayed(segments, spec)
    return state


def take_over(segments: Segments, spec: SweepSpec) -> tuple[Journal, SweepState]:
    """Open a sweep's journal for writing; with the state that all before comes to.

    Raises:
        JournalDamagedError: what is committed after the snapshot fails its checksum.
        OSError: the storage refuses.
    """
    state, place = _snapshot(segments, spec)
    try:
        opened, records = Journal.open(segments, place)
    except UnknownPlaceError:
        state = SweepState(spec)
        opened, records = Journal.open(segments)
    return opened, _applied(state, records)


def keep_snapshot(segments: Segments, spec: SweepSpec) -> int:
    """Write down what a replay comes to now; returns its bytes, 0 when there is nothing yet."""
    state, place = _replayed(segments, spec)
    if place is None:
        return 0
    content: bytes = msgpack.packb([FORMAT, LAYOUT, list(place), state.kept()])
    segments.keep_snapshot(MAGIC + zlib.crc32(content).to_bytes(CHECKSUM, "little") + content)
    return len(content)


def _replayed(segments: Segments, spec: SweepSpec) -> tuple[SweepState, Place | None]:
    state, place = _snapshot(segments, spec)
    try:
        records, end = journal.read_on(segments, place)
    except UnknownPlaceError:
        state = SweepState(spec)
        records, end = journal.read_on(segments, None)
    return _applied(state, records), end


def _applied(state: SweepState, records: Iterable[Record]) -> SweepState:
    for record in records:
        state.apply(record.event, record.commands)
    return state


def _snapshot(segments: Segments, spec: SweepSpec) -> tuple[SweepState, Place | None]:
    """The state that was kept and the place it was kept at; a new state when there is none."""
    plain = _plain(segments.read_snapshot())
    if plain is None:
        return SweepState(spec), None
    place, kept = plain
    try:
        return SweepState.restored(spec, kept), Place(*place)
    except (TypeError, ValueError, LookupError, AttributeError):  # it was kept by another raysweep
        return SweepState(spec), None


def _plain(content: bytes | None) -> tuple[list[int], list[Any]] | None:
    """The place and the state of a snapshot, if it is whole and ours to read."""
    begins = len(MAGIC) + CHECKSUM
    if content is None or not content.startswith(MAGIC):
        return None
    told = int.from_bytes(content[len(MAGIC) : begins], "little")
    if zlib.crc32(memoryview(content)[begins:]) != told:
        return None
    version, layout, place, kept = msgpack.unpackb(
        memoryview(content)[begins:], strict_map_key=False
    )
    return (place, kept) if (version, layout) == (FORMAT, LAYOUT) else None


def main(folder: str) -> None:
    """Keep a snapshot of a sweep, and be in nobody's way; prints its bytes."""
    os.nice(10)
    sweep = SweepFolder.at(folder)
    print(keep_snapshot(sweep.journal, sweep.read_spec()))  # noqa: T201  (for whoever ordered it)


if __name__ == "__main__":
    main(sys.argv[1])
