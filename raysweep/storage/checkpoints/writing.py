"""A state tree written as one Arrow file.

One rule: a checkpoint is there whole or not at all, and each byte passes through once: it gets its
checksum and is on its way to the disk before the next ones are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from zlib_ng.zlib_ng import crc32

from raysweep.errors import UnstorableError
from raysweep.storage import atomic
from raysweep.storage.checkpoints import trees
from raysweep.storage.checkpoints.frame import JSON, Frame, Rows, aligned
from raysweep.storage.checkpoints.leaf import Leaf

PIECE = 2**20  # bytes that are read for their checksum and then, from the cache, for the file
EARLY = 8 * 2**20  # bytes after which the disk is told to begin


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that is durable."""

    path: Path
    size: int  # bytes of the file
    checksum: str  # of everything in it: `sha256:` and 64 hex digits, kept in the file as well
    leaves: int


def write(
    path: str | os.PathLike[str], rows: Rows, metadata: Mapping[str, JSON] | None = None
) -> Saved:
    """Write leaves as one file, atomically and durably; a file that was there is replaced.

    Raises:
        UnstorableError: the metadata is no JSON, or a file changed while it was read.
        OSError: the file cannot be written; what was at `path` is still there then.
    """
    frame = Frame(rows, metadata or {})
    sums = np.zeros(len(rows), "<u4")
    with atomic.replacing(path) as file:
        file.seek(len(frame.head))
        early = _Early(file)
        for row, (steps, leaf) in enumerate(rows):
            try:
                sums[row] = _streamed(leaf, file, early)
            except ValueError as error:
                raise UnstorableError(f"{trees.readable(steps)} {error}") from error
        checksum = frame.seal(sums)
        file.write(frame.tail)
        size = file.tell()
        file.seek(0)
        file.write(frame.head)
    return Saved(path=Path(path), size=size, checksum=checksum, leaves=len(rows))


def _streamed(leaf: Leaf, file: BinaryIO, early: _Early) -> int:
    """Write a leaf's bytes and the zeros after them; returns the checksum."""
    data, sum_ = memoryview(leaf.flat()), 0
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        sum_ = crc32(piece, sum_)
        file.write(piece)
        early.written(len(piece))
    file.write(bytes(aligned(len(data)) - len(data)))
    return sum_


class _Early:
    """Has the disk begin with what is written while more is on its way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._pending = 0

    def written(self, size: int) -> None:
        """Note that so many bytes more were written."""
        self._pending += size
        if self._pending >= EARLY:
            atomic.begin_flush(self._file)
            self._pending = 0
