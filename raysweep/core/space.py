"""The search space: named parameter expressions, drawn from and laid out as a unit cube.

One rule: every expression, at whatever depth, is one dimension of the cube, in the order it was
written, depth first. What stands inside an option of a choice is active only when that option
is drawn; its coordinate is ignored otherwise.

>>> space = Space({"lr": uniform(0, 0.5), "model": choice(["linear", {"depth": randint(8)}])})
>>> [dimension.name for dimension in space.dimensions]
['lr', 'model', 'model[1].depth']
>>> space.from_unit([0.5, 0.75, 0.5])
{'lr': 0.25, 'model': {'depth': 4}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from raysweep.core import checks
from raysweep.core.choices import (
    EXPRESSIONS,
    Choice,
    Path,
    Template,
    choice,
    expressions_in,
    filled,
    from_dict,
    numbered,
    size_of,
)
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
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)
from raysweep.core.expressions import Expression, Value
from raysweep.errors import SpecError

__all__ = [
    "EXPRESSIONS",
    "Choice",
    "Dimension",
    "Expression",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Path",
    "QLogNormal",
    "QLogUniform",
    "QNormal",
    "QUniform",
    "RandInt",
    "Space",
    "Uniform",
    "Value",
    "choice",
    "lognormal",
    "loguniform",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "uniform",
]

# What a model sees in the column of a number that is not there: the middle, which leans nowhere.
INACTIVE = 0.5

# Whose objects users bring along, by the package that made them.
_STRANGERS = {"ray": "Ray Tune", "optuna": "Optuna", "hyperopt": "Hyperopt", "azure": "Azure ML"}


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One coordinate of the unit cube."""

    path: Path  # ("model", 0, "lr"): parameter model, option 0, key lr
    expression: Expression
    parent: tuple[int, int] | None  # (dimension, option) that make it active; None: always active

    @property
    def name(self) -> str:
        """The path as a user reads it: `model[0].lr`."""
        return _shown(self.path)


@dataclass(frozen=True, eq=False)
class Space:
    """A search space; equal to another that writes the same parameters in the same order.

    Raises:
        SpecError: A name is not a string or empty, a value is not an expression, or there is none.
    """

    parameters: Mapping[str, Expression]

    def __post_init__(self) -> None:
        parameters = dict(checks.mapping("space", self.parameters))
        if not parameters:
            raise SpecError("space must not be empty: give at least one parameter")
        for name, expression in parameters.items():
            checks.text("space's parameter name", name)
            _check_expression(name, expression)
        object.__setattr__(self, "parameters", parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The coordinates of the unit cube, in order of writing, depth first."""
        found: list[Dimension] = []
        _collect(self._template, (), None, found)
        return tuple(found)

    @property
    def width(self) -> int:
        """How many columns `encode` answers."""
        return sum(dimension.expression.width for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """How many combinations there are; None if any parameter has no size."""
        return size_of(self._template)

    def at(self, index: int) -> dict[str, Value]:
        """The index-th combination, 0 to `size` - 1, the last parameter fastest.

        Raises:
            SpecError: The space has no size, or the index lies beyond it.
        """
        if (size := self.size) is None:
            raise SpecError("space has parameters whose combinations cannot be numbered")
        checks.whole("index", index, at_least=0, at_most=size - 1)
        return cast("dict[str, Value]", numbered(self._template, index))

    def from_unit(self, point: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, Value]:
        """The parameters at a point of the open unit cube, one coordinate for each dimension.

        Raises:
            SpecError: The number of coordinates is wrong, or an active one is not inside (0, 1).
        """
        if len(point) != len(self.dimensions):
            raise SpecError(
                f"point must have {len(self.dimensions)} coordinates, but got {len(point)}"
            )

        def draw(index: int) -> Value:
            expression = self.dimensions[index].expression
            if isinstance(expression, Choice):
                return expression.option_at(point[index])
            return expression.from_unit(point[index])

        return self.drawn(draw)

    def drawn(self, draw: Callable[[int], Value]) -> dict[str, Value]:
        """The parameters that somebody else draws, one active dimension after another.

        Args:
            draw: asked with a dimension's number; answers its value, or of a choice the number
                of the option.
        """

        def fill(path: Path, expression: Expression) -> Value:
            value = draw(self._index[path])
            if not isinstance(expression, Choice):
                return value
            assert isinstance(value, int), "of a choice the number of an option is drawn"
            return filled(expression.values[value], (*path, value), fill)

        return cast("dict[str, Value]", filled(self._template, (), fill))

    def draws_of(self, params: Mapping[str, object]) -> dict[int, Value]:
        """What `drawn` was answered for these parameters, by the number of the dimension, in order.

        Values are of the types that a draw has: a float of a continuous parameter, whatever
        stands for it in `params`.

        Raises:
            SpecError: A parameter is missing or unknown, or its value is none that is ever drawn.
        """
        draws: dict[int, Value] = {}
        for name, expression in self._given(params):
            self._trace(draws, (name,), expression, params[name])
        return draws

    def as_drawn(self, params: Mapping[str, object]) -> dict[str, Value]:
        """The same parameters as a draw has them: the caller's own, of a draw's types.

        Numpy's scalars, as rows of a table have them, stand for Python's.

        >>> Space({"lr": uniform(0, 1), "layers": randint(4)}).as_drawn({"layers": 2.0, "lr": 1})
        {'lr': 1.0, 'layers': 2}

        Raises:
            SpecError: A parameter is missing or unknown, or its value is none that is ever drawn.
        """
        return self.drawn(self.draws_of(cast("dict[str, object]", _unwrapped(params))).__getitem__)

    def to_unit(self, params: Mapping[str, object]) -> npt.NDArray[np.float64]:
        """A point at which these parameters are drawn, shape (dimensions,); NaN where inactive.

        Raises:
            SpecError: A parameter is missing or unknown, or its value is none that is ever drawn.
        """
        point = np.full(len(self.dimensions), np.nan)
        for name, expression in self._given(params):
            self._place(point, (name,), expression, params[name])
        return point

    def active(self, params: Mapping[str, object]) -> npt.NDArray[np.bool_]:
        """Which dimensions these parameters have a value for, shape (dimensions,)."""
        return ~np.isnan(self.to_unit(params))

    def encode(self, params: Mapping[str, object]) -> npt.NDArray[np.float64]:
        """The parameters as a model reads them, shape (width,), all between 0 and 1.

        A number is its unit coordinate, a choice a column for each option: 1 for the one that is
        drawn, 0 for the others. Where inactive, a number is 0.5 and a choice all 0; the columns
        of the enclosing choice say so.
        """
        columns: list[float] = []
        for dimension, u in zip(self.dimensions, self.to_unit(params), strict=True):
            columns += _encoded(dimension.expression, u)
        return np.array(columns)

    def to_dict(self) -> dict[str, Value]:
        """Plain data for JSON: name -> the expression's `to_dict`."""
        return {name: expression.to_dict() for name, expression in self.parameters.items()}

    @classmethod
    def from_dict(cls, plain: object) -> Space:
        """The space that `to_dict` wrote; a `SpecError` names what it does not know."""
        parameters = checks.mapping("space", plain)
        return cls({name: from_dict(name, value) for name, value in parameters.items()})

    @property
    def _template(self) -> Template:
        return cast("Template", self.parameters)

    @cached_property
    def _index(self) -> dict[Path, int]:
        return {dimension.path: index for index, dimension in enumerate(self.dimensions)}

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.to_dict())

    def _given(self, params: Mapping[str, object]) -> Iterator[tuple[str, Expression]]:
        """Each parameter; refuses to go on where there is no value for it, or one for no parameter."""
        checks.known_keys("params", checks.mapping("params", params), self.parameters)
        for name, expression in self.parameters.items():
            if name not in params:
                raise SpecError(f"params must have a value for {name!r}, but got {list(params)}")
            yield name, expression

    def _trace(
        self, draws: dict[int, Value], path: Path, expression: Expression, value: object
    ) -> None:
        """Note what was drawn for the value, and for all that is inside it."""
        if not isinstance(expression, Choice):
            with _naming(path):
                draws[self._index[path]] = _drawn_value(expression, value)
            return
        with _naming(path):
            option = expression.option_of(value)
        draws[self._index[path]] = option
        for inner, nested in expressions_in(expression.values[option]):
            self._trace(draws, (*path, option, *inner), nested, _reached(value, inner))

    def _place(
        self, point: npt.NDArray[np.float64], path: Path, expression: Expression, value: object
    ) -> None:
        """Write the value's coordinate, and those of all that is inside it, into the point."""
        with _naming(path):
            point[self._index[path]] = expression.to_unit(value)
        if not isinstance(expression, Choice):
            return
        option = expression.option_of(value)
        for inner, nested in expressions_in(expression.values[option]):
            self._place(point, (*path, option, *inner), nested, _reached(value, inner))


def _collect(
    template: Template, path: Path, parent: tuple[int, int] | None, found: list[Dimension]
) -> None:
    for inner, expression in expressions_in(template, path):
        index = len(found)
        found.append(Dimension(path=inner, expression=expression, parent=parent))
        if isinstance(expression, Choice):
            for option, value in enumerate(expression.values):
                _collect(value, (*inner, option), (index, option), found)


def _encoded(expression: Expression, u: float) -> list[float]:
    missing = bool(np.isnan(u))
    if not isinstance(expression, Choice):
        return [INACTIVE if missing else u]
    drawn = None if missing else expression.option_at(u)
    return [float(option == drawn) for option in range(expression.width)]


def _drawn_value(expression: Expression, value: object) -> Value:
    """The value as a draw has it: of a type that `from_unit` answers."""
    drawn = expression.from_unit(expression.to_unit(value))
    if drawn == value:
        return drawn
    number = cast("float", value)  # beside it by a rounding: a continuous one, or in a far tail
    return int(number) if isinstance(drawn, int) else float(number)


def _unwrapped(value: object) -> object:
    """The value with Python's own scalars in the place of numpy's, to any depth."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _unwrapped(inner) for key, inner in value.items()}
    return [*map(_unwrapped, value)] if isinstance(value, list | tuple) else value


def _reached(value: object, path: Path) -> object:
    for key in path:
        value = cast("Any", value)[key]
    return value


def _shown(path: Path) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in an error which parameter it is about."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"{_shown(path)}: {error}") from error


def _check_expression(name: str, value: object) -> None:
    if isinstance(value, Expression):
        return
    raise SpecError(
        f"space's {name!r} must be an expression, but got"
        f" {checks.described(value)}; {_remedy(value)}"
    )


def _remedy(value: object) -> str:
    stranger = _STRANGERS.get(type(value).__module__.partition(".")[0])
    if stranger is not None:
        return (
            f"a {stranger} object is none: write raysweep's own, such as"
            " uniform(0, 1), loguniform(1e-5, 1e-1) or choice(['a', 'b'])"
        )
    if isinstance(value, list | tuple):
        return f"use choice({list(value)!r})"
    if isinstance(value, Mapping):
        return "a nested space is an option of a choice: choice([{...}])"
    if value is None or isinstance(value, bool | int | float | str):
        return f"use choice([{value!r}]) for a constant"
    return "use uniform, loguniform, randint, choice or another of raysweep's expressions"
