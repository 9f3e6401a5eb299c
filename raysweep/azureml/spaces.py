"""A job's search space as expressions of raysweep's own.

One rule: Azure ML gives the bounds of `loguniform` and `qloguniform` as exponents of e, whatever
`logbase` says; here alone they become natural bounds. `mu` and `sigma` mean the same in both.
"""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from typing import Any

from raysweep.azureml import schema
from raysweep.azureml.documents import Place
from raysweep.azureml.readers import each, listed, refused
from raysweep.azureml.refusals import refuse
from raysweep.core import checks
from raysweep.core.distributions import MOST_STEPS
from raysweep.core.space import EXPRESSIONS, Choice, Expression, RandInt
from raysweep.errors import SpecError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Between these the power of e is a float above 0.
_LEAST_EXPONENT, _MOST_EXPONENT = -744.0, 709.0

# How near to a round number a power of e counts as that number: some rounding errors of log and exp.
_NEAR = 1e-13


def check_name(place: Place) -> None:
    """Refuse a parameter, input or output whose name a command could not refer to."""
    name = str(place.steps[-1])
    if not _NAME.fullmatch(name):
        raise refuse("name", place, f"must be a name of its own kind, but got {name!r}", key=True)


def parameter(notices: list[str], value: Any, place: Place) -> Expression:  # noqa: ANN401  (a reader)
    """A parameter of the search space."""
    check_name(place)
    return _expression(notices, schema.EXPRESSION(value, place), place)


def _expression(notices: list[str], plain: dict[str, Any], place: Place) -> Expression:
    """The expression of a mapping that was read."""
    kind = plain["type"]
    try:
        if kind == "choice":
            return _choice(notices, plain.get("values"), place)
        if kind == "randint":
            return _randint(plain["upper"], place)
        numbers = {name: _float(plain[name], place.at(name)) for name in plain if name != "type"}
        _check_quantum(numbers, place)
        if "sigma" in numbers:
            return _gaussian(kind, numbers, place)
        if "log" in kind:
            notices += _doubts(numbers["min_value"], numbers["max_value"], place)
        return _between(kind, numbers, place)
    except SpecError as error:
        if hasattr(error, "problems"):
            raise
        raise refused(place, str(error)) from error


def _choice(notices: list[str], values: list[Any] | None, place: Place) -> Choice:
    inside = place.at("values")
    if not values:
        raise refuse("empty_choice", inside, f"must not be empty, but got {values}")

    def inner(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
        if isinstance(value, dict):
            return _expression(notices, value, place)
        return _storable(value, place)

    def option(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
        return each(inner)(value, place) if isinstance(value, dict) else _storable(value, place)

    return Choice(values=tuple(_distinct(notices, listed(option)(values, inside), inside)))


def _distinct(notices: list[str], values: list[Any], place: Place) -> list[Any]:
    """The values, each once: raysweep draws options, and would draw a twin twice as often."""
    seen: dict[str, Any] = {}
    for index, value in enumerate(values):
        text = json.dumps(Choice(values=(value,)).to_dict(), sort_keys=True)
        if text in seen:
            message = "is a value of this choice already; it counts once"
            notices.append(place.at(index).notice(message))
        seen.setdefault(text, value)
    return list(seen.values())


def _storable(value: Any, place: Place) -> Any:  # noqa: ANN401  (a scalar)
    try:
        checks.storable("value", value)
    except SpecError as error:
        raise refuse("size", place, str(error)) from None
    return value


def _randint(upper: int, place: Place) -> RandInt:
    if upper < 1:
        raise refuse("randint", place.at("upper"), f"must be at least 1, but got {upper}")
    if upper > MOST_STEPS:
        found = f"must be at most 2**40, but got {checks.described(upper)}"
        raise refuse("steps", place.at("upper"), found)
    return RandInt(upper=upper)


def _float(value: float, place: Place) -> float:
    try:
        return float(value)
    except OverflowError:
        raise refuse("size", place, f"must be a float, but got {checks.described(value)}") from None


def _check_quantum(numbers: dict[str, float], place: Place) -> None:
    if numbers.get("q", 1) <= 0:
        raise refuse("quantum", place.at("q"), f"must be above 0, but got {numbers['q']:g}")


def _gaussian(kind: str, numbers: dict[str, float], place: Place) -> Expression:
    if numbers["sigma"] <= 0:
        raise refuse("sigma", place.at("sigma"), f"must be above 0, but got {numbers['sigma']:g}")
    if "log" in kind and not _LEAST_EXPONENT <= numbers["mu"] <= _MOST_EXPONENT:
        raise refuse(
            "exponent", place.at("mu"), f"must be from -744 to 709, but got {numbers['mu']:g}"
        )
    return _made(kind, numbers, place)


def _between(kind: str, numbers: dict[str, float], place: Place) -> Expression:
    """An expression between two bounds; of one value only, if the bounds are the same."""
    low, high = (
        _natural(kind, numbers[name], place.at(name)) for name in ("min_value", "max_value")
    )
    if low > high:
        got = f"but got {numbers['min_value']:g} and {numbers['max_value']:g}"
        raise refuse("bounds", place, f"must have min_value at or below max_value, {got}")
    if "q" not in numbers and low == high:
        return Choice(values=(low,))
    bounds = {"low": low, "high": high}
    if "q" not in numbers:
        return _made(kind, bounds, place)
    quantum = Fraction(repr(numbers["q"]))
    least, most = (
        math.ceil(Fraction(repr(low)) / quantum),
        math.floor(Fraction(repr(high)) / quantum),
    )
    if least > most:
        got = f"but got {numbers['q']:g} between {low:g} and {high:g}"
        raise refuse("no_multiple", place, f"must have a multiple of q within its bounds, {got}")
    if low == high:
        value = least * quantum
        only = int(value) if quantum.denominator == 1 else float(value)
        return Choice(values=(_storable(only, place),))
    return _made(kind, bounds | {"q": numbers["q"]}, place)


def _doubts(low: float, high: float, place: Place) -> list[str]:
    """A word on bounds that look as if values were meant, and not exponents of e."""
    if not 0 < low < high <= 1:
        return []
    return [
        place.notice(
            f"bounds are exponents of e, so values run from {math.exp(low):.4g} to"
            f" {math.exp(high):.4g}; for {low:g} to {high:g} write {math.log(low):.4g} and"
            f" {math.log(high):.4g}"
        )
    ]


def _natural(kind: str, bound: float, place: Place) -> float:
    """A bound as the value that it stands for."""
    if "log" not in kind:
        return bound
    if not _LEAST_EXPONENT <= bound <= _MOST_EXPONENT:
        raise refuse("exponent", place, f"must be from -744 to 709, but got {bound:g}")
    value = math.exp(bound)
    rounded = float(f"{value:.12g}")
    near = kind == "qloguniform" and math.isclose(value, rounded, rel_tol=_NEAR)
    return rounded if near else value


def _made(kind: str, numbers: dict[str, float], place: Place) -> Expression:
    """The expression of these numbers; what core has against them is a matter of their sizes."""
    try:
        made: Expression = EXPRESSIONS[kind](**numbers)
    except SpecError as error:
        row = "steps" if "q" in numbers else "size"
        raise refuse(row, place, str(error).partition(";")[0]) from error
    return made
