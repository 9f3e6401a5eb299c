"""Frozen data <-> plain lists, numbers, strings and bytes: what a journal and a message are made of.

One rule: a dataclass becomes the list of its fields in order, and its annotations say how to read
it back; fields added at the end with a default leave older data readable.

>>> from raysweep.core.events import AttemptId, SlotLost
>>> to_plain(SlotLost(time=2.5, slot=0, incarnation=1, cause="killed"))
[2.5, 0, 1, 'killed']
>>> from_plain(SlotLost, [2.5, 0, 1, "killed"])
SlotLost(time=2.5, slot=0, incarnation=1, cause='killed')
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[Any], Any]

_PLAIN = frozenset({str, bytes, int, float, bool, NoneType})


def to_plain(value: object) -> Any:  # noqa: ANN401  (lists of lists of ...: no type says more)
    """The plain form of a value: dataclasses and tuples as lists, enums as their values."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if names := _names(kind):
        return [to_plain(getattr(value, name)) for name in names]
    if isinstance(value, tuple | list | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return [to_plain(item) for item in items]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


def from_plain(kind: type[T], plain: Any) -> T:  # noqa: ANN401  (the same)
    """The value of type `kind` whose plain form this is."""
    hint: Any = kind
    value: T = _reader(hint)(plain)
    return value


def learn(kind: type) -> None:
    """Work out how values of this type are read, ahead of the first."""
    _reader(kind)


@cache
def _names(kind: Any) -> tuple[str, ...]:  # noqa: ANN401  (a class; mypy takes none for hashable)
    """A dataclass's fields in order; empty for any other class."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))


@cache
def _reader(hint: Any) -> Reader:  # noqa: ANN401  (a type hint has no type of its own)
    """How values of this annotation are read back from their plain form."""
    if _names(hint):
        return _dataclass_reader(hint)
    if get_origin(hint) is UnionType:
        return _optional_reader(hint)
    if (kind := get_origin(hint)) in (tuple, list, frozenset):
        item = _reader(get_args(hint)[0])
        return lambda plain: kind(map(item, plain))
    if isinstance(hint, type) and issubclass(hint, tuple):  # a NamedTuple
        return lambda plain: hint(*plain)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return _as_it_is


def _dataclass_reader(kind: Any) -> Reader:  # noqa: ANN401  (the same)
    hints = get_type_hints(kind)
    fields = [(name, _reader(hints[name])) for name in _names(kind)]

    def read(plain: list[Any]) -> Any:  # noqa: ANN401  (an instance of `kind`)
        pairs = zip(fields, plain, strict=False)  # an older, shorter list leaves the defaults
        return kind(**{name: reader(item) for (name, reader), item in pairs})

    return read


def _optional_reader(hint: Any) -> Reader:  # noqa: ANN401  (the same)
    inner = _reader(next(arm for arm in get_args(hint) if arm is not NoneType))
    return lambda plain: None if plain is None else inner(plain)


def _as_it_is(plain: Any) -> Any:  # noqa: ANN401  (the same)
    return dict(plain) if isinstance(plain, Mapping) else plain
