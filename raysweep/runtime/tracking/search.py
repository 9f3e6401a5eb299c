"""MLflow's small language of searching: `metrics.loss < 0.5 and tags.kind = 'big'`, and its order.

One rule: a subject is a function from a kind and a key to a text, a number or nothing; nothing in
here knows what a run or a model is. What has no such value is not found, whatever it is compared to.

>>> def subject(kind: str, key: str) -> str | float | None:
...     return {("metrics", "loss"): 0.25, ("tags", "a b"): "Big"}.get((kind, key))
>>> where("metrics.loss < 0.5 and tags.`a b` ILIKE 'b%'")(subject)
True
>>> where("metrics.accuracy != 0.5")(subject)
False
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from raysweep.runtime.tracking.runs import RefusedError

Value = str | float | None
Subject = Callable[[str, str], Value]
Condition = Callable[[Subject], bool]
Found = TypeVar("Found")

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"[^"]*")
    | (?P<compare><=|>=|!=|=|<|>)
    | (?P<mark>[(),])
    | (?P<word>[\w.+\-/:]+(?:`[^`]*`|"[^"]*")?|`[^`]*`)
    )\s*""",
    re.VERBOSE,
)
KINDS = {
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "params"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attr", "attribute", "attributes", "run"), "attributes"),
}
COMPARISONS: dict[str, Callable[[str | float, str | float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "LIKE": lambda value, pattern: bool(_pattern(pattern, 0).fullmatch(str(value))),
    "ILIKE": lambda value, pattern: bool(_pattern(pattern, re.IGNORECASE).fullmatch(str(value))),
}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind in ("word", "compare", "mark") else ""


def where(text: str) -> Condition:
    """The condition that a filter states; an empty one is always true.

    Raises:
        RefusedError: it is not of the language.
    """
    reader = _Reader(text)
    conditions = [] if reader.done else [reader.comparison()]
    while not reader.done:
        reader.expect("AND")
        conditions.append(reader.comparison())
    return lambda subject: all(condition(subject) for condition in conditions)


def ordered(
    found: Sequence[Found], by: Sequence[str], subject: Callable[[Found], Subject]
) -> list[Found]:
    """What was found, in the order that is asked for: `metrics.loss DESC`, the first key first.

    What has no value for a key comes last, either way.
    """
    found = list(found)
    for clause in reversed(by):
        reader = _Reader(clause)
        kind, key = reader.name()
        falling = not reader.done and reader.next().upper == "DESC"
        valued = [(subject(each)(kind, key), each) for each in found]
        known = [pair for pair in valued if pair[0] is not None]
        known.sort(key=_rank, reverse=falling)
        found = [each for _, each in known] + [each for value, each in valued if value is None]
    return found


def _rank(pair: tuple[Value, object]) -> tuple[bool, float, str]:
    """A place for numbers, NaN after all others, and for texts after numbers."""
    value = pair[0]
    if isinstance(value, str):
        return True, 0.0, value
    number = float("inf") if value is None or value != value else value  # noqa: PLR0124  (NaN)
    return False, number, ""


class _Reader:
    """Reads a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split(text))
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._tokens)

    def comparison(self) -> Condition:
        """One comparison: a name, how it is compared, and with what."""
        kind, key = self.name()
        how = self.next().upper
        if how == "NOT":
            how = f"NOT {self.next().upper}"
        if how == "IS":
            return self._is_null(kind, key)
        if how in ("IN", "NOT IN"):
            listed, wanted = self._listed(), how == "IN"
            return lambda subject: _is_in(subject(kind, key), listed, wanted=wanted)
        if how not in COMPARISONS:
            raise self._refused()
        compare, other = COMPARISONS[how], self._value()
        return lambda subject: _compared(compare, subject(kind, key), other)

    def name(self) -> tuple[str, str]:
        """The kind and the key of what is compared; a name alone is an attribute."""
        word = self.next()
        if word.kind != "word":
            raise self._refused()
        kind, dot, key = word.text.partition(".")
        if dot and kind.lower() in KINDS:
            return KINDS[kind.lower()], key.strip('`"')
        return "attributes", word.text.strip('`"')

    def expect(self, word: str) -> None:
        if self.next().upper != word:
            raise self._refused()

    def next(self) -> _Token:
        if self.done:
            raise self._refused()
        self._at += 1
        return self._tokens[self._at - 1]

    def _is_null(self, kind: str, key: str) -> Condition:
        token = self.next()
        wanted = token.upper != "NOT"
        if not wanted:
            token = self.next()
        if token.upper != "NULL":
            raise self._refused()
        return lambda subject: (subject(kind, key) is None) == wanted

    def _listed(self) -> set[str]:
        self.expect("(")
        listed, comma = {str(self._value())}, self.next().upper
        while comma == ",":
            listed.add(str(self._value()))
            comma = self.next().upper
        if comma != ")":
            raise self._refused()
        return listed

    def _value(self) -> str | float:
        token = self.next()
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        try:
            return float(token.text)
        except ValueError:
            raise self._refused() from None

    def _split(self, text: str) -> list[_Token]:
        tokens, at = [], len(text) - len(text.lstrip())
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise self._refused()
            tokens.append(_Token(str(found.lastgroup), str(found[str(found.lastgroup)])))
            at = found.end()
        return tokens

    def _refused(self) -> RefusedError:
        return RefusedError(
            "INVALID_PARAMETER_VALUE",
            f"raysweep cannot read {self._text!r}; what it reads is of the form"
            f" metrics.loss < 0.5 AND params.kind = 'big' AND tags.`a b` LIKE 'x%'",
        )


def _compared(
    compare: Callable[[str | float, str | float], bool], value: Value, other: str | float
) -> bool:
    if value is None:
        return False
    if isinstance(value, str) != isinstance(other, str):
        value, other = str(value), str(other)
    return compare(value, other)


def _is_in(value: Value, listed: set[str], *, wanted: bool) -> bool:
    return value is not None and (str(value) in listed) == wanted


def _pattern(like: str | float, flags: int) -> re.Pattern[str]:
    """SQL's pattern: % for any text, _ for one character."""
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in str(like)), flags | re.DOTALL)
