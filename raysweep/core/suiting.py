"""The sampler that a sweep runs with, in place of the one that was asked for.

One rule: it is chosen for what is asked for in the end: the last limits, and results to begin with.
"""

from __future__ import annotations

import dataclasses

from raysweep.core.samplers import Sampler, settled
from raysweep.core.space import Space
from raysweep.core.spec import SweepSpec


def suited(spec: SweepSpec) -> tuple[SweepSpec, tuple[str, ...]]:
    """The spec with what its `Auto` chooses, any other as it is; and what to say of it to people."""
    most, learning = spec.limits.max_total_trials, bool(spec.earlier)
    sampler, why = suiting(spec.sampler, spec.space, most, learning=learning)
    if sampler is not spec.sampler:
        spec = dataclasses.replace(spec, sampler=sampler)
    return spec, (*why, *_untried(spec))


def _untried(spec: SweepSpec) -> tuple[str, ...]:
    """A line where there are more points to try first than there will be trials."""
    given, most = len(spec.try_first), spec.total_trials
    if most is None or given <= most:
        return ()
    return (
        f"try_first has {given} points for {most} trials: the last {given - most} are not tried",
    )


def suiting(
    sampler: Sampler, space: Space, trials: int | None, *, learning: bool
) -> tuple[Sampler, tuple[str, ...]]:
    """The sampler itself, or what an `Auto` chooses; with why, for people.

    Args:
        sampler: that was asked for.
        space: what is searched.
        trials: how many there will be; None if nobody knows.
        learning: whether there are results to begin with, for which a grid has no use.

    >>> from raysweep.core.samplers import Auto
    >>> from raysweep.core.space import randint
    >>> few = Space({"n": randint(6)})
    >>> suiting(Auto(), few, 8, learning=False)
    (Grid(), ('sampler auto is grid: all 6 combinations fit in 8 trials',))
    >>> suiting(Auto(), few, 8, learning=True)[0]
    Bayesian(seed=None)
    """
    found, why = settled(sampler, space, trials)
    return (found, why) if found.learns or not learning else settled(sampler, space, None)
