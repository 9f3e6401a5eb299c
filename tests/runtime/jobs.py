"""Azure ML jobs for the tests of commands: a script beside a job that runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import raysweep as rs

PYTHON = sys.executable
LR = "${{search_space.lr}}"


def job(folder: Path, script: str, **changes: Any) -> rs.JobSweep:  # noqa: ANN401  (parts of a job)
    """A sweep of four values of `lr`, one trial at a time, that runs a Python script.

    Args:
        folder: of the test; the code goes to `code` and the sweep to `sweeps`.
        script: what `train.py` holds.
        changes: keys of the job, `trial`'s and `limits`' own among them, in place of the usual.
    """
    code = folder / "code"
    code.mkdir(exist_ok=True)
    (code / "train.py").write_text(dedent(script))
    # The timeout ends a test that hangs; none is near it.
    limits = {"max_total_trials": 4, "max_concurrent_trials": 1, "timeout": 120} | changes.pop(
        "limits", {}
    )
    trial = {
        "code": str(code),
        "command": f"python train.py {LR}",
        "environment": {"image": "none"},
    } | changes.pop("trial", {})
    block = {"grace": 2.0, "environment": "cluster"} | changes.pop("raysweep", {})
    return rs.load(
        {
            "type": "sweep",
            "name": "t",
            "trial": trial,
            "search_space": {"lr": {"type": "choice", "values": [1, 2, 3, 4]}},
            "sampling_algorithm": "grid",
            "objective": {"goal": "maximize", "primary_metric": "score"},
            "limits": limits,
            "raysweep": block,
        }
        | changes,
        storage=str(folder / "sweeps"),
    )
