"""The chart of the scale benchmark: a report's time against the trials, a controller's load against slots.

One rule: it is drawn from the results that were written down, and from nothing else.

    python benchmarks/scale/chart.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from record import RESULTS, ROOT

CHART = ROOT / "docs" / "images" / "scale.svg"
SMALL = 1_000  # trials, of the sweep that each size was measured beside
MARKS = {"none": "o", "bandit": "s", "median_stopping": "^", "truncation_selection": "D"}

Result = Mapping[str, Any]


def draw(result: Path, chart: Path = CHART) -> None:
    """Draw a written result."""
    mpl.rcParams["svg.hashsalt"] = "scale"  # the same numbers give the same file
    document = json.loads(result.read_text(encoding="utf-8"))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    versions = document["versions"]
    figure.suptitle(
        f"raysweep {versions['raysweep']}: one controller, real journal, simulated slots;"
        f" {document['machine']}"
    )
    reports(left, document["growth"])
    slots(right, document["load"], document["bare_actor"]["call"])
    chart.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chart, metadata={"Date": None})


def reports(axes: Axes, growth: Result) -> None:
    """A report's time against the trials, a line a policy; the bars hold half of the stretches."""
    for policy, sizes in growth.items():
        small = [one["report"] for size in sizes for one in size["small"]]
        each = {SMALL: small} | {
            size["grown"]["ended"]: [one["report"] for one in size["large"]] for size in sizes
        }
        middles = {trials: statistics.quantiles(values, n=4) for trials, values in each.items()}
        heights = [middle for _, middle, _ in middles.values()]
        errors = [
            [middle - low for low, middle, _ in middles.values()],
            [high - middle for _, middle, high in middles.values()],
        ]
        axes.errorbar([*middles], heights, errors, marker=MARKS[policy], capsize=3, label=policy)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("trials in the sweep")
    axes.set_ylabel("controller's time for a report, µs")
    axes.set_title("a report's time as the sweep grows")
    axes.legend(loc="lower right")
    axes.grid(color="0.9")


def slots(axes: Axes, load: Result, ray: float) -> None:
    """How busy a controller is against its slots; what Ray takes of it is the lower part."""
    per_policy = [*load.values()]
    numbers = [one["slots"] for one in per_policy[0]]
    calls = [
        statistics.median(one["calls"] for one in each) for each in zip(*per_policy, strict=True)
    ]
    busy = [
        statistics.median(one["calls"] * (one["call"] + one["commit"] + ray) / 1e6 for one in each)
        for each in zip(*per_policy, strict=True)
    ]
    rays = [each * ray / 1e6 for each in calls]
    axes.fill_between(numbers, rays, color="0.85", label="Ray's own part")
    axes.fill_between(
        numbers, rays, busy, color="tab:blue", alpha=0.4, label="the controller and its journal"
    )
    axes.plot(numbers, busy, color="tab:blue", marker="o")
    for number, height, each in zip(numbers, busy, calls, strict=True):
        axes.annotate(
            f"{each:,.0f} calls/s", (number, height), xytext=(-2, 6), textcoords="offset points",
            ha="right" if number > numbers[0] else "left", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(0, max(1.0, 1.1 * busy[-1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("slots, each with a trial that reports once a second")
    axes.set_ylabel("share of one core")
    axes.set_title("how busy the controller's process is")
    axes.legend(loc="upper left")
    axes.grid(color="0.9")


if __name__ == "__main__":
    draw(RESULTS / "scale.json")
