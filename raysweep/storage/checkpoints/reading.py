"""A checkpoint's file opened: mapped, what it says about itself checked, its leaves at hand.

One rule: nothing that a file says is believed before it is checked, and what it costs to find out is in
proportion to the file: no size that it names is allocated.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import mmap as memory
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from zlib_ng.zlib_ng import crc32

from raysweep.errors import CheckpointDamagedError, UserError
from raysweep.storage.checkpoints import estimators
from raysweep.storage.checkpoints.frame import ALIGNMENT, FORMAT, SCHEMA, aligned, checksum_of
from raysweep.storage.checkpoints.kinds import decode
from raysweep.storage.checkpoints.leaf import DECODING_ERRORS, Leaf
from raysweep.storage.checkpoints.trees import (
    ALIASED,
    MAX_DEPTH,
    Branch,
    ContradictionError,
    branch,
    kind_into,
    readable,
)

_MAGIC = b"ARROW1"  # at both ends; at the start two zeros follow
_TELLING = ("path", "kind", "dtype", "shape")  # the columns that say what a leaf's bytes are
_THREADS = 4  # that compute checksums; memory is not faster than that
_WORTH_THREADS = 2**26  # bytes

# What reading a damaged file raises: pyarrow's own errors, and OSError where it ends too early.
_READING_ERRORS = (*DECODING_ERRORS, pa.ArrowException, OSError, StopIteration, IndexError)


class Opened:
    """A checkpoint whose every part is where it says, the leaves' bytes not yet looked at.

    Args:
        path: the file.
        mapped: map it, so that what is not looked at is not read; arrays are read-only then. Otherwise
            it is read into memory.
        verify: check the checksum of a leaf when it is read.
        device: where tensors go, as torch takes it; None: they stay in the file's memory.
        trusted: as `estimators.estimator_of` takes it.

    Raises:
        CheckpointDamagedError: it is not what was written.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mapped: bool = True,
        verify: bool = True,
        device: Any = None,  # noqa: ANN401  (a name, or torch's own)
        trusted: Collection[str] | None = (),
    ) -> None:
        self.path = os.fspath(path)
        self._mapped, self._device, self._trusted = mapped, device, trusted
        content = _content(self.path, mapped=mapped)
        with self.damage_named():
            if content[:8] != _MAGIC + bytes(2) or content[-len(_MAGIC) :] != _MAGIC:
                raise ValueError("it is cut short, or no Arrow file")
            schema, self._batch = _schema_and_batch(pa.py_buffer(content))
            self._columns = dict(zip(SCHEMA.names, self._batch.columns, strict=True))
            if any(column.null_count for column in self._columns.values()):
                raise ValueError("it holds nulls")
            self._steps = _items(self._columns["steps"])
            self._content = memoryview(content)
            self._sizes = _numbers(self._columns["nbytes"].buffers()[1], "q", self.rows.stop)
            self._starts = _payload(self._columns["bytes"], self._sizes, pa.py_buffer(content))
            head, tail = self._content[: self._starts[0]], self._content[self._starts[-1] :]
            self.metadata = _metadata(schema, head, tail)
        self._first_steps = _numbers(self._columns["steps"].buffers()[1], "i", self.rows.stop + 1)
        self._unverified = bytearray([verify]) * self.rows.stop

    @property
    def rows(self) -> range:
        """The leaves."""
        return range(self._batch.num_rows)

    @contextlib.contextmanager
    def damage_named(self) -> Iterator[None]:
        """Turn what reading a damaged file raises into an error that names the file."""
        try:
            yield
        except _READING_ERRORS as error:
            raise CheckpointDamagedError(
                f"checkpoint {self.path} is damaged: {error}; take the one before it"
            ) from error
        except UserError as error:
            raise UserError(f"checkpoint {self.path} {error}") from error

    def table(self, names: Sequence[str]) -> pa.Table:
        """These columns."""
        return pa.Table.from_batches([self._batch.select(list(names))])

    # --- the tree ---------------------------------------------------------------------------------

    def kind(self, rows: range, depth: int) -> str:
        """The kind of container that these rows lie in, so many steps into the tree; "" for one leaf.

        Raises:
            ValueError: they contradict each other.
        """
        firsts = self._first_steps[rows.start : rows.stop + 1]
        if len(rows) == 1 and firsts[1] - firsts[0] == depth:
            return ""
        if depth >= MAX_DEPTH:
            raise ValueError(f"{self._name(rows, 8)}... is nested more than {MAX_DEPTH} deep")
        if any(after - before <= depth for before, after in itertools.pairwise(firsts)):
            raise ValueError(f"{self._name(rows, depth)} is there twice")
        first = self._steps[firsts[0] + depth].as_py()
        with self._contradiction_named(rows, depth):
            return kind_into(first)

    def branch(self, rows: range, depth: int) -> Branch:
        """That container.

        Raises:
            ValueError: the rows contradict each other.
        """
        firsts, texts = self._first_steps[rows.start : rows.stop], self._texts
        with self._contradiction_named(rows, depth):
            return branch([texts[first + depth] for first in firsts], rows.start)

    def find(self, rows: range, depth: int, step: str) -> range | None:
        """The rows of one item of that container, found among its bytes; None if it is not there.

        Raises:
            ValueError: it is there twice.
        """
        wanted = step.encode("utf-8", "surrogatepass")
        _, ends, data = self._steps.buffers()
        starts, texts = _numbers(ends, "i", len(self._steps) + 1), memoryview(data).cast("B")
        found = []
        for row in rows:
            at = self._first_steps[row] + depth
            start, end = starts[at], starts[at + 1]
            if end - start == len(wanted) and texts[start:end] == wanted:
                found.append(row)
        if not found:
            return None
        if found[-1] - found[0] + 1 > len(found):
            raise ValueError(f"{self._name(rows, depth, step)} is there twice")
        return range(found[0], found[-1] + 1)

    @cached_property
    def _texts(self) -> list[str]:
        return cast("list[str]", self._steps.to_pylist())

    @contextlib.contextmanager
    def _contradiction_named(self, rows: range, depth: int) -> Iterator[None]:
        try:
            yield
        except ContradictionError as error:
            raise ValueError(f"{self._name(rows, depth, error.step)} {error.what}") from error

    def _name(self, rows: range, depth: int, *more: str) -> str:
        steps = self._steps.slice(self._first_steps[rows.start], depth).to_pylist()
        return readable([*steps, *more]) or "the state"

    # --- values -----------------------------------------------------------------------------------

    def values(self, rows: range) -> list[object]:
        """The values of leaves, verified if they are to be.

        Raises:
            ValueError: one is not what was written.
            UserError: what it needs is not installed, or not trusted.
        """
        self.verify(rows)
        part = slice(rows.start, rows.stop)
        columns = (self._columns[name][part].to_pylist() for name in _TELLING)
        places = zip(self._starts[part], self._sizes[part], strict=True)
        found: dict[int, object] = {}
        for row, path, kind, dtype, shape, (at, size) in zip(rows, *columns, places, strict=True):
            data = self._content[at : at + size]
            try:
                leaf = Leaf(kind=kind, dtype=dtype, shape=tuple(shape), data=data)
                found[row] = self._same(row, leaf, found) if kind == "alias" else self._value(leaf)
            except DECODING_ERRORS as error:
                raise ValueError(f"{path}: {error}") from error
            except UserError as error:
                raise UserError(f"holds {path}, which {error}") from error
        return list(found.values())

    def placed(self, value: Any) -> Any:  # noqa: ANN401  (any leaf's)
        """A value on the device that tensors go to; what goes wrong there is told by torch."""
        if self._device is None or not hasattr(value, "to"):
            return value
        return value.to(self._device)

    def verify(self, rows: range) -> None:
        """Check the checksums of those leaves that have not been checked.

        Raises:
            ValueError: one does not fit.
        """
        if 1 not in self._unverified[rows.start : rows.stop]:
            return
        unverified = [row for row in rows if self._unverified[row]]
        threads = min(_THREADS, os.cpu_count() or 1)
        ends = [*itertools.accumulate(self._sizes[row] for row in unverified)]
        if len(unverified) < threads or ends[-1] < _WORTH_THREADS:
            self._verify_in_turn(unverified)
            return
        bounds = [bisect.bisect(ends, ends[-1] * share // threads) for share in range(1, threads)]
        shares = [unverified[start:end] for start, end in itertools.pairwise([0, *bounds, None])]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._verify_in_turn, shares))

    def _verify_in_turn(self, rows: Sequence[int]) -> None:
        sums = _numbers(self._columns["crc32"].buffers()[1], "I", self.rows.stop)
        for row in rows:
            start = self._starts[row]
            if crc32(self._content[start : start + self._sizes[row]]) != sums[row]:
                path = self._columns["path"][row].as_py()
                raise ValueError(f"the bytes of {path} fail their checksum")
            self._unverified[row] = False

    def _value(self, leaf: Leaf) -> object:
        if leaf.kind == "estimator":
            return estimators.estimator_of(leaf, self._trusted)
        value = decode(leaf)
        if isinstance(value, np.ndarray) and self._mapped:
            value.flags.writeable = False
        return value

    def _same(self, row: int, leaf: Leaf, found: dict[int, object]) -> object:
        """The value of an earlier row that this one is the same as."""
        other = int.from_bytes(leaf.flat(), "little")
        if leaf.nbytes != 8 or other >= row:  # noqa: PLR2004  (bytes of a row's number)
            raise ValueError("is the same as no earlier leaf")
        kind, dtype, shape = (self._columns[name][other].as_py() for name in _TELLING[1:])
        if kind not in ALIASED or (dtype, tuple(shape)) != (leaf.dtype, leaf.shape):
            raise ValueError("is the same as a leaf that is another")
        return found[other] if other in found else self.values(range(other, other + 1))[0]


def _content(path: str, *, mapped: bool) -> memory.mmap:
    """A file's bytes at an aligned address, writable without the file noticing."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        if not size:
            raise CheckpointDamagedError(
                f"checkpoint {path} is damaged: it is empty; take the one before it"
            )
        if mapped:
            return memory.mmap(file, size, access=memory.ACCESS_COPY)
        content = memory.mmap(-1, size, flags=memory.MAP_PRIVATE | memory.MAP_ANONYMOUS)
        with open(file, "rb", buffering=0, closefd=False) as raw:
            at, view = 0, memoryview(content)
            while some := raw.readinto(view[at:]):
                at += some
        return content
    finally:
        os.close(file)


def _numbers(buffer: pa.Buffer, code: Literal["i", "I", "q"], count: int) -> list[int]:
    """So many numbers from the beginning of a buffer; for a few this is faster than numpy."""
    numbers: list[int] = memoryview(buffer)[: count * struct.calcsize(code)].cast(code).tolist()
    return numbers


def _items(lists: pa.Array) -> pa.Array:
    """All items of lists, none of which is null."""
    items = lists.values
    if items.null_count:
        raise ValueError("it holds nulls")
    return items


def _schema_and_batch(buffer: pa.Buffer) -> tuple[pa.Schema, pa.RecordBatch]:
    """The one record batch, all of it checked but the contents of its last column.

    It is taken from where it stands, because only its message tells, before it is unpacked, that
    unpacking would take memory out of proportion to the file.
    """
    messages = pa.ipc.MessageReader.open_stream(buffer.slice(8))
    schema = pa.ipc.read_schema(_next_message(messages, "schema"))
    _check_format(schema)
    if not schema.equals(SCHEMA):
        raise ValueError("its columns are not those of a checkpoint")
    message = _next_message(messages, "record batch")
    if _is_compressed(memoryview(message.metadata)):
        raise ValueError("its rows are compressed")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    if not batch.num_rows:
        raise ValueError("it holds no leaf")
    _check_footer(memoryview(buffer))
    return schema, batch


def _check_footer(file: memoryview) -> None:
    """Make sure that whoever comes through the footer finds the batch that follows the schema, alone.

    The footer is a FlatBuffer, laid out by Arrow's `File.fbs`: its field 3 lists where batches begin.
    """
    [size] = struct.unpack_from("<i", file, len(file) - len(_MAGIC) - 4)
    footer = file[len(file) - len(_MAGIC) - 4 - size :]
    [root] = struct.unpack_from("<I", footer)
    if (field := _field(footer, root, 3)) is None:
        raise ValueError("its footer lists no batch")
    [distance] = struct.unpack_from("<I", footer, field)
    count, listed = struct.unpack_from("<Iq", footer, field + distance)
    [schema] = struct.unpack_from("<i", file, len(_MAGIC) + 2 + 4)
    if count != 1 or listed != len(_MAGIC) + 2 + 8 + schema:
        raise ValueError("its footer lists another batch than the first")


def _check_format(schema: pa.Schema) -> None:
    """Refuse a checkpoint of another version, which is not damaged and must not be taken for it.

    Raises:
        UserError: it is one.
    """
    version = (schema.metadata or {}).get(b"raysweep.format", FORMAT.encode()).decode()
    if not version.isdecimal():
        raise ValueError("its format is no number")
    if version != FORMAT:
        raise UserError(
            f"is of format {version}, but this raysweep reads {FORMAT}: load it with the version of"
            " raysweep that wrote it"
        )


def _next_message(messages: pa.ipc.MessageReader, kind: str) -> pa.ipc.Message:
    """The next message, which pyarrow itself would take for any kind that it is asked for."""
    message = messages.read_next_message()
    if message.type != kind:
        raise ValueError(f"a {message.type} stands in the place of its {kind}")
    return message


def _payload(column: pa.Array, sizes: Sequence[int], file: pa.Buffer) -> list[int]:
    """Where in the file each leaf's bytes begin, and at last where those of the last one end."""
    _, offsets, data = column.buffers()
    starts = _numbers(offsets, "q", len(column) + 1)
    begin = data.address - file.address
    wanted = itertools.accumulate(map(aligned, sizes), initial=starts[0])
    if min(sizes) < 0 or starts != list(wanted) or (begin + starts[0]) % ALIGNMENT:
        raise ValueError("its leaves do not lie where they say")
    return [begin + start for start in starts]


def _metadata(schema: pa.Schema, head: memoryview, tail: memoryview) -> dict[str, Any]:
    """What the writer said about the checkpoint, once the file is known to be what was written."""
    found = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    checksum = found.get("raysweep.checksum", "")
    if not checksum or checksum_of(head, tail, checksum) != checksum:
        raise ValueError("what it says about its leaves fails its checksum")
    metadata = json.loads(found["raysweep.metadata"])
    if not isinstance(metadata, dict):
        raise TypeError("its metadata is no mapping")
    return metadata


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
