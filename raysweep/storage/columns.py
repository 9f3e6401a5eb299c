"""Arrow columns of what is written, made of their buffers.

One rule: a column is what `pa.array` makes of the same values. That imports pandas where there is one,
which costs each slot and each export 0.2 s and 33 MB.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST = 2**31 - 1  # bytes of strings, or items of lists, in one array


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """A column of numbers, booleans, strings or lists of them.

    Args:
        values: each of the column's kind; None where it is null.
        kind: of the column.
    """
    valid = np.array([value is not None for value in values], bool)
    if pa.types.is_list(kind) or pa.types.is_string(kind):
        return _varying(values, kind, valid)
    present = [0 if value is None else value for value in values]
    dtype = bool if pa.types.is_boolean(kind) else kind.to_pandas_dtype()  # which is one of numpy's
    return numbers(np.array(present, dtype), kind, valid)


def numbers(
    values: npt.NDArray[Any], kind: pa.DataType, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """A column of numbers or booleans.

    Args:
        values: shape (n,), of the column's kind; NaN is a value.
        kind: of the column.
        valid: shape (n,), False where it is null; None: nowhere.
    """
    if pa.types.is_boolean(kind):
        data = _bits(values)
    else:
        data = pa.py_buffer(np.ascontiguousarray(values, kind.to_pandas_dtype()))
    return pa.Array.from_buffers(kind, len(values), [_nulls(valid), data])


def _varying(
    values: Sequence[Any], kind: pa.DataType, valid: npt.NDArray[np.bool_]
) -> pa.Array | pa.ChunkedArray:
    """A column of strings or lists, which are of different lengths."""
    listed = pa.types.is_list(kind)
    items: list[Any] = [v or () if listed else (v or "").encode() for v in values]
    ends = [0, *itertools.accumulate(map(len, items))]
    if ends[-1] > MOST:
        return pa.array(values, kind)  # in chunks
    buffers = [_nulls(valid), pa.py_buffer(np.array(ends, "<i4"))]
    if not listed:
        return pa.Array.from_buffers(kind, len(values), [*buffers, pa.py_buffer(b"".join(items))])
    children = [column([*itertools.chain.from_iterable(items)], kind.value_type)]
    return pa.Array.from_buffers(kind, len(values), buffers, children=children)


def _nulls(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if valid is None or valid.all() else _bits(valid)


def _bits(flags: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
