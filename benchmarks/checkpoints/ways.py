"""The ways to save a state and to load it: ours, and those that people use.

One rule: all give the same. What is saved is on the disk when `save` returns, its name included, and
has the checksum of every tensor's bytes; what `load` returns has been compared with those.
"""

from __future__ import annotations

import abc
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

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


def sums(state: State) -> dict[str, int]:
    """The checksum of each tensor's bytes."""
    return {name: crc32(flat(tensor)) for name, tensor in state.items()}


def flat(tensor: Tensor) -> memoryview:
    """A tensor's bytes, where they are, or copied from a GPU."""
    return memoryview(tensor.cpu().reshape(-1).view(torch.uint8).numpy())


def synced(path: Path) -> None:
    """Have a file and its name on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    atomic.flush_folder(path.parent)


class Way(abc.ABC):
    """One way; it keeps its file below a folder, and the checksums in memory."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder / type(self).__name__
        self.folder.mkdir()
        self._sums: dict[str, int] = {}

    def save(self, state: State) -> None:
        """Write it, durably."""
        self._sums = sums(state)
        synced(self.write(state))

    def load(self) -> State:
        """All of it, mapped and verified."""
        state = self.lazily()
        assert self._sums == sums(state)
        return state

    def onto_gpu(self) -> State:
        """All of it, verified, on the GPU."""
        return {name: tensor.to("cuda") for name, tensor in self.load().items()}

    def clear(self) -> None:
        """Remove what was saved; the next save writes a new file, as each checkpoint is one."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    @abc.abstractmethod
    def write(self, state: State) -> Path:
        """Write it to a file."""

    @abc.abstractmethod
    def lazily(self) -> State:
        """All of it, mapped, unread."""

    def one(self, name: str) -> Tensor:
        """One tensor of it, mapped, unread."""
        return self.lazily()[name]


class Ours(Way):
    """raysweep's checkpoint, which syncs and sums up by itself."""

    name = "raysweep"

    def save(self, state: State) -> None:
        """Write it, durably."""
        self.write(state)

    def load(self) -> State:
        """All of it, mapped and verified."""
        return checkpoints.load(self.folder / "state.arrow")  # type: ignore[no-any-return]  # what was saved

    def onto_gpu(self) -> State:
        """All of it, verified, on the GPU."""
        return checkpoints.load(self.folder / "state.arrow", device="cuda")  # type: ignore[no-any-return]  # the same

    def write(self, state: State) -> Path:
        """Write it to a file."""
        return checkpoints.save(self.folder / "state.arrow", state).path

    def lazily(self) -> State:
        """All of it, mapped, unread."""
        return checkpoints.load(self.folder / "state.arrow", verify=False)  # type: ignore[no-any-return]  # the same

    def one(self, name: str) -> Tensor:
        """One tensor of it, mapped, unread."""
        path = self.folder / "state.arrow"
        return checkpoints.load(path, lazy=True, verify=False)[name]  # type: ignore[no-any-return]  # the same


class Torch(Way):
    """`torch.save`, and `torch.load` with `weights_only=True` and `mmap=True`."""

    name = "torch.save"

    def write(self, state: State) -> Path:
        """Write it to a file."""
        torch.save(state, self.folder / "state.pt")
        return self.folder / "state.pt"

    def lazily(self) -> State:
        """All of it, mapped, unread."""
        return torch.load(self.folder / "state.pt", weights_only=True, mmap=True)  # type: ignore[no-any-return]  # the same


class Safetensors(Way):
    """`safetensors.torch.save_file` and `load_file`."""

    name = "safetensors"

    def write(self, state: State) -> Path:
        """Write it to a file."""
        safetensors.torch.save_file(state, self.folder / "state.safetensors")
        return self.folder / "state.safetensors"

    def lazily(self) -> State:
        """All of it, mapped, unread."""
        return safetensors.torch.load_file(self.folder / "state.safetensors")

    def one(self, name: str) -> Tensor:
        """One tensor of it, mapped, unread."""
        with safetensors.safe_open(self.folder / "state.safetensors", framework="pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]  # the same


class RayTrain(Way):
    """A directory that `torch.save` wrote into, persisted as `ray.train.report` does it."""

    name = "Ray Train"

    def write(self, state: State) -> Path:
        """Write it to a file of a directory, and have that copied."""
        storage = StorageContext(
            self.folder, "ray", trial_dir_name="trial", current_checkpoint_index=0
        )
        with tempfile.TemporaryDirectory(dir=self.folder) as made:
            torch.save(state, Path(made) / "state.pt")
            kept = storage.persist_current_checkpoint(Checkpoint.from_directory(made))
        return Path(kept.path) / "state.pt"

    def lazily(self) -> State:
        """All of it, mapped, unread."""
        kept = self.folder / "ray" / "trial" / "checkpoint_000000" / "state.pt"
        return torch.load(kept, weights_only=True, mmap=True)  # type: ignore[no-any-return]  # the same


def ways(folder: Path) -> list[Way]:
    """All of them."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    return [way(folder) for way in (Ours, Torch, Safetensors, RayTrain)]
