"""What the trials themselves have written down, read back.

One rule: nothing of it comes from the sweep's storage; it is what was seen from the other side.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple


class Began(NamedTuple):
    """An attempt's first line."""

    trial: int
    attempt: int
    pid: int
    start: int  # the interval that it continued from
    time: float


class Heard(NamedTuple):
    """A report that `trial.report()` has returned from."""

    trial: int
    attempt: int
    report: int
    value: float
    made: float
    heard: float

    @property
    def number(self) -> tuple[int, int, int]:
        """What tells it from every other report."""
        return self.trial, self.attempt, self.report


@dataclass(frozen=True, kw_only=True)
class Witness:
    """All that a round's trials have written down."""

    began: Sequence[Began]
    heard: Sequence[Heard]

    @classmethod
    def read(cls, path: Path) -> Witness:
        """The lines so far."""
        text = path.read_text() if path.exists() else ""
        return cls.of(json.loads(line) for line in text.splitlines())

    @classmethod
    def of(cls, lines: Iterable[list[object]]) -> Witness:
        """The lines, told apart."""
        began: list[Began] = []
        heard: list[Heard] = []
        for kind, *fields in lines:
            if kind == "began":
                began.append(Began(*fields))  # type: ignore[arg-type]  # objective.py says what they are
            else:
                heard.append(Heard(*fields))  # type: ignore[arg-type]  # the same
        return cls(began=began, heard=heard)


def until_next_report(witness: Witness, moment: float) -> float | None:
    """Seconds until a report that was made after this moment was heard of."""
    times = [line.heard for line in witness.heard if line.made >= moment]
    return min(times) - moment if times else None


def until_next_attempts(
    witness: Witness, moments: Sequence[float], lingers: float
) -> dict[int, list[float]]:
    """Of each attempt that a fault ended: seconds from that fault until a later attempt was heard of.

    Every attempt that another followed was ended by a fault: by the first that came after its last
    line, or so soon before it that the attempt could still speak.

    Args:
        witness: of the round.
        moments: when each fault was injected, in order.
        lingers: seconds that an attempt may still speak after the fault that ends it.

    Returns:
        By the fault's place among the moments.
    """
    first: dict[tuple[int, int], float] = {}
    last = {one[:2]: one.time for one in witness.began}
    for line in witness.heard:
        first.setdefault(line[:2], line.heard)
        last[line[:2]] = max(line.heard, last.get(line[:2], 0.0))
    found: dict[int, list[float]] = defaultdict(list)
    for before, after in pairwise(sorted(last)):
        fault = bisect_left(moments, last[before] - lingers)
        if before[0] == after[0] and after in first and fault < len(moments):
            found[fault].append(first[after] - moments[fault])
    return found
