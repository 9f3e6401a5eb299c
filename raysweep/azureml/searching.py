"""A job's sampler, policy, objective and limits as raysweep's own.

One rule: values mean what Azure ML's documentation says; where its client changes them on the way
(a timeout below 60 s becomes 60 s there), they are taken as they are written.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from raysweep.azureml import schema
from raysweep.azureml.documents import Place
from raysweep.azureml.readers import refused
from raysweep.azureml.refusals import refuse
from raysweep.core import checks
from raysweep.core.policies import Bandit, MedianStopping, Policy, TruncationSelection
from raysweep.core.samplers import SAMPLERS, Sampler, named
from raysweep.core.space import Choice, Expression, Space
from raysweep.core.spec import Limits, Objective, described_sampler
from raysweep.errors import JobFileError, Problem, SpecError

_MOST_PERCENT = 99


def sampler(value: Any, place: Place) -> Sampler:  # noqa: ANN401  (a reader)
    """The sampler; `logbase` changes nothing, as bounds are exponents of e."""
    plain = schema.sampler(value, place)
    kind = "sobol" if plain.get("rule") == "sobol" else plain["type"]
    if plain.get("seed") is None:
        return SAMPLERS[kind]()
    seed = plain["seed"]
    if seed < 0:
        raise refuse("seed", place.at("seed"), f"must be at least 0, but got {seed}")
    _check_size(seed, place.at("seed"))
    made: Sampler = cast("Any", SAMPLERS[kind])(seed=seed)  # what is random takes a seed
    return made


def own_sampler(value: Any, place: Place) -> Sampler:  # noqa: ANN401  (a reader)
    """A sampler that Azure ML has no word for: `optuna:GPSampler`, or a mapping as in a spec."""
    plain = schema.RAYSWEEP.fields["sampler"](value, place)
    try:
        return named(plain) if isinstance(plain, str) else described_sampler(plain)
    except SpecError as error:
        raise refused(place, str(error)) from error


def points(given: list[dict[str, Any]], space: Space) -> tuple[dict[str, Any], ...]:
    """Points to try first; in YAML 1.1, `1e-4` is a string, and a number where one is wanted."""
    return tuple(
        {name: _number(value, space.parameters.get(name)) for name, value in point.items()}
        for point in given
    )


def _number(value: Any, expression: Expression | None) -> Any:  # noqa: ANN401  (whatever was written)
    if isinstance(value, str) and expression is not None and not isinstance(expression, Choice):
        with suppress(ValueError):
            return float(value)
    return value


def check_grid(space: Space, place: Place) -> None:
    """Refuse the parameters that a grid cannot count."""
    problems: list[Problem] = []
    for dimension in space.dimensions:
        if dimension.expression.size is None and not isinstance(dimension.expression, Choice):
            kind, name = dimension.expression.kind, dimension.name
            found = f"grid sampling needs values to count, but {name} is {kind}"
            problems += refuse("grid", place.at(str(dimension.path[0])), found).problems
    if problems:
        raise JobFileError(problems)


def policy(value: Any, place: Place) -> Policy:  # noqa: ANN401  (a reader)
    """The early-termination policy."""
    plain = schema.POLICY(value, place)
    schedule = _schedule(plain, place)
    if plain["type"] == "bandit":
        return Bandit(**schedule, **_slack(plain, place))
    if plain["type"] == "median_stopping":
        return MedianStopping(**schedule)
    percentage = plain["truncation_percentage"]
    if not 1 <= percentage <= _MOST_PERCENT:
        where = place.at("truncation_percentage")
        raise refuse("truncation", where, f"must be from 1 to 99, but got {percentage}")
    return TruncationSelection(
        truncation_percentage=percentage,
        exclude_finished_jobs=plain.get("exclude_finished_jobs", False),
        **schedule,
    )


def _schedule(plain: dict[str, Any], place: Place) -> dict[str, Any]:
    """When the policy applies; an interval of 0, which the SDK writes for "not given", is 1."""
    found: dict[str, Any] = {}
    for name, least in (("evaluation_interval", 1), ("delay_evaluation", 0)):
        if (count := plain.get(name)) is None:
            continue
        if count < 0:
            raise refuse("schedule", place.at(name), f"must be at least 0, but got {count}")
        found[name] = max(_check_size(count, place.at(name)), least)
    return found


def _slack(plain: dict[str, Any], place: Place) -> dict[str, Any]:
    """The one slack that counts: a 0 beside another is what an SDK object says for "not given"."""
    names = ("slack_factor", "slack_amount")
    given = {name: plain[name] for name in names if plain.get(name) is not None}
    for name, slack in given.items():
        if slack < 0:
            raise refuse("slack", place.at(name), f"must be at least 0, but got {slack:g}")
    counting = given if len(given) == 1 else {name: slack for name, slack in given.items() if slack}
    if not counting:
        raise refuse("no_slack", place, "needs a slack, but got none")
    if len(counting) > 1:
        raise refuse("two_slacks", place, "takes slack_factor or slack_amount, but got both")
    return counting


def objective(value: Any, place: Place) -> Objective:  # noqa: ANN401  (a reader)
    """The primary metric and its goal."""
    plain = schema.OBJECTIVE(value, place)
    if not plain["primary_metric"]:
        raise refuse("metric", place.at("primary_metric"), "must not be empty")
    return Objective(metric=plain["primary_metric"], goal=plain["goal"])


def limits(value: Any, place: Place) -> Limits:  # noqa: ANN401  (a reader)
    """The limits, in trials and seconds."""
    plain, problems = schema.LIMITS.read(value, place)
    for name, limit in plain.items():
        try:
            if limit <= 0:
                raise refuse("limit", place.at(name), f"must be above 0, but got {limit}")
            _check_size(limit, place.at(name))
        except JobFileError as error:
            problems += error.problems
    if problems:
        raise JobFileError(problems)
    return Limits(**plain)


def _check_size(count: int, place: Place) -> int:
    if count > checks.MOST // 2:
        raise refuse("size", place, f"must be below 2**63, but got {checks.described(count)}")
    return count
