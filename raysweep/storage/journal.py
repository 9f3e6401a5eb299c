"""The journal: the append-only record of a sweep, from which everything else is derived.

One rule: what `Journal.write` has returned from is on disk and will be read again; what it has not
may be lost, and was acknowledged to nobody.

A journal is a folder of segments, one for each epoch. A controller takes a sweep over by creating
the next segment, which must not exist; from then on no earlier controller acknowledges anything.
It then reads what is there and begins its own segment with a header that says where the one before
ended for it: bytes after that point, torn or written by a controller that was replaced, are never
read. So no file is ever shortened, and no two controllers ever write to one file.

A segment is a row of blocks, one a commit: a header (magic, length of the payload, checksum of the
header before, checksum of the payload, checksum of this header) and the payload. A block that is
cut short at the end of the newest segment was being written when its controller died; whatever
else is wrong is damage, and is refused.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import msgpack

from raysweep.core.events import COMMANDS, EVENTS, Assign, Command, Event, Stop
from raysweep.core.plain import from_plain, to_plain
from raysweep.errors import JournalDamagedError, StaleEpochError
from raysweep.storage.atomic import flush_folder

FORMAT = 1
MAGIC = b"RSJ\x01"
HEADER = struct.Struct("<4sIIII")  # magic, payload's length, previous, payload's checksum, own
UNSIGNED = HEADER.size - 4  # bytes of a header that its own checksum covers
SEGMENT = re.compile(r"(\d{8})\.journal")
PAGE = 4096  # a file system that lost power leaves whole pages of zeros


class Record(NamedTuple):
    """One event and the commands that were given for it."""

    event: Event
    commands: list[Command]


@dataclass(frozen=True, slots=True)
class _Block:
    """A commit as it lies in a segment."""

    start: int
    payload: bytes
    previous: int  # checksum of the header before
    checksum: int  # of this header, and by way of it of the payload

    @property
    def end(self) -> int:
        return self.start + HEADER.size + len(self.payload)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment that has a header: its commits up to the first that is not whole."""

    epoch: int
    path: Path
    follows: int  # the epoch before; 0 at the beginning
    offset: int  # where the segment of that epoch ends for this one
    blocks: list[_Block]
    tail: bytes  # what follows the last of them

    @property
    def end(self) -> int:
        return self.blocks[-1].end


class Journal:
    """The writer of one epoch: `append` gathers, `seal` takes what was gathered, `write` commits.

    `append` and `seal` belong to the controller's loop; `write` may run on another thread.
    """

    def __init__(self, folder: Path, epoch: int, file: int, end: int, checksum: int) -> None:
        self.epoch = epoch
        self._folder = folder
        self._file = file
        self._end = end  # of the last commit
        self._checksum = checksum  # the same
        self._gathered: list[bytes] = []

    @classmethod
    def open(cls, folder: Path) -> tuple[Self, list[Record]]:
        """Take the sweep over; returns the writer and all that was committed before.

        Raises:
            JournalDamagedError: a committed part fails its checksum, or a segment is missing.
            OSError: the folder cannot be read or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        epoch, file = _claim(folder)
        try:
            chain = _chain(folder, before=epoch)
            follows, offset = (chain[-1].epoch, chain[-1].end) if chain else (0, 0)
            header = msgpack.packb([FORMAT, follows, offset])
            journal = cls(folder, epoch, file, end=0, checksum=0)
            journal.write(header)
            flush_folder(folder)
        except BaseException:
            os.close(file)
            _path(folder, epoch).unlink(missing_ok=True)  # nothing was acknowledged under it
            raise
        return journal, list(_records(chain))

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
        head = struct.pack("<4sIII", MAGIC, len(payload), self._checksum, zlib.crc32(payload))
        checksum = zlib.crc32(head)
        block = head + struct.pack("<I", checksum) + payload
        os.ftruncate(self._file, self._end)  # what an earlier try may have left
        _write_all(self._file, block, self._end)
        os.fdatasync(self._file)
        self.verify()
        self._end += len(block)
        self._checksum = checksum

    def verify(self) -> None:
        """Make sure that no other controller has taken the sweep over.

        Raises:
            StaleEpochError: one has.
            FileNotFoundError: the journal has been removed.
        """
        _path(self._folder, self.epoch).stat()
        successor = _path(self._folder, self.epoch + 1)
        if successor.exists():
            raise StaleEpochError(f"{successor}: a later controller has taken the sweep over")

    def close(self) -> None:
        """Close the file; what was gathered and not written is dropped."""
        os.close(self._file)


def read(folder: Path) -> Iterator[Record]:
    """All that is committed, in order; safe beside a controller that writes.

    Raises:
        JournalDamagedError: a committed part fails its checksum, or a segment is missing.
    """
    return _records(_chain(folder, before=None))


def encode(event: Event, commands: Iterable[Command]) -> bytes:
    """One record as msgpack: [event's kind, its fields, [[command's kind, its fields], ...]]."""
    kept = [command for command in commands if isinstance(command, Assign | Stop)]
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


def _claim(folder: Path) -> tuple[int, int]:
    """Create the next segment, which nobody else can then create; returns epoch and file."""
    while True:
        epoch = max(_epochs(folder), default=0) + 1
        try:
            return epoch, os.open(_path(folder, epoch), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue  # somebody was faster: the next number is theirs plus one


def _epochs(folder: Path) -> list[int]:
    return [int(match[1]) for path in folder.iterdir() if (match := SEGMENT.fullmatch(path.name))]


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:08d}.journal"


def _write_all(file: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


# --- reading --------------------------------------------------------------------------------------


def _chain(folder: Path, before: int | None) -> list[_Segment]:
    """The segments that make up the journal, oldest first."""
    if not folder.is_dir():
        return []
    epochs = sorted(epoch for epoch in _epochs(folder) if before is None or epoch < before)
    while epochs and (newest := _segment(folder, epochs[-1])) is None:
        epochs.pop()  # its controller died before its first commit
    if not epochs or newest is None:
        return []
    _refuse_damage(newest)
    return _followed(folder, newest)


def _followed(folder: Path, newest: _Segment) -> list[_Segment]:
    """The newest segment and those that it follows, each up to where the next took over."""
    chain = [newest]
    while chain[0].follows:
        later = chain[0]
        earlier = _segment(folder, later.follows)
        if earlier is None:
            raise JournalDamagedError(f"{_path(folder, later.follows)} is missing or has no header")
        blocks = [block for block in earlier.blocks if block.end <= later.offset]
        if not blocks or blocks[-1].end != later.offset:
            raise _damage(earlier.path, earlier.end, "a commit fails its checksum")
        chain.insert(0, replace(earlier, blocks=blocks))
    return chain


def _segment(folder: Path, epoch: int) -> _Segment | None:
    """A segment as far as its blocks are whole; None when there is no header to begin with."""
    path = _path(folder, epoch)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    blocks = list(_blocks(data))
    if not blocks:
        if _whole_block_after(data, 0):
            raise _damage(path, 0, "the header fails its checksum")
        return None
    version, follows, offset = msgpack.unpackb(blocks[0].payload)
    if version != FORMAT:
        raise JournalDamagedError(f"{path} has format {version}; this raysweep reads {FORMAT}")
    return _Segment(epoch, path, follows, offset, blocks, data[blocks[-1].end :])


def _blocks(data: bytes) -> Iterator[_Block]:
    """The blocks from the beginning, up to the first that is not whole or not the next."""
    offset, checksum = 0, 0
    while (block := _block_at(data, offset)) is not None and block.previous == checksum:
        yield block
        offset, checksum = block.end, block.checksum


def _block_at(data: bytes, offset: int) -> _Block | None:
    """The block that begins here, if it is whole."""
    if not _header_at(data, offset):
        return None
    _, length, previous, expected, checksum = HEADER.unpack_from(data, offset)
    payload = data[offset + HEADER.size : offset + HEADER.size + length]
    if len(payload) < length or zlib.crc32(payload) != expected:
        return None
    return _Block(offset, payload, previous, checksum)


def _header_at(data: bytes, offset: int) -> bool:
    """Whether a whole header begins here."""
    head = data[offset : offset + HEADER.size]
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        return False
    return zlib.crc32(head[:UNSIGNED]) == int.from_bytes(head[UNSIGNED:], "little")


def _refuse_damage(segment: _Segment) -> None:
    """Tell a commit that was being written from one that was written and is damaged now."""
    if _whole_block_after(segment.tail, 1):
        raise _damage(segment.path, segment.end, "a commit fails its checksum, whole ones follow")
    if segment.tail and not _was_being_written(segment.tail, segment.end % PAGE):
        raise _damage(segment.path, segment.end, "the last commit fails its checksum")


def _whole_block_after(data: bytes, offset: int) -> bool:
    while (offset := data.find(MAGIC, offset)) >= 0:
        if _block_at(data, offset) is not None:
            return True
        offset += 1
    return False


def _was_being_written(tail: bytes, into_page: int) -> bool:
    """Whether these bytes are a block cut short, or one of which pages never arrived.

    Args:
        tail: what follows the last whole block; not empty.
        into_page: how many bytes of its first page lie before it.
    """
    if len(tail) < HEADER.size:
        return tail.startswith(MAGIC[: len(tail)]) or not any(tail)
    if _header_at(tail, 0) and len(tail) < HEADER.size + HEADER.unpack_from(tail)[1]:
        return True
    first = PAGE - into_page
    pages = [tail[:first], *(tail[at : at + PAGE] for at in range(first, len(tail), PAGE))]
    return not all(any(page) for page in pages)


def _damage(path: Path, offset: int, what: str) -> JournalDamagedError:
    return JournalDamagedError(
        f"{path} is damaged at byte {offset}: {what}. Nothing was changed. Bring the file back from"
        f" a copy; or, to go on without what follows that byte, cut it there:"
        f" truncate -s {offset} {path}"
    )


def _records(chain: Iterable[_Segment]) -> Iterator[Record]:
    for segment in chain:
        for block in segment.blocks[1:]:
            unpacker = msgpack.Unpacker(max_buffer_size=0, strict_map_key=False)
            unpacker.feed(block.payload)
            yield from map(_decoded, unpacker)
