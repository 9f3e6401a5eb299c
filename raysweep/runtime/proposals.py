"""Asking the sampler for trials.

One rule: an answer depends on the spec, what is known and the trials' numbers alone, so it may be
had beside the controller's loop, on any thread and in any process. (A sampler of Optuna's also
remembers what it was asked for before, in the same process.)
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from raysweep.core.events import Params
from raysweep.core.samplers import Grid, Observation, Optuna
from raysweep.core.spec import SweepSpec
from raysweep.core.trials import Trial
from raysweep.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a sampler made of being asked."""

    drawn: tuple[Params, ...] = ()  # fewer than were asked for when the sampler runs out
    error: str = ""  # what it raised, as Python shows it; "" when it did not
    trace: str = ""  # where


def check(spec: SweepSpec) -> None:
    """Refuse, before anything starts, a sampler that this Python cannot be asked through.

    Raises:
        SpecError: Optuna is not installed, has no such sampler or refuses its options or the space.
    """
    if isinstance(spec.sampler, Optuna):
        _optuna_study(spec.sampler).check(spec.sampler, spec.space)


def draw(spec: SweepSpec, known: Sequence[Observation], numbers: range) -> list[Params]:
    """The parameters of the trials of these numbers; fewer when the sampler runs out.

    Args:
        spec: the sweep; the first numbers have its points to try first.
        known: the sweep's trials so far; empty will do for a sampler that does not learn.
        numbers: of the trials that are wanted.
    """
    drawn: list[Params] = []
    known = [*spec.observed_earlier, *known]
    for number in numbers:
        params = _proposed(spec, known, number)
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
    return trial.untouched and trial.number >= len(spec.try_first)


def _proposed(spec: SweepSpec, known: Sequence[Observation], number: int) -> Params | None:
    """The parameters of one trial."""
    if number < len(spec.try_first):
        return copy.deepcopy(spec.try_first[number])
    sampler = spec.sampler
    if isinstance(sampler, Optuna):
        params: Params | None = _optuna_study(sampler).propose(spec, sampler, known, number)
        return params
    if isinstance(sampler, Grid):
        return sampler.beside(spec.space, spec.try_first, number)
    return sampler.propose(spec.space, known, number, spec.seed)


def _optuna_study(sampler: Optuna) -> ModuleType:
    """The room that knows Optuna, which is an extra."""
    try:
        from raysweep.runtime import optuna_study  # noqa: PLC0415  (only who asks for it needs Optuna)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "optuna":
            raise
        raise SpecError(
            f"the sampler optuna:{sampler.sampler} needs Optuna, which is not installed:"
            f" pip install 'raysweep[optuna]'"
        ) from error
    return optuna_study
