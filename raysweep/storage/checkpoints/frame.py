"""The Arrow file around the bytes of a checkpoint's leaves: what stands before them and after them.

One rule: all that a file says about its leaves is covered by one checksum, and says the checksum of
each leaf's bytes, so that it stands for the whole content.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap as memory
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import trees
from raysweep.storage.checkpoints.leaf import Leaf
from raysweep.storage.columns import column, numbers

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Rows: TypeAlias = "Sequence[tuple[trees.Steps, Leaf]]"

FORMAT = "2"
ALIGNMENT = 64  # bytes: a cache line, and what Arrow recommends


def _schema() -> pa.Schema:
    types = {
        "path": pa.string(),
        "steps": pa.list_(pa.field("item", pa.string(), nullable=False)),
        "kind": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.field("item", pa.int64(), nullable=False)),
        "nbytes": pa.int64(),
        "crc32": pa.uint32(),
        "bytes": pa.large_binary(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


SCHEMA = _schema()

# What stands for the checksum while it is computed. Nothing before it in either part of the frame can
# look like it: the metadata is ASCII.
_UNKNOWN = "sha256:" + "\N{SECTION SIGN}" * 32


class Frame:
    """A file's bytes around those of its leaves.

    Attributes:
        head: what stands before the leaves, a multiple of 64 bytes; its checksums are to be filled in.
        tail: what stands after them.
    """

    def __init__(self, rows: Rows, metadata: Mapping[str, JSON]) -> None:
        header = {
            "raysweep.format": FORMAT,
            "raysweep.checksum": _UNKNOWN,
            "raysweep.metadata": _text(metadata),
        }
        self._sums = np.zeros(len(rows), "<u4")
        batch = _batch(rows, self._sums)
        first = _Around(batch, header | {"raysweep.padding": ""})
        padding = " " * (-len(first.before) % ALIGNMENT)  # pyarrow aligns to 8 bytes only
        around = _Around(batch, header | {"raysweep.padding": padding}) if padding else first
        self.head, self.tail = around.before, around.after
        self._sums_at = around.sums_at
        assert len(self.head) % ALIGNMENT == 0

    def seal(self, sums: npt.NDArray[np.uint32]) -> str:
        """Fill in the checksums of the leaves, and that of the whole; returns the latter."""
        self.head[self._sums_at : self._sums_at + sums.nbytes] = sums.tobytes()
        checksum = checksum_of(self.head, self.tail, _UNKNOWN)
        for part in (self.head, self.tail):
            part[:] = part.replace(_UNKNOWN.encode(), checksum.encode(), 1)
        return checksum


def checksum_of(head: Any, tail: Any, found: str) -> str:  # noqa: ANN401  (bytes of any kind)
    """The checksum of a frame in which this one stands."""
    digest = hashlib.sha256()
    for part in (head, tail):
        digest.update(bytes(part).replace(found.encode(), _UNKNOWN.encode(), 1))
    return f"sha256:{digest.hexdigest()}"


def aligned(size: int) -> int:
    """The bytes that so many take up with the zeros after them, of which there is always one."""
    return (size // ALIGNMENT + 1) * ALIGNMENT


def _text(metadata: Mapping[str, JSON]) -> str:
    try:
        return json.dumps(dict(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"metadata cannot be written as JSON: {error}") from error


def _batch(rows: Rows, sums: npt.NDArray[np.uint32]) -> pa.RecordBatch:
    """The rows, with memory that is never read or filled in the place of the leaves' bytes."""
    sizes = [leaf.nbytes for _, leaf in rows]
    values: dict[str, Sequence[Any]] = {
        "path": [trees.readable(steps) for steps, _ in rows],
        "steps": [steps for steps, _ in rows],
        "kind": [leaf.kind for _, leaf in rows],
        "dtype": [leaf.dtype for _, leaf in rows],
        "shape": [leaf.shape for _, leaf in rows],
        "nbytes": sizes,
    }
    columns = [column(each, SCHEMA.field(name).type) for name, each in values.items()]
    offsets = np.cumsum([0, *map(aligned, sizes)], dtype="<i8")
    buffers = [None, pa.py_buffer(offsets), _unread(int(offsets[-1]))]
    payload = pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)
    return pa.record_batch([*columns, numbers(sums, pa.uint32()), payload], schema=SCHEMA)


def _unread(size: int) -> pa.Buffer:
    private = memory.MAP_PRIVATE | memory.MAP_ANONYMOUS
    return pa.py_buffer(memory.mmap(-1, size, flags=private, prot=memory.PROT_READ))


class _Around(io.RawIOBase):
    """Keeps what pyarrow writes around a payload, and only counts the payload itself."""

    def __init__(self, batch: pa.RecordBatch, header: dict[str, str]) -> None:
        super().__init__()
        self.before = bytearray()
        self.after = bytearray()
        self.sums_at = 0  # where in what stands before it the leaves' checksums do
        self._payload = batch.column("bytes").buffers()[2]
        self._sums = batch.column("crc32").buffers()[1]
        self._position = 0
        with pa.ipc.new_file(self, batch.schema.with_metadata(header)) as writer:
            writer.write_batch(batch.replace_schema_metadata(header))

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:  # noqa: ANN401  (bytes or a pyarrow buffer)
        size = len(data)
        address = data.address if isinstance(data, pa.Buffer) else None
        if address == self._payload.address:
            assert self._position == len(self.before), (
                "pyarrow writes the payload once, in one piece"
            )
        elif self._position == len(self.before):
            if address == self._sums.address:
                self.sums_at = self._position
            self.before += data
        else:
            self.after += data
        self._position += size
        return size
