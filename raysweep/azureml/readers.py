"""Readers: each takes a value and its place and returns what Azure ML makes of it, or refuses it.

One rule: a reader coerces as the marshmallow field does that Azure ML declares for the same key
(`"5"` and 4.7 are whole numbers, `true` is none), and tells everything that is wrong at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raysweep.azureml.documents import Place
from raysweep.core import checks
from raysweep.errors import JobFileError, Problem

Reader: TypeAlias = Callable[[Any, Place], Any]
Fields: TypeAlias = Mapping[str, Reader]

# What marshmallow takes for a boolean, besides what equals 1 or 0.
_TRUE = {"t", "T", "true", "True", "TRUE", "on", "On", "ON", "y", "Y", "yes", "Yes", "YES", "1"}
_FALSE = {"f", "F", "false", "False", "FALSE", "off", "Off", "OFF", "n", "N", "no", "No", "NO", "0"}


def refused(place: Place, message: str, *, key: bool = False) -> JobFileError:
    """The error of one problem at a place."""
    return JobFileError([place.problem(message, key=key)])


def text(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    """A string."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise refused(place, "must be text, but got bytes that are not UTF-8") from None
    if isinstance(value, str):
        return str.__str__(value)
    quote = "; quote it" if value is not None and not isinstance(value, dict | list) else ""
    raise refused(place, f"must be a string, but got {checks.described(value)}{quote}")


def whole(value: Any, place: Place) -> int:  # noqa: ANN401  (a reader)
    """A whole number, cut from a fraction, or in digits as a string."""
    try:
        if not isinstance(value, bool):
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(place, f"must be a whole number, but got {checks.described(value)}")


def strictly_whole(value: Any, place: Place) -> int:  # noqa: ANN401  (a reader)
    """A whole number that is written as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise refused(place, f"must be a whole number, but got {checks.described(value)}")


def real(value: Any, place: Place) -> float:  # noqa: ANN401  (a reader)
    """A finite float, or one written as a string: in YAML 1.1, `1e-4` is a string."""
    try:
        if not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(place, f"must be a finite number, but got {checks.described(value)}")


def strictly_real(value: Any, place: Place) -> float:  # noqa: ANN401  (a reader)
    """A finite float that is written as one."""
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise refused(place, f"must be a finite number, but got {checks.described(value)}")


def number(value: Any, place: Place) -> int | float:  # noqa: ANN401  (a reader)
    """A whole number if it is written as one, else a finite float."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return real(value, place)


def truth(value: Any, place: Place) -> bool:  # noqa: ANN401  (a reader)
    """A boolean, or a word or a digit for one."""
    if isinstance(value, str | int | float):
        if value in (1, 0):
            return value == 1
        if value in _TRUE | _FALSE:
            return value in _TRUE
    raise refused(place, f"must be true or false, but got {checks.described(value)}")


def anything(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
    """Any value but null."""
    if value is None:
        raise refused(place, "must not be null; leave the key out")
    return value


def at_all(value: Any, place: Place) -> Any:  # noqa: ANN401, ARG001  (a reader)
    """Any value."""
    return value


def nullable(reader: Reader) -> Reader:
    """Null, or what the reader takes."""
    return lambda value, place: None if value is None else reader(value, place)


def snake(word: str) -> str:
    """How Azure ML folds the case of most words: `MedianStopping` is `median_stopping`.

    >>> [snake(word) for word in ("MedianStopping", "BANDIT", "AMLToken", "Median_Stopping")]
    ['median_stopping', 'bandit', 'aml_token', 'median__stopping']
    """
    word = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", word)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", word).lower()


def word(*known: str, casing: Callable[[str], str] = str.lower, remedy: str = "") -> Reader:
    """One of the known words, its case folded.

    Args:
        known: the words.
        casing: folds a word's case.
        remedy: the end of the message about another word.
    """

    def read(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
        if isinstance(value, str) and casing(value) in known:
            return casing(value)
        near = checks.did_you_mean(value, known)
        raise refused(
            place,
            f"must be one of {', '.join(known)}, but got {checks.described(value)}{near}{remedy}",
        )

    return read


def each(reader: Reader) -> Reader:
    """A mapping of any names, all of whose values the reader takes."""

    def read(value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
        problems: list[Problem] = []
        found = {}
        for key, inner in mapping(value, place).items():
            try:
                name = key.decode() if isinstance(key, bytes) else key
                if not isinstance(name, str):
                    raise refused(place.at(str(key)), _no_string(key), key=True)
                found[name] = reader(inner, place.at(name))
            except JobFileError as error:
                problems += error.problems
        if problems:
            raise JobFileError(problems)
        return found

    return read


def listed(reader: Reader) -> Reader:
    """A list, all of whose items the reader takes."""

    def read(value: Any, place: Place) -> list[Any]:  # noqa: ANN401  (a reader)
        if not isinstance(value, list | tuple | set):
            raise refused(place, f"must be a list, but got {checks.described(value)}")
        problems: list[Problem] = []
        found = []
        for index, inner in enumerate(value):
            try:
                found.append(reader(inner, place.at(index)))
            except JobFileError as error:
                problems += error.problems
        if problems:
            raise JobFileError(problems)
        return found

    return read


def first_of(*readers: Reader, what: str = "") -> Reader:
    """What the first reader makes of it that takes it; `what` says in words what would do."""

    def read(value: Any, place: Place) -> Any:  # noqa: ANN401  (a reader)
        for reader in readers:
            try:
                return reader(value, place)
            except JobFileError as error:
                last = error
        if what:
            raise refused(place, f"must be {what}, but got {checks.described(value)}")
        raise last

    return read


def mapping(value: Any, place: Place) -> Mapping[Any, Any]:  # noqa: ANN401  (a reader)
    """A mapping of whatever keys."""
    if not isinstance(value, Mapping):
        raise refused(place, f"must be a mapping, but got {checks.described(value)}")
    return value


@dataclass(frozen=True, kw_only=True)
class Table:
    """A mapping of known keys, each with its reader; what is missing is not in the answer."""

    fields: Mapping[str, Reader]
    needs: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()  # what a service adds to a job when it shows it
    open: bool = False  # whether other keys may stand there, and go
    remedies: Mapping[str, str] = field(default_factory=dict)  # what to do about a key not known

    def __call__(self, value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
        """Read the whole mapping, and tell everything that is wrong with it."""
        found, problems = self.read(value, place)
        if problems:
            raise JobFileError(problems)
        return found

    def read(self, value: Any, place: Place) -> tuple[dict[str, Any], list[Problem]]:  # noqa: ANN401  (a reader)
        """What can be read, and what is wrong with the rest."""
        problems: list[Problem] = []
        found = {}
        given = mapping(value, place)
        for key, inner in given.items():
            try:
                if key in self.ignores:
                    anything(inner, place.at(key))
                elif key in self.fields:
                    found[key] = self.fields[key](inner, place.at(key))
                elif not self.open:
                    raise self._unknown(key, place)
            except JobFileError as error:
                problems += error.problems
        problems += [
            place.problem(f"must have the key {key!r}, but it is missing", key=True)
            for key in self.needs
            if key not in given
        ]
        return found, problems

    def _unknown(self, key: object, place: Place) -> JobFileError:
        if not isinstance(key, str):
            return refused(place.at(str(key)), _no_string(key), key=True)
        near = checks.did_you_mean(key, self.fields)
        known = "" if near or not self.fields else f"; known: {', '.join(sorted(self.fields))}"
        remedy = f"; {self.remedies[key]}" if key in self.remedies else ""
        return refused(place.at(key), f"is not a known key{near}{known}{remedy}", key=True)


@dataclass(frozen=True, kw_only=True)
class ByType:
    """A mapping whose `type` says which table it follows; the answer holds the folded type."""

    tables: Mapping[str, Table]
    casing: Callable[[str], str] = str.lower
    default: Table | None = None  # where there is no type
    remedy: str = ""  # the end of the message about another type
    kinds: Reader = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "kinds", word(*self.tables, casing=self.casing, remedy=self.remedy)
        )

    def __call__(self, value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
        """Read the mapping by the table of its type."""
        given = dict(mapping(value, place))
        if "type" not in given:
            if self.default is not None:
                return self.default(given, place)
            raise refused(place, f"must say its type: one of {', '.join(self.tables)}")
        kind = self.kinds(given.pop("type"), place.at("type"))
        return {"type": kind, **self.tables[kind](given, place)}


def _no_string(key: object) -> str:
    return f"must have a string for a key, but got {checks.described(key)}; quote it"
