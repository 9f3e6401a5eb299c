"""A checkpoint's file opened: mapped, what it says about itself checked, its leaves at hand.

One rule: nothing that a file says is believed before it is checked, and what it costs to find out is in
proportion to the file: no size that it names is allocated.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap as memory
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from zlib_ng.zlib_ng import crc32

from raysweep.errors import CheckpointDamagedError, UserError
from raysweep.storage.checkpoints import estimators
from raysweep.storage.checkpoints.frame import ALIGNMENT, FORMAT, SCHEMA, checksum_of
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
        self._mapped, self._verify, self._device, self._trusted = mapped, verify, device, trusted
        content = _content(path, mapped=mapped)
        with self.damage_named():
            if content[:8] != _MAGIC + bytes(2) or content[-len(_MAGIC) :] != _MAGIC:
                raise ValueError("it is cut short, or no Arrow file")
            schema, self._batch = _schema_and_batch(pa.py_buffer(content))
            self._content = memoryview(content)
            self._starts = _payload(self._batch, pa.py_buffer(content).address)
            head, tail = self._content[: self._starts[0]], self._content[self._starts[-1] :]
            self.metadata = _metadata(schema, head, tail)
        steps = self._batch.column("steps")
        self._first_steps = np.frombuffer(steps.buffers()[1], "<i4", len(steps) + 1)
        self._steps = steps.values
        self._sizes = np.frombuffer(self._batch.column("nbytes").buffers()[1], "<i8", len(steps))
        self._sums = np.frombuffer(self._batch.column("crc32").buffers()[1], "<u4", len(steps))
        self._unverified = bytearray([verify]) * len(steps)

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
        if (np.diff(firsts) <= depth).any():
            raise ValueError(f"{self._name(rows, depth)} is there twice")
        first = self._steps[firsts[0] + depth].as_py()
        with self._contradiction_named(rows, depth):
            return kind_into(first)

    def branch(self, rows: range, depth: int) -> Branch:
        """That container.

        Raises:
            ValueError: the rows contradict each other.
        """
        nexts = (self._first_steps[rows.start : rows.stop] + depth).tolist()
        with self._contradiction_named(rows, depth):
            return branch([self._texts[step] for step in nexts], rows.start)

    def find(self, rows: range, depth: int, step: str) -> range | None:
        """The rows of one item of that container; None if it is not there.

        Raises:
            ValueError: it is there twice.
        """
        wanted = step.encode("utf-8", "surrogatepass")
        _, ends, data = self._steps.buffers()
        starts = np.frombuffer(ends, "<i4", len(self._steps) + 1)
        nexts = self._first_steps[rows.start : rows.stop] + depth
        alike = np.flatnonzero(starts[nexts + 1] - starts[nexts] == len(wanted)).tolist()
        at = zip(alike, starts[nexts[alike]].tolist(), strict=True)
        texts = memoryview(data).cast("B")
        found = [row for row, start in at if texts[start : start + len(wanted)] == wanted]
        if not found:
            return None
        if found[-1] - found[0] + 1 > len(found):
            raise ValueError(f"{self._name(rows, depth, step)} is there twice")
        return range(rows.start + found[0], rows.start + found[-1] + 1)

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
        columns = (self._batch.column(name)[part].to_pylist() for name in _TELLING)
        places = zip(self._starts[part].tolist(), self._sizes[part].tolist(), strict=True)
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
        unverified = [row for row in rows if self._unverified[row]]
        threads = min(_THREADS, os.cpu_count() or 1)
        ends = np.cumsum(self._sizes[unverified])
        if len(unverified) < threads or ends[-1] < _WORTH_THREADS:
            self._verify_in_turn(unverified)
            return
        bounds = np.searchsorted(ends, ends[-1] * np.arange(1, threads) // threads).tolist()
        shares = [unverified[start:end] for start, end in itertools.pairwise([0, *bounds, None])]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._verify_in_turn, shares))

    def _verify_in_turn(self, rows: Sequence[int]) -> None:
        for row in rows:
            start = int(self._starts[row])
            if crc32(self._content[start : start + int(self._sizes[row])]) != self._sums[row]:
                path = self._batch.column("path")[row].as_py()
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
        kind, dtype, shape = (self._batch.column(name)[other].as_py() for name in _TELLING[1:])
        if kind not in ALIASED or (dtype, tuple(shape)) != (leaf.dtype, leaf.shape):
            raise ValueError("is the same as a leaf that is another")
        return found[other] if other in found else self.values(range(other, other + 1))[0]


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
    lists = (batch.column(name).values for name in ("steps", "shape"))
    if any(values.null_count for values in (*batch.columns, *lists)):
        raise ValueError("it holds nulls")
    _check_footer(memoryview(buffer))
    return schema, batch


def _check_footer(file: memoryview) -> None:
    """Make sure that whoever comes through the footer finds the batch that follows the schema.

    The footer is a FlatBuffer, laid out by Arrow's `File.fbs`: its field 3 lists where batches begin.
    """
    [size] = struct.unpack_from("<i", file, len(file) - len(_MAGIC) - 4)
    footer = file[len(file) - len(_MAGIC) - 4 - size :]
    [root] = struct.unpack_from("<I", footer)
    if (field := _field(footer, root, 3)) is None:
        raise ValueError("its footer lists no batch")
    [distance] = struct.unpack_from("<I", footer, field)
    [listed] = struct.unpack_from("<q", footer, field + distance + 4)
    [schema] = struct.unpack_from("<i", file, len(_MAGIC) + 2 + 4)
    if listed != len(_MAGIC) + 2 + 8 + schema:
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


def _payload(batch: pa.RecordBatch, base: int) -> npt.NDArray[np.int64]:
    """Where in the file each leaf's bytes begin, and at last where those of the last one end."""
    _, offsets, data = batch.column("bytes").buffers()
    starts: npt.NDArray[np.int64] = np.frombuffer(offsets, "<i8", batch.num_rows + 1)
    starts = starts + (data.address - base)
    sizes = np.frombuffer(batch.column("nbytes").buffers()[1], "<i8", batch.num_rows)
    taken = (sizes // ALIGNMENT + 1) * ALIGNMENT
    if (sizes < 0).any() or (np.diff(starts) != taken).any() or starts[0] % ALIGNMENT:
        raise ValueError("its leaves do not lie where they say")
    return starts


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
