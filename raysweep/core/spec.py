"""What the user asked for: a `SweepSpec` and its parts, validated once and frozen.

One rule: a spec that exists can be run. Everything that can be refused without a cluster is
refused here, before anything starts, by a `SpecError` that names the field.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from raysweep.core import checks
from raysweep.core.history import Goal
from raysweep.core.policies import POLICIES, NoPolicy, Policy
from raysweep.core.samplers import SAMPLERS, Observation, Sampler
from raysweep.core.space import Space, Value
from raysweep.errors import SpecError

FORMAT = 1  # of the dictionary form; raised when an old reader would misunderstand a new spec
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # a folder's and an actor's name
ISOLATIONS = ("process", "none")
LEAST_AMOUNT = 0.0001  # of a resource: Ray counts in ten-thousandths
RAYS_OWN = {"CPU": "cpus", "GPU": "gpus", "memory": "", "object_store_memory": ""}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The primary metric and which way it is better."""

    metric: str
    goal: Goal

    def __post_init__(self) -> None:
        checks.text("objective.metric", self.metric)
        checks.one_of("objective.goal", self.goal, [*Goal])
        object.__setattr__(self, "goal", Goal(self.goal))


def maximize(metric: str) -> Objective:
    """The objective of making a metric as large as possible."""
    return Objective(metric=metric, goal=Goal.MAXIMIZE)


def minimize(metric: str) -> Objective:
    """The objective of making a metric as small as possible."""
    return Objective(metric=metric, goal=Goal.MINIMIZE)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a sweep may take; None is no limit. Times are seconds and exclude time spent down."""

    max_total_trials: int | None = None
    max_concurrent_trials: int | None = None  # None: as many as the cluster has room for
    timeout: float | None = None  # of the sweep
    trial_timeout: float | None = None  # of each attempt at a trial

    def __post_init__(self) -> None:
        for name in ("max_total_trials", "max_concurrent_trials"):
            if (count := getattr(self, name)) is not None:
                checks.whole(f"limits.{name}", count, at_least=1)
        for name in ("timeout", "trial_timeout"):
            if (seconds := getattr(self, name)) is not None:
                checks.number(f"limits.{name}", seconds, above=0)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial needs; a GPU may be shared (`gpus=0.5`), more than one GPU come whole."""

    cpus: float = 1
    gpus: float = 0
    custom: Mapping[str, float] = field(default_factory=dict)  # by the cluster's own names

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            if checks.number(f"resources.{name}", getattr(self, name), at_least=0):
                _check_amount(f"resources.{name}", getattr(self, name))
        custom = dict(checks.mapping("resources.custom", self.custom))
        for name, amount in custom.items():
            _refuse_rays_own(checks.text("resources.custom's name", name))
            _check_amount(f"resources.custom.{name}", amount)
        object.__setattr__(self, "custom", custom)

    def demand(self) -> dict[str, float]:
        """What is asked of a node, by Ray's resource names."""
        asked = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
        return {name: amount for name, amount in asked.items() if amount > 0}


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A result of an earlier sweep, which a sampler that learns begins with."""

    params: Mapping[str, Value]
    value: float  # the best of the primary metric

    def __post_init__(self) -> None:
        checks.number("earlier value", self.value)


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A whole sweep, except for the code of its trials."""

    name: str
    space: Space
    objective: Objective
    sampler: Sampler
    seed: int  # every random number of the sweep derives from it
    policy: Policy = field(default_factory=NoPolicy)
    limits: Limits = field(default_factory=Limits)
    resources: Resources = field(default_factory=Resources)
    max_attempts: int = 1  # tries at a trial whose own code or process fails; lost nodes are free
    isolation: Literal["process", "none"] = "process"
    sync_decisions: bool = False  # True: a report waits for the policy's answer
    grace: float = 10.0  # seconds that a trial has to end after a stop, before it is killed
    lease: float = 300.0  # seconds that a slot trains on without hearing from a controller
    keep_checkpoints: int | None = None  # of a trial: the last so many and its best's; None: all
    try_first: tuple[Mapping[str, Value], ...] = ()  # parameters of trials 0, 1, ..., no two alike
    earlier: tuple[Earlier, ...] = ()  # results of an earlier sweep, in their order

    def __post_init__(self) -> None:
        if not NAME.fullmatch(checks.text("name", self.name)):
            raise SpecError(
                f"name must be letters, digits, '.', '_' and '-', at most 128, beginning with a"
                f" letter or digit, but got {self.name!r}"
            )
        for what, kind in {"space": Space, **PARTS}.items():
            _instance(what, getattr(self, what), kind)
        for what, registry in REGISTRIES.items():
            _member(what, getattr(self, what), registry)
        checks.whole("seed", self.seed, at_least=0)
        checks.whole("max_attempts", self.max_attempts, at_least=1)
        if self.keep_checkpoints is not None:
            checks.whole("keep_checkpoints", self.keep_checkpoints, at_least=1)
        checks.one_of("isolation", self.isolation, ISOLATIONS)
        checks.truth("sync_decisions", self.sync_decisions)
        checks.number("grace", self.grace, at_least=0)
        checks.number("lease", self.lease, above=0)
        checks.storable("space", self.space.to_dict())
        checks.storable("objective.metric", self.objective.metric)
        self.sampler.check(self.space)
        points = drawn_points("try_first", self.space, self.try_first)
        object.__setattr__(self, "try_first", points)
        object.__setattr__(self, "earlier", self._results_to_know())
        self._refuse_endless()
        if not self.resources.demand() and self.limits.max_concurrent_trials is None:
            raise SpecError(
                "resources ask for nothing, so nothing bounds how many trials run at once;"
                " set limits.max_concurrent_trials"
            )

    def _results_to_know(self) -> tuple[Earlier, ...]:
        """The earlier results, their parameters as draws of the space."""
        results = listed("earlier", self.earlier)
        if results and not self.sampler.learns:
            *learning, last = [kind for kind, sampler in SAMPLERS.items() if sampler.learns]
            raise SpecError(
                f"results of an earlier sweep would not be used: the {self.sampler.kind} sampler"
                f" does not learn; use {', '.join(learning)} or {last}, or leave them out"
            )
        for each in results:
            _instance("earlier result", each, Earlier)
        return tuple(
            Earlier(params=_drawn(f"earlier[{index}]", self.space, each.params), value=each.value)
            for index, each in enumerate(results)
        )

    @cached_property
    def observed_earlier(self) -> tuple[Observation, ...]:
        """What a sampler knows before the first trial: the earlier results, numbered -n to -1."""
        sign = 1 if self.objective.goal is Goal.MAXIMIZE else -1
        count = len(self.earlier)
        return tuple(
            Observation(trial=index - count, params=each.params, score=sign * each.value)
            for index, each in enumerate(self.earlier)
        )

    def _refuse_endless(self) -> None:
        """A sweep that nothing ends is a mistake."""
        if self.total_trials is None and self.limits.timeout is None:
            raise SpecError(
                f"nothing would ever end this sweep: the {self.sampler.kind} sampler does not run"
                f" out; set limits.max_total_trials or limits.timeout"
            )

    @property
    def total_trials(self) -> int | None:
        """The most trials that this sweep can have; None when only its timeout ends it."""
        return self.total_under(self.limits)

    def total_under(self, limits: Limits) -> int | None:
        """The most trials that it could have under other limits."""
        bounds = (limits.max_total_trials, self.sampler.size(self.space))
        return min((bound for bound in bounds if bound is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON's builtins; `SweepSpec.from_dict` reads it back."""
        plain = {"format": FORMAT, **_fields_of(self), "space": self.space.to_dict()}
        for name in PARTS:
            plain[name] = _fields_of(plain[name])
        for name in REGISTRIES:
            plain[name] = {"type": plain[name].kind, **_fields_of(plain[name])}
        plain["try_first"] = [dict(params) for params in self.try_first]
        plain["earlier"] = [_fields_of(each) for each in self.earlier]
        return plain

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """The spec that `to_dict` described.

        Raises:
            SpecError: a key is unknown or missing, or a value cannot be run.
        """
        given = dict(checks.mapping("spec", given))
        if (version := given.pop("format", FORMAT)) != FORMAT:
            raise SpecError(f"spec has format {version}, but this raysweep reads format {FORMAT}")
        return cls(**{name: _part(name, value) for name, value in _complete("spec", cls, given)})


def described_sampler(given: Mapping[str, Any]) -> Sampler:
    """The sampler that a mapping describes, as in a spec: its `type` and its fields."""
    sampler: Any = _registered("sampler", SAMPLERS, given)
    made: Sampler = sampler
    return made


def listed(what: str, value: object) -> list[Any]:
    """The items of a list."""
    if not isinstance(value, list | tuple):
        raise SpecError(f"{what} must be a list, but got {checks.described(value)}")
    return list(value)


def drawn_points(what: str, space: Space, given: object) -> tuple[Mapping[str, Value], ...]:
    """Points that a user lists, as draws of the space; no two may be alike.

    Raises:
        SpecError: there is no list, or one of them is no point of the space, by its place in it.
    """
    points: dict[str, Mapping[str, Value]] = {}  # by their text: True and 1 are two values
    for index, params in enumerate(listed(what, given)):
        point = _drawn(f"{what}[{index}]", space, params)
        if (text := json.dumps(point, sort_keys=True)) in points:
            raise SpecError(
                f"{what}[{index}] is the same as {what}[{[*points].index(text)}], {text};"
                " leave one of them out"
            )
        points[text] = point
    return tuple(points.values())


PARTS = {"objective": Objective, "limits": Limits, "resources": Resources}
REGISTRIES: Mapping[str, Mapping[str, type]] = {"sampler": SAMPLERS, "policy": POLICIES}


def _fields_of(part: Any) -> dict[str, Any]:  # noqa: ANN401  (any dataclass)
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}


def _instance(what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise SpecError(
            f"{what} must be of type {kind.__name__}, but got {checks.described(value)}"
        )


def _member(what: str, value: object, registry: Mapping[str, type]) -> None:
    if not isinstance(value, tuple(registry.values())):
        known = ", ".join(kind.__name__ for kind in registry.values())
        kind = registry.get(value) if isinstance(value, str) else None
        remedy = "" if kind is None else f"; use rs.{kind.__name__}()"
        raise SpecError(f"{what} must be one of {known}, but got {checks.described(value)}{remedy}")


def _drawn(what: str, space: Space, params: object) -> dict[str, Value]:
    """Parameters as the space draws them."""
    try:
        return space.as_drawn(checks.mapping("params", params))
    except SpecError as error:
        raise SpecError(f"{what}: {error}") from error


def _check_amount(what: str, value: object) -> None:
    """Refuse an amount of a resource that Ray cannot count."""
    amount = checks.number(what, value, at_least=LEAST_AMOUNT)
    if amount > 1 and amount != int(amount):
        raise SpecError(
            f"{what} above 1 must be whole, but got {amount:g};"
            f" ask for {int(amount)} or {int(amount) + 1}"
        )


def _refuse_rays_own(name: str) -> None:
    """Refuse a custom resource of a name that Ray keeps for itself."""
    if name in RAYS_OWN:
        remedy = f"use resources.{RAYS_OWN[name]}" if RAYS_OWN[name] else "leave it out"
        raise SpecError(f"resources.custom must not name Ray's own {name!r}; {remedy}")


def _part(name: str, given: object) -> Any:  # noqa: ANN401  (whatever the field holds)
    """What a key of a spec's dictionary describes."""
    if name == "space":
        return Space.from_dict(given)
    if name in REGISTRIES:
        return _registered(name, REGISTRIES[name], given)
    if name in PARTS:
        return _built(name, PARTS[name], given)
    if name == "earlier":
        return [_built(name, Earlier, each) for each in listed(name, given)]
    return given


def _registered(what: str, registry: Mapping[str, type], given: object) -> object:
    """The part whose `type` is a key of the registry, built from the other keys."""
    fields = dict(checks.mapping(what, given))
    kind = checks.one_of(f"{what}.type", fields.pop("type", None), registry)
    return _built(what, registry[kind], fields)


def _built(what: str, kind: type, given: object) -> object:
    """A part from a mapping of its fields."""
    return kind(**dict(_complete(what, kind, checks.mapping(what, given))))


def _complete(what: str, kind: type, given: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The fields that are given for a dataclass: all that it needs, and none that it lacks."""
    fields = dataclasses.fields(kind)
    checks.known_keys(what, given, [f.name for f in fields])
    for f in fields:
        needed = f.default is MISSING and f.default_factory is MISSING
        if needed and f.name not in given:
            raise SpecError(f"{what} needs a value for {f.name!r}, but got {sorted(given)}")
    return given.items()
