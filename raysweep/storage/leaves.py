"""The leaves of a state tree as bytes: each kind of leaf has one way there and one way back.

One rule: what comes back is bit for bit what was stored, and bytes are only ever read as
numbers and text; nothing that is stored can name code to run. A value without a kind is refused.

Tensors, arrays and numpy scalars are their elements in C order; an array keeps its byte order, all
else is little-endian. torch is never imported for the sake of a value that is not a tensor.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysweep.errors import UnstorableError

# What decoding damaged content raises, whoever notices: this module, numpy, torch or struct.
DECODING_ERRORS = (ValueError, TypeError, KeyError, OverflowError, RuntimeError, struct.error)

# numpy allows no more, and torch computes with no more.
_MAX_DIMENSIONS = 64

# Bytes an element of a tensor takes, by the name of its dtype in torch.
_TENSOR_ITEMSIZES = {
    "bool": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "complex32": 4, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
}  # fmt: skip

# numpy's names of dtypes that are plain bytes: byte order, letter, size, unit of time. No objects.
_PLAIN_DTYPE = re.compile(r"[<>|][biufcmMSUV][0-9]{0,9}(\[[0-9]{0,9}[a-zA-Z]{1,2}\])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """A leaf as it is stored."""

    kind: str
    dtype: str = ""  # of a tensor, an array or a numpy scalar; otherwise empty
    shape: tuple[int, ...] = ()
    data: memoryview | bytes  # flat, one byte an item

    def __post_init__(self) -> None:
        """Refuse a shape that no array can have."""
        if len(self.shape) > _MAX_DIMENSIONS:
            raise ValueError(
                f"has {len(self.shape)} dimensions, but {_MAX_DIMENSIONS} are the most that are kept"
            )
        if any(size < 0 for size in self.shape):
            raise ValueError(f"has the shape {self.shape}, but no size can be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    encode: Callable[[Any], Leaf]
    decode: Callable[[Leaf], object]


def encode(value: object) -> Leaf:
    """A value as a leaf that shares the value's memory wherever that is flat and on the CPU.

    A subclass counts as the first class of its ancestry that has a kind: an `IntEnum` as an int.

    Raises:
        UnstorableError: If the value has no kind; the message goes on from the value's path.
    """
    kind = _kind_of(type(value))
    if kind is None:
        raise UnstorableError(
            f"is a {_type_name(value)}: a checkpoint holds tensors, arrays, numbers, strings, bytes,"
            " booleans and None in dicts, lists and tuples, so store what it is made of"
        )
    try:
        return _KINDS[kind].encode(value)
    except ValueError as error:
        raise UnstorableError(f"is a {_type_name(value)} that {error}") from error


def decode(leaf: Leaf) -> object:
    """The value of a leaf; tensors and arrays share the memory of its data.

    Raises:
        Exception: One of `DECODING_ERRORS`, if its parts contradict each other.
    """
    if leaf.kind not in _KINDS:
        raise ValueError(f"is of the unknown kind {leaf.kind!r}")
    return _KINDS[leaf.kind].decode(leaf)


def _kind_of(cls: type) -> str | None:
    known = _TYPES | _torch_types()
    return next((known[ancestor] for ancestor in cls.__mro__ if ancestor in known), None)


def _torch_types() -> dict[type, str]:
    torch = sys.modules.get("torch")  # there is no tensor where nobody has imported torch
    return {} if torch is None else {torch.Tensor: "tensor"}


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


def _check_size(leaf: Leaf, itemsize: int) -> None:
    expected = math.prod(leaf.shape) * itemsize
    if len(leaf.data) != expected:
        raise ValueError(f"has {len(leaf.data)} bytes, but {leaf.dtype} of shape {list(leaf.shape)}"
                         f" takes {expected}")  # fmt: skip


# Tensors


def _tensor_leaf(tensor: Any) -> Leaf:  # noqa: ANN401  (torch cannot be named: it may be absent)
    torch = sys.modules["torch"]
    _check_tensor(torch, tensor)
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return Leaf(
        kind="tensor",
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        data=memoryview(flat.view(torch.uint8).numpy()),
    )


def _check_tensor(torch: Any, tensor: Any) -> None:  # noqa: ANN401  (the same)
    if type(tensor) not in {torch.Tensor, torch.nn.Parameter}:
        raise ValueError("is not a plain tensor: store value.as_subclass(torch.Tensor)")
    if tensor.layout is not torch.strided:
        raise ValueError(f"is sparse ({tensor.layout}): store value.to_dense()")
    if tensor.is_quantized:
        raise ValueError(f"is quantised ({tensor.dtype}): store value.dequantize()")
    if tensor.device.type == "meta":
        raise ValueError("is on the meta device and has no elements: store it once it has some")
    if str(tensor.dtype).removeprefix("torch.") not in _TENSOR_ITEMSIZES:
        raise ValueError(f"has the dtype {tensor.dtype}: store value.view(torch.uint8)")


def _tensor(leaf: Leaf) -> object:
    _check_size(leaf, _TENSOR_ITEMSIZES[leaf.dtype])
    torch = importlib.import_module("torch")
    dtype = getattr(torch, leaf.dtype, None)
    if dtype is None:
        raise ValueError(f"is a tensor of {leaf.dtype}, which torch {torch.__version__} lacks")
    if not leaf.data:  # torch.frombuffer refuses an empty buffer
        return torch.empty(leaf.shape, dtype=dtype)
    return torch.frombuffer(leaf.data, dtype=dtype).reshape(leaf.shape)


# Arrays and numpy scalars


def _array_leaf(array: np.ndarray[Any, Any], kind: str = "array") -> Leaf:
    if type(array) not in {np.ndarray, np.memmap}:
        raise ValueError("is not a plain array: store numpy.asarray(value)")
    dtype = _dtype_text(array.dtype)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return Leaf(kind=kind, dtype=dtype, shape=array.shape, data=flat.data)


def _array(leaf: Leaf) -> np.ndarray[Any, Any]:
    dtype = _dtype(leaf.dtype)
    _check_size(leaf, dtype.itemsize)
    return np.ndarray(leaf.shape, dtype, buffer=leaf.data)


def _scalar_leaf(scalar: np.generic) -> Leaf:
    return _array_leaf(np.asarray(scalar), kind="scalar")


def _scalar(leaf: Leaf) -> object:
    return _array(leaf).copy()[()]


def _dtype_text(dtype: np.dtype[Any]) -> str:
    """A dtype's name in numpy, or its fields as JSON in the form that `.npy` files use."""
    if dtype.hasobject:
        raise ValueError(f"holds Python objects (dtype {dtype}): store their numbers or strings")
    text = dtype.str if dtype.names is None else json.dumps(np.lib.format.dtype_to_descr(dtype))
    try:
        same = _dtype(text) == dtype
    except DECODING_ERRORS:
        same = False
    if not same:
        raise ValueError(f"has the dtype {dtype}: store value.astype(...) of one of numpy's own")
    return text


def _dtype(text: str) -> np.dtype[Any]:
    fields = json.loads(text) if text.startswith("[") else text
    dtype = np.lib.format.descr_to_dtype(_description(fields))
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"has the dtype {text}, which no checkpoint holds")
    return dtype


def _description(fields: Any) -> Any:  # noqa: ANN401  (any JSON: a name, or fields within fields)
    """What JSON made of a dtype's description, its tuples restored and its names checked."""
    if isinstance(fields, list):
        return [
            (
                tuple(name) if isinstance(name, list) else name,
                _description(dtype),
                *map(tuple, shape),
            )
            for name, dtype, *shape in fields
        ]
    if not _PLAIN_DTYPE.fullmatch(fields):
        raise ValueError(f"has the dtype {fields!r}, which no checkpoint holds")
    return fields


# Python's own values


def _plain(kind: str, out: Callable[[Any], bytes], back: Callable[[bytes], object]) -> _Kind:
    """A kind without dtype and shape, by the way of its values to bytes and back."""
    return _Kind(
        encode=lambda value: Leaf(kind=kind, data=out(value)),
        decode=lambda leaf: back(bytes(leaf.data)),
    )


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _constant(kind: str, make: Callable[[], object]) -> _Kind:
    """A kind with one value, which needs no bytes: None and the empty containers."""
    values = {b"": make}
    return _plain(kind, lambda _: b"", lambda data: values[data]())


_KINDS = {
    "tensor": _Kind(encode=_tensor_leaf, decode=_tensor),
    "array": _Kind(encode=_array_leaf, decode=_array),
    "scalar": _Kind(encode=_scalar_leaf, decode=_scalar),
    "bool": _plain("bool", lambda value: bytes([value]), {b"\0": False, b"\1": True}.__getitem__),
    "int": _plain("int", _int_bytes, lambda data: int.from_bytes(data, "little", signed=True)),
    "float": _plain(
        "float", lambda value: struct.pack("<d", value), lambda data: struct.unpack("<d", data)[0]
    ),
    "complex": _plain(
        "complex",
        lambda value: struct.pack("<dd", value.real, value.imag),
        lambda data: complex(*struct.unpack("<dd", data)),
    ),
    # Python's strings may hold half of a surrogate pair, which strict UTF-8 refuses.
    "str": _plain(
        "str",
        lambda value: value.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
    ),
    "bytes": _plain("bytes", bytes, bytes),
    "none": _constant("none", lambda: None),
    "dict": _constant("dict", dict),
    "list": _constant("list", list),
    "tuple": _constant("tuple", tuple),
}

_TYPES: dict[type, str] = {
    np.ndarray: "array",
    np.generic: "scalar",
    bool: "bool",
    int: "int",
    float: "float",
    complex: "complex",
    str: "str",
    bytes: "bytes",
    type(None): "none",
    dict: "dict",
    list: "list",
    tuple: "tuple",
}
