"""What `-o json` prints: sweeps and trials as JSON's builtins.

One rule: every document can be read by every JSON parser: a number that is not finite is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from raysweep.core.trials import TERMINAL
from raysweep.result import Result, TrialResult

Document = dict[str, Any]


def echo(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: object) -> object:
    """The value with null for every number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def of_sweep(result: Result) -> Document:
    """A sweep without its trials, except for the best."""
    state = result.state
    return {
        "name": result.name,
        "phase": result.standing,
        "reason": result.reason,
        "metric": state.spec.objective.metric,
        "goal": str(state.spec.objective.goal),
        "sampler": state.spec.sampler.kind,
        "seed": state.spec.seed,
        "seconds": result.seconds,
        "trials": len(state.trials),
        "total_trials": state.total_trials,
        "counts": {str(kind): count for kind, count in sorted(state.counts.items()) if count},
        "reports": state.reports,
        "best": None if state.best is None else of_trial(result.best),
        "path": result.path,
    }


def of_trial(trial: TrialResult) -> Document:
    """A trial without its curve."""
    return {
        "trial": trial.number,
        "state": trial.state,
        "params": trial.params,
        "best": trial.best,
        "best_interval": trial.best_interval,
        "intervals": trial.intervals,
        "attempts": trial.attempts,
        "reason": trial.reason,
        "error": trial.error,
        "checkpoint": trial.checkpoint_path,
        "checkpoint_interval": trial.checkpoint_interval,
    }


def of_checkpoints(result: Result, trials: Sequence[TrialResult]) -> list[Document]:
    """The checkpoints of these trials that the journal names, and which of them `best` loads."""
    best = None if result.state.best is None else result.best.checkpoint_path
    return [
        {
            "trial": trial.number,
            "attempt": kept.checkpoint.id.attempt,
            "interval": kept.interval,
            "report": kept.checkpoint.report,
            "size": kept.checkpoint.size,
            "path": (path := f"{result.path}/{kept.checkpoint.path}"),
            "best": path == best,
        }
        for trial in trials
        for kept in result.state.trials[trial.number].checkpoints
    ]


def of_line(result: Result) -> Document:
    """A sweep as one of many."""
    state = result.state
    best = state.best
    return {
        "name": result.name,
        "phase": result.standing,
        "ended": sum(state.counts[kind] for kind in TERMINAL),
        "total_trials": state.total_trials,
        "metric": state.spec.objective.metric,
        "best": None if best is None else best.value,
        "best_trial": None if best is None else best.trial,
    }


def of_preview(trials: list[dict[str, Any]], commands: list[str]) -> list[Document]:
    """The parameters of the first trials; of commands, with each one's command beside them."""
    if not commands:
        return trials
    pairs = zip(trials, commands, strict=True)
    return [{"params": params, "command": command} for params, command in pairs]
