"""Whether a sweep can go on: one that is over only under limits that leave it something to do.

One rule: asked before anything starts, and without a cluster.
"""

from __future__ import annotations

import dataclasses
import shlex

from raysweep.core.spec import Limits
from raysweep.errors import SpecError
from raysweep.result import Result


def refuse_over(result: Result, limits: Limits | None) -> None:
    """Refuse to take up a sweep that would be over at once.

    Args:
        result: the sweep as it stands.
        limits: that hold from now on; None: those that held before.

    Raises:
        SpecError: with what would be enough.
    """
    state, name = result.state, result.name
    limits = limits or state.limits
    here = f"{name} --storage {shlex.quote(result.folder.storage)}"
    spec = dataclasses.replace(state.spec, limits=limits)  # one that nothing ends is refused here
    there, most = len(state.trials), spec.total_trials
    if limits == state.limits and state.over:
        raise SpecError(
            f"sweep {name!r} is over ({result.phase}): see `raysweep show {here}`; for more trials,"
            f" `raysweep resume {here} --set limits.max_total_trials={there + max(there, 1)}`"
        )
    if limits.max_total_trials is not None and limits.max_total_trials < there:
        raise SpecError(
            f"limits.max_total_trials must be at least {there}, the trials that {name!r} has, but got"
            f" {limits.max_total_trials}"
        )
    if not state.over:
        return
    if state.exhausted or most == there:
        why = "its sampler has no more" if limits.max_total_trials != there else "it has as many"
        raise SpecError(
            f"limits.max_total_trials={limits.max_total_trials} gives sweep {name!r} no further trial:"
            f" all of its {there} have ended, and {why}"
        )
    if limits.timeout is not None and limits.timeout <= state.time:
        raise SpecError(
            f"limits.timeout of {limits.timeout:g} s is used up: sweep {name!r} has run for"
            f" {state.time:.0f} s; set it higher as well"
        )
