from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raysweep.core.space import (
    EXPRESSIONS,
    Choice,
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
from raysweep.errors import SpecError

few = settings(max_examples=60, deadline=None)

units = st.floats(0, 1, exclude_min=True, exclude_max=True) | st.sampled_from(
    [5e-324, 1e-300, 2.0**-53, 0.5, 1 - 2.0**-52, 1 - 2.0**-53]
)
steps = st.sampled_from([0.001, 0.1, 0.25, 1 / 3, 1, 2.0, 7, 1e-6])
places = st.floats(-1e4, 1e4)
widths = st.floats(1e-2, 1e4)
positive = st.floats(1e-6, 1e3)

continuous = st.one_of(
    st.builds(lambda low, width: uniform(low, low + width), places, widths),
    st.builds(lambda low, width: loguniform(low, low + width), positive, widths),
    st.builds(normal, places, widths),
    st.builds(lognormal, st.floats(-5, 5), st.floats(0.1, 3)),
)
countable = st.one_of(
    st.builds(
        choice, st.lists(st.integers() | st.text(max_size=3), min_size=1, max_size=5, unique=True)
    ),
    st.builds(randint, st.integers(1, 2**40)),
    st.builds(lambda low, q, n: quniform(low, low + n * q, q), places, steps, st.integers(2, 999)),
    st.builds(
        lambda low, q, n: qloguniform(low, low + n * q, q), positive, steps, st.integers(2, 999)
    ),
    st.builds(qnormal, places, widths, steps),
    st.builds(qlognormal, st.floats(-5, 5), st.floats(0.1, 6), st.sampled_from([0.1, 1 / 3, 1, 7])),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=4)


def _unlike(values: list[Any]) -> list[Any]:
    return list(
        {json.dumps(value, default=repr, sort_keys=True): value for value in values}.values()
    )


def _choices(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Choice]:
    keys = st.sampled_from(["type", "items", "lr", "depth", "low"])
    options = inside | scalars | st.lists(inside | scalars, max_size=2)
    mappings = st.dictionaries(keys, options, max_size=3)
    return st.lists(options | mappings, min_size=1, max_size=4).map(_unlike).map(choice)


def _labelled(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Choice]:
    """Choices whose options nobody can take for each other."""
    return st.lists(inside | scalars, min_size=1, max_size=4).map(
        lambda options: choice([{"option": i, "inside": o} for i, o in enumerate(options)])
    )


def _spaces(
    choices: Callable[[st.SearchStrategy[Any]], st.SearchStrategy[Choice]],
) -> st.SearchStrategy[Space]:
    expressions = st.recursive(continuous | countable, choices, max_leaves=6)
    return st.dictionaries(
        st.text(min_size=1, max_size=5), expressions, min_size=1, max_size=4
    ).map(Space)


spaces = _spaces(_choices)


def _conditional() -> Space:
    tower = {"kind": "tower", "depth": randint(3), "drop": choice([None, {"rate": uniform(0, 1)}])}
    return Space(
        {"lr": loguniform(1e-4, 1e-1), "model": choice(["linear", tower]), "n": randint(4)}
    )


# Every expression.


@few
@given(continuous | countable, units)
def test_a_draw_is_a_value_of_its_expression(expression: Expression, u: float) -> None:
    """Whatever the coordinate, what is drawn is held by the expression."""
    assert expression.holds(expression.from_unit(u))


@few
@given(continuous | countable, units)
def test_a_draw_is_finite_and_json(expression: Expression, u: float) -> None:
    """Near the ends of the unit interval too, a draw is plain and finite."""
    value = expression.from_unit(u)
    assert value == json.loads(json.dumps(value, allow_nan=False))


@settings(max_examples=200, deadline=None)
@given(countable, units)
def test_a_countable_value_comes_back_from_its_centre(expression: Expression, u: float) -> None:
    """A drawn countable value has a coordinate at which it is drawn again, of the same type."""
    value = expression.from_unit(u)
    again = expression.from_unit(expression.to_unit(value))
    expected = (type(value), value)
    assert expected == (type(again), again)


@few
@given(continuous, st.floats(0.001, 0.999))
def test_a_continuous_coordinate_comes_back(expression: Expression, u: float) -> None:
    """The coordinate of what is drawn at u is u."""
    assert u == pytest.approx(expression.to_unit(expression.from_unit(u)), abs=1e-7)


@few
@given(continuous | countable.filter(lambda e: not isinstance(e, Choice)), units, units)
def test_a_value_never_falls_as_u_rises(expression: Expression, u: float, v: float) -> None:
    """Numeric expressions keep the order of their coordinates."""
    low, high = (expression.from_unit(x) for x in sorted((u, v)))
    assert low <= high  # type: ignore[operator]  # both are numbers


@few
@given(continuous | countable)
def test_an_expression_hashes_and_pickles_by_value(expression: Expression) -> None:
    """A copy that went through a pickle is the same key of a set."""
    expected = {expression}
    assert expected == {pickle.loads(pickle.dumps(expression))}


@pytest.mark.parametrize("u", [0.0, 1.0, -0.1, 1.1, math.nan])
@pytest.mark.parametrize("expression", [uniform(0, 1), randint(3), choice([1]), qnormal(0, 1, 1)])
def test_a_coordinate_outside_the_open_interval_is_refused(
    expression: Expression, u: float
) -> None:
    """0 and 1 are no coordinates, nor is what lies beyond them."""
    with pytest.raises(SpecError, match="strictly between 0 and 1"):
        expression.from_unit(u)


def test_every_kind_of_the_design_is_registered() -> None:
    """The registry holds the ten kinds and no other."""
    expected = {"choice", "randint", "uniform", "loguniform", "quniform", "qloguniform",
                "normal", "lognormal", "qnormal", "qlognormal"}  # fmt: skip
    assert expected == set(EXPRESSIONS)


# Distributions.


def _draws(expression: Expression) -> list[Any]:
    return [expression.from_unit(u) for u in np.random.default_rng(5).random(4000)]


@pytest.mark.parametrize(
    ("expression", "cdf"),
    [
        (uniform(-2, 6), stats.uniform(-2, 8).cdf),
        (loguniform(1e-5, 1e-1), stats.loguniform(1e-5, 1e-1).cdf),
        (normal(3, 0.5), stats.norm(3, 0.5).cdf),
        (lognormal(-1, 2), stats.lognorm(s=2, scale=math.exp(-1)).cdf),
    ],
)
def test_draws_follow_the_distribution(expression: Expression, cdf: Callable[[Any], float]) -> None:
    """A Kolmogorov-Smirnov test does not tell the draws from scipy's distribution."""
    assert stats.kstest(_draws(expression), cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("expression", "cdf", "values"),
    [
        (quniform(0, 2, 0.5), stats.uniform(0, 2).cdf, [0, 0.5, 1.0, 1.5, 2.0]),
        (qloguniform(1, 8, 1), stats.loguniform(1, 8).cdf, [1, 2, 3, 4, 5, 6, 7, 8]),
        (qnormal(0, 1, 1), stats.norm(0, 1).cdf, [-2, -1, 0, 1, 2]),
        (qlognormal(0, 1, 1), stats.lognorm(s=1).cdf, [0, 1, 2, 3, 4]),
    ],
)
def test_a_quantised_value_is_as_likely_as_what_rounds_to_it(
    expression: Expression, cdf: Callable[[Any], float], values: list[float]
) -> None:
    """Frequencies are those of the continuous draws within half a step."""
    draws = _draws(expression)
    half = expression.q / 2  # type: ignore[attr-defined]  # every one of them has a q
    expected = [cdf(v + half) - cdf(v - half) for v in values]
    actual = [draws.count(value) / len(draws) for value in values]
    assert expected == pytest.approx(actual, abs=0.02)


def test_steps_of_a_tenth_are_the_decimals_that_were_meant() -> None:
    """A multiple of 0.1 is 0.3, never 0.30000000000000004."""
    expression = quniform(0, 1, 0.1)
    expected = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert expected == [expression.at(index) for index in range(11)]


def test_multiples_of_q_count_from_zero_and_stay_within_the_bounds() -> None:
    """Multiples are those of q itself, not of q added to the lower bound."""
    expression = quniform(1, 20, 8)
    expected = [8, 16]
    assert expected == sorted(set(_draws(expression)))


@pytest.mark.parametrize("expression", [randint(9), quniform(0, 9, 1.0), qnormal(0, 9, 2)])
def test_values_that_can_only_be_whole_are_ints(expression: Expression) -> None:
    """A whole q gives ints, so that they render without a point."""
    expected = {int}
    assert expected == {type(value) for value in _draws(expression)}


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        (randint(7), 7),
        (quniform(0, 1, 0.1), 11),
        (qloguniform(1, 8, 2), 4),
        (choice(["a", "b"]), 2),
        (choice([None, {"depth": randint(3), "width": choice([16, 32])}]), 7),
        (choice([None, {"rate": uniform(0, 1)}]), None),
        (qnormal(0, 1, 1), None),
        (uniform(0, 1), None),
    ],
)
def test_size_counts_the_values(expression: Expression, size: int | None) -> None:
    """The size is the number of values, nested ones included, or None."""
    assert size == expression.size


@pytest.mark.parametrize("u", [5e-324, 1 - 2.0**-53])
@pytest.mark.parametrize(
    "expression",
    [normal(0, 1e308), lognormal(700, 100), qnormal(0, 1e300, 1e290), qlognormal(20, 2, 1)],
)
def test_the_farthest_tails_are_finite(expression: Expression, u: float) -> None:
    """No coordinate gives an infinite value or an error, however wide the distribution."""
    assert math.isfinite(expression.from_unit(u))  # type: ignore[arg-type]  # it is a number


def test_log_bounds_are_natural_and_reached() -> None:
    """The ends of the unit interval are the bounds as they were written."""
    expression = loguniform(1e-5, 1e-1)
    ends = [expression.from_unit(1e-300), expression.from_unit(1 - 2.0**-53)]
    assert ends == pytest.approx([1e-5, 1e-1])


# Choice.


def test_choice_tells_true_one_and_one_point_zero_apart() -> None:
    """Three values that Python calls equal are three options."""
    expression = choice([True, 1, 1.0])
    expected = [0, 1, 2]
    assert expected == [expression.option_of(value) for value in (True, 1, 1.0)]


def test_a_literal_option_comes_before_a_range_that_holds_it() -> None:
    """A value that is an option itself is that option, though a range before it holds it too."""
    assert choice([uniform(0, 1), 0.5]).option_of(0.5) == 1


def test_choices_of_values_that_python_calls_equal_differ() -> None:
    """A choice of 1 is not a choice of True."""
    assert choice([1]) != choice([True])


def test_a_drawn_list_is_a_copy() -> None:
    """Changing what was drawn leaves the space as it was."""
    expression = choice([[1, {"a": [2]}]])
    drawn: Any = expression.from_unit(0.5)
    drawn[1]["a"].append(3)
    expected = [1, {"a": [2]}]
    assert expected == expression.from_unit(0.5)


def test_a_choice_is_a_copy_of_what_it_was_given() -> None:
    """Changing the list that was handed in leaves the choice as it was."""
    given_list = [[1]]
    expression = choice(given_list)
    given_list[0].append(2)
    expected = [1]
    assert expected == expression.from_unit(0.5)


def test_numpy_floats_become_pythons() -> None:
    """A logspace can be handed in; what is drawn is a plain float."""
    expected = float
    assert expected is type(choice(list(np.logspace(-3, -1, 3))).from_unit(0.5))


def test_a_conditional_choice_alone_points_to_the_space() -> None:
    """Without a space the expressions inside an option have no coordinate."""
    with pytest.raises(SpecError, match="through a Space"):
        choice([{"rate": uniform(0, 1)}]).from_unit(0.5)


# Messages.


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (uniform, ("a", 1), "uniform low must be a number, but got 'a'"),
        (uniform, (0, True), "uniform high must be a number, but got True"),
        (uniform, (math.nan, 1), "uniform low must be finite, but got nan"),
        (uniform, (0, math.inf), "uniform high must be finite, but got inf"),
        (uniform, (2, 1), "low=2 and high=1; swap them"),
        (uniform, (1, 1), r"use choice\(\[1.0\]\) for a constant"),
        (uniform, (-1e308, 1e308), "must be less than 1.8e.308 apart"),
        (loguniform, (-5, -1), "loguniform low must be greater than 0, but got -5.*not exponents"),
        (loguniform, (0, 1), "loguniform low must be greater than 0, but got 0"),
        (quniform, (0, 1, 0), "quniform q must be greater than 0, but got 0"),
        (
            quniform,
            (0.1, 0.2, 0.5),
            "multiple of q within its bounds, but got low=0.1, high=0.2, q=0.5",
        ),
        (quniform, (0, 1, 1e-13), "quniform q is too small.*use uniform"),
        (qnormal, (1e9, 1, 1e-6), "qnormal q is too small.*use normal"),
        (normal, (0, 0), "normal sigma must be greater than 0, but got 0"),
        (normal, (0, -1), "normal sigma must be greater than 0, but got -1"),
        (lognormal, (1000, 1), "lognormal mu must be from -710 to 710.*logarithm of the median"),
        (randint, (0,), "randint upper must be at least 1, but got 0"),
        (randint, (2.5,), "randint upper must be a whole number, but got 2.5"),
        (choice, ([],), "choice values must not be empty"),
        (choice, ("abc",), "choice values must be a list, but got 'abc'"),
        (choice, ({1, 2},), "choice values must be a list, but got {1, 2}"),
        (choice, ([1, 2, 1],), "choice values must differ, but got 1 twice"),
        (choice, ([{"a": 1, "b": 2}, {"b": 2, "a": 1}],), "choice values must differ"),
        (choice, ([math.nan],), "choice value 0 must be finite"),
        (choice, ([0, np.int64(1)],), "choice value 1 must be a number.*tolist"),
        (choice, ([{"a": [object()]}],), r"choice value 0\['a'\]\[0\] must be a number, a string"),
        (choice, ([{1: 2}],), "choice value 0 must have strings for keys, but got 1"),
    ],
)
def test_a_wrong_expression_is_refused_by_name(
    make: Callable[..., object], arguments: tuple[object, ...], message: str
) -> None:
    """The error says which field is wrong, what was found and what to do."""
    with pytest.raises(SpecError, match=message):
        make(*arguments)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (uniform(0, 1), 1.5),
        (uniform(0, 1), True),
        (uniform(0, 1), "0.5"),
        (lognormal(0, 1), 0),
        (randint(3), 3),
        (randint(3), 0.5),
        (quniform(0, 1, 0.1), 0.1 + 0.2),
        (quniform(0, 1, 0.1), 1.1),
        (choice([1]), True),
        (choice([[1, 2]]), [1]),
        (choice([{"rate": uniform(0, 1)}]), {"rate": 2}),
    ],
)
def test_a_value_that_is_never_drawn_is_not_held(expression: Expression, value: object) -> None:
    """A value outside the bounds, off the steps or of another type is refused."""
    assert not expression.holds(value)


def test_a_continuous_expression_has_no_numbered_values() -> None:
    """Only countable values have a number."""
    with pytest.raises(SpecError, match="qnormal has no values that could be numbered"):
        qnormal(0, 1, 1).at(0)


class _RayLike:
    """Stands for an object of a package that is not installed here."""


_RayLike.__module__ = "ray.tune.search.sample"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "space must not be empty"),
        ([], "space must be a mapping"),
        ({"": uniform(0, 1)}, "parameter name must not be empty"),
        ({3: uniform(0, 1)}, "space must have strings for keys, but got 3"),
        ({"width": 10}, r"'width' must be an expression, but got 10 .*use choice\(\[10\]\)"),
        ({"width": [16, 32]}, r"use choice\(\[16, 32\]\)"),
        ({"model": {"lr": 1}}, r"choice\(\[{...}\]\)"),
        ({"lr": _RayLike()}, "a Ray Tune object is none: write raysweep's own"),
        ({"lr": uniform}, "use uniform, loguniform, randint, choice"),
    ],
)
def test_a_wrong_space_is_refused_with_the_remedy(
    parameters: Mapping[str, Expression], message: str
) -> None:
    """The error names the parameter and says what to write instead."""
    with pytest.raises(SpecError, match=message):
        Space(parameters)


# Space.


def test_dimensions_go_depth_first_in_order_of_writing() -> None:
    """Every expression is a dimension, after the choice that encloses it."""
    expected = [
        ("lr", None),
        ("model", None),
        ("model[1].depth", (1, 1)),
        ("model[1].drop", (1, 1)),
        ("model[1].drop[1].rate", (3, 1)),
        ("n", None),
    ]
    assert expected == [(d.name, d.parent) for d in _conditional().dimensions]


def test_an_inactive_coordinate_is_ignored() -> None:
    """A coordinate inside an option that is not drawn may be anything, NaN included."""
    space = _conditional()
    point = [0.5, 0.1, math.nan, math.nan, math.nan, 0.9]
    expected = {"lr", "model", "n"}
    assert expected == set(space.from_unit(point))


def test_a_conditional_draw_is_nested_as_it_was_written() -> None:
    """Literals of an option stay, expressions become values."""
    drawn = _conditional().from_unit([0.5, 0.9, 0.5, 0.9, 0.25, 0.1])
    expected = {"kind": "tower", "depth": 1, "drop": {"rate": 0.25}}
    assert expected == drawn["model"]


def test_active_says_which_dimensions_have_a_value() -> None:
    """What stands in another option is not active."""
    params = {"lr": 0.01, "model": {"kind": "tower", "depth": 2, "drop": None}, "n": 3}
    expected = [True, True, True, True, False, True]
    assert expected == _conditional().active(params).tolist()


def test_encode_lays_numbers_and_options_out_in_columns() -> None:
    """A number is its coordinate, a choice one column an option, an absent number 0.5."""
    params = {"lr": 0.1, "model": {"kind": "tower", "depth": 1, "drop": None}, "n": 0}
    expected = [1, 0, 1, 0.5, 1, 0, 0.5, 0.125]
    assert expected == pytest.approx(_conditional().encode(params).tolist())


def test_an_absent_choice_is_encoded_as_zeros() -> None:
    """The columns of a choice inside another option are all 0."""
    expected = [1, 0, 0.5, 0, 0, 0.5]
    params = {"lr": 0.1, "model": "linear", "n": 0}
    assert expected == _conditional().encode(params).tolist()[1:-1]


def test_the_size_of_a_space_counts_conditional_combinations() -> None:
    """Options add up, parameters multiply."""
    nested = choice(["linear", {"depth": randint(3), "drop": choice([0.1, 0.5])}])
    expected = 7 * 4
    assert expected == Space({"model": nested, "n": randint(4)}).size


def test_the_combinations_of_a_space_are_numbered_without_gap_or_repeat() -> None:
    """Numbering visits every combination once and stops at the size."""
    nested = choice(["linear", {"depth": randint(3), "drop": choice([0.1, 0.5])}])
    space = Space({"model": nested, "n": randint(4)})
    expected = 28
    assert expected == len({json.dumps(space.at(index)) for index in range(28)})
    with pytest.raises(SpecError, match="index must be at most 27, but got 28"):
        space.at(28)


def test_a_space_of_endless_parameters_has_no_numbered_combinations() -> None:
    """Numbering a continuous space is refused."""
    with pytest.raises(SpecError, match="cannot be numbered"):
        _conditional().at(0)


@few
@given(_spaces(_labelled), st.data())
def test_params_come_back_from_their_point(space: Space, data: st.DataObject) -> None:
    """What is drawn has a point at which as good as the same is drawn again."""
    point = data.draw(
        st.lists(st.floats(0.01, 0.99), min_size=(n := len(space.dimensions)), max_size=n)
    )
    params = space.from_unit(point)
    assert _close(space.from_unit(space.to_unit(params)), params)


def _close(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_close(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_close, left, right))
    if isinstance(left, float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-6)
    return type(left) is type(right) and bool(left == right)


@few
@given(spaces, st.data())
def test_an_encoding_has_the_width_and_lies_in_the_unit_cube(
    space: Space, data: st.DataObject
) -> None:
    """Whatever is active, a row for a model has the same columns, none of them NaN."""
    point = data.draw(st.lists(units, min_size=(n := len(space.dimensions)), max_size=n))
    row = space.encode(space.from_unit(point))
    expected = (space.width,)
    assert expected == row.shape
    assert ((row >= 0) & (row <= 1)).all()


@few
@given(spaces)
def test_a_space_comes_back_from_json(space: Space) -> None:
    """Plain data loses nothing, mappings that look like expressions included."""
    assert space == Space.from_dict(json.loads(json.dumps(space.to_dict())))


def test_a_mapping_that_looks_like_an_expression_stays_a_mapping() -> None:
    """A literal option with a key `type` is not read back as an expression."""
    space = Space({"x": choice([{"type": "uniform", "low": 0, "high": 1}, uniform(0, 1)])})
    again = Space.from_dict(space.to_dict())
    expected = {"type": "uniform", "low": 0, "high": 1}
    assert expected == again.from_unit([0.25, 0.5])["x"]


def test_spaces_are_equal_by_value_and_order() -> None:
    """The order of parameters decides the dimensions, and so belongs to the value."""
    one, two = uniform(0, 1), randint(3)
    assert Space({"a": one, "b": two}) == Space({"a": one, "b": two})
    assert Space({"a": one, "b": two}) != Space({"b": two, "a": one})
    expected = 1
    assert expected == len({Space({"a": one}), Space({"a": one})})


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"lr": {"type": "unifrm"}}, "lr type must be one of .*did you mean 'uniform'"),
        ({"lr": {"low": 0, "high": 1}}, "lr must say its type"),
        ({"lr": {"type": "uniform", "lo": 0, "high": 1}}, "no key 'lo'; did you mean 'low'"),
        ({"lr": {"type": "uniform", "low": 0}}, "lr .uniform. must have the key 'high'"),
        ({"lr": {"type": "uniform", "low": 2, "high": 1}}, "lr: uniform low must be below high"),
        ({"lr": 3}, "lr must be a mapping, but got 3"),
        ({"m": {"type": "choice", "values": [{"type": "adam"}]}}, "m value type must be one of"),
        ({"m": {"type": "choice", "values": 3}}, "m: choice values must be a list"),
        ({"m": {"type": "choice", "values": [{"type": "mapping"}]}}, "items must be a mapping"),
    ],
)
def test_wrong_plain_data_is_refused_by_name(plain: object, message: str) -> None:
    """The error names the parameter and suggests the nearest known word."""
    with pytest.raises(SpecError, match=message):
        Space.from_dict(plain)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lr": 1, "model": "linear", "n": 1}, "lr: loguniform value must be from 0.0001 to 0.1"),
        ({"lr": 0.1, "model": "linea", "n": 1}, "model: choice value must be one of"),
        ({"lr": 0.1, "model": "linear"}, "params must have a value for 'n'"),
        ({"lr": 0.1, "model": "linear", "m": 1}, "params has no key 'm'"),
    ],
)
def test_wrong_params_are_refused_by_name(params: dict[str, object], message: str) -> None:
    """The error names the parameter whose value is never drawn."""
    with pytest.raises(SpecError, match=message):
        _conditional().to_unit(params)


def test_a_point_of_the_wrong_length_is_refused() -> None:
    """A point has one coordinate a dimension."""
    with pytest.raises(SpecError, match="point must have 6 coordinates, but got 2"):
        _conditional().from_unit([0.5, 0.5])


def test_parameters_are_as_drawn_whatever_their_types_were() -> None:
    """A float of a continuous parameter, a whole number of one in whole steps, the option's own value."""
    space = Space({"lr": uniform(0, 1), "n": quniform(0, 8, 2), "m": choice([{"k": randint(3)}])})
    drawn = space.as_drawn({"m": {"k": 2.0}, "n": 4.0, "lr": 1})
    assert "{'lr': 1.0, 'n': 4, 'm': {'k': 2}}" == repr(drawn)


def test_what_was_drawn_can_be_drawn_again() -> None:
    """By the numbers of the active dimensions: a value, or of a choice the option."""
    space = Space({"m": choice(["a", {"k": randint(3), "u": uniform(0, 1)}]), "x": uniform(0, 1)})
    params = {"m": {"k": 1, "u": 0.1}, "x": 0.3}
    draws = space.draws_of(params)
    assert {0: 1, 1: 1, 2: 0.1, 3: 0.3} == draws
    assert params == space.drawn(draws.__getitem__)
    assert [0, 3] == [*space.draws_of({"m": "a", "x": 0.3})]
