"""Checks: what passes is handed back, what does not is named, with its value and a remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from raysweep.core import checks
from raysweep.errors import SpecError

HUGE = 10**400  # beyond every float
ENDLESS = 10**5000  # beyond what Python writes in decimals


@pytest.mark.parametrize("value", [0, 0.0, 1.5, -3, 10**300])
def test_a_number_passes_as_it_is(value: float) -> None:
    """Whole or not, it is handed back."""
    assert value is checks.number("x", value)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.number("x", "1"), "x must be a number, but got '1' (str)"),
        (lambda: checks.number("x", True), "x must be a number, but got True (bool)"),
        (lambda: checks.number("x", None), "x must be a number, but got nothing (None)"),
        (lambda: checks.number("x", math.nan), "x must be finite, but got nan"),
        (lambda: checks.number("x", -math.inf), "x must be finite, but got -inf"),
        (lambda: checks.number("x", HUGE), "x must be finite, but got a whole number of 1329 bits"),
        (lambda: checks.number("x", -ENDLESS), "x must be finite, but got a whole number of 16610"),
        (lambda: checks.number("x", -0.1, at_least=0), "x must be at least 0, but got -0.1"),
        (lambda: checks.number("x", 0, above=0), "x must be greater than 0, but got 0"),
        (lambda: checks.number("x", 0.99999999, at_least=1), "at least 1, but got 0.99999999"),
        (lambda: checks.whole("n", 1.0), "n must be a whole number, but got 1.0 (float)"),
        (lambda: checks.whole("n", False), "n must be a whole number, but got False (bool)"),
        (lambda: checks.whole("n", 0, at_least=1), "n must be at least 1, but got 0"),
        (lambda: checks.whole("n", 8, at_most=7), "n must be at most 7, but got 8"),
        (lambda: checks.whole("n", ENDLESS, at_most=7), "at most 7, but got a whole number of"),
        (lambda: checks.whole("n", -HUGE, at_least=7), "at least 7, but got a whole number of"),
        (lambda: checks.text("s", 3), "s must be a string, but got 3 (int)"),
        (lambda: checks.text("s", ""), "s must not be empty"),
        (lambda: checks.truth("b", 1), "b must be true or false, but got 1 (int)"),
        (lambda: checks.mapping("m", [1]), "m must be a mapping, but got [1] (list)"),
        (lambda: checks.mapping("m", {1: 2}), "m must have strings for keys, but got 1 (int)"),
        (
            lambda: checks.one_of("goal", "maximise", ["maximize", "minimize"]),
            "minimize, but got 'maximise' (str); did you mean 'maximize'?",
        ),
        (lambda: checks.one_of("goal", None, ["maximize"]), "but got nothing (None)"),
        (lambda: checks.one_of("goal", ["maximize"], ["maximize"]), "but got ['maximize'] (list)"),
        (
            lambda: checks.known_keys("limits", {"timeuot": 1}, ["timeout", "trial_timeout"]),
            "limits has no key 'timeuot'; did you mean 'timeout'? (known: timeout, trial_timeout)",
        ),
        (lambda: checks.known_keys("x", {"zzz": 1}, ["a"]), "x has no key 'zzz' (known: a)"),
        (lambda: checks.storable("x", [1, 2**64]), "x[1] must be at most 18446744073709551615"),
        (lambda: checks.storable("x", {"a": [-(2**63) - 1]}), "x.a[0] must be at least -92233720"),
        (lambda: checks.storable("x", {"a": "\ud800"}), "x.a must be Unicode text, but got '\\ud800'"),
        (lambda: checks.storable("x", {"\udfff": 1}), "x's key must be Unicode text, but got"),
    ],
)  # fmt: skip
def test_a_refusal_names_thing_value_and_remedy(check: Callable[[], object], message: str) -> None:
    """The message as a user reads it."""
    with pytest.raises(SpecError, match=re.escape(message)):
        check()


def test_bounds_are_inclusive_where_they_say_at() -> None:
    """At least and at most take the bound itself."""
    assert (0, 7, 7) == (
        checks.number("x", 0, at_least=0),
        checks.whole("n", 7, at_least=7),
        checks.whole("n", 7, at_most=7),
    )


def test_what_a_journal_holds_passes() -> None:
    """All that JSON has, whole numbers of 64 bits, text of any script."""
    checks.storable("x", {"é": [None, True, 1.5, "日本", 2**64 - 1, -(2**63), {"deep": ()}]})


def test_a_long_value_is_cut() -> None:
    """A line of a terminal is enough."""
    assert "'" + "a" * 76 + "... (str)" == checks.described("a" * 200)


def test_a_number_that_python_does_not_write_is_described() -> None:
    """Rather than to fail while describing it."""
    assert "a whole number of 16610 bits (int)" == checks.described(ENDLESS)


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    """A wild guess would mislead."""
    assert ("", "; did you mean 'lr'?", "; did you mean 'TPESampler'?") == (
        checks.did_you_mean("momentum", ["lr"]),
        checks.did_you_mean("lrr", ["lr"]),
        checks.did_you_mean("tpesampler", ["CmaEsSampler", "TPESampler"]),
    )
