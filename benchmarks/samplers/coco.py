"""COCO's functions: bbob, and bbob-mixint, in which four of five parameters are whole numbers.

One rule: nobody has trained anything here, so they are reported apart and tune nothing. An
evaluation takes a second, and what counts is the regret's logarithm: what a sampler wins on its way
from 1 % to 0.1 % of an ordinary configuration's distance counts as much as from 10 % to 1 %.

    python coco.py    finds the references again and writes them: a minute

They come with the package `coco-experiment` (N. Hansen and others, "COCO: a platform for comparing
continuous optimizers in a black-box setting", 2021; T. Tušar and others, "Mixed-integer benchmark
problems for single- and bi-objective optimization", GECCO 2019). Each function's first instance is
taken; its least value is the one at the point that the package says is best.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cocoex
import numpy as np
import numpy.typing as npt
from references import Reference, read_references, usual, written
from tasks import Params, Reading, Task

import raysweep as rs

REFERENCES = Path(__file__).parent / "data" / "coco" / "references.json"
SUITES = ("bbob", "bbob-mixint")
FUNCTIONS = range(1, 25)
DIMENSIONS = (5, 10)
POINTS = 2_048  # whose median is the ordinary configuration
DECADES = 8  # COCO's own last target


def names() -> list[str]:
    """Every function, as `suite/f01-5d`."""
    return [
        f"{suite}/f{function:02}-{dimension}d"
        for suite in SUITES
        for dimension in DIMENSIONS
        for function in FUNCTIONS
    ]


@cache
def load(name: str) -> Task:
    """The task of a function."""
    found = read_references(REFERENCES)[name]
    truth = _truth(name)

    def read(params: Params, random: np.random.Generator) -> Reading:
        del random
        return Reading(value=truth(params), seconds=1.0)

    return Task(
        name=name,
        family=name.partition("/")[0],
        space=space(name),
        read=read,
        truth=truth,
        best=found.best,
        usual=found.usual,
        decades=DECADES,
    )


def space(name: str) -> rs.Space:
    """A function's space; whole numbers come first and count from 0."""
    problem = _problem(name)
    whole = problem.number_of_integer_variables
    bounds = zip(problem.lower_bounds, problem.upper_bounds, strict=True)
    return rs.Space(
        {
            f"x{at}": rs.randint(round(high - low) + 1)
            if at < whole
            else rs.uniform(float(low), float(high))
            for at, (low, high) in enumerate(bounds)
        }
    )


def reference(name: str) -> Reference:
    """The least value, and the median's."""
    problem, truth = _problem(name), _truth(name)
    return Reference(
        best=float(problem(_best_point(problem))),
        usual=usual(
            space(name), lambda found: np.array([truth(each) for each in found]), points=POINTS
        ),
    )


def _truth(name: str) -> Callable[[Params], float]:
    problem = _problem(name)
    whole = problem.number_of_integer_variables
    lows = np.array(problem.lower_bounds)
    lows[whole:] = 0.0

    def truth(params: Params) -> float:
        return float(problem(lows + [params[f"x{at}"] for at in range(len(lows))]))

    return truth


@cache
def _problem(name: str) -> Any:  # noqa: ANN401  (the package's own)
    return _suite(name)[0]


@cache
def _suite(name: str) -> Any:  # noqa: ANN401  (as above)
    """Kept as long as its problem: their memory is the suite's."""
    suite, _, rest = name.partition("/")
    function, _, dimension = rest.partition("-")
    which = f"function_indices:{int(function[1:])} dimensions:{int(dimension[:-1])}"
    return cocoex.Suite(suite, "", f"{which} instance_indices:1")


def _best_point(problem: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401  (as above)
    """Where the function is least; the package writes it to a file, and nowhere else."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        problem._best_parameter("print")  # noqa: SLF001  (there is no public way)
        (written_there,) = Path().iterdir()
        return np.array(written_there.read_text().split(), dtype=float)


def main() -> None:
    """Find and write the references of all functions."""
    written(REFERENCES, {name: reference(name) for name in names()})


if __name__ == "__main__":
    main()
