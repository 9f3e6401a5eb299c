"""Segments: where the bytes of a journal lie, one segment an epoch.

One rule: of all who try to create an epoch's segment, on whatever machine, exactly one succeeds; what
`append` has returned from is durable, and is read again by whoever asks.

`Segments` is what a journal needs; `FileSegments` keeps each in a file of a folder,
`BucketSegments` (`raysweep.storage.bucket_segments`) in objects of a bucket.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from pathlib import Path
from typing import Protocol

from raysweep.storage.atomic import flush_folder, write_bytes

SEGMENT = re.compile(r"(\d{8})\.journal")


class Segments(Protocol):
    """The segments of one journal; whatever the storage refuses is an `OSError`."""

    least_interval: float  # seconds between two commits, at least: what the storage can bear

    def epochs(self) -> list[int]:
        """The epochs that have been created, in any order; none where there is no journal."""

    def create(self, epoch: int) -> bool:
        """Create an epoch's segment, empty; False when somebody has created it before."""

    def exists(self, epoch: int) -> bool:
        """Whether somebody has created this epoch's segment."""

    def give_up(self, epoch: int) -> None:
        """Write no more to a segment that nothing was acknowledged under.

        It stays, as one whose controller died before its first commit: were its number free again, an
        earlier controller would look for it, find nobody, and go on beside a later one.
        """

    def read(self, epoch: int, start: int = 0) -> bytes | None:
        """A segment's bytes from `start` on; None when there is no such segment."""

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Make `block` the durable end of a segment that was `offset` bytes long.

        Whatever an earlier try has left after `offset` is replaced. An epoch has one writer.
        """

    def beat(self, epoch: int) -> None:
        """Leave a sign that the writer of this epoch lives, though it has nothing to write."""

    def silence(self) -> float | None:
        """Seconds since anything was written, or a sign was left; None where nothing ever was."""

    def close(self) -> None:
        """Let go of what is open."""

    def name(self, epoch: int) -> str:
        """What to call a segment in a message."""

    def cut(self, epoch: int, offset: int) -> str:
        """The line of shell that takes off what follows `offset`."""

    def read_snapshot(self) -> bytes | None:
        """The snapshot that was kept last; None when there is none."""

    def keep_snapshot(self, content: bytes) -> None:
        """Keep a snapshot in place of the one before, whole or not at all."""


class FileSegments:
    """A file a segment, in one folder of a file system that knows exclusive creation."""

    least_interval = 0.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[int, int] = {}  # descriptors of the segments that are written here

    def epochs(self) -> list[int]:
        """The epochs that have a file."""
        if not self.folder.is_dir():
            return []
        names = (path.name for path in self.folder.iterdir())
        return [int(match[1]) for name in names if (match := SEGMENT.fullmatch(name))]

    def create(self, epoch: int) -> bool:
        """Create an epoch's file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(self._path(epoch), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        self._files[epoch] = file
        flush_folder(self.folder)
        return True

    def exists(self, epoch: int) -> bool:
        """Whether there is such a file."""
        return self._path(epoch).exists()

    def give_up(self, epoch: int) -> None:
        """Close an epoch's file."""
        if (file := self._files.pop(epoch, None)) is not None:
            os.close(file)

    def read(self, epoch: int, start: int = 0) -> bytes | None:
        """A file's bytes."""
        try:
            with self._path(epoch).open("rb") as file:
                file.seek(start)
                return file.read()
        except FileNotFoundError:
            return None

    def append(self, epoch: int, offset: int, block: bytes) -> None:
        """Write a block and have it on the disk."""
        file = self._files[epoch]
        os.ftruncate(file, offset)  # what an earlier try may have left
        view = memoryview(block)
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written
        os.fdatasync(file)

    def beat(self, epoch: int) -> None:
        """Give the file the time of now."""
        os.utime(self._path(epoch))

    def silence(self) -> float | None:
        """Since the newest file's time."""
        times = []
        for epoch in self.epochs():
            with contextlib.suppress(FileNotFoundError):
                times.append(self._path(epoch).stat().st_mtime)
        return max(0.0, time.time() - max(times)) if times else None

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def name(self, epoch: int) -> str:
        """The file's path."""
        return str(self._path(epoch))

    def cut(self, epoch: int, offset: int) -> str:
        """What cuts the file."""
        return f"truncate -s {offset} {shlex.quote(str(self._path(epoch)))}"

    def read_snapshot(self) -> bytes | None:
        """The snapshot's bytes."""
        with contextlib.suppress(FileNotFoundError):
            return self._snapshot.read_bytes()
        return None

    def keep_snapshot(self, content: bytes) -> None:
        """Replace the snapshot's file."""
        write_bytes(self._snapshot, content)

    @property
    def _snapshot(self) -> Path:
        return self.folder / "snapshot"

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:08d}.journal"
