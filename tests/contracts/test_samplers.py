from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import qmc

from raysweep.core.samplers import (
    SAMPLERS,
    Auto,
    Bayesian,
    Grid,
    Observation,
    Optuna,
    Random,
    Sampler,
    Sobol,
    Tpe,
    trial_seed,
)
from raysweep.core.samplers.sampler import point_generator
from raysweep.core.samplers.sobol import MOST_DIMENSIONS
from raysweep.core.samplers.tpe import _good
from raysweep.core.space import (
    Expression,
    Space,
    Value,
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
from raysweep.core.spec import Earlier, Limits, SweepSpec, maximize
from raysweep.errors import SpecError
from raysweep.runtime.proposals import draw

GOLDEN = Path(__file__).parent.parent / "golden"

COUNTABLE = Space(
    {
        "batch": qloguniform(8, 64, 8),
        "model": choice(
            ["linear", {"type": "tower", "depth": randint(3), "skip": choice([True, 1])}]
        ),
        "drop": quniform(0, 0.3, 0.1),
    }
)
CONTINUOUS = Space(
    {
        "lr": loguniform(1e-5, 1e-1),
        "momentum": uniform(0.5, 0.99),
        "noise": normal(0, 2),
        "scale": lognormal(0, 1),
        "shift": qnormal(0, 3, 0.5),
        "patience": qlognormal(1, 1, 1),
        "head": choice([None, {"rate": uniform(0, 1)}, [1, 2]]),
    }
)

CONDITIONAL = Space(
    {
        "optimizer": choice(
            [
                {"kind": "adam", "lr": loguniform(1e-5, 1e-1)},
                {
                    "kind": "sgd",
                    "lr": loguniform(1e-4, 1),
                    "momentum": choice(
                        [{"rate": uniform(0, 1), "nesterov": choice([True, False])}, None]
                    ),
                },
                "none",
            ]
        ),
        "width": qloguniform(8, 512, 8),
    }
)

SAMPLED = [
    pytest.param(Grid(), COUNTABLE, id="grid"),
    pytest.param(Random(), COUNTABLE, id="random-countable"),
    pytest.param(Random(), CONTINUOUS, id="random-continuous"),
    pytest.param(Sobol(), COUNTABLE, id="sobol-countable"),
    pytest.param(Sobol(), CONTINUOUS, id="sobol-continuous"),
    pytest.param(Bayesian(), COUNTABLE, id="bayesian-countable"),
    pytest.param(Bayesian(), CONTINUOUS, id="bayesian-continuous"),
    pytest.param(Tpe(), COUNTABLE, id="tpe-countable"),
    pytest.param(Tpe(), CONTINUOUS, id="tpe-continuous"),
    pytest.param(Tpe(), CONDITIONAL, id="tpe-conditional"),
    pytest.param(Auto(), COUNTABLE, id="auto-countable"),
    pytest.param(Auto(), CONDITIONAL, id="auto-conditional"),
]
# They keep their state from trial to trial, in the process: the order of asking is theirs, and there
# is no asking for one trial alone.
REMEMBERING = [
    pytest.param(Optuna(), COUNTABLE, id="optuna-countable"),
    pytest.param(Optuna(), CONTINUOUS, id="optuna-continuous"),
    pytest.param(Optuna("RandomSampler"), CONTINUOUS, id="optuna-random"),
    pytest.param(Optuna("NSGAIISampler"), CONTINUOUS, id="optuna-nsgaii"),
]
every_sampler_in_order = pytest.mark.parametrize(("sampler", "space"), [*SAMPLED, *REMEMBERING])
every_sampler = pytest.mark.parametrize(("sampler", "space"), SAMPLED)
every_learner = pytest.mark.parametrize(
    "learner", [Bayesian(), Tpe(), Auto()], ids=lambda learner: learner.kind
)
drawing_samplers = pytest.mark.parametrize("sampler", [Random(), Sobol()], ids=["random", "sobol"])


def _trials(sampler: Sampler, space: Space, numbers: range, seed: int = 7) -> list[Any]:
    if isinstance(sampler, Optuna):
        return draw(_sweep(sampler, space, seed), [], numbers)
    return [sampler.propose(space, (), trial, seed) for trial in numbers]


def _sweep(sampler: Sampler, space: Space, seed: int) -> SweepSpec:
    return SweepSpec(
        name="t",
        space=space,
        objective=maximize("y"),
        sampler=sampler,
        seed=seed,
        limits=Limits(max_total_trials=1000),
    )


# What every sampler promises.


@every_sampler
def test_the_order_of_asking_changes_nothing(sampler: Sampler, space: Space) -> None:
    """Asked backwards, a sampler proposes the same trials."""
    forwards = _trials(sampler, space, range(20))
    assert forwards == _trials(sampler, space, range(19, -1, -1))[::-1]


@every_sampler
def test_one_asker_or_eight_get_the_same_trials(sampler: Sampler, space: Space) -> None:
    """Eight threads that ask at the same time get what one gets."""
    alone = _trials(sampler, space, range(64))
    with ThreadPoolExecutor(8) as askers:
        together = askers.map(lambda trial: sampler.propose(space, (), trial, 7), range(64))
    assert alone == list(together)


@every_sampler_in_order
def test_an_equal_sampler_proposes_the_same(sampler: Sampler, space: Space) -> None:
    """A sampler and a space made anew, as after a restart, go on as before."""
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    same: Sampler = dataclasses.replace(cast("Any", sampler))
    assert _trials(sampler, space, range(8)) == _trials(same, again, range(8))


@every_sampler
def test_what_is_known_changes_nothing_for_those_that_do_not_learn(
    sampler: Sampler, space: Space
) -> None:
    """Results are none of a sampler's business unless it learns."""
    if sampler.learns:
        return
    params = sampler.propose(space, (), 0, 7)
    assert params is not None
    known = [Observation(trial=0, params=params, score=0.5)]
    assert sampler.propose(space, (), 1, 7) == sampler.propose(space, known, 1, 7)


@every_sampler_in_order
def test_proposals_lie_in_the_space(sampler: Sampler, space: Space) -> None:
    """Every proposal has a point in the unit cube."""
    for params in _trials(sampler, space, range(50)):
        assert np.nanmin(space.to_unit(params)) > 0


@every_sampler_in_order
def test_proposals_are_json(sampler: Sampler, space: Space) -> None:
    """A proposal comes back from JSON as it was, types included."""
    for params in _trials(sampler, space, range(50)):
        assert repr(params) == repr(json.loads(json.dumps(params)))


@every_sampler_in_order
def test_a_proposal_is_the_callers_own(sampler: Sampler, space: Space) -> None:
    """Changing a proposal changes no later one."""
    before = _trials(sampler, space, range(20))
    for params in _trials(sampler, space, range(20)):
        for value in params.values():
            if isinstance(value, dict | list):
                value.clear()
    assert before == _trials(sampler, space, range(20))


@every_sampler_in_order
def test_points_to_try_first_come_first_and_then_the_sampler_s(
    sampler: Sampler, space: Space
) -> None:
    """Of whatever kind, it has the numbers after them, and lies in the space."""
    first = _trials(Random(), space, range(3), seed=1)
    sweep = dataclasses.replace(_sweep(sampler, space, 7), try_first=tuple(first))
    drawn = draw(sweep, [], range(12))
    assert (12, first) == (len(drawn), drawn[:3])
    for params in drawn:
        assert np.nanmin(space.to_unit(params)) > 0


@every_sampler
def test_a_negative_trial_number_is_refused(sampler: Sampler, space: Space) -> None:
    """Trials are numbered from 0."""
    with pytest.raises(SpecError, match="trial must be at least 0, but got -1"):
        sampler.propose(space, (), -1, 7)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if not SAMPLERS[kind].learns])
def test_the_first_trials_are_the_recorded_ones(kind: str) -> None:
    """No change to a sampler or an expression may change what a seed stands for."""
    recorded = json.loads((GOLDEN / f"samplers_{kind}.json").read_text())
    space = Space.from_dict(recorded["space"])
    proposed = _trials(SAMPLERS[kind](), space, range(len(recorded["trials"])), recorded["seed"])
    assert _rounded(recorded["trials"]) == _rounded(proposed)


def _rounded(value: object) -> object:
    """Floats to twelve digits: the last ones of exp() and log() are the platform's."""
    return json.loads(json.dumps(value), parse_float=lambda text: f"{float(text):.12g}")


# Those that draw.


@drawing_samplers
def test_different_seeds_propose_different_trials(sampler: Sampler) -> None:
    """Another seed is another sweep."""
    one, two = (_trials(sampler, CONTINUOUS, range(8), seed) for seed in (1, 2))
    assert all(left != right for left, right in zip(one, two, strict=True))


@drawing_samplers
def test_no_two_trials_of_a_continuous_space_are_alike(sampler: Sampler) -> None:
    """Trials of one seed differ, across a block's end too."""
    trials = _trials(sampler, CONTINUOUS, range(300))
    expected = 300
    assert expected == len({json.dumps(params) for params in trials})


@drawing_samplers
def test_drawing_has_no_end(sampler: Sampler) -> None:
    """A late trial is proposed at once, and the number of proposals has no bound."""
    assert sampler.size(CONTINUOUS) is None
    assert sampler.propose(CONTINUOUS, (), 1_000_000, 7) is not None


@drawing_samplers
def test_draws_fill_the_interval_evenly(sampler: Sampler) -> None:
    """A thousand trials reach every tenth of a parameter's range about equally often."""
    space = Space({"x": uniform(0, 10), "y": uniform(0, 1)})
    drawn = [params["x"] for params in _trials(sampler, space, range(1000))]
    counts = np.histogram(drawn, 10, (0, 10))[0].tolist()
    assert counts == pytest.approx([100] * 10, abs=40)


@pytest.mark.parametrize("kind", ["random", "sobol"])
@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_a_wrong_seed_is_refused(kind: str, seed: object) -> None:
    """A seed is a whole number of at least 0."""
    make: Any = SAMPLERS[kind]
    with pytest.raises(SpecError, match="seed must be"):
        make(seed=seed)


@drawing_samplers
def test_every_space_of_usual_size_can_be_drawn_from(sampler: Sampler) -> None:
    """Continuous, countable and conditional parameters pass the check."""
    sampler.check(CONTINUOUS)
    sampler.check(COUNTABLE)


# Sobol.


def test_sobol_points_hit_every_cell_once() -> None:
    """The first 256 points have one in each 256th of every dimension."""
    space = Space({name: uniform(0, 1) for name in "abcdef"})
    trials = _trials(Sobol(), space, range(256))
    for name in space.parameters:
        cells = sorted(int(params[name] * 256) for params in trials)
        assert list(range(256)) == cells


def test_sobol_blocks_are_one_sequence() -> None:
    """Points on both sides of a block's end are the sequence's own."""
    whole = qmc.Sobol(2, rng=point_generator(7, 0)).random(1024)
    space = Space({"a": uniform(0, 1), "b": uniform(0, 1)})
    drawn = [list(params.values()) for params in _trials(Sobol(), space, range(1024))]
    assert np.allclose(whole, drawn, atol=2**-30)


def test_sobol_refuses_more_dimensions_than_it_has_numbers_for() -> None:
    """A space that is too wide is refused before anything starts, with the way out."""
    space = Space({f"x{i}": randint(2) for i in range(MOST_DIMENSIONS + 1)})
    with pytest.raises(SpecError, match=r"at most 21201 dimensions.*has 21202; use random"):
        Sobol().check(space)


def test_the_limit_on_dimensions_is_that_of_the_direction_numbers() -> None:
    """What the check lets through can be drawn."""
    assert qmc.Sobol.MAXDIM == MOST_DIMENSIONS


# Grid.


def test_a_grid_goes_through_every_combination_with_the_last_parameter_fastest() -> None:
    """The order is that of nested loops, conditional parameters included."""
    model = choice(["linear", {"depth": randint(2), "act": choice(["relu", "tanh"])}])
    space = Space({"model": model, "width": choice([16, 32])})
    models = ["linear", *({"depth": d, "act": a} for d in (0, 1) for a in ("relu", "tanh"))]
    expected = [{"model": m, "width": w} for m in models for w in (16, 32)]
    assert expected == _trials(Grid(), space, range(10))


def test_a_grid_ends_after_its_size() -> None:
    """The first trial past the last combination is None, and so are all after it."""
    size = Grid().size(COUNTABLE)
    assert size == 8 * 7 * 4
    assert Grid().propose(COUNTABLE, (), size - 1, 7) is not None
    expected = [None, None]
    assert expected == _trials(Grid(), COUNTABLE, range(size, size + 2))


def test_a_grid_repeats_no_point_that_was_tried_first() -> None:
    """All other combinations come after those, each once."""
    space = Space({"a": randint(4), "b": choice(["u", "v", {"c": randint(2)}])})
    first = [space.at(number) for number in (14, 1, 9)]
    sweep = dataclasses.replace(_sweep(Grid(), space, 7), try_first=tuple(first))
    drawn = draw(sweep, [], range(20))
    assert first == drawn[:3]
    expected = {json.dumps(space.at(number)) for number in range(16)}
    assert (16, expected) == (len(drawn), {json.dumps(params) for params in drawn})


def test_a_grid_of_overlapping_options_goes_through_all_of_its_numbers() -> None:
    """A value that has two numbers comes twice, also where it was tried first."""
    space = Space({"x": choice([1, randint(3)])})
    drawn = draw(dataclasses.replace(_sweep(Grid(), space, 7), try_first=({"x": 1},)), [], range(9))
    assert [1, 0, 1, 2] == [params["x"] for params in drawn]


def test_a_grid_too_large_to_list_is_still_numbered() -> None:
    """Combinations are computed from their number, never listed."""
    space = Space({f"x{i}": randint(1000) for i in range(20)})
    params = Grid().propose(space, (), 10**60 - 1, 7)
    assert params == {f"x{i}": 999 for i in range(20)}


@pytest.mark.parametrize(
    "expression",
    [
        uniform(0, 1),
        loguniform(1, 2),
        normal(0, 1),
        lognormal(0, 1),
        qnormal(0, 1, 1),
        qlognormal(0, 1, 1),
    ],
    ids=lambda expression: expression.kind,
)
def test_a_grid_refuses_what_cannot_be_counted_by_name(expression: Expression) -> None:
    """The error names the parameter inside its option, and what to use instead."""
    space = Space({"model": choice(["linear", {"lr": expression}])})
    with pytest.raises(SpecError, match=rf"a {expression.kind} for 'model\[1\].lr'; use choice"):
        Grid().check(space)


# Seeds and observations.


def test_trial_seeds_are_the_recorded_ones() -> None:
    """A trial's seed is what it was in every earlier version."""
    expected = [75971499, 3983357107, 2032283795, 3770105153]
    assert expected == [trial_seed(7, trial) for trial in range(4)]


def test_a_trial_seed_says_nothing_about_the_trials_point() -> None:
    """The seed and the point of a trial come from different streams."""
    seeded = np.random.default_rng(trial_seed(7, 3)).random()
    assert seeded != point_generator(7, 3).random()


def test_trial_seeds_fit_what_numpy_takes() -> None:
    """A trial's seed is a whole number below 2**32."""
    seeds = [trial_seed(2**70, trial) for trial in range(200)]
    expected = 200
    assert expected == len(set(seeds))
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True])
def test_an_observation_holds_only_finite_values(value: float) -> None:
    """What is not a finite number is no value to learn from."""
    params: dict[str, Value] = {"x": 1}
    with pytest.raises(SpecError, match="score must be"):
        Observation(trial=0, params=params, score=value)


# What a sampler that learns promises besides.


def _known(space: Space, count: int, *, pending: int = 0) -> list[Observation]:
    """Trials whose score is better the nearer `x` is to 0.3; the last of them still run."""
    drawn = [Sobol().propose(space, (), trial, 1) for trial in range(count)]
    scores = [-_distance(params) for params in drawn]
    return [
        Observation(
            trial=trial,
            params=params,
            score=None if trial >= count - pending else scores[trial],
            pending=trial >= count - pending,
        )
        for trial, params in enumerate(drawn)
    ]


def _distance(params: Any) -> float:  # noqa: ANN401  (params or none)
    return float(abs(params["x"] - 0.3))


LINE = Space({"x": uniform(0, 1), "noise": uniform(0, 1)})


@every_learner
def test_a_learning_sampler_goes_where_it_is_better(learner: Sampler) -> None:
    """Thirty trials show that x near 0.3 is good: most proposals are nearer than most of them."""
    known = _known(LINE, 30)
    proposed = [_distance(learner.propose(LINE, known, trial, 7)) for trial in range(30, 39)]
    assert np.quantile([_distance(each.params) for each in known], 0.25) > np.median(proposed)


@every_learner
@pytest.mark.parametrize("score", [-1e6, -1e30])
def test_what_diverged_does_not_hide_what_the_others_tell(learner: Sampler, score: float) -> None:
    """A loss of 1e30 beside losses of about 1: the next are where those are least."""
    known = _known(LINE, 30)
    known[7] = dataclasses.replace(known[7], score=score)
    proposed = [_distance(learner.propose(LINE, known, trial, 7)) for trial in range(30, 39)]
    assert np.quantile([_distance(each.params) for each in known], 0.25) > np.median(proposed)


@every_learner
def test_a_learning_sampler_stays_out_of_the_tails(learner: Sampler) -> None:
    """Of a normal distribution it proposes nothing that hardly any draw would be."""
    space = Space({"x": normal(0, 1), "size": lognormal(3, 1), "steps": qnormal(0, 10, 1)})
    known: list[Observation] = []
    for trial in range(25):
        params: Any = learner.propose(space, known, trial, 7)
        score = -abs(params["x"] - 0.5) - abs(np.log(params["size"]) - 3.5) + params["steps"] / 10
        known.append(Observation(trial=trial, params=params, score=float(score)))
        assert max(abs(params["x"]), abs(np.log(params["size"]) - 3), abs(params["steps"] / 10)) < 4


@every_learner
def test_a_trial_that_ended_before_it_began_tells_nothing_bad(learner: Sampler) -> None:
    """It was canceled with its sweep: that its place is bad, nobody knows."""
    known = _known(LINE, 30)
    best = {"x": 0.3, "noise": 0.5}
    known += [Observation(trial=30, params=best, stopped=True)]
    proposed = [_distance(learner.propose(LINE, known, trial, 7)) for trial in range(31, 40)]
    assert np.quantile([_distance(each.params) for each in known], 0.25) > np.median(proposed)


@every_learner
def test_a_learning_sampler_answers_the_same_again(learner: Sampler) -> None:
    """The seed, the number and what is known decide."""
    known = _known(LINE, 12, pending=3)
    assert learner.propose(LINE, known, 12, 7) == learner.propose(LINE, known, 12, 7)
    assert learner.propose(LINE, known, 12, 7) != learner.propose(LINE, known, 12, 8)


@every_learner
def test_a_learning_sampler_spreads_what_runs_at_once(learner: Sampler) -> None:
    """Asked for eight one after another without a result between, it gives eight places."""
    known = _known(LINE, 12)
    for trial in range(12, 20):
        params = learner.propose(LINE, known, trial, 7)
        assert params is not None
        known.append(Observation(trial=trial, params=params, pending=True))
    points = np.array([LINE.to_unit(each.params) for each in known[12:]])
    apart = [np.abs(a - b).max() for i, a in enumerate(points) for b in points[:i]]
    assert min(apart) > 1e-3


@every_learner
def test_a_learning_sampler_proposes_nothing_twice(learner: Sampler) -> None:
    """A finite space is gone through once, and then it is over."""
    space = Space({"x": randint(4), "y": choice(["a", {"z": choice([1, 2])}])})
    known: list[Observation] = []
    while (params := learner.propose(space, known, len(known), 7)) is not None:
        score = -float(str(params["x"]))
        known.append(Observation(trial=len(known), params=params, score=score))
    expected = 12
    assert expected == len(known) == len({json.dumps(each.params) for each in known})


@every_learner
def test_a_space_without_an_end_has_none_where_its_likely_values_are_few(learner: Sampler) -> None:
    """A rounded normal draw goes on for ever, in a dozen values: they come again."""
    space = Space({"n": qnormal(0, 2, 1)})
    known: list[Observation] = []
    for trial in range(30):
        params = learner.propose(space, known, trial, 7)
        assert params is not None
        known.append(Observation(trial=trial, params=params, score=-abs(float(str(params["n"])))))


learning_samplers = pytest.mark.parametrize(
    "sampler", [Bayesian(), Optuna(options={"n_startup_trials": 5})], ids=["bayesian", "optuna"]
)


@learning_samplers
def test_a_learning_sampler_begins_with_earlier_results(sampler: Sampler) -> None:
    """Its first trials are where an earlier sweep found it good."""
    earlier = tuple(
        Earlier(params=each.params, value=each.score) for each in _known(LINE, 30) if each.score
    )
    sweep = dataclasses.replace(_sweep(sampler, LINE, 7), earlier=earlier)
    away = sorted(_distance(params) for params in draw(sweep, [], range(5)))
    assert away[2] < 0.15


def test_a_learning_sampler_repeats_no_earlier_trial() -> None:
    """What an earlier sweep has been through is not gone through again."""
    space = Space({"x": randint(6)})
    earlier = tuple(Earlier(params={"x": x}, value=float(x)) for x in (1, 4))
    sweep = dataclasses.replace(_sweep(Bayesian(), space, 7), earlier=earlier)
    drawn = draw(sweep, [], range(9))
    assert [0, 2, 3, 5] == sorted(params["x"] for params in drawn)


@every_learner
@pytest.mark.parametrize("space", [COUNTABLE, CONTINUOUS, CONDITIONAL])
@pytest.mark.parametrize("score", [0.0, 1e300, None])
def test_a_learning_sampler_takes_any_results(
    learner: Sampler, space: Space, score: float | None
) -> None:
    """Scores that are all alike, enormous ones, trials that all failed: the next is in the space."""
    known = [
        Observation(
            trial=trial, params=params, score=score if score != 1e300 else score * trial / 8
        )
        for trial, params in enumerate(_trials(Random(), space, range(9)))
    ]
    proposed = learner.propose(space, known, 9, 7)
    assert proposed is not None
    assert np.nanmin(space.to_unit(proposed)) > 0


@every_learner
def test_a_learning_sampler_leaves_what_fails(learner: Sampler) -> None:
    """Half of a space fails: of the next ten, asked one after another, most are in the other half."""
    known = [
        Observation(trial=each.trial, params=each.params, score=each.score)
        if float(str(each.params["x"])) < 0.5
        else Observation(trial=each.trial, params=each.params)
        for each in _known(LINE, 30)
    ]
    for trial in range(30, 40):
        params = learner.propose(LINE, known, trial, 7)
        assert params is not None
        known.append(Observation(trial=trial, params=params, pending=True))
    there = [float(str(each.params["x"])) < 0.5 for each in known[30:]]
    assert sum(there) >= 8


# The tree-structured Parzen estimator.


def test_tpe_counts_the_order_of_scores_alone() -> None:
    """Scores bent without changing their order lead to the same proposal."""
    known = _known(LINE, 30)
    bent = [
        Observation(
            trial=each.trial, params=each.params, score=float(np.exp(9 * (each.score or 0)))
        )
        for each in known
    ]
    assert Tpe().propose(LINE, known, 30, 7) == Tpe().propose(LINE, bent, 30, 7)


@pytest.mark.parametrize("how", ["stopped", "pending"])
def test_tpe_holds_nothing_unfinished_better_than_the_best_completed(how: str) -> None:
    """A trial that was stopped, or still runs, with the greatest score counts as the best's equal."""
    known = _known(LINE, 30)
    best = max(each.score for each in known if each.score is not None)
    unfinished = Observation(
        trial=30,
        params={"x": 0.9, "noise": 0.5},
        stopped=how == "stopped",
        pending=how == "pending",
    )
    one, two, three = (
        Tpe().propose(LINE, [*known, dataclasses.replace(unfinished, score=score)], 31, 7)
        for score in (best, best + 1, 1e300)
    )
    assert one == two == three


def test_tpe_prefers_a_completed_trial_to_an_unfinished_equal() -> None:
    """Of six, one is good: the completed one, not the one that was stopped at a greater score."""
    known = [Observation(trial=trial, params={"x": 0.1}, score=0.0) for trial in range(4)]
    known.append(Observation(trial=4, params={"x": 0.1}, score=5.0, stopped=True))
    known.append(Observation(trial=5, params={"x": 0.1}, score=1.0))
    expected = [5]
    assert expected == np.flatnonzero(_good(known)).tolist()


def test_tpe_gives_places_that_are_far_apart_when_many_run_at_once() -> None:
    """Sixteen asked for without a result between lie no closer than good ones need to be."""
    known = _known(LINE, 40)
    for trial in range(40, 56):
        params = Tpe().propose(LINE, known, trial, 7)
        assert params is not None
        known.append(Observation(trial=trial, params=params, pending=True))
    points = np.array([LINE.to_unit(each.params) for each in known[40:]])
    assert points.std(axis=0).min() > 0.05
    assert len(np.unique(points.round(2), axis=0)) == 16


def test_tpe_learns_from_ten_thousand_trials() -> None:
    """Many trials are no reason to look at some of them only, or to repeat one of a finite space."""
    known = _known(LINE, 10_000)
    assert _distance(Tpe().propose(LINE, known, 10_000, 7)) < 0.05


def test_tpe_takes_the_last_combinations_of_a_large_space() -> None:
    """When all but two have been tried, those two come, and then no more."""
    space = Space({"a": randint(20), "b": randint(20)})
    left = [{"a": 19, "b": 0}, {"a": 3, "b": 19}]
    tried = [params for params in map(space.at, range(400)) if params not in left]
    known = [Observation(trial=t, params=params, score=float(t)) for t, params in enumerate(tried)]
    found = []
    while (params := Tpe().propose(space, known, len(known), 7)) is not None:
        found.append(params)
        known.append(Observation(trial=len(known), params=params, pending=True))
    assert left == sorted(found, key=str)


def test_tpe_is_better_than_chance_where_parameters_are_conditional() -> None:
    """After 60 trials it has found an optimizer, its rate and a width, better than random points."""
    ours, chance = (
        np.mean([_least_loss(sampler, seed, 60) for seed in range(4)])
        for sampler in (Tpe(), Random())
    )
    assert ours < chance / 2


def _least_loss(sampler: Sampler, seed: int, trials: int) -> float:
    known: list[Observation] = []
    for trial in range(trials):
        params = sampler.propose(CONDITIONAL, known, trial, seed)
        assert params is not None
        known.append(Observation(trial=trial, params=params, score=-_loss(params)))
    return -max(each.score for each in known if each.score is not None)


def _loss(params: Any) -> float:  # noqa: ANN401  (params)
    """Least, 0, for SGD without momentum at a rate of 0.05, with a width of 64."""
    off = 0.1 * (np.log2(params["width"]) - 6) ** 2
    if params["optimizer"] == "none":
        return float(off + 1)
    rate = np.log10(params["optimizer"]["lr"])
    if params["optimizer"]["kind"] == "adam":
        return float(off + 0.3 + 0.3 * (rate + 3) ** 2)
    momentum = params["optimizer"]["momentum"]
    return float(off + 0.3 * (rate + 1.3) ** 2 + (0 if momentum is None else momentum["rate"]))
