"""What is best and what is usual in a task that nobody has a table of: found once, and written down.

One rule: seeds are fixed, so that whoever doubts a number finds it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import raysweep as rs

KEPT = 16  # the best so far, around each of which a round looks
STEPS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # of each round, in the unit cube
AROUND = 64  # points around each of those kept
MOVED = 0.5  # share of the coordinates that a step moves
EDGE = 1e-9  # the cube is open

Values = npt.NDArray[np.float64]
Judge = Callable[[Sequence[Mapping[str, Any]]], Values]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What regret is measured between."""

    best: float
    usual: float


def read_references(path: Path) -> dict[str, Reference]:
    """By task."""
    return {name: Reference(**each) for name, each in json.loads(path.read_text()).items()}


def written(path: Path, found: Mapping[str, Reference]) -> None:
    """Write them down, to be committed."""
    plain = {name: asdict(each) for name, each in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain, indent=1) + "\n")


def sobol(space: rs.Space, points: int) -> Values:
    """Points of the space's cube, shape (points, dimensions)."""
    from scipy.stats import qmc  # noqa: PLC0415  (half a second, for who needs it)

    engine = qmc.Sobol(len(space.dimensions), scramble=True, rng=np.random.default_rng(0))
    return np.clip(engine.random(points), EDGE, 1 - EDGE)


def usual(space: rs.Space, judge: Judge, *, points: int) -> float:
    """What the median configuration is worth."""
    return float(np.median(judge([space.from_unit(u) for u in sobol(space, points)])))


def search(
    space: rs.Space, judge: Judge, *, points: int, around: int = AROUND, kept: int = KEPT
) -> Reference:
    """Judge so many points of the whole cube, then look around the best in ever smaller steps."""
    cube = sobol(space, points)
    values = judge([space.from_unit(u) for u in cube])
    median = float(np.median(values))
    random = np.random.default_rng(0)
    for step in STEPS:
        best = np.argsort(values, kind="stable")[:kept]
        cube, values = cube[best], values[best]
        near = _near(cube, step, around, random)
        cube = np.vstack([cube, near])
        values = np.concatenate([values, judge([space.from_unit(u) for u in near])])
    return Reference(best=float(values.min()), usual=median)


def _near(cube: Values, step: float, around: int, random: np.random.Generator) -> Values:
    """Points around each, folded back into the cube at its faces."""
    centres = np.repeat(cube, around, axis=0)
    moves = random.normal(scale=step, size=centres.shape)
    moves *= random.random(centres.shape) < MOVED
    moved = np.abs(centres + moves)
    return np.clip(1 - np.abs(1 - moved), EDGE, 1 - EDGE)
