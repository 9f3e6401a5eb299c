"""A checkpoint's tree, whole or leaf by leaf as it is asked for.

One rule: a lazy container is what the eager one would be, but that a leaf is read, verified and made
when somebody takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.reading import Opened
from raysweep.storage.checkpoints.trees import Branch, is_key, step_to


def whole(opened: Opened) -> Any:  # noqa: ANN401  (the tree that was saved)
    """All of a tree.

    Raises:
        CheckpointDamagedError: the file is not what was written.
        UserError: what a leaf needs is not installed, or not trusted.
    """
    with opened.damage_named():
        values = opened.values(opened.rows)
    placed = {row: opened.placed(value) for row, value in enumerate(values)}
    with opened.damage_named():
        return built(opened, placed, opened.rows, 0)


def lazily(opened: Opened) -> Any:  # noqa: ANN401  (a `LazyDict` or `LazyList`, or the only leaf)
    """A tree whose leaves are read when they are asked for.

    Raises:
        CheckpointDamagedError: the file is not what was written, now or when a leaf is taken.
    """
    return _taken(opened, opened.rows, 0)


def built(opened: Opened, values: Mapping[int, object], rows: range, depth: int) -> object:
    """The tree whose leaves, or any values in their place, these are, so many steps into the whole.

    Raises:
        ValueError: the rows contradict each other.
    """
    kind = opened.kind(rows, depth)
    if not kind:
        return values[rows.start]
    items = opened.branch(rows, depth).items()
    inner = {key: built(opened, values, item, depth + 1) for key, item in items}
    if kind == "dict":
        return inner
    if kind == "files":
        return Files.stored(inner)
    return list(inner.values()) if kind == "list" else tuple(inner.values())


def _taken(opened: Opened, rows: range, depth: int) -> Any:  # noqa: ANN401  (the same)
    with opened.damage_named():
        kind = opened.kind(rows, depth)
        if kind in {"dict", "list", "tuple"}:
            return (LazyDict if kind == "dict" else LazyList)(opened, rows, depth)
        values = opened.values(rows)
        if kind:
            return built(opened, dict(zip(rows, values, strict=True)), rows, depth)
    return opened.placed(values[0])


class _Lazy:
    """A container of a checkpoint whose items are read when they are taken."""

    def __init__(self, opened: Opened, rows: range, depth: int) -> None:
        self._opened, self._rows, self._depth = opened, rows, depth
        self._asked = False  # for one item

    @cached_property
    def _branch(self) -> Branch:
        with self._opened.damage_named():
            return self._opened.branch(self._rows, self._depth)

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._branch)

    def __repr__(self) -> str:
        keys = ", ".join(str(key) for key in self._branch)
        return f"<{type(self).__name__} of {self._opened.path}: {keys}>"

    def _item(self, rows: range) -> Any:  # noqa: ANN401  (any item)
        return _taken(self._opened, rows, self._depth + 1)


class LazyDict(_Lazy, Mapping[Any, Any]):
    """A dict of a checkpoint whose items are read when they are taken."""

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401  (any key, any item)
        """An item; a container is lazy as well."""
        if (rows := self._found(key)) is None:
            raise KeyError(key)
        return self._item(rows)

    def __contains__(self, key: object) -> bool:
        """Whether there is such an item, which is not read."""
        return self._found(key) is not None

    def _found(self, key: object) -> range | None:
        """The rows of an item; one is sooner found than all, but not a second."""
        if self._asked or not is_key(key):
            return self._branch.get(cast("str | int", key))
        self._asked = True
        with self._opened.damage_named():
            return self._opened.find(self._rows, self._depth, step_to(cast("str | int", key)))

    def __iter__(self) -> Iterator[Any]:
        """The keys, in their order."""
        return iter(self._branch)


class LazyList(_Lazy, Sequence[Any]):
    """A list or a tuple of a checkpoint whose items are read when they are taken."""

    @cached_property
    def _places(self) -> list[range]:
        return list(self._branch.values())

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  (a number or a slice, any item)
        """An item, or a list of several; a container is lazy as well."""
        found = self._places[index]
        return (
            [self._item(rows) for rows in found] if isinstance(found, list) else self._item(found)
        )
