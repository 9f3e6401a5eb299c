"""Checks of what a user wrote: each returns the value it was given or raises a `SpecError`.

One rule: a message names the thing, the value that was found, and what to do about it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from raysweep.errors import SpecError


def number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
) -> float:
    """A finite int or float (no bool), within the given bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{name} must be a number, but got {described(value)}")
    if not math.isfinite(value):
        raise SpecError(f"{name} must be finite, but got {value}")
    if at_least is not None and value < at_least:
        raise SpecError(f"{name} must be at least {at_least:g}, but got {value:g}")
    if above is not None and value <= above:
        raise SpecError(f"{name} must be greater than {above:g}, but got {value:g}")
    return value


def whole(
    name: str, value: object, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """A whole number (no bool, no float), within the given bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{name} must be a whole number, but got {described(value)}")
    if at_least is not None and value < at_least:
        raise SpecError(f"{name} must be at least {at_least}, but got {value}")
    if at_most is not None and value > at_most:
        raise SpecError(f"{name} must be at most {at_most}, but got {value}")
    return value


def text(name: str, value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise SpecError(f"{name} must be a string, but got {described(value)}")
    if not value:
        raise SpecError(f"{name} must not be empty")
    return value


def truth(name: str, value: object) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise SpecError(f"{name} must be true or false, but got {described(value)}")
    return value


def mapping(name: str, value: object) -> Mapping[str, Any]:
    """A mapping whose keys are strings."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{name} must be a mapping, but got {described(value)}")
    for key in value:
        if not isinstance(key, str):
            raise SpecError(f"{name} must have strings for keys, but got {described(key)}")
    return value


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """One of the known words; otherwise the error suggests the nearest."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return value
    raise SpecError(f"{name} must be one of {', '.join(known)}, but got {described(value)}"
                    f"{did_you_mean(value, known)}")  # fmt: skip


def known_keys(name: str, value: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse the first key that is not among the known ones."""
    known = list(known)
    for key in value:
        if key not in known:
            raise SpecError(f"{name} has no key {key!r}{did_you_mean(key, known)}"
                            f" (known: {', '.join(known)})")  # fmt: skip


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """The tail of a message: `; did you mean 'lr'?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(str(value), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def described(value: object) -> str:
    """A value as a message shows it: what it is and its type, cut to a readable length."""
    if value is None:
        return "nothing (None)"
    shown = repr(value)
    if len(shown) > 80:  # noqa: PLR2004  (a line of a terminal)
        shown = shown[:77] + "..."
    return f"{shown} ({type(value).__name__})"
