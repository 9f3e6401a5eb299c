"""One row of the result: what is compared, by which quantity of which runs, and what must hold.

One rule: a row says beforehand what it must show and whether a short run can show it; the numbers come
later, medians over rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from record import QUICK, spread
from runs import Answer, Run

Answers = Mapping[Run, Sequence[Answer]]  # an answer a round
Reading = tuple[Run, str]  # a run, and the name of what is taken from its answer

TUNE = "Ray Tune"  # with which the names of all rows that are held against it begin


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is compared."""

    what: str
    unit: str
    ours: Reading
    theirs: Reading
    beside: str  # what raysweep is held against
    about: str  # what was done on both sides
    hold: float | None = None
    least: bool = False  # whether more is better, so that the hold is a least and not a most
    judged: Literal["ratio", "raysweep"] = "ratio"  # what the hold is about
    quick: bool = False  # whether a short run can judge it
    target: float | None = None  # what Ray's own release test allows itself

    def measured(self, answers: Answers) -> dict[str, Any]:
        """What is written down."""
        sides = {
            "raysweep": [answer[self.ours[1]] for answer in answers[self.ours[0]]],
            "peer": [answer[self.theirs[1]] for answer in answers[self.theirs[0]]],
        }
        median = {side: statistics.median(values) for side, values in sides.items()}
        ratio = median["raysweep"] / median["peer"] if median["peer"] else math.nan
        return {
            "what": self.what,
            **{side: short(value) for side, value in median.items()},
            "ratio": short(ratio),
            "hold": self.hold,
            "holds": self._holds(ratio if self.judged == "ratio" else median["raysweep"]),
            **{f"{side}_spread": spread(values, 4) for side, values in sides.items()},
            "rounds": len(sides["raysweep"]),
            "peer_rounds": len(sides["peer"]),
            "unit": self.unit,
            "beside": self.beside,
            "hold_is": f"at {'least' if self.least else 'most'}, of {self.judged}",
            "about": self.about,
            "ray_target": self.target,
        }

    def _holds(self, value: float) -> bool | None:
        if self.hold is None or (QUICK and not self.quick):
            return None
        return value >= self.hold if self.least else value <= self.hold


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that share runs, which are made in turns."""

    name: str
    rounds: int
    rows: tuple[Row, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Each run once, raysweep's before its peer's."""
        readings = (reading for row in self.rows for reading in (row.ours, row.theirs))
        return tuple(dict.fromkeys(run for run, _ in readings))


def short(value: float) -> float:
    """Four digits of a number."""
    return float(f"{value:.4g}")
