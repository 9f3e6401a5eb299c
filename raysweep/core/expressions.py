"""What a parameter expression is: a map from the open unit interval to values, and back.

One rule: where values can be counted, `to_unit` answers the centre of a value's cell, so that
`from_unit(to_unit(value)) == value`. Random points, Sobol points and models therefore serve
every expression alike.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

from raysweep.errors import SpecError

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

# The ends of the open unit interval, as floats of full precision.
_LEAST_UNIT = sys.float_info.min
_MOST_UNIT = math.nextafter(1.0, 0.0)


def unit(u: float) -> float:
    """The coordinate as a float; a `SpecError` unless it lies strictly between 0 and 1."""
    if not 0 < u < 1:
        raise SpecError(f"a unit coordinate must lie strictly between 0 and 1, but got {u}")
    return opened(float(u))


def opened(u: float) -> float:
    """A coordinate of the closed unit interval, its ends moved just inside."""
    return min(max(u, _LEAST_UNIT), _MOST_UNIT)


@dataclass(frozen=True, kw_only=True)
class Expression(ABC):
    """What a parameter may be; compares and hashes by value."""

    kind: ClassVar[str]  # the design's name: "choice", "randint", ...
    has_tails: ClassVar[bool] = False  # whether its values have no bounds, and grow ever rarer

    @abstractmethod
    def from_unit(self, u: float) -> Value:
        """The value at u of the open unit interval; a `SpecError` outside of it."""

    @abstractmethod
    def to_unit(self, value: object) -> float:
        """A coordinate of the open unit interval at which `value` is drawn.

        Raises:
            SpecError: The expression never draws this value.
        """

    @property
    @abstractmethod
    def size(self) -> int | None:
        """How many values there are; None if they have no end or no gaps."""

    def at(self, index: int) -> Value:
        """The value of this number, 0 to `size` - 1; a `SpecError` if `size` is None."""
        raise SpecError(f"{self.kind} has no values that could be numbered, but got index {index}")

    @property
    def width(self) -> int:
        """How many columns the expression takes when it is encoded for a model."""
        return 1

    def holds(self, value: object) -> bool:
        """Whether the expression can draw this value."""
        try:
            self.to_unit(value)
        except SpecError:
            return False
        return True

    def to_dict(self) -> dict[str, Value]:
        """Plain data: the kind under `type`, and the fields."""
        return {
            "type": self.kind,
            **{field.name: getattr(self, field.name) for field in fields(self)},
        }
