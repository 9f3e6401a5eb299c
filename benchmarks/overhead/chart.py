"""The chart of the overhead benchmark: how many times better raysweep is, and where each hold stands.

One rule: it is drawn from the results that were written down, and from nothing else.

    python benchmarks/overhead/chart.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from record import RESULTS, ROOT
from rows import TUNE

CHART = ROOT / "docs" / "images" / "overhead.svg"
HELD, MISSED, SHOWN = "tab:blue", "tab:red", "0.7"  # a bar whose hold holds, does not, is none
BAR = 0.3  # inches

Row = Mapping[str, Any]


def draw(result: Path, chart: Path = CHART) -> None:
    """Draw a written result."""
    document = json.loads(result.read_text(encoding="utf-8"))
    against_tune = [row for row in document["rows"] if row["beside"].startswith(TUNE)]
    against_least = [row for row in document["rows"] if not row["beside"].startswith(TUNE)]
    heights = [len(against_tune), len(against_least)]
    figure = Figure(figsize=(12, BAR * (sum(heights) + 9)), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=heights)
    versions = document["versions"]
    upper.set_title(
        f"raysweep {versions['raysweep']} beside Ray Tune {versions['ray']}: how many times better\n"
        f"same trials, same run, {document['machine']}; higher is better\n"
        "blue: what must hold, the black line, does; red: it does not; grey: shown only"
    )
    bars(upper, against_tune, [better(row, row["raysweep"]) for row in against_tune])
    upper.set_xlabel("times better than Ray Tune (1: the same)")
    lower.set_title("beside the least that it could cost: lower is better")
    bars(lower, against_least, [row["ratio"] for row in against_least])
    lower.set_xlabel("times what it is held against takes")
    chart.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chart, metadata={"Date": None})


def better(row: Row, value: float) -> float:
    """How many times better than its peer a value of raysweep's is."""
    less = not row["hold_is"].startswith("at least")
    return float(row["peer"] / value if less else value / row["peer"])


def mark(row: Row) -> float | None:
    """Where on a bar's axis its hold stands; None without one."""
    hold, of_ratio = row["hold"], row["hold_is"].endswith("of ratio")
    if hold is None:
        return None
    value = hold * row["peer"] if of_ratio else hold
    return better(row, value) if row["beside"].startswith(TUNE) else value / row["peer"]


def bars(axes: Axes, rows: Sequence[Row], lengths: Sequence[float]) -> None:
    """A bar a row, its hold a line across."""
    places = range(len(rows))
    colors = {True: HELD, False: MISSED, None: SHOWN}
    beyond = [length - 1.0 for length in lengths]  # a bar begins where both are the same
    axes.barh(places, beyond, left=1.0, color=[colors[row["holds"]] for row in rows], height=0.7)
    for place, row, length in zip(places, rows, lengths, strict=True):
        if (hold := mark(row)) is not None:
            axes.plot([hold, hold], [place - 0.45, place + 0.45], color="black", linewidth=2)
        axes.annotate(
            f"{length:,.3g}", (max(length, 1.0), place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=9, bbox={"color": "white", "alpha": 0.6, "pad": 0.5},
        )  # fmt: skip
    axes.set_yticks(places, [f"{row['what']}\n{row['beside']}" for row in rows], fontsize=7.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.axvline(1.0, color="0.4", linewidth=1)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.margins(x=0.12, y=0.01)


if __name__ == "__main__":
    draw(RESULTS / "overhead.json")
