"""Asking the sampler for trials.

One rule: an answer depends on the spec, what is known and the trials' numbers alone, so it may be
had beside the controller's loop, on any thread and in any process.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from raysweep.core.events import Params
from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.core.trials import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a sampler made of being asked."""

    drawn: tuple[Params, ...] = ()  # fewer than were asked for when the sampler runs out
    error: str = ""  # what it raised, as Python shows it; "" when it did not
    trace: str = ""  # where


def draw(spec: SweepSpec, known: Sequence[Observation], numbers: range) -> list[Params]:
    """The parameters of the trials of these numbers; fewer when the sampler runs out."""
    drawn: list[Params] = []
    known = list(known)
    for number in numbers:
        params = spec.sampler.propose(spec.space, known, number, spec.seed)
        if params is None:
            break
        drawn.append(params)
        known.append(Observation(trial=number, params=params, pending=True))
    return drawn


def answer(spec: SweepSpec, known: Sequence[Observation], numbers: range) -> Answer:
    """The same, with what the sampler raises."""
    try:
        return Answer(drawn=tuple(draw(spec, known, numbers)))
    except Exception as error:  # noqa: BLE001  (the sampler may be anyone's: whatever it raises is told)
        return Answer(error=repr(error), trace=traceback.format_exc())


def may_be_revised(spec: SweepSpec, trial: Trial) -> bool:
    """Whether the sampler may think again of a trial: it waits, no slot knows it, nobody gave it."""
    given = len(getattr(spec, "try_first", ()))  # the first trials, if the user says what to try
    return trial.untouched and trial.number >= given
