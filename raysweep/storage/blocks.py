"""Blocks: how one commit of a journal lies among bytes, and how a whole one is told from a torn one.

One rule: nothing in here opens anything; bytes go in, blocks come out. A block is a header (magic,
length of the payload, checksum of the header before, checksum of the payload, checksum of this
header) and the payload, so that blocks form a chain in which none can be missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"RSJ\x01"
HEADER = struct.Struct("<4sIIII")  # magic, payload's length, previous, payload's checksum, own
UNSIGNED = HEADER.size - 4  # bytes of a header that its own checksum covers
PAGE = 4096  # a file system that lost power leaves whole pages of zeros


@dataclass(frozen=True, slots=True)
class Block:
    """A commit as it lies in a segment."""

    start: int
    payload: bytes
    previous: int  # checksum of the header before
    checksum: int  # of this header, and by way of it of the payload

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.start + HEADER.size + len(self.payload)


def sealed(payload: bytes, previous: int) -> tuple[bytes, int]:
    """A block that follows the one of this checksum: its bytes and its own checksum."""
    head = struct.pack("<4sIII", MAGIC, len(payload), previous, zlib.crc32(payload))
    checksum = zlib.crc32(head)
    return head + struct.pack("<I", checksum) + payload, checksum


def blocks(data: bytes, start: int = 0, previous: int | None = 0) -> Iterator[Block]:
    """The blocks from the beginning, up to the first that is not whole or not the next.

    Args:
        data: bytes of a segment.
        start: where in the segment they begin.
        previous: checksum of the block before; None: it is not known.
    """
    offset = 0
    while (block := _block_at(data, offset, start)) is not None:
        if previous not in (None, block.previous):
            return
        yield block
        offset, previous = block.end - start, block.checksum


def _block_at(data: bytes, offset: int, start: int) -> Block | None:
    """The block that begins here, if it is whole."""
    if not _header_at(data, offset):
        return None
    _, length, previous, expected, checksum = HEADER.unpack_from(data, offset)
    payload = data[offset + HEADER.size : offset + HEADER.size + length]
    if len(payload) < length or zlib.crc32(payload) != expected:
        return None
    return Block(start + offset, payload, previous, checksum)


def _header_at(data: bytes, offset: int) -> bool:
    """Whether a whole header begins here."""
    head = data[offset : offset + HEADER.size]
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        return False
    return zlib.crc32(head[:UNSIGNED]) == int.from_bytes(head[UNSIGNED:], "little")


def has_whole_block(data: bytes, offset: int) -> bool:
    """Whether a whole block begins anywhere from this offset on."""
    while (offset := data.find(MAGIC, offset)) >= 0:
        if _block_at(data, offset, 0) is not None:
            return True
        offset += 1
    return False


def was_being_written(tail: bytes, into_page: int) -> bool:
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
