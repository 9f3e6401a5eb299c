"""Tensors as leaves: their elements in C order, little-endian.

One rule: torch is never imported for the sake of a value that is no tensor.
"""

from __future__ import annotations

import sys
from typing import Any

from raysweep.errors import UserError
from raysweep.storage.checkpoints.extras import library
from raysweep.storage.checkpoints.leaf import Bytes, Leaf, check_size

# Bytes an element of a tensor takes, by the name of its dtype in torch.
ITEMSIZES = {
    "bool": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
    "complex32": 4, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
}  # fmt: skip

ABSENT = "is a tensor, but torch cannot be imported here"

Tensor = Any  # torch cannot be named: it may be absent


class HeldTensor:
    """A tensor's elements, wherever they are."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()
        self.nbytes: int = tensor.nbytes
        self.device: str = "cpu" if tensor.is_cpu else str(tensor.device)

    @property
    def address(self) -> int:
        """Where the elements lie, if they are what is to be stored as they lie there."""
        flat = self._tensor.is_contiguous() and not self._tensor.is_conj() | self._tensor.is_neg()
        return self._tensor.data_ptr() if flat and self._tensor.is_cpu else 0

    def flat(self) -> Bytes:
        """The elements, a copy unless they lie flat in the CPU's memory."""
        torch = sys.modules["torch"]
        resolved = self._tensor.resolve_conj().resolve_neg().cpu().contiguous()
        return memoryview(resolved.reshape(-1).view(torch.uint8).numpy())

    def copy_to(self, target: memoryview) -> None:
        """Copy them; from a GPU on its current stream, so that its later work waits for the copy."""
        if not self.nbytes:  # torch.frombuffer refuses an empty buffer
            return
        torch = sys.modules["torch"]
        place = torch.frombuffer(target, dtype=self._tensor.dtype).view(self._tensor.shape)
        resolved = (
            self._tensor.resolve_conj().resolve_neg()
        )  # a copy cannot be resolved unwaited for
        place.copy_(resolved, non_blocking=resolved.is_cuda)


_names: dict[object, str] = {}  # of torch's dtypes that were seen


def leaf_of(tensor: Tensor) -> Leaf:
    """A tensor as a leaf."""
    torch = sys.modules["torch"]
    dtype = _names.get(tensor.dtype) or _names.setdefault(tensor.dtype, str(tensor.dtype)[6:])
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise ValueError("is not a plain tensor: store value.as_subclass(torch.Tensor)")
    if tensor.layout is not torch.strided:
        raise ValueError(f"is sparse ({tensor.layout}): store value.to_dense()")
    if tensor.is_quantized:
        raise ValueError(f"is quantised ({tensor.dtype}): store value.dequantize()")
    if tensor.is_meta:
        raise ValueError("is on the meta device and has no elements: store it once it has some")
    if _reach(tensor) > tensor.untyped_storage().nbytes():
        raise ValueError("has lost its memory, as a sharded one may: gather it first")
    if dtype not in ITEMSIZES:
        raise ValueError(f"has the dtype {tensor.dtype}: store value.view(torch.uint8)")
    return Leaf(kind="tensor", dtype=dtype, shape=tuple(tensor.shape), data=HeldTensor(tensor))


def _reach(tensor: Tensor) -> int:
    """How many bytes of its storage a tensor needs to be there."""
    if not tensor.nbytes:
        return 0
    if tensor.is_contiguous():
        return int(tensor.storage_offset() * tensor.itemsize + tensor.nbytes)
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return int((tensor.storage_offset() + last + 1) * tensor.itemsize)


def identity(tensor: Tensor) -> object:
    """What two tensors have in common that are the same elements of the same memory."""
    return (
        tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(),
        tensor.is_conj(), tensor.is_neg(),
    )  # fmt: skip


def tensor_of(leaf: Leaf) -> Tensor:
    """The tensor of a leaf, in the memory of its data.

    Raises:
        UserError: torch is not installed, or lacks the dtype.
    """
    check_size(leaf, ITEMSIZES[leaf.dtype])
    torch = sys.modules.get("torch") or library("torch", "torch", ABSENT)
    dtype = getattr(torch, leaf.dtype, None)
    if dtype is None:
        raise UserError(
            f"is a tensor of {leaf.dtype}, which needs a newer torch: {torch.__version__}"
        )
    if not leaf.data:  # torch.frombuffer refuses an empty buffer
        return torch.empty(leaf.shape, dtype=dtype)
    return torch.frombuffer(leaf.data, dtype=dtype).view(leaf.shape)
