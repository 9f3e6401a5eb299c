"""What a metric is: a name that can be written down, and one number.

One rule: it imports nothing heavy. A script that reports has to start fast, and what it reports may
come from any library: whatever holds exactly one number says so by `item()`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from raysweep.core import checks
from raysweep.errors import MetricError


def checked(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as names and floats.

    Raises:
        MetricError: one of them is none.
    """
    return dict(zip(names(metrics), numbers(metrics), strict=True))


def names(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics' names.

    Raises:
        MetricError: one of them is none.
    """
    return tuple(map(_name, metrics))


def numbers(metrics: Mapping[str, Any]) -> list[float]:
    """The metrics' values, in their order.

    Raises:
        MetricError: one of them is no number.
    """
    return [
        value if type(value) is float else _number(name, value)  # most need no more than a look
        for name, value in metrics.items()
    ]


def _name(name: object) -> str:
    """A metric's name: text that can be written down."""
    with contextlib.suppress(UnicodeEncodeError):
        if isinstance(name, str) and name.encode():
            return name
    raise MetricError(f"a metric's name must be a string, but got {checks.described(name)}")


def _number(name: str, value: Any) -> float:  # noqa: ANN401  (whatever the user reports)
    """A metric as a float: a number, or what holds exactly one."""
    try:
        item = value if isinstance(value, int | float) else value.item()
        if isinstance(item, int | float):
            return float(item)
    except (AttributeError, ValueError, RuntimeError, OverflowError):
        pass
    raise MetricError(
        f"metric {name!r} must be a number, but got {checks.described(value)};"
        f" report a float, or leave it out"
    )
