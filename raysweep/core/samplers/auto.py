"""The sampler that suits a space and a budget, and why.

One rule: the choice follows from the space and the number of trials alone, so that a sweep keeps
the sampler that was chosen when it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from raysweep.core.samplers.bayesian import Bayesian
from raysweep.core.samplers.grid import Grid
from raysweep.core.samplers.sampler import Observation, Sampler, check_seed
from raysweep.core.samplers.tpe import Tpe
from raysweep.core.space import Choice, Space, Value

MOST_BAYESIAN = 2_000  # trials that a Gaussian process is asked for
MANY_OPTIONS = 50  # of all choices together, from where on a process has too many columns
MANY_DIMENSIONS = 50


def chosen(space: Space, trials: int | None, seed: int | None = None) -> tuple[Sampler, str]:
    """The sampler that suits, and why, as a sentence for people.

    Args:
        space: what is searched.
        trials: how many there will be; None if nobody knows.
        seed: for the sampler, if it takes one.

    >>> from raysweep.core.space import uniform
    >>> chosen(Space({"lr": uniform(0, 1)}), 100)
    (Bayesian(seed=None), 'sampler auto is bayesian: it needs the fewest trials for numbers and a few options')
    """
    sampler, why = _choice(space, trials, seed)
    return sampler, f"sampler auto is {sampler.kind}: {why}"


def settled(sampler: Sampler, space: Space, trials: int | None) -> tuple[Sampler, tuple[str, ...]]:
    """The sampler that a sweep runs with, and what a person should know about it.

    That is what an `Auto` chooses; every other sampler is itself.
    """
    if not isinstance(sampler, Auto):
        return sampler, ()
    found, reason = chosen(space, trials, sampler.seed)
    return found, (reason,)


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Whatever suits: `rs.Sweep` and the YAML loader put the chosen sampler in its place and say why.

    Asked for proposals itself, it does not know the number of trials, and chooses by the space.
    """

    kind: ClassVar[str] = "auto"
    learns: ClassVar[bool] = True

    seed: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def check(self, space: Space) -> None:
        """Refuse what the chosen sampler refuses."""
        self._chosen(space).check(space)

    def size(self, space: Space) -> int | None:
        """As many as the chosen sampler proposes."""
        return self._chosen(space).size(space)

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value] | None:
        """What the chosen sampler proposes."""
        return self._chosen(space).propose(space, known, trial, seed)

    def _chosen(self, space: Space) -> Sampler:
        return chosen(space, None, self.seed)[0]


def _choice(space: Space, trials: int | None, seed: int | None) -> tuple[Sampler, str]:
    if trials is not None and space.size is not None and space.size <= trials:
        return Grid(), f"all {space.size:,} combinations fit in {trials:,} trials"
    if trials is not None and trials > MOST_BAYESIAN:
        return Tpe(seed=seed), f"it stays fast over {trials:,} trials"
    if any(dimension.parent is not None for dimension in space.dimensions):
        return Tpe(seed=seed), "it compares conditional parameters only where they are there"
    if (options := _options(space)) > MANY_OPTIONS:
        return Tpe(seed=seed), f"the choices have {options} options together"
    if (dimensions := len(space.dimensions)) > MANY_DIMENSIONS:
        return Tpe(seed=seed), f"it stays fast over {dimensions} parameters"
    return Bayesian(seed=seed), "it needs the fewest trials for numbers and a few options"


def _options(space: Space) -> int:
    expressions = [dimension.expression for dimension in space.dimensions]
    return sum(len(each.values) for each in expressions if isinstance(each, Choice))
