"""Checks of what a user wrote: each returns the value it was given or raises a `SpecError`.

One rule: a message names the thing, the value that was found, and what to do about it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from raysweep.errors import SpecError

LEAST, MOST = -(2**63), 2**64 - 1  # whole numbers that a journal can hold


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
    if abs(value) > sys.float_info.max or value != value:  # noqa: PLR0124  (NaN alone is not itself)
        raise SpecError(f"{name} must be finite, but got {_shown(value)}")
    if at_least is not None and value < at_least:
        raise SpecError(f"{name} must be at least {at_least:g}, but got {value}")
    if above is not None and value <= above:
        raise SpecError(f"{name} must be greater than {above:g}, but got {value}")
    return value


def whole(
    name: str, value: object, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """A whole number (no bool, no float), within the given bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{name} must be a whole number, but got {described(value)}")
    if at_least is not None and value < at_least:
        raise SpecError(f"{name} must be at least {at_least}, but got {_shown(value)}")
    if at_most is not None and value > at_most:
        raise SpecError(f"{name} must be at most {at_most}, but got {_shown(value)}")
    return value


def text(name: str, value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise SpecError(f"{name} must be a string, but got {described(value)}")
    if not value:
        raise SpecError(f"{name} must not be empty")
    return value


def storable(name: str, value: object) -> None:
    """Refuse what no journal can hold: whole numbers of more than 64 bits, halves of characters.

    Looks into lists and mappings.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            storable(f"{name}'s key", key)
            storable(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            storable(f"{name}[{index}]", item)
    elif isinstance(value, int) and not isinstance(value, bool):
        whole(name, value, at_least=LEAST, at_most=MOST)
    elif isinstance(value, str) and not is_unicode(value):
        raise SpecError(f"{name} must be Unicode text, but got {described(value)}")


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
            shown = f"known: {', '.join(known)}" if known else "it has none"
            raise SpecError(f"{name} has no key {key!r}{did_you_mean(key, known)} ({shown})")


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """The tail of a message: `; did you mean 'lr'?`, or nothing when no known word is near."""
    import difflib  # noqa: PLC0415  (it takes longer than the rest, and only typos need it)

    by_folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(str(value).casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


def described(value: object) -> str:
    """A value as a message shows it: what it is and its type, cut to a readable length."""
    if value is None:
        return "nothing (None)"
    shown = _shown(value) if isinstance(value, int) else repr(value)
    if len(shown) > 80:  # noqa: PLR2004  (a line of a terminal)
        shown = shown[:77] + "..."
    return f"{shown} ({type(value).__name__})"


def is_unicode(text: str) -> bool:
    """Whether a string is text: no half of a character, as Python makes of a broken file name."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: float) -> str:
    """A number in full, unless nobody would read it (nor Python write it) to its end."""
    if isinstance(value, int) and value.bit_length() > 1024:  # noqa: PLR2004  (beyond every float)
        return f"a whole number of {value.bit_length()} bits"
    return str(value)
