"""Choice: one of several options, which may hold further expressions; and options as data.

One rule: a template is plain data (numbers, strings, booleans, None, lists, mappings) with
expressions as leaves; a draw rebuilds it, so that no drawn value shares a list or a mapping
with the space. The options of a choice are templates, and so are a space's parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, cast

from raysweep.core import checks
from raysweep.core.distributions import (
    LogNormal,
    LogUniform,
    Normal,
    QLogNormal,
    QLogUniform,
    QNormal,
    QUniform,
    RandInt,
    Uniform,
)
from raysweep.core.expressions import Expression, Value, unit
from raysweep.errors import SpecError

Path: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = bool | int | float | str | None
Template: TypeAlias = "Scalar | Expression | list[Template] | dict[str, Template]"

# How a mapping with a key `type` of its own is written, so that it is not read as an expression.
_MAPPING = "mapping"


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice(Expression):
    """One of the values, each as likely as the other.

    `True`, `1` and `1.0` are three values; the same value twice is refused. The values are
    copied; treat them as frozen.
    """

    kind: ClassVar[str] = "choice"
    values: tuple[Template, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, list | tuple | range):
            raise SpecError(
                f"choice values must be a list, but got {checks.described(self.values)}"
            )
        if not self.values:
            raise SpecError("choice values must not be empty: give at least one")
        values = tuple(_checked(f"choice value {i}", value) for i, value in enumerate(self.values))
        object.__setattr__(self, "values", values)
        _refuse_twins(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def _text(self) -> str:
        # Text tells True, 1 and 1.0 apart, which Python's own comparison does not.
        return json.dumps(self.to_dict())

    @cached_property
    def _literals_first(self) -> list[int]:
        return sorted(
            range(len(self.values)),
            key=lambda option: any(True for _ in expressions_in(self.values[option])),
        )

    @property
    def width(self) -> int:
        """A column for each option."""
        return len(self.values)

    @property
    def size(self) -> int | None:
        """How many values the options stand for, all that is inside them counted."""
        sizes = [size_of(value) for value in self.values]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def at(self, index: int) -> Value:
        """The index-th value: the first option's values, then the second's, and so on."""
        if self.size is None:
            return super().at(index)
        rest = checks.whole("choice index", index, at_least=0, at_most=self.size - 1)
        for value in self.values:
            size = size_of(value)
            assert size is not None, "the sum of the sizes is known"
            if rest < size:
                return numbered(value, rest)
            rest -= size
        raise AssertionError("an index below the sum of the sizes lies in one of the options")

    def option_at(self, u: float) -> int:
        """Which option is drawn at u."""
        return min(int(unit(u) * len(self.values)), len(self.values) - 1)

    def unit_of(self, option: int) -> float:
        """The centre of the option's cell."""
        return (option + 0.5) / len(self.values)

    def option_of(self, value: object) -> int:
        """The option that becomes this value; a `SpecError` if none does.

        Of several, a literal comes before one with expressions inside, then the first.
        """
        for option in self._literals_first:
            if _fits(self.values[option], value):
                return option
        known = ", ".join(json.dumps(_written(template)) for template in self.values)
        raise SpecError(f"choice value must be one of {known}, but got {checks.described(value)}")

    def from_unit(self, u: float) -> Value:
        """A copy of the value drawn at u.

        Raises:
            SpecError: u lies outside the open unit interval, or expressions are inside the
                value: each has a coordinate of its own, which only a `Space` knows.
        """
        return filled(self.values[self.option_at(u)], (), _refuse_inner)

    def to_unit(self, value: object) -> float:
        """The centre of the option's cell."""
        return self.unit_of(self.option_of(value))

    def to_dict(self) -> dict[str, Value]:
        """Plain data; a mapping with a key `type` is wrapped to tell it from an expression."""
        return {"type": self.kind, "values": [_written(value) for value in self.values]}


def choice(values: list[Any] | tuple[Any, ...] | range) -> Choice:
    """One of the values; a mapping among them may hold expressions: a conditional space.

    >>> choice([16, 32, 64]).from_unit(0.5)
    32
    """
    return Choice(values=cast("tuple[Template, ...]", values))


def expressions_in(template: Template, path: Path = ()) -> Iterator[tuple[Path, Expression]]:
    """Each expression of a template with its path; what is inside a choice stays inside."""
    if isinstance(template, Expression):
        yield path, template
    elif isinstance(template, dict):
        for key, inner in template.items():
            yield from expressions_in(inner, (*path, key))
    elif isinstance(template, list):
        for index, inner in enumerate(template):
            yield from expressions_in(inner, (*path, index))


def filled(template: Template, path: Path, draw: Callable[[Path, Expression], Value]) -> Value:
    """A fresh copy of the template with `draw(path, expression)` in place of each expression."""
    if isinstance(template, Expression):
        return draw(path, template)
    if isinstance(template, dict):
        return {key: filled(inner, (*path, key), draw) for key, inner in template.items()}
    if isinstance(template, list):
        return [filled(inner, (*path, index), draw) for index, inner in enumerate(template)]
    return template


def size_of(template: Template) -> int | None:
    """How many values a template stands for; None if any expression in it has no size."""
    product = 1
    for _, expression in expressions_in(template):
        size = expression.size
        if size is None:
            return None
        product *= size
    return product


def numbered(template: Template, index: int) -> Value:
    """The index-th of the values that a template stands for, the last expression fastest."""
    digits: dict[Path, int] = {}
    for path, expression in reversed(list(expressions_in(template))):
        size = expression.size
        assert size is not None, "only what has a size is numbered"
        index, digits[path] = divmod(index, size)
    return filled(template, (), lambda path, expression: expression.at(digits[path]))


def from_dict(name: str, plain: object) -> Expression:
    """The expression that `Expression.to_dict` wrote; `name` says in errors where it stood."""
    plain = checks.mapping(name, plain)
    if "type" not in plain:
        raise SpecError(f"{name} must say its type, but got {checks.described(plain)}")
    kind = checks.one_of(f"{name} type", plain["type"], EXPRESSIONS)
    given = {key: value for key, value in plain.items() if key != "type"}
    known = [field.name for field in fields(EXPRESSIONS[kind])]
    checks.known_keys(f"{name} ({kind})", given, known)
    for key in known:
        if key not in given:
            raise SpecError(f"{name} ({kind}) must have the key {key!r}, but got {list(given)}")
    if kind == Choice.kind and isinstance(given["values"], list):
        given["values"] = [_read(f"{name} value", value) for value in given["values"]]
    try:
        return EXPRESSIONS[kind](**given)
    except SpecError as error:
        raise SpecError(f"{name}: {error}") from error


def _checked(name: str, value: object) -> Template:
    if isinstance(value, Expression):
        return value
    if isinstance(value, Mapping):
        return {key: _checked(f"{name}[{key!r}]", inner)
                for key, inner in checks.mapping(name, value).items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_checked(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
    return _scalar(name, value)


def _scalar(name: str, value: object) -> Scalar:
    """The value as exactly one of Python's own types: a numpy float or an enum is cut down."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"{name} must be finite, but got {value}; use a string or None")
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    remedy = "; .tolist() makes it one" if type(value).__module__ == "numpy" else ""
    raise SpecError(
        f"{name} must be a number, a string, a boolean, None, a list, a mapping"
        f" or an expression, but got {checks.described(value)}{remedy}"
    )


def _refuse_twins(values: tuple[Template, ...]) -> None:
    seen: set[str] = set()
    for value in values:
        text = json.dumps(_written(value), sort_keys=True)
        if text in seen:
            raise SpecError(f"choice values must differ, but got {text} twice; remove one")
        seen.add(text)


def _refuse_inner(path: Path, expression: Expression) -> Value:
    where = ".".join(map(str, path))
    raise SpecError(
        f"a choice with a {expression.kind} inside ({where}) has several coordinates;"
        " draw it through a Space"
    )


def _fits(template: Template, value: object) -> bool:
    if isinstance(template, Expression):
        return template.holds(value)
    if isinstance(template, dict):
        return (
            isinstance(value, Mapping)
            and template.keys() == value.keys()
            and all(_fits(inner, value[key]) for key, inner in template.items())
        )
    if isinstance(template, list):
        return (
            isinstance(value, list | tuple)
            and len(template) == len(value)
            and all(_fits(inner, item) for inner, item in zip(template, value, strict=True))
        )
    return (
        isinstance(value, type(template)) and value == template and _boolean_alike(template, value)
    )


def _boolean_alike(template: Scalar, value: object) -> bool:
    return isinstance(template, bool) == isinstance(value, bool)


def _written(template: Template) -> Value:
    if isinstance(template, Expression):
        return template.to_dict()
    if isinstance(template, list):
        return [_written(inner) for inner in template]
    if isinstance(template, dict):
        plain = {key: _written(inner) for key, inner in template.items()}
        return {"type": _MAPPING, "items": plain} if "type" in plain else plain
    return template


def _read(name: str, plain: object) -> object:
    """A template from plain data; its scalars are checked by the choice that takes it."""
    if isinstance(plain, list):
        return [_read(name, inner) for inner in plain]
    if not isinstance(plain, Mapping):
        return plain
    if "type" not in plain:
        return {key: _read(f"{name}.{key}", inner) for key, inner in plain.items()}
    if plain["type"] != _MAPPING:
        return from_dict(name, plain)
    checks.known_keys(f"{name} ({_MAPPING})", plain, ["type", "items"])
    items = checks.mapping(f"{name} items", plain.get("items"))
    return {key: _read(f"{name}.{key}", inner) for key, inner in items.items()}


EXPRESSIONS: Mapping[str, type[Expression]] = {
    expression.kind: expression
    for expression in (
        Choice,
        RandInt,
        Uniform,
        LogUniform,
        QUniform,
        QLogUniform,
        Normal,
        LogNormal,
        QNormal,
        QLogNormal,
    )
}
