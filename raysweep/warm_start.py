"""Warm start: the results of an earlier sweep, which a sampler that learns begins with.

One rule: what is taken is copied into the new sweep's spec, so that replaying and resuming it never
need the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from raysweep.core import checks
from raysweep.core.samplers import Optuna
from raysweep.core.space import Space
from raysweep.core.spec import Earlier, Objective, SweepSpec
from raysweep.errors import MetricError, SpecError
from raysweep.result import Result
from raysweep.runtime import metrics
from raysweep.storage.folder import find_sweep

Pair: TypeAlias = "tuple[Mapping[str, Any], float]"  # parameters, and the value that they came to
WarmStart: TypeAlias = "str | Result | Sequence[Pair]"


def results_of(
    source: WarmStart, *, space: Space, objective: Objective, storage: str
) -> tuple[tuple[Earlier, ...], str]:
    """The results that a sweep over this space can begin with, and a line that says how many.

    Args:
        source: a sweep's result, or its name in `storage`, or STORAGE/NAME; or pairs of parameters
            and value. Of a sweep, each trial with a finite best counts, whatever became of it.
        space: what lies outside of it is left out.
        objective: must be the earlier sweep's.
        storage: where a name is looked for.

    Raises:
        SweepNotFoundError: there is no sweep of this name.
        SpecError: it has another objective, or no result that lies in the space.
    """
    if isinstance(source, str):
        source = Result(_found(source, storage))
    if isinstance(source, Result):
        _refuse_another(source, objective)
        what = f"sweep {source.name!r}"
        pairs = [(trial.params, trial.best) for trial in source.trials if trial.best is not None]
    else:
        what = "the list given"
        pairs = [pair for pair in _checked(source) if math.isfinite(pair[1])]
    if not pairs:
        raise SpecError(
            f"warm start: {what} has no finite value of {objective.metric!r} to begin with; give"
            " another, or begin without"
        )
    return _fitting(what, pairs, space)


def refuse_gone_through(spec: SweepSpec) -> None:
    """Refuse results after which the sampler has nothing left to propose.

    Raises:
        SpecError: they hold every combination of the space, and the sampler proposes none twice.
    """
    ends = isinstance(spec.sampler, Optuna) and spec.sampler.sampler == "BruteForceSampler"
    size = spec.space.size if ends else spec.sampler.size(spec.space)
    if size is None or spec.try_first:
        return
    if len({spec.space.to_unit(each.params).tobytes() for each in spec.earlier}) >= size:
        raise SpecError(
            f"warm start: all {size:,} combinations of this search space have a result already, and"
            f" the {spec.sampler.kind} sampler tries none twice; widen the space, or begin without"
        )


def _found(name: str, storage: str) -> Any:  # noqa: ANN401  (a sweep's folder)
    """The folder of the sweep that NAME or STORAGE/NAME stands for."""
    place, slash, last = checks.text("warm_start", name).rstrip("/").rpartition("/")
    if not last:
        raise SpecError(f"warm_start must be NAME or STORAGE/NAME, but got {name!r}")
    return find_sweep(place or slash, last) if slash else find_sweep(storage, last)


def _refuse_another(result: Result, objective: Objective) -> None:
    """Refuse values of another metric, or of the other goal: they do not compare."""
    theirs = result.state.spec.objective
    if theirs != objective:
        raise SpecError(
            f"warm start: sweep {result.name!r} was to {theirs.goal} {theirs.metric!r}, and this"
            f" one is to {objective.goal} {objective.metric!r}, so its values do not compare; name"
            " a sweep of the same objective"
        )


def _checked(pairs: object) -> Iterable[Pair]:
    """Pairs of parameters and a number."""
    if not isinstance(pairs, list | tuple):
        raise SpecError(
            "warm_start must be a sweep's name, a Result or a list of (params, value), but got"
            f" {checks.described(pairs)}"
        )
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004  (a pair)
            raise SpecError(
                f"warm_start[{index}] must be (params, value), but got {checks.described(pair)}"
            )
        params, value = pair
        value = _number(f"warm_start[{index}] value", value)
        yield checks.mapping(f"warm_start[{index}] params", params), value


def _number(what: str, value: object) -> float:
    """A number of any library, as those that are reported."""
    if not isinstance(value, bool):
        with suppress(MetricError):
            return metrics.checked({what: value})[what]
    raise SpecError(f"{what} must be a number, but got {checks.described(value)}")


def _fitting(what: str, pairs: Sequence[Pair], space: Space) -> tuple[tuple[Earlier, ...], str]:
    """Those that lie in the space, with a line that says how many of how many."""
    fitting: list[Earlier] = []
    first: SpecError | None = None
    for params, value in pairs:
        try:
            fitting.append(Earlier(params=space.as_drawn(params), value=value))
        except SpecError as error:
            first = first or error
    if not fitting:
        raise SpecError(
            f"warm start: none of the {len(pairs)} results of {what} lies in this search space;"
            f" of the first: {first}"
        ) from first
    if first is None:
        return tuple(fitting), f"warm start: begins with the {len(pairs)} results of {what}"
    return tuple(fitting), (
        f"warm start: begins with {len(fitting)} of the {len(pairs)} results of {what}; the others"
        f" lie outside of this search space (the first: {first})"
    )
