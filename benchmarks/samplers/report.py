"""The report: one HTML page with the tables and the pictures, and the table for a terminal.

One rule: nothing is said that is not computed from the runs.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import figures
import matplotlib as mpl
import numpy as np
import summary
from figures import Runs
from plan import BUDGETS
from rich.console import Console
from rich.table import Table
from store import Row
from summary import OURS, Results

mpl.use("Agg")
import matplotlib.pyplot as plt

DARK, DARKEST = 0.07, 0.1  # differences of regret: from where on text is white, and colours end
COLOURS = dict(zip(
    ("bayesian", "tpe", "optuna-gp", "optuna-tpe", "sobol", "random", "random-x2", "auto"),
    ("#c0392b", "#e67e22", "#2c3e50", "#2980b9", "#7f8c8d", "#bdc3c7", "#95a5a6", "#8e44ad"),
    strict=True,
))  # fmt: skip


def show(folder: Path) -> None:
    """Print the tables of all runs of a folder, and write its page."""
    results = Results.load(folder)
    console = Console()
    for name, table in results.tables():
        if not name.startswith(("speed-up", "use")):  # the page has them
            console.print(table)
    file = folder / "report.html"
    file.write_text(page(results), encoding="utf-8")
    console.print(f"with pictures: {file}")


def page(results: Results) -> str:
    """The whole report as one HTML page, pictures included."""
    tables = {name: _html(table) for name, table in results.tables()}
    parts = ["<h1>Samplers compared</h1>", _INTRODUCTION, _made(results.made)]
    for suite, runs in results.suites.items():
        parts.append(f"<h2>{_TITLES[suite]}</h2>")
        for workers in summary.at_once(runs):
            few = {name: each for (name, count), each in runs.items() if count == workers}
            parts.append(f"<h3>{summary.named(workers)}</h3>")
            parts += [tables[f"regret {suite} {workers}"]]
            parts += [tables.get(f"differences {suite} {workers}", "")]
            parts += [_curves(few), _critical(few), _map(few)]
        parts += [tables[f"speed-up {suite}"], tables[f"use {suite}"]]
    if results.sweeps:
        shown = [tables[f"early {name}"] for name in summary.proposed_by(results.sweeps)]
        parts += ["<h2>Early termination</h2>", _EARLY, *shown, _trade(results.sweeps)]
    if results.reals:
        parts += ["<h2>On Ray itself</h2>", _REAL, tables["real"]]
    if results.latencies:
        parts += ["<h2>What one ask takes</h2>", tables["latency"], _latency(results.latencies)]
    return _PAGE.format(body="\n".join(part for part in parts if part))


def _made(made: Mapping[str, str]) -> str:
    """What the runs were made with."""
    cells = made.items()
    rows = (f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in cells)
    return (
        f"<details><summary>What it was made with</summary><table>{''.join(rows)}</table></details>"
    )


def _html(shown: Table) -> str:
    """A rich table as an HTML one."""
    head = "".join(f"<th>{html.escape(str(c.header))}</th>" for c in shown.columns)
    columns = [[str(cell) for cell in column.cells] for column in shown.columns]
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in zip(*columns, strict=True)
    )
    return f"<table><caption>{html.escape(str(shown.title))}</caption><tr>{head}</tr>{rows}</table>"


def _svg(figure: plt.Figure, alt: str) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    drawing = written.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return f'<figure role="img" aria-label="{html.escape(alt)}">{drawing}</figure>'


def _curves(few: Mapping[str, Runs]) -> str:
    """Mean regret after each trial, with a band of 95 percent over tasks."""
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for name, runs in sorted(few.items()):
        curve = figures.mean_curve(runs.regrets)
        trials = np.arange(1, len(curve) + 1)
        axes.plot(trials, curve, label=name, color=COLOURS.get(name), lw=1.8)
        at = [b for b in (5, 10, *BUDGETS) if b <= len(curve)]
        bands = [figures.mean(runs.at(b)) for b in at]
        axes.fill_between(
            at, [b.low for b in bands], [b.high for b in bands],
            color=COLOURS.get(name), alpha=0.1, lw=0,
        )  # fmt: skip
    axes.set(
        xlabel="trials that ended", ylabel="mean normalised regret", xscale="log", yscale="log"
    )
    axes.set_title("Regret of the recommended configuration, any time")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, "Regret against the number of trials, a line for each sampler")


def _critical(few: Mapping[str, Runs]) -> str:
    """Mean ranks on a line; what the critical difference cannot tell apart is joined."""
    budget = summary.common(few.values())
    if budget is None or len(few) < 3:  # noqa: PLR2004  (two have no ranks to speak of)
        return ""
    ranks, tasks = figures.ranks({name: runs.at(budget) for name, runs in few.items()})
    if not tasks:
        return ""
    found = sorted(ranks.items(), key=lambda pair: pair[1])
    apart = figures.critical_difference(len(found), tasks)
    figure, axes = plt.subplots(figsize=(7.5, 0.35 * len(found) + 1))
    for row, (name, rank) in enumerate(found):
        axes.plot([rank, rank], [0, -row - 1], color="#999", lw=0.8)
        axes.plot(rank, 0, "o", color=COLOURS.get(name, "#333"))
        axes.text(rank + 0.05, -row - 1, f"{name} {rank:.2f}", va="center", fontsize=9)
    joined_to = 0.0
    for row, (_, rank) in enumerate(found):
        last = max(other for _, other in found if other - rank <= apart)
        if last > max(rank, joined_to):  # otherwise a longer line says it
            height = 0.25 + 0.12 * row
            axes.plot([rank, last], [height, height], color="#333", lw=2.5)
            joined_to = last
    axes.set_title(
        f"Mean rank after {budget} trials over {tasks} tasks; lines join what lies within the"
        f" critical difference of {apart:.2f}",
        fontsize=9,
    )
    axes.set_ylim(-len(found) - 0.6, 0.6 + 0.12 * len(found))
    axes.set_xlim(0.8, len(found) + 1)
    axes.get_yaxis().set_visible(False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    return _svg(figure, "Critical difference diagram of mean ranks")


def _map(few: Mapping[str, Runs]) -> str:
    """Where ours is lower (blue) and where it is not (red), task by task."""
    others = [name for name in sorted(few) if name != OURS]
    if OURS not in few or not others:
        return ""
    budget = summary.common(few.values())
    if budget is None:
        return ""
    ours = few[OURS].at(budget)
    tasks = sorted({task for task, _ in ours})
    found = [figures.by_task(figures.differences(ours, few[name].at(budget))) for name in others]
    cells = np.array([[each.get(task, np.nan) for each in found] for task in tasks])
    figure, axes = plt.subplots(figsize=(2 + 0.9 * len(others), 1 + 0.28 * len(tasks)))
    axes.imshow(cells, cmap="coolwarm", vmin=-DARKEST, vmax=DARKEST, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            colour = "white" if abs(value) > DARK else "black"
            axes.text(
                column, row, f"{value:+.3f}", ha="center", va="center", fontsize=7, color=colour
            )
    axes.set_xticks(range(len(others)), others, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_title(f"{OURS} less the other after {budget} trials; blue: ours is better", fontsize=9)
    return _svg(figure, "Regret differences for each task and sampler")


def _trade(sweeps: Sequence[Row]) -> str:
    """Epochs against regret, a point for each policy."""
    import early  # noqa: PLC0415  (as above)

    found = early.table(sweeps)
    groups = sorted({(row["sampler"], row["workers"]) for row in found})
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for marker, (sampler, workers) in zip("osD^vPX*", groups, strict=False):
        few = [row for row in found if (row["sampler"], row["workers"]) == (sampler, workers)]
        axes.plot(
            [row["epochs"] for row in few], [row["regret"] for row in few], marker, alpha=0.8,
            label=f"{sampler}, {workers} workers",
        )  # fmt: skip
        for row in few:
            axes.annotate(row["policy"], (row["epochs"], row["regret"]), fontsize=7,
                          xytext=(4, 3), textcoords="offset points")  # fmt: skip
    axes.set(xlabel="epochs run", ylabel="mean normalised regret", xscale="log")
    axes.set_title("What a policy saves and costs")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, "Epochs run against regret for each policy")


def _latency(latencies: Sequence[Row]) -> str:
    """The median ask against how many results are known."""
    figure, axes = plt.subplots(figsize=(7.5, 3.5))
    for name in sorted({row["contender"] for row in latencies}):
        few = [row for row in latencies if row["contender"] == name]
        axes.plot(
            [row["observations"] for row in few], [np.median(row["seconds"]) for row in few],
            "o-", label=name, color=COLOURS.get(name),
        )  # fmt: skip
    axes.set(xlabel="results known", ylabel="seconds", xscale="log", yscale="log")
    axes.set_title("What one ask takes (median, one thread)")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure, "Ask latency against the number of results")


_TITLES = {
    "all": "All tasks, COCO's functions apart",
    "tables": "Real tables",
    "lcbench": "LCBench, whole curves",
    "live": "Live objectives",
    "coco": "COCO",
}
_INTRODUCTION = """<p>Regret is 0 for the best configuration of a task and 1 for an ordinary one, the
median of its space. It is that of the configuration that reads best so far, valued without noise:
the mean of all its repetitions. Brackets are 95 % intervals of the mean over tasks, from a bootstrap
over tasks and their seeds; differences are paired by task and seed, and below 0 where
<b>bayesian</b> is better.</p>"""
_EARLY = """<p>Epochs saved are of all that whole trials would have run; lost is the regret that a policy
adds, on the same tasks and seeds; winner stopped is how often it ended the trial that would have been
best of all that were proposed. The sampler's own time is not charged here. The recommended policy is
marked with *.</p>"""
_REAL = """<p>Sweeps on LCBench's tasks as a user runs them, with slots, a controller, a journal and a sampler's
process. Trials sleep for their recorded times, speeded up until one takes a second in the mean; the
virtual clock charges its asks to the same times. Use is the share of the workers' time that trials slept.</p>"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Samplers compared</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25rem .8rem; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
figure {{ margin: 1rem 0 }} figure svg {{ max-width: 100%; height: auto }}
</style></head><body>
{body}
</body></html>
"""
