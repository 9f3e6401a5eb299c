"""numpy's arrays and scalars as leaves: their elements in C order, in the byte order of their dtype.

One rule: a dtype is read from its name as plain bytes of a known form, never as code or as objects.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import numpy as np

from raysweep.storage.checkpoints.leaf import DECODING_ERRORS, Bytes, Leaf, check_size

# numpy's names of dtypes that are plain bytes: byte order, letter, size, unit of time. No objects.
_PLAIN_DTYPE = re.compile(r"[<>|][biufcmMSUV][0-9]{0,9}(\[([1-9][0-9]{0,8})?[a-zA-Z]{1,2}\])?")


class HeldArray:
    """An array's elements."""

    device = "cpu"

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self.nbytes = array.nbytes

    @property
    def address(self) -> int:
        """Where the elements lie, if they lie flat."""
        return self._array.ctypes.data if self._array.flags.c_contiguous else 0

    def flat(self) -> Bytes:
        """The elements, a copy unless they lie flat."""
        flat = self._array
        if not flat.flags.c_contiguous:
            flat = np.zeros(flat.shape, flat.dtype)  # the padding of records is not copied
            flat[...] = self._array
        return flat.reshape(-1).view(np.uint8).data

    def copy_to(self, target: memoryview) -> None:
        """Copy them."""
        target[:] = self.flat()


def leaf_of(array: np.ndarray[Any, Any]) -> Leaf:
    """An array as a leaf."""
    if type(array) not in {np.ndarray, np.memmap}:
        raise ValueError("is not a plain array: store numpy.asarray(value)")
    dtype = _dtype_text(array.dtype)
    return Leaf(kind="array", dtype=dtype, shape=array.shape, data=HeldArray(array))


def identity(array: np.ndarray[Any, Any]) -> object:
    """What two arrays have in common that are the same elements of the same memory."""
    return array.ctypes.data, array.dtype, array.shape, array.strides


def array_of(leaf: Leaf) -> np.ndarray[Any, Any]:
    """The array of a leaf, in the memory of its data."""
    dtype = _dtype(leaf.dtype)
    check_size(leaf, dtype.itemsize)
    array = np.ndarray(leaf.shape, dtype, buffer=leaf.flat())
    if dtype.kind == "U" and array.size:  # numpy makes Python's strings of these without a look
        codes = array.reshape(-1).view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError("holds characters that there are not")
    return array


def leaf_of_scalar(scalar: np.generic) -> Leaf:
    """A numpy scalar as a leaf."""
    array = np.asarray(scalar)
    return Leaf(kind="scalar", dtype=_dtype_text(array.dtype), data=array.tobytes())


def scalar_of(leaf: Leaf) -> object:
    """The numpy scalar of a leaf."""
    return array_of(leaf).copy()[()]


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
