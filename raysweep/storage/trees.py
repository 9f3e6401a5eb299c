"""State trees as rows: a leaf and the steps that lead to it, and the tree built up again from them.

One rule: the steps alone say what every container on the way is, so that a tree comes back as it
was, its tuples as tuples and its int keys as ints. Subclasses of dict, list and tuple
(`OrderedDict`, named tuples) come back as the plain ones.

A step is text whose first character says what is stepped into:

    .name   the item `name` of a dict
    #7      the item 7 of a dict: an int key
    [7]     the item 7 of a list
    (7)     the item 7 of a tuple
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from raysweep.errors import UnstorableError
from raysweep.storage import leaves

Steps = tuple[str, ...]

# Deeper than any model's state; a container that contains itself gets there soon.
MAX_DEPTH = 64

_STEP = re.compile(
    r"\.(?P<name>.*)|#(?P<number>-?[0-9]{1,19})|\[(?P<item>[0-9]{1,18})\]|\((?P<part>[0-9]{1,18})\)",
    re.DOTALL,
)
_STEPS_INTO = {"name": "dict", "number": "dict", "item": "list", "part": "tuple"}
_INT_KEYS = range(-(2**63), 2**63)  # what any reader of the file can hold


@dataclass(frozen=True, kw_only=True, slots=True)
class _Container:
    """A container while its items arrive; those of a list or a tuple arrive in their order."""

    kind: str
    items: dict[str | int, object] = field(default_factory=dict)

    def add(self, kind: str, key: str | int, item: object) -> None:
        """Put an item in; `kind` is the container that the item says it is in."""
        if kind != self.kind:
            raise ValueError(f"lies in a {kind}, which others say is a {self.kind}")
        if key in self.items:
            raise ValueError("is there twice")
        if kind != "dict" and key != len(self.items):
            raise ValueError(f"is item {key} of a {kind} where item {len(self.items)} is due")
        self.items[key] = item

    def inner(self, kind: str, key: str | int, inner_kind: str) -> _Container:
        """The container that is the item `key`, made if this is the first step into it."""
        if key not in self.items:
            self.add(kind, key, _Container(kind=inner_kind))
        inner = self.items[key]
        if kind != self.kind or not isinstance(inner, _Container):
            raise ValueError("lies in what others say is no container")
        return inner

    def built(self) -> Collection[object]:
        """The container that Python knows."""
        items = {
            key: item.built() if isinstance(item, _Container) else item
            for key, item in self.items.items()
        }
        if self.kind == "dict":
            return items
        return list(items.values()) if self.kind == "list" else tuple(items.values())


def flatten(tree: object) -> Iterator[tuple[Steps, leaves.Leaf]]:
    """The leaves of a tree in its own order; an empty container is a leaf.

    Raises:
        UnstorableError: If something in the tree cannot be stored; the message names its path.
    """
    return _flattened(tree, ())


def build(rows: Iterable[tuple[Sequence[str], object]]) -> object:
    """The tree whose leaves, or any values in their place, these are.

    Raises:
        ValueError: If the rows contradict each other, are out of order or missing.
    """
    root = _Container(kind="tuple")  # the tree is its only item
    for steps, value in rows:
        try:
            _insert(root, ["(0)", *steps], value)
        except ValueError as error:
            raise ValueError(f"{readable(steps[:MAX_DEPTH]) or 'the state'} {error}") from error
    if not root.items:
        raise ValueError("it holds no leaf")
    return next(iter(root.built()))


def readable(steps: Sequence[str]) -> str:
    """A path for people; keys with dots in them can make two of them alike.

    >>> readable((".model", ".conv1.weight"))
    'model.conv1.weight'
    >>> readable((".optimizer", ".param_groups", "[0]", ".betas", "(1)"))
    'optimizer.param_groups[0].betas[1]'
    """
    shown = (step if step.startswith(".") else f"[{step.strip('#[]()')}]" for step in steps)
    return "".join(shown).removeprefix(".")


def _flattened(value: object, steps: Steps) -> Iterator[tuple[Steps, leaves.Leaf]]:
    if len(steps) > MAX_DEPTH:
        raise UnstorableError(f"{readable(steps[:8])}... is nested more than {MAX_DEPTH} deep:"
                              " store it flatter, and nothing within itself")  # fmt: skip
    if isinstance(value, dict | list | tuple) and value:
        for step, item in _items(value, steps):
            yield from _flattened(item, (*steps, step))
        return
    try:
        yield steps, leaves.encode(value)
    except UnstorableError as error:
        raise UnstorableError(f"{readable(steps) or 'the state'} {error}") from error


def _items(
    container: dict[object, object] | list[object] | tuple[object, ...], steps: Steps
) -> Iterator[tuple[str, object]]:
    if isinstance(container, dict):
        return ((_key_step(key, steps), item) for key, item in container.items())
    form = "[{}]" if isinstance(container, list) else "({})"
    return ((form.format(number), item) for number, item in enumerate(container))


def _key_step(key: object, steps: Steps) -> str:
    where = readable(steps) or "the state"
    if isinstance(key, str):
        if not key.isascii() and key != key.encode("utf-8", "replace").decode():
            raise UnstorableError(
                f"{where} has the key {key!r}, which is no valid Unicode: rename it"
            )
        return f".{key}"
    if isinstance(key, bool) or not isinstance(key, int):
        raise UnstorableError(f"{where} has the key {key!r} of type {type(key).__name__}:"
                              " a key must be a string or an int, so store str(key)")  # fmt: skip
    if key not in _INT_KEYS:
        raise UnstorableError(f"{where} has the key {key} of more than 64 bits: store str(key)")
    return f"#{int(key)}"


def _insert(root: _Container, steps: list[str], value: object) -> None:
    if len(steps) > MAX_DEPTH + 1:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    parsed = [_parsed(step) for step in steps]
    container = root
    for (kind, key), (inner_kind, _) in itertools.pairwise(parsed):
        container = container.inner(kind, key, inner_kind)
    container.add(*parsed[-1], value)


def _parsed(step: str) -> tuple[str, str | int]:
    """What a step goes into, and the key there."""
    match = _STEP.fullmatch(step)
    if match is None or match.lastgroup is None:
        raise ValueError(f"has the step {step!r}, which is none")
    key = match[match.lastgroup]
    return _STEPS_INTO[match.lastgroup], key if match.lastgroup == "name" else int(key)
