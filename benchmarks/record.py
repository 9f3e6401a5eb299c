"""Where benchmarks write down what they measured, and what goes with all of it.

One rule: a result names the machine and the versions that it was measured with, and beside each
median the least and the most of its rounds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
QUICK = bool(os.environ.get("QUICK"))  # a short run: what it shows is written down nowhere
PACKAGES = ("raysweep", "ray", "numpy", "pyarrow")


def written(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    packages: Iterable[str] = PACKAGES,
    versions: Mapping[str, str] | None = None,
    **about: object,
) -> None:
    """Write the rows down, with the machine, the versions, and what else there is to say of them.

    Args:
        path: of the file.
        rows: what was measured, a row each.
        packages: whose versions matter.
        versions: of what is no package of this environment.
        about: the whole run.
    """
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    named = {"python": platform.python_version(), "kernel": platform.release()}
    named |= {name: importlib.metadata.version(name) for name in packages} | dict(versions or {})
    document = {"machine": machine, "versions": named, **about, "rows": [*rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], share: int) -> float:
    """One of the 99 cuts of what was measured."""
    return statistics.quantiles(values, n=100)[share - 1]


def spread(values: Sequence[float], digits: int) -> list[float]:
    """The least and the most, rounded."""
    return [round(min(values), digits), round(max(values), digits)]
