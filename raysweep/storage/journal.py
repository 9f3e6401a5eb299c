"""The journal: the append-only record of a sweep, from which everything else is derived.

One rule: what `Journal.write` has returned from is durable and will be read again; what it has not
may be lost, and was acknowledged to nobody.

A journal is a row of segments, one for each epoch. A controller takes a sweep over by creating the
next segment, which must not exist; from then on no earlier controller acknowledges anything. It
then reads what is there and begins its own segment with a header that says where the one before
ended for it: bytes after that point, torn or written by a controller that was replaced, are never
read. So nothing is ever shortened, and no two controllers ever write to one segment.

A segment is a row of blocks (`raysweep.storage.blocks`), one a commit. A block that is cut short at
the end of the newest segment was being written when its controller died; whatever else is wrong is
damage, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import msgpack

from raysweep.core.events import COMMANDS, EVENTS, Assign, Command, Discard, Event, Stop
from raysweep.core.plain import from_plain, to_plain
from raysweep.errors import JournalDamagedError, StaleEpochError
from raysweep.storage.blocks import PAGE, Block, blocks, has_whole_block, sealed, was_being_written
from raysweep.storage.segments import Segments

FORMAT = 1


class Record(NamedTuple):
    """One event and the commands that were given for it."""

    event: Event
    commands: list[Command]


class Place(NamedTuple):
    """How far a journal was read: the last block of it."""

    epoch: int
    start: int  # where in its segment the block begins
    checksum: int  # of the block's header


class UnknownPlaceError(Exception):
    """A journal does not lead to this place: it was cut, or another controller went another way."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment that has a header: its commits up to the first that is not whole."""

    epoch: int
    follows: int  # the epoch before; 0 at the beginning
    offset: int  # where the segment of that epoch ends for this one
    blocks: list[Block]  # from the header on, or from the block of a place on
    tail: bytes  # what follows the last of them

    @property
    def end(self) -> int:
        return self.blocks[-1].end

    @property
    def place(self) -> Place:
        return Place(self.epoch, self.blocks[-1].start, self.blocks[-1].checksum)


class Journal:
    """The writer of one epoch: `append` gathers, `seal` takes what was gathered, `write` commits.

    `append` and `seal` belong to the controller's loop; `write` may run on another thread.
    """

    def __init__(self, segments: Segments, epoch: int) -> None:
        self.epoch = epoch
        self.size = 0  # bytes of its segment
        self.replayed = 0  # bytes that were read when it was opened
        self.least_interval = segments.least_interval
        self._segments = segments
        self._checksum = 0  # of the last commit
        self._gathered: list[bytes] = []

    @classmethod
    def open(cls, segments: Segments, after: Place | None = None) -> tuple[Self, Iterator[Record]]:
        """Take the sweep over; returns the writer and all that was committed before, or after a place.

        Raises:
            JournalDamagedError: a committed part fails its checksum, or a segment is missing.
            UnknownPlaceError: `after` is no place of this journal.
            OSError: the storage refuses.
        """
        epoch = _claim(segments)
        try:
            chain = _chain(segments, before=epoch, after=after)
            follows, offset = (chain[-1].epoch, chain[-1].end) if chain else (0, 0)
            journal = cls(segments, epoch)
            journal.write(msgpack.packb([FORMAT, follows, offset]))
            journal.replayed = sum(segment.end - segment.blocks[0].start for segment in chain)
        except BaseException:
            segments.give_up(epoch)
            raise
        return journal, _records(chain)

    def append(self, event: Event, commands: Iterable[Command]) -> None:
        """Gather a record for the next commit."""
        self._gathered.append(encode(event, commands))

    def seal(self) -> bytes:
        """What has been gathered, for `write`; the next commit gathers anew."""
        payload = b"".join(self._gathered)
        self._gathered = []
        return payload

    def write(self, payload: bytes) -> None:
        """Commit: when this returns the payload is durable and this epoch still holds.

        Raises:
            OSError: the storage did not take it; nothing is changed, write it again.
            StaleEpochError: another controller has taken over; acknowledge nothing.
        """
        block, checksum = sealed(payload, self._checksum)
        self._segments.append(self.epoch, self.size, block)
        self.verify()
        self.size += len(block)
        self._checksum = checksum

    def verify(self) -> None:
        """Make sure that no other controller has taken the sweep over.

        Raises:
            StaleEpochError: one has.
            FileNotFoundError: the journal has been removed.
            OSError: the storage refuses, so nobody knows.
        """
        if self._segments.exists(self.epoch + 1):
            successor = self._segments.name(self.epoch + 1)
            raise StaleEpochError(f"{successor}: a later controller has taken the sweep over")
        if not self._segments.exists(self.epoch):
            raise FileNotFoundError(f"{self._segments.name(self.epoch)} has been removed")

    def beat(self) -> None:
        """Leave a sign of life where nothing is to be written."""
        self._segments.beat(self.epoch)

    def close(self) -> None:
        """Let go of the segment; what was gathered and not written is dropped."""
        self._segments.close()


def read(segments: Segments) -> Iterator[Record]:
    """All that is committed, in order; safe beside a controller that writes.

    Raises:
        JournalDamagedError: a committed part fails its checksum, or a segment is missing.
    """
    return _records(_chain(segments))


def read_on(segments: Segments, after: Place | None) -> tuple[Iterator[Record], Place | None]:
    """What was committed after a place, or all; and how far that is, None if nothing ever was.

    Raises:
        JournalDamagedError: as for `read`.
        UnknownPlaceError: `after` is no place of this journal.
    """
    chain = _chain(segments, after=after)
    return _records(chain), chain[-1].place if chain else None


def encode(event: Event, commands: Iterable[Command]) -> bytes:
    """One record as msgpack: [event's kind, its fields, [[command's kind, its fields], ...]]."""
    kept = [command for command in commands if isinstance(command, Assign | Stop | Discard)]
    plain = [[COMMANDS.index(type(command)), to_plain(command)] for command in kept]
    packed: bytes = msgpack.packb([EVENTS.index(type(event)), to_plain(event), plain])
    return packed


def _decoded(plain: Sequence[list[object]]) -> Record:
    kind, fields, commands = plain
    assert isinstance(kind, int)
    assert isinstance(commands, list)
    return Record(
        from_plain(EVENTS[kind], fields),
        [from_plain(COMMANDS[number], command) for number, command in commands],
    )


def _claim(segments: Segments) -> int:
    """Create the next segment, which nobody else can then create; returns its epoch."""
    while True:
        epoch = max(segments.epochs(), default=0) + 1
        if segments.create(epoch):
            return epoch  # otherwise somebody was faster: the next number is theirs plus one


# --- reading --------------------------------------------------------------------------------------


def _chain(
    segments: Segments, *, before: int | None = None, after: Place | None = None
) -> list[_Segment]:
    """The segments that make up the journal, oldest first; from that of `after` on."""
    epochs = sorted(epoch for epoch in segments.epochs() if before is None or epoch < before)
    newest = None
    while epochs and (newest := _segment(segments, epochs[-1], after)) is None:
        epochs.pop()  # its controller died before its first commit
    if newest is None:
        if after is not None:
            raise UnknownPlaceError(after)
        return []
    _refuse_damage(segments, newest)
    return _followed(segments, newest, after)


def _followed(segments: Segments, newest: _Segment, after: Place | None) -> list[_Segment]:
    """The newest segment and those that it follows, each up to where the next took over."""
    chain = [newest]
    first = 0 if after is None else after.epoch
    while chain[0].epoch > first and chain[0].follows:
        later = chain[0]
        earlier = _segment(segments, later.follows, after)
        if earlier is None:
            raise JournalDamagedError(f"{segments.name(later.follows)} is missing or has no header")
        kept = [block for block in earlier.blocks if block.end <= later.offset]
        if not kept or kept[-1].end != later.offset:
            if after is not None and earlier.epoch == after.epoch and not kept:
                raise UnknownPlaceError(after)  # what it names was written too late to count
            raise _damage(segments, earlier.epoch, earlier.end, "a commit fails its checksum")
        chain.insert(0, replace(earlier, blocks=kept))
    if after is not None and chain[0].epoch != after.epoch:
        raise UnknownPlaceError(after)
    return chain


def _segment(segments: Segments, epoch: int, after: Place | None) -> _Segment | None:
    """A segment as far as its blocks are whole; None when there is no header to begin with."""
    if after is not None and epoch == after.epoch:
        return _segment_from(segments, after)
    data = segments.read(epoch)
    if data is None:
        return None
    found = list(blocks(data))
    if not found:
        if has_whole_block(data, 0):
            raise _damage(segments, epoch, 0, "the header fails its checksum")
        return None
    version, follows, offset = msgpack.unpackb(found[0].payload)
    if version != FORMAT:
        raise JournalDamagedError(
            f"{segments.name(epoch)} has format {version}, and this raysweep reads format {FORMAT}:"
            f" take the sweep up with the version of raysweep that its spec.json names"
        )
    return _Segment(epoch, follows, offset, found, data[found[-1].end :])


def _segment_from(segments: Segments, place: Place) -> _Segment:
    """The segment of a place, from that block on."""
    data = segments.read(place.epoch, place.start)
    found = [] if data is None else list(blocks(data, place.start, previous=None))
    if data is None or not found or found[0].checksum != place.checksum:
        raise UnknownPlaceError(place)
    return _Segment(place.epoch, 0, 0, found, data[found[-1].end - place.start :])


def _refuse_damage(segments: Segments, segment: _Segment) -> None:
    """Tell a commit that was being written from one that was written and is damaged now."""
    if has_whole_block(segment.tail, 1):
        what = "a commit fails its checksum, whole ones follow"
    elif segment.tail and not was_being_written(segment.tail, segment.end % PAGE):
        what = "the last commit fails its checksum"
    else:
        return
    raise _damage(segments, segment.epoch, segment.end, what)


def _damage(segments: Segments, epoch: int, offset: int, what: str) -> JournalDamagedError:
    name = segments.name(epoch)
    return JournalDamagedError(
        f"{name} is damaged at byte {offset}: {what}. Nothing was changed. Bring it back from a copy;"
        f" or, to go on without what follows that byte, cut it there: {segments.cut(epoch, offset)}"
    )


def _records(chain: Iterable[_Segment]) -> Iterator[Record]:
    for segment in chain:
        for block in segment.blocks[1:]:  # the first is the header, or was read before
            unpacker = msgpack.Unpacker(max_buffer_size=0, strict_map_key=False)
            unpacker.feed(block.payload)
            yield from map(_decoded, unpacker)
