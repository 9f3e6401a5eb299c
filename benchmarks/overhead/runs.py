"""One run: what is done on one side, and what it is done with.

One rule: a run is plain data that goes to another process as JSON and comes back the same; two runs that
are equal are one, and are made once a round.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Answer = dict[str, float]  # what was measured in a run, by name


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run in a fresh process, with a Ray of its own unless it needs none."""

    side: str  # "raysweep", "tune", or "alone" for what needs no Ray
    work: str  # what is done; `one.WORKS` knows each
    expect: float  # seconds that it is thought to take, the start of Ray included
    slots: int = 16  # CPUs that its Ray has, by name; so many trials run at once
    trials: int = 1
    reports: int = 1  # of a trial
    every: float = 0.0  # seconds that a trial sleeps after each report
    metrics: int = 1  # of a report
    checkpoint_each: int = 0  # every so many reports of a trial have a checkpoint; 0: none has
    checkpoint_bytes: int = 0
    epochs: int = 0  # of a trial that trains
    isolation: str = "process"  # raysweep's
    reuse: bool = True  # Tune's reuse_actors
    keep: int = 0  # checkpoints that Tune keeps; 0: all, as raysweep does
    settings: tuple[tuple[str, str], ...] = ()  # environment variables of Tune's
    warm: bool = False  # whether a sweep of two trials goes before, for what is imported late
    place: str = ""  # name of the folder that a later run takes up; "": one of its own
    once: bool = False  # whether it is made in the first round only: it takes long, and is far off
    broken: bool = False  # whether the last trial raises at its first try: something to take up

    def __str__(self) -> str:
        """What the progress line says."""
        if self.side == "alone":
            return self.work
        kind = self.isolation if self.side == "raysweep" else "reuse" if self.reuse else "default"
        size = f"{self.trials:,} trials x {self.epochs or self.reports:,} over {self.slots} slots"
        return f"{self.work}: {self.side} ({kind}), {size}"


def to_json(runs: Sequence[Run]) -> str:
    """Runs for another process."""
    return json.dumps([asdict(run) for run in runs])


def from_json(text: str) -> list[Run]:
    """The runs that `to_json` was given."""
    return [_run(fields) for fields in json.loads(text)]


def _run(fields: dict[str, Any]) -> Run:
    settings = tuple((name, value) for name, value in fields.pop("settings"))
    return Run(settings=settings, **fields)
