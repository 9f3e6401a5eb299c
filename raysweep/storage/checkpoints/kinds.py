"""The kinds of leaves: each has one way to bytes and one way back.

One rule: what comes back is bit for bit what was stored, and bytes are only ever read as numbers and
text; nothing that is stored can name code to run. A value without a kind is refused.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import arrays, estimators, tensors
from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.leaf import Leaf


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    encode: Callable[[Any], Leaf]
    decode: Callable[[Leaf], object]


def encode(value: object) -> Leaf:
    """A value as a leaf, which holds what may change until its bytes are wanted.

    A subclass counts as the first class of its ancestry that has a kind: an `IntEnum` as an int.

    Raises:
        UnstorableError: If the value has no kind; the message goes on from the value's path.
    """
    kind = kind_of(type(value))
    if kind is None:
        raise UnstorableError(
            f"is a {_type_name(value)}: a checkpoint holds tensors, arrays, numbers, strings, bytes,"
            " booleans and None in dicts, lists and tuples, folders of files as pathlib.Path,"
            " scikit-learn's estimators, and what has a state_dict(); so store what it is made of"
        )
    try:
        return _KINDS[kind].encode(value)
    except ValueError as error:
        raise UnstorableError(f"is a {_type_name(value)} that {error}") from error


def decode(leaf: Leaf) -> object:
    """The value of a leaf; tensors, arrays and files share the memory of its data.

    Raises:
        Exception: One of `DECODING_ERRORS`, if its parts contradict each other.
    """
    if leaf.kind not in _KINDS:
        raise ValueError(f"is of the unknown kind {leaf.kind!r}")
    return _KINDS[leaf.kind].decode(leaf)


def kind_of(cls: type) -> str | None:
    """The kind of a class's instances; None if they are no leaves."""
    if cls not in _known:
        known = _TYPES | _foreign_types()
        kind = next((known[ancestor] for ancestor in cls.__mro__ if ancestor in known), None)
        if kind is None:  # it may be another once its library is imported
            return None
        _known[cls] = kind
    return _known[cls]


def _foreign_types() -> dict[type, str]:
    """Classes of libraries that this module does without: no value is one where they are not imported."""
    torch, sklearn = sys.modules.get("torch"), sys.modules.get("sklearn.base")
    found = {} if torch is None else {torch.Tensor: "tensor"}
    return found if sklearn is None else found | {sklearn.BaseEstimator: "estimator"}


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"


# Python's own values


def _plain(kind: str, out: Callable[[Any], bytes], back: Callable[[bytes], object]) -> _Kind:
    """A kind without dtype and shape, by the way of its values to bytes and back."""
    return _Kind(
        encode=lambda value: Leaf(kind=kind, data=out(value)),
        decode=lambda leaf: back(bytes(leaf.flat())),
    )


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _constant(kind: str, make: Callable[[], object]) -> _Kind:
    """A kind with one value, which needs no bytes: None and the empty containers."""
    values = {b"": make}
    return _plain(kind, lambda _: b"", lambda data: values[data]())


_KINDS = {
    "tensor": _Kind(encode=tensors.leaf_of, decode=tensors.tensor_of),
    "array": _Kind(encode=arrays.leaf_of, decode=arrays.array_of),
    "scalar": _Kind(encode=arrays.leaf_of_scalar, decode=arrays.scalar_of),
    "estimator": _Kind(encode=estimators.leaf_of, decode=estimators.estimator_of),
    "file": _Kind(
        encode=lambda held: Leaf(kind="file", data=held),
        decode=lambda leaf: memoryview(leaf.flat()).toreadonly(),
    ),
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
    "files": _constant("files", lambda: Files({})),
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
    Files: "files",
}
_known: dict[type, str] = {}  # classes that were asked for
