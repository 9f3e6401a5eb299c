"""A checkpoint, or a part of it, as others read it: torch, safetensors, or a folder of files.

One rule: what they read is what was saved, bit for bit; what a form cannot hold is refused by its path
and type, before anything is written. torch and safetensors are imported only by who exports to them.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from raysweep.core import checks
from raysweep.errors import UserError
from raysweep.storage import atomic
from raysweep.storage.checkpoints.extras import library
from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.lazy import built
from raysweep.storage.checkpoints.reading import Opened

Tensor: TypeAlias = Any  # torch cannot be named: it may be absent
Row: TypeAlias = "Mapping[str, Any]"  # what a checkpoint's table says of a leaf

# The dtypes that safetensors has, by the name that torch and numpy share.
SAFE_DTYPES = frozenset({
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "float4_e2m1fn_x2",
})  # fmt: skip
RESERVED = "__metadata__"  # no tensor in a file of safetensors can be called so

MOST_BYTES = 255  # of an int: longer ones are pickled in a way that weights_only refuses
MOST_NAMED = 12  # parts that a message names


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a checkpoint's tree."""

    opened: Opened
    rows: range  # its leaves
    depth: int  # how many steps into the tree it lies


def part_of(opened: Opened, path: str) -> Part:
    """The part that a path leads to: `model`, `optimizer.param_groups[0]`, or `...groups.0`; "" is all.

    Raises:
        UserError: there is none; the message names those that there are.
        CheckpointDamagedError: the file is not what was written.
    """
    rows, depth, rest = opened.rows, 0, _dotted(path)
    while rest:
        items = _items(opened, rows, depth)
        fitting = [name for name in items if f"{rest}.".startswith(f"{name}.")]
        if not fitting:
            above = _dotted(path)[: -len(rest)].rstrip(".") or "it"
            near = checks.did_you_mean(rest, items)
            raise UserError(
                f"{opened.path} has no part {path!r}: {above} has {_named([*items])}{near}"
            )
        name = max(fitting, key=len)  # keys may hold dots: `conv1.weight`
        rows, depth, rest = items[name], depth + 1, rest[len(name) + 1 :]
    return Part(opened=opened, rows=rows, depth=depth)


def to_torch(part: Part, file: Path) -> Sequence[str]:
    """Write a part for `torch.load(file, weights_only=True)`, its arrays as tensors.

    Raises:
        UserError: torch is not installed, or something has no form that this reads.
        CheckpointDamagedError: the checkpoint is not what was written.
        OSError: the file cannot be written.
    """
    torch = _library("torch")
    shared: dict[object, object] = {}
    values = {}
    for number, (row, value) in zip(part.rows, _leaves(part, "torch"), strict=True):
        key = _memory(value) or (number,)
        values[number] = shared.setdefault(key, _for_torch(torch, row, value))
    with part.opened.damage_named():
        tree = built(part.opened, values, part.rows, part.depth)
    try:
        with atomic.replacing(file) as out:
            torch.save(tree, out)
            out.flush()
            _check_read(torch, out)
    except (OSError, RuntimeError) as error:  # after an OSError torch complains of its own position
        why = error if isinstance(error, OSError) else error.__context__ or error
        raise OSError(f"torch cannot write {file}: {why}") from error
    return []


def to_safetensors(part: Part, file: Path) -> Sequence[str]:
    """Write a part's tensors and arrays under flat names, and all else as JSON in the metadata.

    Of tensors that are the same, as tied weights are, the first is stored; the metadata has its name
    under the names of the others, as `safetensors.torch.save_model` puts it there.

    Returns:
        What was left out, in words.

    Raises:
        UserError: safetensors is not installed, something has no form there, or two leaves one name.
        CheckpointDamagedError: the checkpoint is not what was written.
        OSError: the file cannot be written.
    """
    _library("safetensors")
    flat = _flat(part)
    with atomic.replacing(file) as out:
        try:
            _save_safely(flat.tensors, out.name, flat.metadata)
        except (KeyError, importlib.import_module("safetensors").SafetensorError) as error:
            raise OSError(f"safetensors cannot write {file}: {error}") from error
        _settle(out)
    return flat.left_out


def to_files(part: Part, folder: Path) -> Sequence[str]:
    """Lay a part that is a folder of files out in one that is not there yet, or empty.

    Raises:
        UserError: it is no folder of files.
        CheckpointDamagedError: the checkpoint is not what was written.
        OSError: the files cannot be written.
    """
    opened = part.opened
    with opened.damage_named():
        kind = opened.kind(part.rows, part.depth)
        table = opened.table(("path", "kind")).slice(part.rows.start, len(part.rows)).to_pylist()
        if kind != "files" and [row["kind"] for row in table] != ["files"]:
            found = sorted(
                {row["path"].partition("/")[0] for row in table if row["kind"] == "file"}
            )
            there = f"it holds one as --part {_named(found)}" if found else "it holds none"
            raise UserError(f"{opened.path} is no folder of files, and {there}")
        files = Files({})
        if kind:
            values = opened.values(part.rows)
            files = Files.stored(
                dict(zip(opened.branch(part.rows, part.depth), values, strict=True))
            )
    files.unpack(folder)
    return []


FORMS: Mapping[str, Callable[[Part, Path], Sequence[str]]] = {
    "safetensors": to_safetensors,
    "torch": to_torch,
    "files": to_files,
}


# --- a part of a tree -----------------------------------------------------------------------------


def _dotted(path: str) -> str:
    """A path with a dot before every step: `groups[0].lr` -> `groups.0.lr`."""
    return path.replace("[", ".").replace("]", "").removeprefix(".")


def _items(opened: Opened, rows: range, depth: int) -> dict[str, range]:
    """What lies in a container, by name; nothing in a leaf."""
    with opened.damage_named():
        branch = opened.branch(rows, depth) if opened.kind(rows, depth) else {}
    return {_dotted(str(key)): item for key, item in branch.items()}


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    listed = ", ".join(names[:MOST_NAMED]) or "no parts"
    return f"{listed} and {more} more" if more > 0 else listed


def _leaves(part: Part, form: str) -> list[tuple[Row, Any]]:
    """What the table says of each leaf, and its value, verified; none is a file or an estimator."""
    opened = part.opened
    table = opened.table(("path", "steps", "kind", "dtype", "nbytes"))
    rows = table.slice(part.rows.start, len(part.rows)).to_pylist()
    for row in rows:
        if row["kind"] == "estimator":
            raise _refused(row, f"an estimator, {row['dtype']}", form)
        if row["kind"] in {"file", "files"}:
            raise _refused(row, "a folder's file", f"{form}: a folder is exported --to files")
    with opened.damage_named():
        return list(zip(rows, opened.values(part.rows), strict=True))


def _refused(row: Row, what: str, form: str) -> UserError:
    return UserError(f"{row['path'] or 'the state'} is {what}, which has no form in {form}")


# --- values ---------------------------------------------------------------------------------------

_IN_TENSORS = ("tensor", "array", "scalar", "alias")


def _memory(value: Any) -> int | None:  # noqa: ANN401  (any leaf's)
    """Where a tensor's or an array's elements are: in one place for all leaves that are the same."""
    if isinstance(value, np.ndarray):
        return value.ctypes.data if value.size else None
    pointer = getattr(value, "data_ptr", None)
    return None if pointer is None else pointer() or None


def _for_torch(torch: Any, row: Row, value: Any) -> Any:  # noqa: ANN401  (a module, any leaf's)
    """A leaf as weights_only takes it."""
    if isinstance(value, np.ndarray | np.generic):
        try:
            return _tensor(torch, _native(value))
        except TypeError:
            raise _refused(row, f"an array of {value.dtype}", "torch") from None
    if row["kind"] == "bytes" and not value:
        raise _refused(row, "bytes of length 0", "what torch.load(weights_only=True) reads")
    if row["kind"] == "int" and row["nbytes"] > MOST_BYTES:
        what = f"an int of {row['nbytes']} bytes"
        raise _refused(row, what, "what torch.load(weights_only=True) reads")
    return value


def _safe(row: Row, value: Any) -> Any:  # noqa: ANN401  (a tensor or an array)
    """A leaf as safetensors takes it: a tensor, or an array in this machine's byte order."""
    dtype = str(value.dtype).removeprefix("torch.")
    if isinstance(value, np.ndarray | np.generic):
        value = _native(value)
        dtype = value.dtype.name
    if dtype not in SAFE_DTYPES:
        raise _refused(row, f"of {dtype}", "safetensors")
    return value


def _native(value: np.ndarray[Any, Any] | np.generic) -> np.ndarray[Any, Any]:
    """An array, or a scalar as one without dimensions, in this machine's byte order."""
    array = np.asarray(value)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _tensor(torch: Any, array: np.ndarray[Any, Any]) -> Tensor:  # noqa: ANN401  (a module)
    """A tensor in an array's memory."""
    array.flags.writeable = True  # it is mapped for this process alone; torch warns of all others
    return torch.from_numpy(array)


def _json(row: Row, value: object) -> str:
    """A leaf that is no tensor as JSON, NaN and infinities as Python writes them."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise _refused(row, f"of type {type(value).__name__}", "safetensors") from None


@dataclass(frozen=True, slots=True)
class _Flat:
    """A part as safetensors keeps it."""

    tensors: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # in words


def _flat(part: Part) -> _Flat:
    """A part without its containers."""
    flat = _Flat()
    first: dict[int, str] = {}  # by where it is in memory: the name of what is stored
    paths = {RESERVED: "the file's own metadata"}
    for row, value in _leaves(part, "safetensors"):
        name, memory = _flat_name(part, row), _memory(value)
        if name in paths:
            raise UserError(f"{row['path']} and {paths[name]} would both be called {name!r}")
        paths[name] = row["path"]
        if row["kind"] not in _IN_TENSORS:
            flat.metadata[name] = _json(row, value)
        elif memory in first:
            flat.metadata[name] = first[memory]
            flat.left_out.append(f"{name} is the same as {first[memory]}, which is stored")
        else:
            flat.tensors[name] = _safe(row, value)
            if memory is not None:
                first[memory] = name
    return flat


def _save_safely(tensors: Mapping[str, Any], file: str, metadata: Mapping[str, str]) -> None:
    """Write with what knows all of these: numpy has no bfloat16, and where there are none no torch."""
    if all(isinstance(value, np.ndarray) for value in tensors.values()):
        importlib.import_module("safetensors.numpy").save_file(tensors, file, metadata)
        return
    torch = importlib.import_module("torch")
    alike = {
        name: _tensor(torch, value) if isinstance(value, np.ndarray) else value
        for name, value in tensors.items()
    }
    importlib.import_module("safetensors.torch").save_file(alike, file, metadata)


def _flat_name(part: Part, row: Row) -> str:
    """The keys and numbers that lead to a leaf from its part, joined by dots."""
    steps = row["steps"][part.depth :] or row["steps"][-1:]
    if not steps:
        raise UserError(f"{part.opened.path} is one leaf without a name, which safetensors needs")
    return ".".join(step[1:] if step.startswith(".") else step.strip("#[]()") for step in steps)


# --- libraries and files --------------------------------------------------------------------------


def _library(module: str) -> Any:  # noqa: ANN401  (a module)
    return library(module, module, f"this export needs {module}, which cannot be imported here")


def _check_read(torch: Any, out: BinaryIO) -> None:  # noqa: ANN401  (a module)
    """Read a tree back as others will: each torch takes a little more than the one before."""
    try:
        torch.load(os.fspath(out.name), weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"torch {torch.__version__} refuses to read this with weights_only=True: {error}"
        ) from error


def _settle(out: BinaryIO) -> None:
    """Make what safetensors has put in the place of this file durable, and as readable as this was."""
    mode = os.fstat(out.fileno()).st_mode & 0o777
    with Path(out.name).open("rb") as written:
        os.fchmod(written.fileno(), mode)
        os.fsync(written.fileno())
