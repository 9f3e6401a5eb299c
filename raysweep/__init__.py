"""raysweep: hyperparameter sweeps on a Ray cluster.

The names below are all that users need; each is imported when it is first used, so that
`import raysweep` costs nothing that is not wanted (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "raysweep.core.policies": ("Bandit", "MedianStopping", "NoPolicy", "TruncationSelection"),
    "raysweep.core.samplers": ("Auto", "Bayesian", "Grid", "Optuna", "Random", "Sobol", "Tpe"),
    "raysweep.core.space": (
        "Space",
        "choice",
        "loguniform",
        "lognormal",
        "normal",
        "qlognormal",
        "qloguniform",
        "qnormal",
        "quniform",
        "randint",
        "uniform",
    ),
    "raysweep.core.spec": ("Limits", "Objective", "Resources", "maximize", "minimize"),
    "raysweep.errors": (
        "CheckpointDamagedError",
        "ControllerLostError",
        "ExhaustedError",
        "JournalDamagedError",
        "MetricError",
        "NoTrialCompletedError",
        "RaysweepError",
        "SpecError",
        "Stopped",
        "SweepExistsError",
        "UnstorableError",
        "UserError",
    ),
    "raysweep.job": ("JobSweep", "load"),
    "raysweep.optimizer": ("Optimizer",),
    "raysweep.result": ("Result", "TrialResult", "load_checkpoint", "load_result"),
    "raysweep.runtime.reporting": ("report",),
    "raysweep.runtime.trial": ("Trial",),
    "raysweep.storage.checkpoints": ("Files",),
    "raysweep.sweep": ("Sweep", "resume"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (made of the table above)


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever the name stands for)
    """Import a public name when it is first used."""
    if name not in _HOME:
        from raysweep.core.checks import did_you_mean  # noqa: PLC0415  (only typos need it)

        meant = did_you_mean(name, __all__)
        raise AttributeError(f"module 'raysweep' has no attribute {name!r}{meant}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
