"""Those who are compared: each is asked for parameters and told what came of them.

One rule: each is used as its own documentation says, with its defaults; a score is greater for
what is better, and what was asked for and not told yet is pending.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from tasks import Params

import raysweep as rs
from raysweep.core.samplers import named
from raysweep.core.space import (
    Choice,
    Expression,
    LogUniform,
    QLogUniform,
    QUniform,
    RandInt,
    Space,
    Uniform,
)

OPTUNAS = {"optuna-tpe": "TPESampler", "optuna-gp": "GPSampler"}  # which of Optuna's they are
Results = list[tuple[Params, float]]  # parameters and their scores


class Contender(Protocol):
    """A sampler at work on one task."""

    def learn(self, results: Results) -> None:
        """Take results that nobody asked for, before the first ask."""

    def ask(self) -> tuple[Any, Params]:
        """What to try next, and by which handle to tell of it."""

    def tell(self, handle: Any, score: float) -> None:  # noqa: ANN401  (the contender's own)
        """How good it was."""


class Ours:
    """A sampler of raysweep, asked and told as a user would."""

    def __init__(self, name: str, space: rs.Space, seed: int) -> None:
        self._space, self._sampler = space, named(name, seed)
        self._optimizer = rs.Optimizer(space, rs.maximize("score"), self._sampler)

    def learn(self, results: Results) -> None:
        """Begin with results of before."""
        if self._sampler.learns:
            self._optimizer = rs.Optimizer(
                self._space, rs.maximize("score"), self._sampler, warm_start=results
            )

    def ask(self) -> tuple[Any, Params]:
        """What to try next; the handle is the trial."""
        trial = self._optimizer.ask()
        return trial, trial.params

    def tell(self, handle: Any, score: float) -> None:  # noqa: ANN401  (the optimizer's own)
        """How good it was."""
        self._optimizer.tell(handle, score=score)


class Optuna:
    """A sampler of Optuna, in a study of its own, asked and told as its documentation says."""

    def __init__(self, sampler: str, space: Space, seed: int) -> None:
        import optuna  # noqa: PLC0415  (a second, for who runs it)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        made = getattr(optuna.samplers, sampler)(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=made)
        self._space = space

    def learn(self, results: Results) -> None:
        """Add finished trials to the study."""
        import optuna  # noqa: PLC0415  (as above)

        trial, _ = self.ask()
        known = {"distributions": trial.distributions}
        self._study.add_trials(
            [optuna.create_trial(params=dict(p), value=score, **known) for p, score in results]
        )
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def ask(self) -> tuple[Any, Params]:
        """What to try next; the handle is Optuna's trial."""
        trial = self._study.ask()
        return trial, {
            name: _suggested(trial, name, expression)
            for name, expression in self._space.parameters.items()
        }

    def tell(self, handle: Any, score: float) -> None:  # noqa: ANN401  (its own trial)
        """How good it was."""
        self._study.tell(handle, score)


def _suggested(trial: Any, name: str, expression: object) -> Any:  # noqa: ANN401  (optuna's own)
    match expression:
        case RandInt():
            return trial.suggest_int(name, 0, expression.upper - 1)
        case Choice():
            return _option(trial, name, expression)
        case QLogUniform(q=1):
            low, high = ceil(expression.low), floor(expression.high)
            return trial.suggest_int(name, low, high, log=True)
        case QUniform(q=1):
            return trial.suggest_int(name, ceil(expression.low), floor(expression.high))
        case LogUniform():
            return trial.suggest_float(name, expression.low, expression.high, log=True)
        case Uniform():
            return trial.suggest_float(name, expression.low, expression.high)
    raise TypeError(f"no task has a {type(expression).__name__}")


def _option(trial: Any, name: str, choice: Choice) -> Any:  # noqa: ANN401  (as above)
    """What is inside an option is asked for only when that is taken, as Optuna has it."""
    if not any(isinstance(value, Mapping) for value in choice.values):
        return trial.suggest_categorical(name, list(choice.values))
    at = trial.suggest_categorical(name, list(range(len(choice.values))))
    return {
        key: _suggested(trial, f"{name}[{at}].{key}", inner)
        if isinstance(inner, Expression)
        else inner
        for key, inner in choice.values[at].items()
    }


def _ours(name: str) -> Callable[[Space, int], Contender]:
    return lambda space, seed: Ours(name, space, seed)


def _optuna(sampler: str) -> Callable[[Space, int], Contender]:
    return lambda space, seed: Optuna(sampler, space, seed)


CONTENDERS: Mapping[str, Callable[[Space, int], Contender]] = {
    **{name: _ours(name) for name in ("random", "sobol", "bayesian", "tpe")},
    "random-x2": _ours("random"),  # with twice the workers and trials: see `race.run`
    **{name: _optuna(sampler) for name, sampler in OPTUNAS.items()},
}


def generator(seed: int, trial: int) -> np.random.Generator:
    """Where the noise of a run's trial comes from: the same for all contenders."""
    return np.random.default_rng([seed, trial])
