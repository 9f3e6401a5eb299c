"""Checkpoints: a state tree <-> one Arrow file, a row a leaf.

One rule: a checkpoint is there whole or not at all, and what `load` returns is what `save` was given,
or a `CheckpointDamagedError`. `docs/checkpoint-format.md` describes the file.

Saving makes no copy of what lies flat in the CPU's memory: tensors are written from where they are.
Loading maps the file, so that reading one tensor of a large file costs that tensor alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import itertools
import json
import mmap as memory
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raysweep.errors import CheckpointDamagedError, UnstorableError, UserError
from raysweep.storage import atomic, trees
from raysweep.storage.columns import column
from raysweep.storage.leaves import DECODING_ERRORS, Leaf, decode

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

FORMAT = "1"
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


_SCHEMA = _schema()
_MAGIC = b"ARROW1"  # at both ends; at the start two zeros follow
_LISTED = ("path", "kind", "dtype", "shape", "nbytes")

# What reading a damaged file raises: pyarrow's own errors, and OSError where it ends too early.
_READING_ERRORS = (*DECODING_ERRORS, pa.ArrowException, OSError, StopIteration, IndexError)

Columns: TypeAlias = dict[str, list[Any]]  # every column but `bytes`, a value a leaf


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that is durable."""

    path: Path
    size: int  # bytes of the file
    checksum: str  # of everything in it: `sha256:` and 64 hex digits, kept in the file as well
    leaves: int


def save(
    path: str | os.PathLike[str], tree: object, metadata: Mapping[str, JSON] | None = None
) -> Saved:
    """Write a state tree as one file, atomically and durably; a file that was there is replaced.

    Nothing in the tree may change until this returns.

    Args:
        path: The file; its folder must be there.
        tree: Tensors, arrays, numbers, strings, bytes, booleans and None in dicts (with str or int
            keys), lists and tuples.
        metadata: What to say about the checkpoint: anything that `json` writes, NaN included.

    Raises:
        UnstorableError: If something in the tree has no stored form; the message names its path.
        OSError: If the file cannot be written; what was at `path` is still there then.
    """
    rows = list(trees.flatten(tree))
    columns = _columns(rows)
    header = _header(columns, _metadata_text(metadata or {}))
    head, tail = _frame(header, columns)
    with atomic.replacing(path) as file:
        file.write(head)
        for _, leaf in rows:
            file.write(leaf.data)
            file.write(bytes(-len(leaf.data) % ALIGNMENT))
        file.write(tail)
        size = file.tell()
    return Saved(path=Path(path), size=size, checksum=header["raysweep.checksum"], leaves=len(rows))


def load(path: str | os.PathLike[str], *, verify: bool = True, mmap: bool = True) -> Any:  # noqa: ANN401  (a tree is whatever was saved)
    """Read a state tree back, equal to the one that was saved; no code that is stored runs.

    Args:
        path: The file.
        verify: Check the checksum of every leaf, which reads the whole file. What the file says
            about its leaves is checked in any case.
        mmap: Map the file: arrays are read-only views of it, tensors are views that copy a page
            when it is first written to, so that the file stays as it is. The file must stay there,
            uncut, as long as they live. Otherwise the file is read into memory.

    Raises:
        CheckpointDamagedError: If the file is not what was written.
        UserError: If it holds tensors and torch is not installed.
        OSError: If it cannot be read.
    """
    content = _content(path, mapped=mmap)
    with _damage_named(path):
        opened = _read(content)
    if "tensor" in opened.columns["kind"]:
        _require_torch(path)
    with _damage_named(path):
        return trees.build(opened.rows(verify=verify, read_only=mmap))


def leaves(path: str | os.PathLike[str]) -> pa.Table:
    """What a checkpoint holds, a row a leaf: `path`, `kind`, `dtype`, `shape` and `nbytes`.

    Raises:
        CheckpointDamagedError: If the file is not what was written, as far as these columns tell.
        OSError: If it cannot be read.
    """
    content = _content(path, mapped=True)
    with _damage_named(path):
        columns = _read(content).columns
    schema = pa.schema([_SCHEMA.field(name) for name in _LISTED])
    return pa.table({name: columns[name] for name in _LISTED}, schema=schema)


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What was said about a checkpoint when it was saved.

    Raises:
        CheckpointDamagedError: If the file is not what was written, its leaves' bytes left aside.
        OSError: If it cannot be read.
    """
    content = _content(path, mapped=True)
    with _damage_named(path):
        found = json.loads(_read(content).header["raysweep.metadata"])
        if not isinstance(found, dict):
            raise TypeError("its metadata is no mapping")
    return found


# Writing


def _metadata_text(about: Mapping[str, JSON]) -> str:
    try:
        return json.dumps(dict(about))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError(f"metadata cannot be written as JSON: {error}") from error


def _columns(rows: Sequence[tuple[trees.Steps, Leaf]]) -> Columns:
    return {
        "path": [trees.readable(steps) for steps, _ in rows],
        "steps": [list(steps) for steps, _ in rows],
        "kind": [leaf.kind for _, leaf in rows],
        "dtype": [leaf.dtype for _, leaf in rows],
        "shape": [list(leaf.shape) for _, leaf in rows],
        "nbytes": [len(leaf.data) for _, leaf in rows],
        "crc32": [zlib.crc32(leaf.data) for _, leaf in rows],
    }


def _header(columns: Columns, metadata_text: str) -> dict[str, str]:
    """The schema's metadata; its checksum covers the rest of it, and all columns but `bytes`."""
    header = {
        "raysweep.format": FORMAT,
        "raysweep.leaves": str(len(columns["nbytes"])),
        "raysweep.bytes": str(sum(columns["nbytes"])),
        "raysweep.metadata": metadata_text,
    }
    text = json.dumps([header, columns], sort_keys=True, separators=(",", ":"))
    return header | {"raysweep.checksum": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}


def _frame(header: dict[str, str], columns: Columns) -> tuple[bytes, bytes]:
    """What stands in the file before the leaves' bytes and after them; they start aligned."""
    batch = _batch(columns)
    head, _ = _around_payload(batch, header | {"raysweep.padding": ""})
    padding = " " * (-len(head) % ALIGNMENT)  # pyarrow aligns to 8 bytes only
    head, tail = _around_payload(batch, header | {"raysweep.padding": padding})
    assert not tail or len(head) % ALIGNMENT == 0
    return head, tail


def _batch(columns: Columns) -> pa.RecordBatch:
    """The rows, with memory that is never read or filled in the place of the leaves' bytes."""
    sizes = [size + -size % ALIGNMENT for size in columns["nbytes"]]
    offsets = np.cumsum([0, *sizes], dtype="<i8")
    buffers = [None, pa.py_buffer(offsets), _unread(sum(sizes))]
    payload = pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)
    arrays = [column(columns[name], _SCHEMA.field(name).type) for name in columns]
    return pa.record_batch([*arrays, payload], schema=_SCHEMA)


def _unread(size: int) -> pa.Buffer:
    if not size:
        return pa.py_buffer(b"")
    private = memory.MAP_PRIVATE | memory.MAP_ANONYMOUS
    return pa.py_buffer(memory.mmap(-1, size, flags=private, prot=memory.PROT_READ))


def _around_payload(batch: pa.RecordBatch, header: dict[str, str]) -> tuple[bytes, bytes]:
    payload = batch.column("bytes").buffers()[2]
    sink = _Frame(payload)
    with pa.ipc.new_file(sink, batch.schema.with_metadata(header)) as writer:
        writer.write_batch(batch.replace_schema_metadata(header))
    return bytes(sink.before), bytes(sink.after)


class _Frame(io.RawIOBase):
    """Keeps what pyarrow writes around a payload, and only counts the payload itself."""

    def __init__(self, payload: pa.Buffer) -> None:
        super().__init__()
        self.before = bytearray()
        self.after = bytearray()
        self._payload = payload
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:  # noqa: ANN401  (bytes or a pyarrow buffer)
        size = len(data)
        if size and isinstance(data, pa.Buffer) and data.address == self._payload.address:
            assert self._position == len(self.before), (
                "pyarrow writes the payload once, in one piece"
            )
        elif self._position == len(self.before):
            self.before += data
        else:
            self.after += data
        self._position += size
        return size


# Reading


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A checkpoint whose every part is where it says, the leaves' bytes not yet looked at."""

    header: dict[str, str]
    columns: Columns
    payloads: list[memoryview]  # each leaf's bytes, in the file's memory

    def rows(self, *, verify: bool, read_only: bool) -> Iterator[tuple[list[str], object]]:
        """The steps and the value of each leaf."""
        for number, steps in enumerate(self.columns["steps"]):
            value = self._value(number, verify=verify)
            if read_only and isinstance(value, np.ndarray):
                value.flags.writeable = False
            yield steps, value

    def _value(self, number: int, *, verify: bool) -> object:
        row = {name: column[number] for name, column in self.columns.items()}
        data = self.payloads[number]
        if verify and zlib.crc32(data) != row["crc32"]:
            raise ValueError(f"the bytes of {row['path']} fail their checksum")
        try:
            return decode(
                Leaf(kind=row["kind"], dtype=row["dtype"], shape=tuple(row["shape"]), data=data)
            )
        except DECODING_ERRORS as error:
            raise ValueError(f"{row['path']}: {error}") from error


@contextlib.contextmanager
def _damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except _READING_ERRORS as error:
        raise CheckpointDamagedError(
            f"checkpoint {os.fspath(path)} is damaged: {error}; take the one before it"
        ) from error


def _require_torch(path: str | os.PathLike[str]) -> None:
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            f"checkpoint {os.fspath(path)} holds torch tensors, but torch cannot be imported here"
            f" ({error}): install it with `pip install 'raysweep[torch]'`"
        ) from error


def _content(path: str | os.PathLike[str], *, mapped: bool) -> memory.mmap:
    """A file's bytes at an aligned address, writable without the file noticing."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise CheckpointDamagedError(f"checkpoint {os.fspath(path)} is damaged: it is empty;"
                                         " take the one before it")  # fmt: skip
        if mapped:
            return memory.mmap(file.fileno(), size, access=memory.ACCESS_COPY)
        content = memory.mmap(-1, size, flags=memory.MAP_PRIVATE | memory.MAP_ANONYMOUS)
        file.readinto(content)
        return content


def _read(content: memory.mmap) -> _Opened:
    if content[:8] != _MAGIC + bytes(2) or content[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("it is cut short, or no Arrow file")
    schema, batch = _schema_and_batch(pa.py_buffer(content))
    columns = {name: batch.column(name).to_pylist() for name in _SCHEMA.names[:-1]}
    header = _checked_header(schema, columns)
    payloads = list(_payloads(batch.column("bytes"), content, columns["nbytes"]))
    return _Opened(header=header, columns=columns, payloads=payloads)


def _schema_and_batch(buffer: pa.Buffer) -> tuple[pa.Schema, pa.RecordBatch]:
    """The one record batch, all of it checked but the contents of its last column.

    Most readers come through the footer at the file's end, so that must hold as well. The batch is
    taken from where it stands, because only its message tells, before it is unpacked, that
    unpacking would take memory out of proportion to the file.
    """
    if pa.ipc.open_file(buffer).num_record_batches != 1:
        raise ValueError("it holds other than one record batch")
    messages = pa.ipc.MessageReader.open_stream(buffer.slice(8))
    schema = pa.ipc.read_schema(_next_message(messages, "schema"))
    if not schema.equals(_SCHEMA):
        raise ValueError("its columns are not those of a checkpoint")
    message = _next_message(messages, "record batch")
    if _is_compressed(memoryview(message.metadata)):
        raise ValueError("its rows are compressed")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    return schema, batch


def _next_message(messages: pa.ipc.MessageReader, kind: str) -> pa.ipc.Message:
    """The next message, which pyarrow itself would take for any kind that it is asked for."""
    message = messages.read_next_message()
    if message.type != kind:
        raise ValueError(f"a {message.type} stands in the place of its {kind}")
    return message


def _checked_header(schema: pa.Schema, columns: Columns) -> dict[str, str]:
    found = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    version = found.get("raysweep.format")
    if version != FORMAT:
        raise ValueError(f"its format is {version}, but this raysweep reads {FORMAT} only")
    header = _header(columns, found["raysweep.metadata"])
    if any(found.get(key) != value for key, value in header.items()):
        raise ValueError("what it says about its leaves fails its checksum")
    return header


def _payloads(column: pa.Array, content: memory.mmap, sizes: list[int]) -> Iterator[memoryview]:
    """The bytes of each leaf, where they lie in the file's memory."""
    whole = memoryview(content)
    _, offsets, data = column.buffers()
    start = data.address - pa.py_buffer(content).address if data else 0
    ends = np.frombuffer(offsets, "<i8", count=len(column) + 1).tolist()
    for (begin, end), size in zip(itertools.pairwise(ends), sizes, strict=True):
        if size < 0 or end - begin != size + -size % ALIGNMENT or (start + begin) % ALIGNMENT:
            raise ValueError("its leaves do not lie where they say")
        yield whole[start + begin : start + begin + size]


def _is_compressed(message: memoryview) -> bool:
    """Whether a message's record batch says that its buffers are compressed.

    The message is a FlatBuffer, laid out by Arrow's `Message.fbs`: the header is its field 2, and a
    record batch's compression the field 3 of that.
    """
    [root] = struct.unpack_from("<I", message)
    header = _field(message, root, 2)
    if header is None:
        raise ValueError("a message of it is empty")
    [distance] = struct.unpack_from("<I", message, header)
    return _field(message, header + distance, 3) is not None


def _field(data: memoryview, table: int, number: int) -> int | None:
    """Where a FlatBuffers table keeps a field, or None if it leaves it out."""
    [distance] = struct.unpack_from("<i", data, table)
    vtable = table - distance
    slot = 4 + 2 * number
    [size] = struct.unpack_from("<H", data, vtable)
    [offset] = struct.unpack_from("<H", data, vtable + slot) if slot < size else (0,)
    return table + offset if offset else None
