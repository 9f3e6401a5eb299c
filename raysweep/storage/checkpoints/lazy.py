"""A checkpoint's tree, whole or leaf by leaf as it is asked for.

One rule: a lazy container is what the eager one would be, but that a leaf is read, verified and made
when somebody takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.reading import Opened
from raysweep.storage.checkpoints.trees import Branch


def whole(opened: Opened) -> Any:  # noqa: ANN401  (the tree that was saved)
    """All of a tree.

    Raises:
        CheckpointDamagedError: the file is not what was written.
        UserError: what a leaf needs is not installed, or not trusted.
    """
    with opened.damage_named():
        return _built(opened, opened.values(opened.rows), opened.rows, 0)


def lazily(opened: Opened) -> Any:  # noqa: ANN401  (a `LazyDict` or `LazyList`, or the only leaf)
    """A tree whose leaves are read when they are asked for.

    Raises:
        CheckpointDamagedError: the file is not what was written, now or when a leaf is taken.
    """
    return _taken(opened, opened.rows, 0)


def _built(opened: Opened, values: Sequence[object], rows: range, depth: int) -> object:
    branch = opened.branch(rows, depth)
    if branch is None:
        return values[rows.start]
    inner = {key: _built(opened, values, item, depth + 1) for key, item in branch.items.items()}
    if branch.kind == "dict":
        return inner
    if branch.kind == "files":
        return Files.stored(inner)
    return list(inner.values()) if branch.kind == "list" else tuple(inner.values())


def _taken(opened: Opened, rows: range, depth: int) -> Any:  # noqa: ANN401  (the same)
    with opened.damage_named():
        branch = opened.branch(rows, depth)
        if branch is None:
            return opened.values(rows)[0]
        if branch.kind == "files":
            return _built(opened, opened.values(rows), rows, depth)
    return (LazyDict if branch.kind == "dict" else LazyList)(opened, branch, depth)


class _Lazy:
    """A container of a checkpoint whose items are read when they are taken."""

    def __init__(self, opened: Opened, branch: Branch, depth: int) -> None:
        self._opened, self._branch, self._depth = opened, branch, depth

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._branch.items)

    def __repr__(self) -> str:
        keys = ", ".join(str(key) for key in self._branch.items)
        return f"<{type(self).__name__} of {self._opened.path}: {keys}>"

    def _item(self, key: str | int) -> Any:  # noqa: ANN401  (any item)
        return _taken(self._opened, self._branch.items[key], self._depth + 1)


class LazyDict(_Lazy, Mapping[Any, Any]):
    """A dict of a checkpoint whose items are read when they are taken."""

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401  (any key, any item)
        """An item; a container is lazy as well."""
        return self._item(key)

    def __iter__(self) -> Iterator[Any]:
        """The keys, in their order."""
        return iter(self._branch.items)


class LazyList(_Lazy, Sequence[Any]):
    """A list or a tuple of a checkpoint whose items are read when they are taken."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  (a number or a slice, any item)
        """An item, or a list of several; a container is lazy as well."""
        numbers = range(len(self))[index]
        return [self._item(n) for n in numbers] if isinstance(index, slice) else self._item(numbers)
