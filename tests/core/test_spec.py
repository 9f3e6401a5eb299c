"""A spec: what is refused before anything starts, and its form as a dictionary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.samplers import Bayesian, Grid, Observation, Optuna, Random, Sampler, Sobol
from raysweep.core.space import (
    EXPRESSIONS,
    Expression,
    Space,
    choice,
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)
from raysweep.core.spec import (
    Earlier,
    Limits,
    Objective,
    Resources,
    SweepSpec,
    maximize,
    minimize,
)
from raysweep.errors import SpecError

EVERY_EXPRESSION: dict[str, Expression] = {
    "choice": choice([1, 2.5, "a", True, None, [1, 2]]),
    "nested": choice(["linear", {"type": "deep", "depth": randint(8), "lr": uniform(0, 1)}]),
    "randint": randint(10),
    "uniform": uniform(-1, 1),
    "loguniform": loguniform(1e-5, 1e-1),
    "quniform": quniform(0, 10, 2),
    "qloguniform": qloguniform(1, 100, 5),
    "normal": normal(0, 1),
    "lognormal": lognormal(0, 1),
    "qnormal": qnormal(0, 10, 0.5),
    "qlognormal": qlognormal(0, 1, 1),
}
POLICIES: list[Policy] = [
    NoPolicy(),
    Bandit(slack_factor=0.1, delay_evaluation=2),
    Bandit(slack_amount=1),
    MedianStopping(evaluation_interval=3),
    TruncationSelection(truncation_percentage=20, exclude_finished_jobs=True),
]


def spec(**what: Any) -> SweepSpec:  # noqa: ANN401  (any field of a spec)
    """A small spec, but for what a test is about."""
    given: dict[str, Any] = {
        "name": "draft",
        "space": Space({"x": uniform(0, 1)}),
        "objective": maximize("acc"),
        "sampler": Random(seed=1),
        "seed": 1,
        "limits": Limits(max_total_trials=4),
    }
    return SweepSpec(**{**given, **what})


def described(**what: Any) -> dict[str, Any]:  # noqa: ANN401  (any key of its dictionary)
    """The small spec as a dictionary, but for what a test is about; None takes a key away."""
    keys = {**spec().to_dict(), **what}
    return {key: value for key, value in keys.items() if value is not None}


def wrong(value: object) -> Any:  # noqa: ANN401  (that is its purpose)
    """A value of a type that the signature does not take."""
    return value


def through_json(one: SweepSpec) -> SweepSpec:
    """The same, written and read."""
    return SweepSpec.from_dict(json.loads(json.dumps(one.to_dict())))


class TestRefused:
    """What cannot be run is refused by name."""

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: spec(name=""), "name must not be empty"),
            (lambda: spec(name="a/b"), "name must be letters, digits, '.', '_' and '-'"),
            (lambda: spec(name=".a"), "beginning with a letter or digit, but got '.a'"),
            (lambda: spec(name="a" * 129), "at most 128"),
            (lambda: spec(name="a\n"), "name must be letters"),
            (lambda: spec(name=7), "name must be a string, but got 7 (int)"),
            (lambda: spec(space={"x": uniform(0, 1)}), "space must be of type Space, but got {'x'"),
            (lambda: spec(objective="acc"), "objective must be of type Objective, but got 'acc'"),
            (lambda: spec(limits=None), "limits must be of type Limits, but got nothing (None)"),
            (lambda: spec(resources=1), "resources must be of type Resources, but got 1 (int)"),
            (lambda: spec(sampler="random"), "sampler must be one of Grid, Random, Sobol, Bayesian, Tpe, Auto, Opt"),
            (lambda: spec(policy=Bandit), "policy must be one of NoPolicy, Bandit"),
            (lambda: spec(seed=-1), "seed must be at least 0, but got -1"),
            (lambda: spec(seed=None), "seed must be a whole number, but got nothing (None)"),
            (lambda: spec(max_attempts=0), "max_attempts must be at least 1, but got 0"),
            (lambda: spec(keep_checkpoints=0), "keep_checkpoints must be at least 1, but got 0"),
            (lambda: spec(keep_checkpoints=1.5), "keep_checkpoints must be a whole number"),
            (lambda: spec(isolation="proces"), "did you mean 'process'?"),
            (lambda: spec(sync_decisions=1), "sync_decisions must be true or false, but got 1"),
            (lambda: spec(grace=-1), "grace must be at least 0, but got -1"),
            (lambda: spec(lease=0), "lease must be greater than 0, but got 0"),
            (lambda: spec(lease=10**400), "lease must be finite"),
            (lambda: spec(sampler=Grid()), "grid sampling needs parameters of countable values"),
            (
                lambda: spec(limits=Limits()),
                "the random sampler does not run out; set limits.max_total_trials or limits.time",
            ),
            (
                lambda: spec(resources=Resources(cpus=0)),
                "nothing bounds how many trials run at once; set limits.max_concurrent_trials",
            ),
            (
                lambda: spec(space=Space({"x": choice([2**64])})),
                "space.x.values[0] must be at most 18446744073709551615",
            ),
            (lambda: spec(space=Space({"x": choice(["\ud800"])})), "must be Unicode text"),
            (lambda: spec(objective=maximize("\ud800")), "objective.metric must be Unicode text"),
            (lambda: maximize(""), "objective.metric must not be empty"),
            (lambda: Objective(metric="a", goal=wrong("max")), "objective.goal must be one of maximize"),
            (lambda: Limits(max_total_trials=0), "limits.max_total_trials must be at least 1"),
            (lambda: Limits(max_concurrent_trials=wrong(1.5)), "limits.max_concurrent_trials must be a wh"),
            (lambda: Limits(timeout=0), "limits.timeout must be greater than 0, but got 0"),
            (lambda: Limits(trial_timeout=wrong("1h")), "limits.trial_timeout must be a number, but got"),
            (lambda: Resources(cpus=-1), "resources.cpus must be at least 0, but got -1"),
            (lambda: Resources(cpus=False), "resources.cpus must be a number, but got False"),
            (lambda: Resources(gpus=1.5), "resources.gpus above 1 must be whole, but got 1.5; ask"),
            (lambda: Resources(gpus=1e-5), "resources.gpus must be at least 0.0001, but got 1e-05"),
            (lambda: Resources(custom=wrong(["a"])), "resources.custom must be a mapping, but got ['a']"),
            (lambda: Resources(custom={"a": 0}), "resources.custom.a must be at least 0.0001"),
            (lambda: Resources(custom={"a": 2.5}), "resources.custom.a above 1 must be whole"),
            (lambda: Resources(custom={"": 1}), "resources.custom's name must not be empty"),
            (
                lambda: Resources(custom={"GPU": 1}),
                "resources.custom must not name Ray's own 'GPU'; use resources.gpus",
            ),
            (lambda: Resources(custom={"memory": 1}), "Ray's own 'memory'; leave it out"),
        ],
    )  # fmt: skip
    def test_by_name_value_and_remedy(self, make: Callable[[], object], message: str) -> None:
        """The message as a user reads it."""
        with pytest.raises(SpecError, match=re.escape(message)):
            make()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (lambda: described(sampler=None), "spec needs a value for 'sampler', but got ['earlier'"),
            (lambda: described(name=None), "spec needs a value for 'name', but got"),
            (lambda: described(space=None), "spec needs a value for 'space', but got"),
            (lambda: described(limit={}), "spec has no key 'limit'; did you mean 'limits'?"),
            (lambda: described(format=2), "spec has format 2, but this raysweep reads format 1"),
            (
                lambda: described(objective={"metric": "acc"}),
                "objective needs a value for 'goal', but got ['metric']",
            ),
            (
                lambda: described(limits={"max_trials": 3}),
                "limits has no key 'max_trials'; did you mean 'max_total_trials'?",
            ),
            (lambda: described(resources={"cpu": 1}), "resources has no key 'cpu'; did you mean 'cp"),
            (lambda: described(resources=[1]), "resources must be a mapping, but got [1] (list)"),
            (
                lambda: described(policy={"type": "bandits", "slack_factor": 0.1}),
                "policy.type must be one of none, bandit, median_stopping, truncation_selection",
            ),
            (
                lambda: described(policy={"slack_factor": 0.1}),
                "policy.type must be one of none, bandit",
            ),
            (
                lambda: described(policy={"type": "bandit", "slack_facter": 0.1}),
                "policy has no key 'slack_facter'; did you mean 'slack_factor'?",
            ),
            (
                lambda: described(policy={"type": "truncation_selection"}),
                "policy needs a value for 'truncation_percentage', but got []",
            ),
            (
                lambda: described(sampler={"type": "sobel"}),
                "sampler.type must be one of grid, random, sobol, bayesian, tpe, auto, optuna, but got 'sobel' (str",
            ),
            (
                lambda: described(sampler={"type": "grid", "seed": 1}),
                "sampler has no key 'seed'",
            ),
            (lambda: described(sampler="random"), "sampler must be a mapping, but got 'random'"),
            (lambda: described(space={"x": {"type": "unifrom"}}), "did you mean 'uniform'?"),
            (lambda: [1], "spec must be a mapping, but got [1] (list)"),
        ],
    )  # fmt: skip
    def test_in_a_dictionary(self, given: Callable[[], Any], message: str) -> None:
        """Keys that are unknown or missing, at any depth."""
        with pytest.raises(SpecError, match=re.escape(message)):
            SweepSpec.from_dict(given())


class TestDictionary:
    """`to_dict` and `from_dict`, with JSON between them."""

    @pytest.mark.parametrize("policy", POLICIES, ids=str)
    def test_every_policy_comes_back(self, policy: Policy) -> None:
        """With its type and its fields."""
        assert spec(policy=policy) == through_json(spec(policy=policy))

    @pytest.mark.parametrize(
        "sampler",
        [
            Random(),
            Random(seed=3),
            Sobol(seed=4),
            Grid(),
            Optuna("GPSampler", options={"n_startup_trials": 5}, seed=5),
        ],
        ids=str,
    )
    def test_every_sampler_comes_back(self, sampler: Sampler) -> None:
        """A seed that was not given stays so."""
        one = spec(sampler=sampler, space=Space({"x": choice([1, 2])}))
        assert one == through_json(one)

    @pytest.mark.parametrize("name", EVERY_EXPRESSION)
    def test_every_expression_comes_back(self, name: str) -> None:
        """And draws the same values."""
        one = spec(space=Space({name: EVERY_EXPRESSION[name]}))
        back = through_json(one)
        assert one == back
        draws = [[s.sampler.propose(s.space, [], t, 7) for t in range(20)] for s in (one, back)]
        assert repr(draws[0]) == repr(draws[1])

    def test_no_expression_is_forgotten_here(self) -> None:
        """Each kind that there is has its example above."""
        kinds = {expression.kind for expression in EVERY_EXPRESSION.values()}
        assert {*EXPRESSIONS} == kinds

    def test_every_field_comes_back(self) -> None:
        """With values that are not the defaults."""
        one = spec(
            space=Space(EVERY_EXPRESSION),
            objective=minimize("val/loss"),
            limits=Limits(
                max_total_trials=9, max_concurrent_trials=2, timeout=3.5, trial_timeout=1
            ),
            resources=Resources(cpus=2, gpus=0.5, custom={"tpu": 4}),
            max_attempts=3,
            isolation="none",
            sync_decisions=True,
            grace=0,
            lease=60,
            keep_checkpoints=2,
        )
        assert one == through_json(one)
        assert one.to_dict() == through_json(one).to_dict()

    def test_what_has_a_default_may_be_left_out(self) -> None:
        """A hand-written spec says what it needs."""
        keys = ("name", "space", "objective", "sampler", "seed", "limits")
        written = {key: value for key, value in spec().to_dict().items() if key in keys}
        assert spec() == SweepSpec.from_dict(written)

    def test_what_is_given_is_not_changed(self) -> None:
        """A dictionary may be read twice."""
        given = spec(policy=Bandit(slack_factor=0.1)).to_dict()
        before = json.dumps(given)
        SweepSpec.from_dict(given)
        assert before == json.dumps(given)

    def test_it_says_its_format(self) -> None:
        """A later raysweep can tell."""
        assert 1 == spec().to_dict()["format"]


class TestParts:
    """What follows from a spec."""

    def test_what_a_node_is_asked_for(self) -> None:
        """By Ray's names, and nothing of which there is none."""
        asked = Resources(cpus=2, gpus=0, custom={"tpu": 1})
        assert {"CPU": 2, "tpu": 1} == asked.demand()

    def test_custom_resources_are_the_specs_own(self) -> None:
        """A change of what was handed in changes no spec."""
        custom = {"tpu": 1.0}
        resources = Resources(custom=custom)
        custom["tpu"] = 9.0
        assert {"tpu": 1.0} == resources.custom

    @pytest.mark.parametrize(
        ("sampler", "most", "total"), [(Grid(), None, 6), (Grid(), 4, 4), (Random(), 9, 9)]
    )
    def test_how_many_trials_there_are(
        self, sampler: Sampler, most: int | None, total: int
    ) -> None:
        """What the sampler has and what the limit allows, whichever is less."""
        space = Space({"a": choice([1, 2]), "b": randint(3)})
        one = spec(sampler=sampler, space=space, limits=Limits(max_total_trials=most))
        assert total == one.total_trials

    def test_a_timeout_alone_ends_a_sweep(self) -> None:
        """Then nobody knows how many trials there will be."""
        assert spec(limits=Limits(timeout=60)).total_trials is None

    def test_a_goal_may_be_a_word(self) -> None:
        """It is kept as a goal."""
        assert minimize("loss") == Objective(metric="loss", goal=wrong("minimize"))

    def test_a_trial_may_need_nothing(self) -> None:
        """If something else bounds how many run at once."""
        limits = Limits(max_total_trials=3, max_concurrent_trials=2)
        assert {} == spec(limits=limits, resources=Resources(cpus=0)).resources.demand()

    def test_a_spec_is_frozen(self) -> None:
        """Once it is valid it stays so."""
        with pytest.raises(AttributeError):
            spec().seed = 2  # type: ignore[misc]  # as a user might


class TestBeginning:
    """What a sweep begins with."""

    def test_comes_back(self) -> None:
        """Points to try first, and earlier results, through JSON."""
        space = Space({"x": uniform(0, 1), "y": choice([True, 1])})
        one = spec(
            space=space,
            sampler=Bayesian(),
            try_first=({"y": True, "x": 1}, {"y": 1, "x": 1}),
            earlier=(Earlier(params={"x": 0.5, "y": 1}, value=2),),
        )
        back = SweepSpec.from_dict(json.loads(json.dumps(one.to_dict())))
        assert one == back
        assert ({"x": 1.0, "y": True}, {"x": 1.0, "y": 1}) == back.try_first

    @pytest.mark.parametrize(
        ("objective", "scores"), [(maximize, (3.0, 1.0)), (minimize, (-3.0, -1.0))]
    )
    def test_earlier_results_are_known_before_the_first_trial(
        self, objective: Callable[[str], Objective], scores: tuple[float, float]
    ) -> None:
        """Numbered below it in their order, turned so that greater is better."""
        earlier = tuple(Earlier(params={"x": x}, value=value) for x, value in ((0.1, 3), (0.2, 1)))
        one = spec(space=Space({"x": uniform(0, 1)}), sampler=Bayesian(), earlier=earlier,
                   objective=objective("y"))  # fmt: skip
        assert [
            Observation(trial=number, params=each.params, score=score)
            for number, each, score in zip((-2, -1), earlier, scores, strict=True)
        ] == [*one.observed_earlier]
