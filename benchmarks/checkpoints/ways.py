"""The ways to save a state and to load it: ours, and those that people use.

One rule: all give the same. What is saved is on the disk when `save` returns, its name included, and
has the checksum of every tensor's bytes; what `load` returns has been compared with those.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from ray.train import Checkpoint
from ray.train._internal.storage import StorageContext
from states import State
from torch import Tensor
from zlib_ng.zlib_ng import crc32

from raysweep.storage import atomic, checkpoints

torch.serialization.set_crc32_options(
    compute_crc32=False
)  # it has ours, and never looks at its own


class Way(Protocol):
    """One way; it keeps its file below a folder."""

    name: str

    def save(self, state: State) -> None:
        """Write it, durably."""

    def load(self) -> State:
        """All of it, verified, in the CPU's memory or mapped there."""

    def lazily(self) -> State:
        """All of it, mapped, unread."""

    def one(self, name: str) -> Tensor:
        """One tensor of it, unread."""


def sums(state: State) -> dict[str, int]:
    """The checksum of each tensor's bytes."""
    return {name: crc32(flat(tensor)) for name, tensor in state.items()}


def flat(tensor: Tensor) -> memoryview:
    """A tensor's bytes, where they are."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def synced(path: Path) -> None:
    """Have a file and its name on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    atomic.flush_folder(path.parent)


class Verified:
    """The checksums of a way that has none of its own."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def sum_up(self, state: State) -> None:
        """Note them."""
        self._sums = sums(state)

    def compare(self, state: State) -> State:
        """A state, if it has them."""
        assert self._sums == sums(state)
        return state


class Ours:
    """raysweep's checkpoint."""

    name = "raysweep"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.arrow"

    def save(self, state: State) -> None:
        checkpoints.save(self._path, state)

    def load(self) -> State:
        return checkpoints.load(self._path)  # type: ignore[no-any-return]  # what was saved

    def lazily(self) -> State:
        return checkpoints.load(self._path, verify=False)  # type: ignore[no-any-return]  # the same

    def one(self, name: str) -> Tensor:
        return checkpoints.load(self._path, lazy=True, verify=False)[name]  # type: ignore[no-any-return]  # the same


class Torch:
    """`torch.save`, and `torch.load` with `weights_only=True` and `mmap=True`."""

    name = "torch.save"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.pt"
        self._checked = Verified()

    def save(self, state: State) -> None:
        self._checked.sum_up(state)
        torch.save(state, self._path)
        synced(self._path)

    def load(self) -> State:
        return self._checked.compare(self.lazily())

    def lazily(self) -> State:
        return torch.load(self._path, weights_only=True, mmap=True)  # type: ignore[no-any-return]  # the same

    def one(self, name: str) -> Tensor:
        return self.lazily()[name]


class Safetensors:
    """`safetensors.torch.save_file` and `load_file`."""

    name = "safetensors"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.safetensors"
        self._checked = Verified()

    def save(self, state: State) -> None:
        self._checked.sum_up(state)
        safetensors.torch.save_file(state, self._path)
        synced(self._path)

    def load(self) -> State:
        return self._checked.compare(self.lazily())

    def lazily(self) -> State:
        return safetensors.torch.load_file(self._path)

    def one(self, name: str) -> Tensor:
        with safetensors.safe_open(self._path, framework="pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]  # the same


class RayTrain:
    """A directory that `torch.save` wrote into, persisted as `ray.train.report` does it."""

    name = "Ray Train"

    def __init__(self, folder: Path) -> None:
        self._storage = StorageContext(
            folder, "ray", trial_dir_name="trial", current_checkpoint_index=0
        )
        self._checked = Verified()
        self._kept = Path()

    def save(self, state: State) -> None:
        self._checked.sum_up(state)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "state.pt")
            kept = self._storage.persist_current_checkpoint(Checkpoint.from_directory(folder))
        self._kept = Path(kept.path) / "state.pt"
        synced(self._kept)

    def load(self) -> State:
        return self._checked.compare(self.lazily())

    def lazily(self) -> State:
        return torch.load(self._kept, weights_only=True, mmap=True)  # type: ignore[no-any-return]  # the same

    def one(self, name: str) -> Tensor:
        return self.lazily()[name]


def ways(folder: Path) -> list[Any]:
    """All of them."""
    return [way(folder) for way in (Ours, Torch, Safetensors, RayTrain)]
