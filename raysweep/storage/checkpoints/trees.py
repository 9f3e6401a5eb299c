"""State trees as rows: a leaf and the steps that lead to it, and the tree built up again from them.

One rule: the steps alone say what every container on the way is, so that a tree comes back as it
was, its tuples as tuples and its int keys as ints. Subclasses of dict, list and tuple
(`OrderedDict`, named tuples) come back as the plain ones, and what has a state as that state: a
module of torch as its `state_dict()`.

A step is text whose first character says what is stepped into:

    .name   the item `name` of a dict
    #7      the item 7 of a dict: an int key
    [7]     the item 7 of a list
    (7)     the item 7 of a tuple
    /name   the file `name` of a folder
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from raysweep.errors import UnstorableError
from raysweep.storage.checkpoints import arrays, kinds, tensors
from raysweep.storage.checkpoints.files import Files
from raysweep.storage.checkpoints.leaf import Leaf

Steps = tuple[str, ...]

# Deeper than any model's state; a container that contains itself gets there soon.
MAX_DEPTH = 64

_STEP = re.compile(
    r"#(?P<number>-?[0-9]{1,19})|\[(?P<item>[0-9]{1,18})\]|\((?P<part>[0-9]{1,18})\)"
    r"|/(?P<file>.*)",
    re.DOTALL,
)
_STEPS_INTO = {
    "number": "dict", "item": "list", "part": "tuple", "file": "files"
}  # fmt: skip
_IDENTITIES: Mapping[str, Callable[[Any], object]] = {
    "tensor": tensors.identity,
    "array": arrays.identity,
}
ALIASED = frozenset(_IDENTITIES)  # the kinds of leaves that others can be the same as
# What the user's values, their libraries and the file system raise.
_REFUSALS = (UnstorableError, ValueError, TypeError, RuntimeError, OSError)
_INT_KEYS = range(-(2**63), 2**63)  # what any reader of the file can hold


class ContradictionError(ValueError):
    """Rows that are those of no tree."""

    def __init__(self, step: str, what: str) -> None:
        self.step, self.what = step, what


Branch: TypeAlias = "dict[str | int, range]"  # a container: the rows that each item takes up


def flatten(tree: object) -> Iterator[tuple[Steps, Leaf]]:
    """The leaves of a tree in its own order; an empty container is a leaf.

    A tensor or an array that was there before, the same elements of the same memory, is a leaf of the
    kind `alias`, whose bytes are the row of the first as eight bytes.

    Raises:
        UnstorableError: If something in the tree cannot be stored; the message names its path.
    """
    first: dict[object, int] = {}  # rows, by what the elements of tensors and arrays are
    for row, (steps, value, leaf) in enumerate(_flattened(tree, ())):
        known = row
        if leaf.nbytes and (identity := _IDENTITIES.get(leaf.kind)):
            known = first.setdefault(identity(value), row)
        yield steps, leaf if known == row else alias(leaf, known)


def alias(leaf: Leaf, row: int) -> Leaf:
    """A leaf that is the one of an earlier row."""
    return Leaf(kind="alias", dtype=leaf.dtype, shape=leaf.shape, data=row.to_bytes(8, "little"))


def branch(steps: Sequence[str], first: int) -> Branch:
    """The container that rows lie in whose steps into it are these.

    Args:
        steps: one a row.
        first: the number of the first row.

    Raises:
        ContradictionError: If the steps contradict each other, are out of order or missing.
    """
    starts = [row for row, step in enumerate(steps) if not row or step != steps[row - 1]]
    kind = kind_into(steps[0])
    items: Branch = {}
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        other, key = _parsed(steps[start])
        if other != kind:
            raise ContradictionError(
                steps[start], f"lies in a {other}, which others say is a {kind}"
            )
        if key in items:
            raise ContradictionError(steps[start], "is there twice")
        if kind in {"list", "tuple"} and key != len(items):
            raise ContradictionError(
                steps[start], f"is item {key} of a {kind} where item {len(items)} is due"
            )
        items[key] = range(first + start, first + end)
    return items


def kind_into(step: str) -> str:
    """The kind of container that a step goes into."""
    return _parsed(step)[0]


def step_to(key: str | int) -> str:
    """The step to an item of a dict; of an enum's member it is the value that counts."""
    return f".{str.__str__(key)}" if isinstance(key, str) else f"#{int(key)}"


def is_key(key: object) -> bool:
    """Whether a dict of a checkpoint can have this key."""
    return isinstance(key, str) or (isinstance(key, int) and int(key) in _INT_KEYS)


def readable(steps: Sequence[str]) -> str:
    """A path for people; keys with dots in them can make two of them alike.

    >>> readable((".model", ".conv1.weight"))
    'model.conv1.weight'
    >>> readable((".optimizer", ".param_groups", "[0]", ".betas", "(1)"))
    'optimizer.param_groups[0].betas[1]'
    """
    named = (".", "/")
    shown = (step if step.startswith(named) else f"[{step.strip('#[]()')}]" for step in steps)
    return "".join(shown).removeprefix(".").removeprefix("/")


def _flattened(value: object, steps: Steps) -> Iterator[tuple[Steps, object, Leaf]]:
    if len(steps) > MAX_DEPTH:
        raise UnstorableError(f"{readable(steps[:8])}... is nested more than {MAX_DEPTH} deep:"
                              " store it flatter, and nothing within itself")  # fmt: skip
    try:
        value = _plain(value)
        inner = value if isinstance(value, dict | list | tuple | Files) else None
        leaf = None if inner else kinds.encode(value)
    except _REFUSALS as error:
        raise UnstorableError(f"{readable(steps) or 'the state'} {error}") from error
    if leaf is not None:
        yield steps, value, leaf
    elif isinstance(inner, Files):
        for name, held in inner.held.items():
            yield (*steps, f"/{name}"), held, Leaf(kind="file", data=held)
    elif inner is not None:
        for step, item in _items(inner, steps):
            yield from _flattened(item, (*steps, step))


def _plain(value: object) -> Any:  # noqa: ANN401  (any value)
    """What a value is stored as, if it is something else."""
    if kinds.kind_of(type(value)) is not None:
        return value
    if isinstance(value, Path):
        return Files.of(value)
    state = getattr(value, "state_dict", None)
    return state() if callable(state) and not isinstance(value, type) else value


def _items(
    container: dict[object, object] | list[object] | tuple[object, ...], steps: Steps
) -> Iterator[tuple[str, object]]:
    if isinstance(container, dict):
        return ((_key_step(key, steps), item) for key, item in container.items())
    form = "[{}]" if isinstance(container, list) else "({})"
    return ((form.format(number), item) for number, item in enumerate(container))


def _key_step(key: object, steps: Steps) -> str:
    if isinstance(key, str):
        if not key.isascii() and key != key.encode("utf-8", "replace").decode():
            raise _bad_key(steps, key, "which is no valid Unicode: rename it")
        return step_to(key)
    if isinstance(key, bool) or not isinstance(key, int):
        kind = f"of type {type(key).__name__}"
        raise _bad_key(steps, key, f"{kind}: a key must be a string or an int, so store str(key)")
    if not is_key(key):
        raise _bad_key(steps, key, "of more than 64 bits: store str(key)")
    return step_to(key)


def _bad_key(steps: Steps, key: object, what: str) -> UnstorableError:
    return UnstorableError(f"{readable(steps) or 'the state'} has the key {key!r} {what}")


def _parsed(step: str) -> tuple[str, str | int]:
    """What a step goes into, and the key there."""
    if step.startswith("."):  # which most do
        return "dict", step[1:]
    match = _STEP.fullmatch(step)
    if match is None or match.lastgroup is None:
        raise ContradictionError(".", f"has the step {step!r}, which is none")
    key = match[match.lastgroup]
    return _STEPS_INTO[match.lastgroup], key if match.lastgroup == "file" else int(key)
