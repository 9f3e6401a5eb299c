"""Damage to files: torn tails and flipped bytes, as crashes and disks make them.

One rule: it knows the format of a journal from its description (blocks of a header and a payload,
the header of five little-endian words), so that it can aim; it calls nothing that reads journals.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgpack

HEADER = struct.Struct("<4sIIII")  # magic, payload's length, previous, payload's checksum, own
PAGE = 4096


def flip(path: Path, offset: int) -> None:
    """Turn over one bit of one byte of a file that lies there."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def flipped(folder: Path, rng: random.Random) -> Iterator[tuple[Path, int]]:
    """Flip a byte of a commit, anywhere in a journal; it is turned back afterwards."""
    path, length = rng.choice([*_committed(folder).items()])
    offset = rng.randrange(length)
    flip(path, offset)
    try:
        yield path, offset
    finally:
        flip(path, offset)


def tear(folder: Path, rng: random.Random) -> None:
    """Leave what a machine leaves that loses its power in the middle of a commit.

    That is the next block cut short; or all of it in length, with a page of it never written.
    """
    path = max(_committed(folder))
    blocks = [*_blocks(path.read_bytes())]
    _, length, _, _, checksum = HEADER.unpack_from(path.read_bytes(), blocks[-1][0])
    payload = rng.randbytes(max(length, 3 * PAGE))
    head = HEADER.pack(b"RSJ\x01", len(payload), checksum, zlib.crc32(payload), 0)[:-4]
    block = head + struct.pack("<I", zlib.crc32(head)) + payload
    torn = (
        _with_a_hole(block, blocks[-1][1], rng)
        if rng.random() < 1 / 2
        else (block[: rng.randrange(1, len(block))])
    )
    with path.open("r+b") as file:
        file.seek(blocks[-1][1])
        file.truncate()  # what was really torn, if anything was
        file.write(torn)
        file.flush()
        os.fsync(file.fileno())


def _with_a_hole(block: bytes, place: int, rng: random.Random) -> bytes:
    """A block of which one page, as they lie in the file, holds zeros."""
    first = PAGE - place % PAGE
    whole = (len(block) - first) // PAGE
    at = first + PAGE * rng.randrange(whole)
    return block[:at] + bytes(PAGE) + block[at + PAGE :]


def _committed(folder: Path) -> dict[Path, int]:
    """Each segment that counts, and how much of it: up to where the next one took over."""
    counts: dict[Path, int] = {}
    path = max(one for one in folder.glob("*.journal") if [*_blocks(one.read_bytes())])
    counts[path] = max(end for _, end in _blocks(path.read_bytes()))
    while True:
        _, follows, offset = _opening(path)
        if not follows:
            return counts
        path = folder / f"{follows:08d}.journal"
        counts[path] = offset


def _opening(path: Path) -> tuple[int, int, int]:
    """The header of a segment: format, the epoch that it follows, where that one ends."""
    data = path.read_bytes()
    start, end = next(_blocks(data))
    version, follows, offset = msgpack.unpackb(data[start + HEADER.size : end])
    return version, follows, offset


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each block begins and ends, as long as they are whole."""
    offset = 0
    while offset + HEADER.size <= len(data):
        _, length, _, expected, _ = HEADER.unpack_from(data, offset)
        end = offset + HEADER.size + length
        if end > len(data) or zlib.crc32(data[offset + HEADER.size : end]) != expected:
            return
        yield offset, end
        offset = end
