"""The parameters of a space as Optuna sees them.

One rule: what Optuna draws for a parameter and what raysweep draws for it name each other, both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from raysweep.core.expressions import opened
from raysweep.core.space import (
    Choice,
    Expression,
    LogUniform,
    QLogUniform,
    QUniform,
    RandInt,
    Space,
    Uniform,
    Value,
)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A dimension of the space as a parameter of Optuna's."""

    name: str
    distribution: BaseDistribution
    drawn: Callable[[Any], Value]  # raysweep's value, or an option's number, from Optuna's
    written: Callable[[Any], Any]  # and back

    def suggested(self, trial: optuna.Trial) -> Value:
        """What Optuna draws for a trial, as `Space.drawn` takes it."""
        spread = self.distribution
        if isinstance(spread, FloatDistribution):
            low, high = spread.low, spread.high
            return self.drawn(
                trial.suggest_float(self.name, low, high, step=spread.step, log=spread.log)
            )
        if isinstance(spread, IntDistribution):
            low, high = spread.low, spread.high
            return self.drawn(
                trial.suggest_int(self.name, low, high, step=spread.step, log=spread.log)
            )
        assert isinstance(spread, CategoricalDistribution)
        return self.drawn(trial.suggest_categorical(self.name, spread.choices))


def parameters_of(space: Space) -> list[Parameter]:
    """Every dimension of the space as a parameter of Optuna's.

    >>> from raysweep.core.space import choice, quniform
    >>> space = Space({"drop": quniform(0, 0.5, 0.1), "act": choice(["relu", "tanh"])})
    >>> for parameter in parameters_of(space):
    ...     print(parameter.name, parameter.distribution)
    drop FloatDistribution(high=0.5, log=False, low=0.0, step=0.1)
    act CategoricalDistribution(choices=('relu', 'tanh'))
    """
    names: list[str] = []
    for index, dimension in enumerate(space.dimensions):
        taken = dimension.name in names  # `a.b` inside of a choice, and a parameter called so
        names.append(f"{dimension.name}#{index}" if taken else dimension.name)
    return [
        _parameter(name, dimension.expression)
        for name, dimension in zip(names, space.dimensions, strict=True)
    ]


def _parameter(name: str, expression: Expression) -> Parameter:
    if isinstance(expression, Choice):
        return _categories(name, expression)
    if isinstance(expression, RandInt):
        spread: BaseDistribution = IntDistribution(0, expression.upper - 1)
        return Parameter(name=name, distribution=spread, drawn=int, written=int)
    if isinstance(expression, Uniform | LogUniform):
        log = isinstance(expression, LogUniform)
        spread = FloatDistribution(expression.low, expression.high, log=log)
        return Parameter(name=name, distribution=spread, drawn=float, written=float)
    if isinstance(expression, QUniform):
        return _steps(name, expression)
    if isinstance(expression, QLogUniform) and expression.q == 1 and _number(expression, 0) > 0:
        assert expression.size is not None, "it has bounds"
        low, high = (int(_number(expression, at)) for at in (0, expression.size - 1))
        spread = IntDistribution(low, high, log=True)
        return Parameter(name=name, distribution=spread, drawn=int, written=int)
    return Parameter(
        name=name,
        distribution=FloatDistribution(0, 1),
        drawn=lambda u: expression.from_unit(opened(float(u))),
        written=expression.to_unit,
    )


def _categories(name: str, expression: Choice) -> Parameter:
    """The values themselves, or, where Optuna cannot hold them or tell them apart, their numbers."""
    values = expression.values
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    if plain and len(set(values)) == len(values):
        spread = CategoricalDistribution(values)  # type: ignore[arg-type]  # all of them plain
        return Parameter(
            name=name, distribution=spread, drawn=values.index, written=values.__getitem__
        )
    spread = CategoricalDistribution(range(len(values)))
    return Parameter(name=name, distribution=spread, drawn=int, written=int)


def _steps(name: str, expression: QUniform) -> Parameter:
    """Multiples of q as steps of q, or, where floats cannot say that, as their numbers."""
    size = expression.size
    assert size is not None, "it has bounds"
    low, high, q = _number(expression, 0), _number(expression, size - 1), expression.q
    if isinstance(low, int) and isinstance(high, int):
        spread: BaseDistribution = IntDistribution(low, high, step=int(q))
        return Parameter(name=name, distribution=spread, drawn=int, written=int)

    def number_of(value: Any) -> int:  # noqa: ANN401  (a number of Optuna's)
        return min(max(round((float(value) - low) / q), 0), size - 1)

    if (Decimal(repr(high)) - Decimal(repr(low))) % Decimal(repr(q)) == 0:
        return Parameter(
            name=name,
            distribution=FloatDistribution(low, high, step=q),
            drawn=lambda value: expression.at(number_of(value)),
            written=float,
        )
    return Parameter(
        name=name,
        distribution=IntDistribution(0, size - 1),
        drawn=lambda number: expression.at(int(number)),
        written=number_of,
    )


def _number(expression: QUniform | QLogUniform, index: int) -> int | float:
    value = expression.at(index)
    assert isinstance(value, int | float), "multiples of q are numbers"
    return value
