"""The fields of a request, read one by one: each is of its type, or the request is refused.

One rule: whatever a client sends, what comes out is a value that the rest may rely on, or a
`RefusedError` that names the field, what was found and what was meant.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from raysweep.core import checks
from raysweep.runtime.tracking.runs import Metric, RefusedError
from raysweep.runtime.tracking.server import Request

BEYOND = 2**63  # every whole number of the protocol is below


@dataclass(frozen=True)
class Fields:
    """A request's fields, whether they came as JSON or in a query."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, request: Request) -> Fields:
        """All that a request says: its query, and its body over it."""
        query = request.target.partition("?")[2]
        return cls(dict(parse_qsl(query, keep_blank_values=True)) | json_object(request.body))

    def text(self, *names: str, default: str | None = None) -> str:
        """A text, under the first of the names that has one."""
        for name in names:
            value = self.values.get(name)
            if value is not None:
                return _text(name, value)
        if default is None:
            raise _invalid(f"{names[0]} is missing")
        return default

    def whole(self, name: str, default: int) -> int:
        """A whole number of 64 bits; protobuf's JSON may write it as text."""
        value = self.values.get(name)
        if value is None:
            return default
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = BEYOND
        if isinstance(value, bool) or not -BEYOND <= number < BEYOND:
            raise _invalid(f"{name} must be a whole number, but got {checks.described(value)}")
        return number

    def number(self, name: str) -> float:
        """A number; protobuf's JSON writes NaN and the infinities as text."""
        value = self.values.get(name)
        try:
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise _invalid(f"{name} must be a number, but got {checks.described(value)}")

    def within(self, name: str) -> Fields:
        """The fields of an object."""
        value = self.values.get(name) or {}
        if not isinstance(value, dict):
            raise _invalid(f"{name} must be an object, but got {checks.described(value)}")
        return Fields(value)

    def each(self, name: str) -> list[Fields]:
        """The fields of every object in a list."""
        value = self.values.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise _invalid(f"{name} must be a list of objects, but got {checks.described(value)}")
        return [Fields(item) for item in value]

    def texts(self, name: str) -> list[str]:
        """A list of texts; one alone in a query."""
        value = self.values.get(name) or []
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list):
            raise _invalid(f"{name} must be a list of strings, but got {checks.described(value)}")
        return [_text(name, item) for item in listed]

    def mapping(self, name: str) -> dict[str, str]:
        """What MLflow writes as a list of keys and values."""
        items = self.each(name)
        return {item.text("key"): item.text("value", default="") for item in items}

    def metric(self) -> Metric:
        """One value of one metric."""
        return Metric(
            key=self.text("key"),
            value=self.number("value"),
            timestamp=self.whole("timestamp", now()),
            step=self.whole("step", 0),
            model_id=self.text("model_id", default=""),
        )

    def metrics(self) -> Iterator[Metric]:
        """Every value in a batch, in order."""
        return (item.metric() for item in self.each("metrics"))


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds; an empty body is an empty one."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError("MALFORMED_REQUEST", f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        found = checks.described(value)
        raise RefusedError("MALFORMED_REQUEST", f"the body must be a JSON object, but got {found}")
    return value


def now() -> int:
    """The time, as MLflow writes it: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _text(name: str, value: object) -> str:
    """A text that can be written down again; halves of characters cannot."""
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError:
        pass
    raise _invalid(f"{name} must be a string, but got {checks.described(value)}")


def _invalid(message: str) -> RefusedError:
    return RefusedError("INVALID_PARAMETER_VALUE", message)
