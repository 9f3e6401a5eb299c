"""Expressions over numbers: whole, even, logarithmic and normal, continuous and in steps of q.

One rule: a value never falls as its coordinate rises, and lies within the bounds to the last bit.

>>> uniform(10, 20).from_unit(0.25)
12.5
>>> quniform(0, 1, 0.1).from_unit(0.3)
0.3
>>> quniform(0, 1, 0.25).to_unit(0.5)
0.5
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from statistics import NormalDist
from typing import ClassVar

from raysweep.core import checks
from raysweep.core.expressions import Expression, Value, opened, unit
from raysweep.errors import SpecError

# Beyond this many steps a step is narrower than what a float can tell apart after a logarithm.
MOST_STEPS = 2**40

# What exp() may answer: more than nothing, less than infinity.
_LEAST_EXP = math.nextafter(0.0, 1.0)
_MOST_LOG = math.log(sys.float_info.max)

_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class RandInt(Expression):
    """A whole number from 0 to `upper` - 1, each as likely as the other."""

    kind: ClassVar[str] = "randint"
    upper: int

    def __post_init__(self) -> None:
        checks.whole("randint upper", self.upper, at_least=1, at_most=MOST_STEPS)

    def from_unit(self, u: float) -> int:
        """The number whose cell of width 1 / upper holds u."""
        return min(int(unit(u) * self.upper), self.upper - 1)

    def to_unit(self, value: object) -> float:
        """The centre of the number's cell."""
        return (self.at(_whole_value(self.kind, value)) + 0.5) / self.upper

    @property
    def size(self) -> int:
        """As many as `upper` says."""
        return self.upper

    def at(self, index: int) -> int:
        """The number itself."""
        return checks.whole("randint value", index, at_least=0, at_most=self.upper - 1)


def _whole_value(kind: str, value: object) -> int:
    """The value as an int: files and tables often hand a whole number back as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return checks.whole(f"{kind} value", value)


@dataclass(frozen=True, kw_only=True)
class _Numeric(Expression):
    """A distribution over the reals, or over their exponentials where `logarithmic`."""

    logarithmic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = checks.number(f"{self.kind} {field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, float(value))

    @abstractmethod
    def _quantile(self, u: float) -> float:
        """The value below which the share u of all draws lies."""

    @abstractmethod
    def _cumulative(self, x: float) -> float:
        """The share of all draws that lie below x, from 0 to 1."""

    @abstractmethod
    def _multiples(self, q: Fraction) -> tuple[int, int]:
        """The least and the greatest n for which n * q is drawn."""

    def from_unit(self, u: float) -> Value:
        """The quantile at u."""
        return self._quantile(unit(u))

    @property
    def size(self) -> int | None:
        """Between any two values lies another."""
        return None

    def _inner(self, x: float) -> float:
        return math.log(x) if self.logarithmic else x

    def _outer(self, y: float) -> float:
        if self.logarithmic:
            return max(math.exp(min(y, _MOST_LOG)), _LEAST_EXP)
        return min(max(y, -sys.float_info.max), sys.float_info.max)


@dataclass(frozen=True, kw_only=True)
class _Bounded(_Numeric):
    """Evenly spread between two bounds, both of them possible."""

    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.logarithmic and self.low <= 0:
            raise SpecError(
                f"{self.kind} low must be greater than 0, but got {self.low:g}; bounds are"
                " the values themselves, not exponents: loguniform(1e-5, 1e-1)"
            )
        if self.low > self.high:
            raise SpecError(
                f"{self.kind} low must be below high,"
                f" but got low={self.low:g} and high={self.high:g}; swap them"
            )
        width = self._inner(self.high) - self._inner(self.low)
        if width == 0:
            raise SpecError(
                f"{self.kind} low must be below high, but got {self.low!r} for both;"
                f" use choice([{self.low!r}]) for a constant"
            )
        if math.isinf(width):
            raise SpecError(
                f"{self.kind} low and high must be less than {sys.float_info.max:.2g} apart,"
                f" but got low={self.low:g} and high={self.high:g}"
            )

    def to_unit(self, value: object) -> float:
        """Where the value lies between the bounds."""
        x = checks.number(f"{self.kind} value", value)
        if not self.low <= x <= self.high:
            raise SpecError(
                f"{self.kind} value must be from {self.low:g} to {self.high:g}, but got {x:g}"
            )
        return opened(self._cumulative(x))

    def _quantile(self, u: float) -> float:
        low, high = self._inner(self.low), self._inner(self.high)
        return self._clamped(self._outer(low + u * (high - low)))

    def _cumulative(self, x: float) -> float:
        low, high = self._inner(self.low), self._inner(self.high)
        return (self._inner(self._clamped(x)) - low) / (high - low)

    def _multiples(self, q: Fraction) -> tuple[int, int]:
        return math.ceil(Fraction(repr(self.low)) / q), math.floor(Fraction(repr(self.high)) / q)

    def _clamped(self, x: float) -> float:
        return min(max(x, self.low), self.high)


@dataclass(frozen=True, kw_only=True)
class _Gaussian(_Numeric):
    """Normal with this mean and standard deviation; where `logarithmic`, of the logarithm."""

    has_tails: ClassVar[bool] = True
    mu: float
    sigma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number(f"{self.kind} sigma", self.sigma, above=0)
        if self.logarithmic and abs(self.mu) > _MOST_LOG:
            raise SpecError(
                f"{self.kind} mu must be from {-_MOST_LOG:.0f} to {_MOST_LOG:.0f}, but got"
                f" {self.mu:g}; it is the logarithm of the median: use log(m) for a median of m"
            )

    def to_unit(self, value: object) -> float:
        """The share of draws below the value."""
        x = checks.number(f"{self.kind} value", value, above=0 if self.logarithmic else None)
        return opened(self._cumulative(x))

    def _quantile(self, u: float) -> float:
        return self._outer(self.mu + self.sigma * _STANDARD_NORMAL.inv_cdf(u))

    def _cumulative(self, x: float) -> float:
        if self.logarithmic and x <= 0:
            return 0.0
        # The complement keeps its precision where the lower tail is thinner than an epsilon.
        return 0.5 * math.erfc((self.mu - self._inner(x)) / self.sigma / math.sqrt(2))

    def _multiples(self, q: Fraction) -> tuple[int, int]:
        del q  # every multiple lies in the tails
        return (0 if self.logarithmic else -MOST_STEPS), MOST_STEPS


@dataclass(frozen=True, kw_only=True)
class _Quantised(_Numeric):
    """The nearest multiple of q to a continuous draw, among the multiples within the bounds.

    A value is as likely as the draws that round to it: of a `quniform` whose bounds are multiples
    of q, the first and the last are half as likely as the others.
    """

    q: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number(f"{self.kind} q", self.q, above=0)
        lowest, highest = self._steps
        if lowest > highest:
            raise SpecError(
                f"{self.kind} must have a multiple of q within its bounds, but got"
                f" {', '.join(f'{field.name}={getattr(self, field.name):g}' for field in fields(self))};"
                " use a smaller q"
            )
        tails = max(abs(self._quantile(0.001)), abs(self._quantile(0.999)))
        if max(tails / self.q, abs(lowest), abs(highest)) > MOST_STEPS:
            raise SpecError(
                f"{self.kind} q is too small for values of about {tails:g}: they must be at most"
                f" 2**40 times q, but got q={self.q:g};"
                f" use {self.kind.removeprefix('q')} for a continuous parameter"
            )

    def from_unit(self, u: float) -> Value:
        """The multiple of q nearest to the quantile at u."""
        return self._multiple(self._nearest(self._quantile(unit(u))))

    def to_unit(self, value: object) -> float:
        """The centre of the draws that round to the value."""
        x = checks.number(f"{self.kind} value", value)
        step = self._nearest(x)
        if self._multiple(step) != x:
            raise SpecError(
                f"{self.kind} value must be a multiple of {self.q:g} within the bounds,"
                f" but got {x!r}; the nearest is {self._multiple(step)}"
            )
        centre = self._centre(step)
        # In a far tail a cell may be narrower than a float's step: its coordinate is a neighbour.
        near = (centre, opened(math.nextafter(centre, 1.0)), opened(math.nextafter(centre, 0.0)))
        return next((u for u in near if self.from_unit(u) == x), centre)

    @property
    def size(self) -> int | None:
        """How many multiples of q lie within the bounds; None without bounds."""
        lowest, highest = self._steps
        return highest - lowest + 1 if isinstance(self, _Bounded) else None

    def at(self, index: int) -> Value:
        """The index-th multiple within the bounds, in rising order."""
        if self.size is None:
            return super().at(index)
        checks.whole(f"{self.kind} index", index, at_least=0, at_most=self.size - 1)
        return self._multiple(self._steps[0] + index)

    @cached_property
    def _fraction(self) -> Fraction:
        # The q that was written, not the binary fraction next to it: 3 * 0.1 is 0.3.
        return Fraction(repr(self.q))

    @cached_property
    def _steps(self) -> tuple[int, int]:
        return self._multiples(self._fraction)

    def _nearest(self, x: float) -> int:
        lowest, highest = self._steps
        return round(min(max(x / self.q, lowest), highest))

    def _multiple(self, step: int) -> int | float:
        numerator, denominator = self._fraction.as_integer_ratio()
        return step * numerator if denominator == 1 else step * numerator / denominator

    def _centre(self, step: int) -> float:
        lowest, highest = self._steps
        below = 0.0 if step == lowest else self._cumulative((step - 0.5) * self.q)
        above = 1.0 if step == highest else self._cumulative((step + 0.5) * self.q)
        return opened((below + above) / 2)


@dataclass(frozen=True, kw_only=True)
class Uniform(_Bounded):
    """A float between two bounds."""

    kind: ClassVar[str] = "uniform"


@dataclass(frozen=True, kw_only=True)
class LogUniform(_Bounded):
    """A float between two bounds, its logarithm evenly spread; the bounds are natural."""

    kind: ClassVar[str] = "loguniform"
    logarithmic: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class QUniform(_Quantised, _Bounded):
    """A multiple of q between two bounds."""

    kind: ClassVar[str] = "quniform"


@dataclass(frozen=True, kw_only=True)
class QLogUniform(_Quantised, _Bounded):
    """A multiple of q between two natural bounds, rounded from a log-uniform draw."""

    kind: ClassVar[str] = "qloguniform"
    logarithmic: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Normal(_Gaussian):
    """A float, normally distributed."""

    kind: ClassVar[str] = "normal"


@dataclass(frozen=True, kw_only=True)
class LogNormal(_Gaussian):
    """A positive float whose logarithm is normally distributed."""

    kind: ClassVar[str] = "lognormal"
    logarithmic: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class QNormal(_Quantised, _Gaussian):
    """A multiple of q, rounded from a normal draw; at most `MOST_STEPS` steps from 0."""

    kind: ClassVar[str] = "qnormal"


@dataclass(frozen=True, kw_only=True)
class QLogNormal(_Quantised, _Gaussian):
    """A multiple of q, 0 included, rounded from a log-normal draw; at most `MOST_STEPS` steps."""

    kind: ClassVar[str] = "qlognormal"
    logarithmic: ClassVar[bool] = True


def randint(upper: int) -> RandInt:
    """A whole number from 0 to `upper` - 1."""
    return RandInt(upper=upper)


def uniform(low: float, high: float) -> Uniform:
    """A float from `low` to `high`, evenly spread."""
    return Uniform(low=low, high=high)


def loguniform(low: float, high: float) -> LogUniform:
    """A float from `low` to `high`, its logarithm evenly spread: `loguniform(1e-5, 1e-1)`."""
    return LogUniform(low=low, high=high)


def quniform(low: float, high: float, q: float) -> QUniform:
    """A multiple of `q` from `low` to `high`; an int if q is whole."""
    return QUniform(low=low, high=high, q=q)


def qloguniform(low: float, high: float, q: float) -> QLogUniform:
    """A multiple of `q` from `low` to `high`, rounded from a log-uniform draw."""
    return QLogUniform(low=low, high=high, q=q)


def normal(mu: float, sigma: float) -> Normal:
    """A float, normally distributed with mean `mu` and standard deviation `sigma`."""
    return Normal(mu=mu, sigma=sigma)


def lognormal(mu: float, sigma: float) -> LogNormal:
    """The exponential of a `normal(mu, sigma)` draw: `mu` is the logarithm of the median."""
    return LogNormal(mu=mu, sigma=sigma)


def qnormal(mu: float, sigma: float, q: float) -> QNormal:
    """The multiple of `q` nearest to a `normal(mu, sigma)` draw; an int if q is whole."""
    return QNormal(mu=mu, sigma=sigma, q=q)


def qlognormal(mu: float, sigma: float, q: float) -> QLogNormal:
    """The multiple of `q` nearest to a `lognormal(mu, sigma)` draw; 0 is one of them."""
    return QLogNormal(mu=mu, sigma=sigma, q=q)
