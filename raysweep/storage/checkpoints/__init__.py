"""Checkpoints: a state tree <-> one Arrow file, a row a leaf.

One rule: a checkpoint is there whole or not at all, and what `load` returns is what `save` was given,
or a `CheckpointDamagedError`. `docs/checkpoint-format.md` describes the file.

`trees` and `kinds` say what a tree is in rows, `frame` what stands around their bytes in the file;
`writing` and `reading` are the way there and back, `copies` lets training go on meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from raysweep.storage.checkpoints.copies import Copies, Taken
from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.frame import JSON
from raysweep.storage.checkpoints.lazy import lazily, whole
from raysweep.storage.checkpoints.reading import Opened
from raysweep.storage.checkpoints.trees import flatten
from raysweep.storage.checkpoints.writing import Saved, write

__all__ = [
    "JSON",
    "Copies",
    "Files",
    "Saved",
    "Taken",
    "leaves",
    "load",
    "metadata",
    "save",
    "write",
]

_LISTED = ("path", "kind", "dtype", "shape", "nbytes")


def save(
    path: str | os.PathLike[str], tree: object, metadata: Mapping[str, JSON] | None = None
) -> Saved:
    """Write a state tree as one file, atomically and durably; a file that was there is replaced.

    Nothing in the tree may change until this returns.

    Args:
        path: The file; its folder must be there.
        tree: Tensors, arrays, numbers, strings, bytes, booleans, None, folders of files as `Path` and
            scikit-learn's estimators, in dicts (with str or int keys), lists and tuples; what has a
            `state_dict()` stands for that.
        metadata: What to say about the checkpoint: anything that `json` writes, NaN included.

    Raises:
        UnstorableError: If something in the tree has no stored form; the message names its path.
        OSError: If the file cannot be written; what was at `path` is still there then.
    """
    return write(path, list(flatten(tree)), metadata)


def load(
    path: str | os.PathLike[str],
    *,
    lazy: bool = False,
    verify: bool = True,
    mmap: bool = True,
    device: Any = None,  # noqa: ANN401  (a name, or torch's own)
    trusted: Collection[str] | None = (),
) -> Any:  # noqa: ANN401  (a tree is whatever was saved)
    """Read a state tree back, equal to the one that was saved; no code that is stored runs.

    Args:
        path: The file.
        lazy: Read a leaf when it is taken: dicts come as mappings, lists and tuples as sequences.
        verify: Check the checksum of every leaf that is read. What the file says about its leaves is
            checked in any case.
        mmap: Map the file: arrays are read-only views of it, tensors are views that copy a page
            when it is first written to, so that the file stays as it is. The file must stay there,
            uncut, as long as they live. Otherwise the file is read into memory.
        device: Where tensors go, as torch takes it: `"cuda"`. None: they stay in the CPU's memory.
        trusted: Types that scikit-learn's estimators may hold beyond those that skops trusts; None:
            any.

    Raises:
        CheckpointDamagedError: If the file is not what was written.
        UserError: If it holds tensors and torch is not installed, estimators and skops is not, or
            estimators that are not trusted.
        OSError: If it cannot be read.
    """
    opened = Opened(path, mapped=mmap, verify=verify, device=device, trusted=trusted)
    return lazily(opened) if lazy else whole(opened)


def leaves(path: str | os.PathLike[str]) -> pa.Table:
    """What a checkpoint holds, a row a leaf: `path`, `kind`, `dtype`, `shape` and `nbytes`.

    Raises:
        CheckpointDamagedError: If the file is not what was written, as far as these columns tell.
        OSError: If it cannot be read.
    """
    return Opened(path).table(_LISTED)


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What was said about a checkpoint when it was saved.

    Raises:
        CheckpointDamagedError: If the file is not what was written, its leaves' bytes left aside.
        OSError: If it cannot be read.
    """
    return Opened(path).metadata
