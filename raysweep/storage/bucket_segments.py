"""A journal's segments in a bucket: an object a commit, named by the byte at which it begins.

One rule: an object of a commit never changes, and is removed only once another one holds its bytes, so that
a request that arrives late, or twice, does no harm.

    journal/00000003/claim                        whoever created it has the epoch
    journal/00000003/000000000000-000000065310    many commits in one object, bytes 0 to 65,309
    journal/00000003/000000065310                 a commit, from byte 65,310 of the segment on
    journal/00000003/000000066168                 the next and newest, where that one ends
    journal/snapshot

A reader goes from the end of one object to the one that begins there, the longest if there are several, and
passes over what lies within. Many small objects are slow to read, so the writer puts many into one
(`COMPACT`), and removes them only then. What makes this safe beside it:

- The long object has a name of its own. Under the name of its first commit it could be replaced by that
  commit, if a request that was given up as lost arrives after all.
- The newest commit stays an object of its own. A list may be made while objects are replaced and miss
  some; then it shows something beyond what it misses, and is made again.
- A claim stays. An epoch that was given up may have a commit on its way; its number is used by nobody else.

`python -m raysweep.storage.bucket_segments URI EPOCH BYTE` takes off what follows a byte of a segment.
"""

from __future__ import annotations

import logging
import re
import secrets
import shlex
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple

from raysweep.errors import JournalDamagedError
from raysweep.storage.bucket import Bucket, Entry

FOLDER = "journal"
LEAST_INTERVAL = 0.2  # seconds: a commit is three requests, and each of them costs
COMPACT = 256  # commits that become one object
COMPACT_BYTES = 8 * 2**20  # of which at most this many bytes
FEWEST = 16  # commits that are worth it
EPOCH = re.compile(r"(\d{8})")
PIECE = re.compile(r"(\d{12})(?:-\d{12})?")

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """An object that holds bytes of a segment."""

    key: str
    begin: int  # in the segment
    end: int


class Walk(NamedTuple):
    """How to get at a segment's bytes from some byte on."""

    pieces: list[Piece]  # that hold them, in order
    end: int  # as far as they reach
    breaks: bool  # whether there are objects beyond which do not join


class BucketSegments:
    """The segments of a sweep whose folder is in a bucket.

    Args:
        bucket: the sweep's folder.
    """

    least_interval = LEAST_INTERVAL

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._compaction = _Compaction(bucket)

    def epochs(self) -> list[int]:
        """The epochs that have a folder."""
        names = (folder.rpartition("/")[2] for folder in self._bucket.folders(FOLDER))
        return [int(match[1]) for name in names if (match := EPOCH.fullmatch(name))]

    def create(self, epoch: int) -> bool:
        """Claim an epoch."""
        return self._bucket.create(_claim(epoch), secrets.token_bytes(16))

    def exists(self, epoch: int) -> bool:
        """Whether it is claimed."""
        return self._bucket.exists(_claim(epoch))

    def give_up(self, epoch: int) -> None:
        """Forget what was gathered for it."""
        self._compaction.forget(epoch)

    def read(self, epoch: int, start: int = 0) -> bytes | None:
        """The objects' bytes, many of them at a time.

        Raises:
            JournalDamagedError: an object is gone that others follow.
        """
        got: list[bytes] = []
        at, stuck = start, False
        while True:
            entries = self._bucket.entries(_folder(epoch))
            if not entries and not got:
                return None
            walk = walked(entries, at)
            reached = self._fetch(walk, at, got)
            if reached == max(start, walk.end) and not walk.breaks:
                return b"".join(got)
            if reached == at and stuck:
                raise self._broken(epoch, min(reached, walk.end))
            # Objects were replaced since they were listed, or while they were. That moment is over
            # once a second list begins: what this shows no way through is no such moment.
            at, stuck = reached, reached == at

    def _fetch(self, walk: Walk, at: int, got: list[bytes]) -> int:
        """Read the objects, as far as they are there as they were listed; returns how far."""
        wanted = [(piece.key, max(0, at - piece.begin)) for piece in walk.pieces]
        for piece, content in zip(walk.pieces, self._bucket.read_all(wanted), strict=True):
            if content is None or at + len(content) != piece.end:
                break
            got.append(content)
            at = piece.end
        return at

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write a commit; the ones before may become one object meanwhile, beside."""
        self._bucket.write(_commit(epoch, offset), block)
        self._compaction.add(epoch, offset, block)

    def beat(self, epoch: int) -> None:
        """Write an object that nobody reads."""
        self._bucket.write(f"{_folder(epoch)}/alive", b"")

    def silence(self) -> float | None:
        """Since the newest object of the newest epoch, by the store's clock and this machine's."""
        if not (epochs := self.epochs()):
            return None
        times = [entry.modified for entry in self._bucket.entries(_folder(max(epochs))).values()]
        return max(0.0, (datetime.now(UTC) - max(times)).total_seconds()) if times else None

    def close(self) -> None:
        """Wait for what becomes one object just now."""
        self._compaction.close()

    def name(self, epoch: int) -> str:
        """The URI of its folder."""
        return self._bucket.name(_folder(epoch))

    def cut(self, epoch: int, offset: int) -> str:
        """What calls `take_off`."""
        uri = shlex.quote(self._bucket.uri)
        return f"python -m raysweep.storage.bucket_segments {uri} {epoch} {offset}"

    def take_off(self, epoch: int, offset: int) -> None:
        """Take off what follows a byte; nothing may be writing."""
        pieces = _pieces(self._bucket.entries(_folder(epoch)))
        beyond = sorted((piece for piece in pieces if piece.begin >= offset), reverse=True)
        for piece in beyond:  # from the end, so that what is left is always a segment
            self._bucket.remove([piece.key])
        for piece in pieces:
            if piece.begin < offset < piece.end:
                self._shorten(epoch, piece, offset)

    def _shorten(self, epoch: int, piece: Piece, offset: int) -> None:
        """Keep only the beginning of an object."""
        content = self._bucket.read(piece.key)
        assert content is not None  # nothing else is writing
        kept = content[: offset - piece.begin]
        if piece.key == _commit(epoch, piece.begin):
            self._bucket.write(piece.key, kept)
        else:
            self._bucket.write(_long(epoch, piece.begin, offset), kept)
            self._bucket.remove([piece.key])

    def read_snapshot(self) -> bytes | None:
        """The snapshot's bytes."""
        return self._bucket.read(f"{FOLDER}/snapshot")

    def keep_snapshot(self, content: bytes) -> None:
        """Replace the snapshot's object."""
        self._bucket.write(f"{FOLDER}/snapshot", content)

    def _broken(self, epoch: int, offset: int) -> JournalDamagedError:
        return JournalDamagedError(
            f"{self.name(epoch)} is damaged at byte {offset}: the object that begins there is missing or"
            " cut short, later ones are there. Nothing was changed. Bring it back from a copy; or, to"
            f" go on without what follows that byte, cut it there: {self.cut(epoch, offset)}"
        )


def walked(entries: Mapping[str, Entry], start: int) -> Walk:
    """The way through a segment's objects: from each to the longest that begins where it ends."""
    longest = {piece.begin: piece for piece in sorted(_pieces(entries), key=lambda one: one.end)}
    way, at = [], 0
    while (piece := longest.get(at)) is not None and piece.end > at:
        if piece.end > start:
            way.append(piece)
        at = piece.end
    return Walk(way, at, any(begin >= at for begin in longest))


def _pieces(entries: Mapping[str, Entry]) -> list[Piece]:
    """The objects that hold bytes of a segment, among all in its folder."""
    named = ((key, PIECE.fullmatch(key.rpartition("/")[2])) for key in entries)
    return [
        Piece(key, int(match[1]), int(match[1]) + entries[key].size)
        for key, match in named
        if match
    ]


class _Compaction:
    """What makes one object of many commits, on a thread of its own, one at a time."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._epoch = 0
        self._gathered: dict[int, bytes] = {}  # commits by where they begin
        self._size = 0  # of all that is gathered
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def add(self, epoch: int, offset: int, block: bytes) -> None:
        """Gather a commit that is durable, or one more time the newest."""
        if epoch != self._epoch:
            self.forget(self._epoch)
            self._epoch = epoch
        self._size -= len(self._gathered.pop(offset, b""))
        full = len(self._gathered) == COMPACT or self._size + len(block) > COMPACT_BYTES
        if full:  # only now that a newer one is there
            self._begin()
        self._gathered[offset] = block
        self._size += len(block)

    def forget(self, epoch: int) -> None:
        """Drop what was gathered of an epoch."""
        if epoch == self._epoch:
            self._gathered, self._size = {}, 0

    def close(self) -> None:
        """Wait for the one that runs."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None

    def _begin(self) -> None:
        """Start with what is gathered; if the one before still runs, it stays as it is."""
        gathered = self._gathered
        self.forget(self._epoch)
        if len(gathered) < FEWEST or (self._running is not None and not self._running.done()):
            return
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="compaction")
        self._running = self._pool.submit(self._compact, self._epoch, gathered)

    def _compact(self, epoch: int, gathered: Mapping[int, bytes]) -> None:
        """Write the long object, then remove the short ones."""
        content = b"".join(gathered.values())
        begin = min(gathered)
        try:
            self._bucket.write(_long(epoch, begin, begin + len(content)), content)
            self._bucket.remove([_commit(epoch, offset) for offset in gathered])
        except OSError as error:  # they are as good as before, only slower to read
            log.warning("the objects of %d commits stay: %s", len(gathered), error)


def _folder(epoch: int) -> str:
    return f"{FOLDER}/{epoch:08d}"


def _claim(epoch: int) -> str:
    return f"{_folder(epoch)}/claim"


def _commit(epoch: int, offset: int) -> str:
    return f"{_folder(epoch)}/{offset:012d}"


def _long(epoch: int, begin: int, end: int) -> str:
    return f"{_folder(epoch)}/{begin:012d}-{end:012d}"


def main(uri: str, epoch: str, offset: str) -> None:
    """Take off what follows a byte of a segment, as a message of damage asks for."""
    BucketSegments(Bucket(uri)).take_off(int(epoch), int(offset))


if __name__ == "__main__":
    main(*sys.argv[1:])
