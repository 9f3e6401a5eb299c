"""A leaf of a state tree as it is stored: a kind, a dtype, a shape, and bytes.

One rule: what can change after it was handed over, a tensor, an array or a file, is `Held` until its
bytes are wanted: in place, or as a copy in memory that the caller has for it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Bytes: TypeAlias = "bytes | memoryview"  # flat, one byte an item

# What decoding damaged content raises, whoever notices: our modules, numpy, torch or struct.
DECODING_ERRORS = (
    ValueError, TypeError, KeyError, OverflowError, RuntimeError, SystemError, struct.error,
)  # fmt: skip

# numpy allows no more, and torch computes with no more.
_MAX_DIMENSIONS = 64


class Held(Protocol):
    """Bytes that may change, or that do not lie in this process's memory."""

    @property
    def nbytes(self) -> int:
        """How many there are."""

    @property
    def device(self) -> str:
        """The device that they are on, in torch's words: `cpu`, `cuda:0`."""

    @property
    def address(self) -> int:
        """Where they lie, if they lie flat in the CPU's memory; otherwise 0."""

    def flat(self) -> Bytes:
        """All of them: in place if they lie flat in the CPU's memory, otherwise as a copy."""

    def copy_to(self, target: memoryview) -> None:
        """Copy them to memory of that size; from a GPU in the order of its work, unwaited for."""


@dataclass(kw_only=True, slots=True)
class Leaf:
    """A leaf as it is stored; its data may be replaced by a copy."""

    kind: str
    dtype: str = ""  # of a tensor, an array or a numpy scalar; otherwise empty
    shape: tuple[int, ...] = ()
    data: Bytes | Held

    def __post_init__(self) -> None:
        """Refuse a shape that no array can have."""
        if len(self.shape) > _MAX_DIMENSIONS:
            raise ValueError(
                f"has {len(self.shape)} dimensions, but {_MAX_DIMENSIONS} are the most that are kept"
            )
        if min(self.shape, default=0) < 0:
            raise ValueError(f"has the shape {self.shape}, but no size can be negative")

    @property
    def nbytes(self) -> int:
        """The size of its data."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes

    @property
    def held(self) -> Held | None:
        """Its data, if that may change."""
        return None if isinstance(self.data, bytes | memoryview) else self.data

    def flat(self) -> Bytes:
        """Its data, in place where that is possible."""
        return self.data if isinstance(self.data, bytes | memoryview) else self.data.flat()


def check_size(leaf: Leaf, itemsize: int) -> None:
    """Refuse a leaf whose bytes are not those of its dtype and shape."""
    expected = math.prod(leaf.shape) * itemsize
    if leaf.nbytes != expected:
        raise ValueError(f"has {leaf.nbytes} bytes, but {leaf.dtype} of shape {list(leaf.shape)}"
                         f" takes {expected}")  # fmt: skip
