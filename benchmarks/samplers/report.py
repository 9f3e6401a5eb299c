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
import suites
from figures import Runs
from plan import BUDGETS
from rich.console import Console
from rich.table import Table
from store import RACES, SWEEPS, Row, Store, about, read

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS = "bayesian"
COLOURS = dict(zip(
    ("bayesian", "tpe", "optuna-gp", "optuna-tpe", "sobol", "random", "random-x2", "auto"),
    ("#c0392b", "#e67e22", "#2c3e50", "#2980b9", "#7f8c8d", "#bdc3c7", "#95a5a6", "#8e44ad"),
    strict=True,
))  # fmt: skip
LOOKED_AT = (20, 50, 100)
Key = tuple[str, int]


def table(runs: Mapping[Key, Runs], workers: int) -> Table:
    """Mean normalised regret after so many trials, with 95 percent intervals; best first."""
    shown = Table(title=f"mean normalised regret, {workers} worker{'s' * (workers > 1)}")
    for column in ("sampler", *(f"{budget} trials" for budget in LOOKED_AT), "runs"):
        shown.add_column(column, justify="left" if column == "sampler" else "right")
    rows = []
    for (contender, at_once), each in runs.items():
        if at_once == workers:
            cells = [_cell(each, budget) for budget in LOOKED_AT]
            rows.append((_last(each), contender, cells, len(each.regrets)))
    for _, contender, cells, count in sorted(rows):
        shown.add_row(contender, *cells, str(count))
    return shown


def differences(runs: Mapping[Key, Runs], workers: int) -> Table:
    """How much lower ours is than each other, paired, with 95 percent intervals."""
    shown = Table(title=f"{OURS} less the others, paired, {workers} worker{'s' * (workers > 1)}")
    shown.add_column("against")
    for budget in LOOKED_AT:
        shown.add_column(f"{budget} trials", justify="right")
    ours = runs.get((OURS, workers))
    for (contender, at_once), each in sorted(runs.items()):
        if ours is not None and at_once == workers and contender != OURS:
            found = [figures.difference(ours.at(b), each.at(b)) for b in LOOKED_AT]
            shown.add_row(contender, *("" if one is None else str(one) for one in found))
    return shown


def _last(runs: Runs) -> tuple[int, float]:
    """What a run is sorted by: its regret after the most trials that are looked at."""
    budget = max((b for b in LOOKED_AT if runs.at(b)), default=0)
    return -budget, figures.mean(runs.at(budget)).mean if budget else 0.0


def _cell(runs: Runs, budget: int) -> str:
    values = runs.at(budget)
    if not values:
        return ""
    interval = figures.mean(values)
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def show(folder: Path) -> None:
    """Print the tables of all runs of a folder, and write its page."""
    races = Store(folder, "race", RACES).rows()
    kept = Store(folder, "early", SWEEPS).rows()
    sweeps = [{**row, "sampler": row["contender"], "trials": row["budget"]} for row in kept]
    latencies = read(folder / LATENCY)
    console = Console()
    for _, runs in _by_suite(races):
        for at_once in sorted({at_once for _, at_once in runs}):
            console.print(table(runs, at_once), differences(runs, at_once))
    if sweeps:
        console.print(early_table(sweeps))
    if latencies:
        console.print(latency_table(latencies))
    file = folder / "report.html"
    file.write_text(page(races, sweeps, latencies, about(folder)), encoding="utf-8")
    console.print(f"with pictures: {file}")


def page(
    races: Sequence[Row], sweeps: Sequence[Row], latencies: Sequence[Row], made: Mapping[str, str]
) -> str:
    """The whole report as one HTML page, pictures included."""
    parts = ["<h1>Samplers compared</h1>", _INTRODUCTION, _made(races, made)]
    for suite, runs in _by_suite(races):
        parts.append(f"<h2>{html.escape(_TITLES[suite])}</h2>")
        for at_once in sorted({at_once for _, at_once in runs}):
            few = {name: each for (name, number), each in runs.items() if number == at_once}
            parts.append(f"<h3>{at_once} worker{'s' * (at_once > 1)}</h3>")
            parts += [_html(table(runs, at_once)), _html(differences(runs, at_once))]
            parts += [_curves(few), _critical(few), _map(few)]
        parts += [_html(_speed_ups(runs)), _html(_use(runs))]
    if sweeps:
        parts += ["<h2>Early termination</h2>", _EARLY, _html(early_table(sweeps))]
        parts.append(_trade(sweeps))
    if latencies:
        parts += ["<h2>What one ask takes</h2>", _html(latency_table(latencies))]
        parts.append(_latency(latencies))
    return _PAGE.format(body="\n".join(part for part in parts if part))


def _by_suite(races: Sequence[Row]) -> list[tuple[str, dict[Key, Runs]]]:
    """The runs of each suite; COCO's functions, which nobody tunes, apart."""
    found: dict[str, list[Row]] = {}
    for row in races:
        found.setdefault(suites.HOMES[row["task"].partition("/")[0]], []).append(row)
    return [(suite, figures.grouped(found[suite])) for suite in _TITLES if suite in found]


def _made(races: Sequence[Row], made: Mapping[str, str]) -> str:
    """What the runs were made with."""
    versions = {f"{row['contender']}: {row['version']}" for row in races}
    cells = [*made.items(), ("contenders", "; ".join(sorted(versions)))]
    cells.append(("tasks", ", ".join(sorted({row["task"] for row in races}))))
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
    budget = max((b for b in LOOKED_AT if all(runs.at(b) for runs in few.values())), default=None)
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
    budget = max((b for b in LOOKED_AT if few[OURS].at(b)), default=None)
    if budget is None:
        return ""
    ours = few[OURS].at(budget)
    tasks = sorted({task for task, _ in ours})
    found = [figures.by_task(figures.differences(ours, few[name].at(budget))) for name in others]
    cells = np.array([[each.get(task, np.nan) for each in found] for task in tasks])
    figure, axes = plt.subplots(figsize=(2 + 0.9 * len(others), 1 + 0.28 * len(tasks)))
    axes.imshow(cells, cmap="coolwarm", vmin=-0.1, vmax=0.1, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            axes.text(column, row, f"{value:+.3f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(others)), others, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_title(f"{OURS} less the other after {budget} trials; blue: ours is better", fontsize=9)
    return _svg(figure, "Regret differences for each task and sampler")


def early_table(sweeps: Sequence[Row]) -> Table:
    """What each policy saves and costs; the recommended one is marked."""
    import early  # noqa: PLC0415  (onnxruntime)

    shown = Table(title="early termination: 64 trials of up to 50 epochs")
    shown.add_column("policy")
    for column in (
        "sampler",
        "workers",
        "epochs saved",
        "regret",
        "lost",
        "winner stopped",
        "time",
    ):
        shown.add_column(column, justify="right")
    for row in sorted(early.table(sweeps), key=lambda r: (r["sampler"], r["workers"], r["saved"])):
        mark = " *" if row["policy"] == early.RECOMMENDED else ""
        shown.add_row(
            row["policy"] + mark, row["sampler"], str(row["workers"]), f"{row['saved']:.1%}",
            f"{row['regret']:.4f}", str(_lost(sweeps, row)), f"{row['winner_stopped']:.1%}",
            f"{row['time']:.2f}",
        )  # fmt: skip
    return shown


def _lost(sweeps: Sequence[Row], about_: Mapping[str, object]) -> figures.Interval | str:
    """The regret that a policy costs, paired with no policy, with its interval; "" without one."""

    def of(policy: object) -> dict[tuple[str, int], float]:
        return {
            (row["task"], row["seed"]): row["regret"]
            for row in sweeps
            if (row["policy"], row["sampler"], row["workers"])
            == (policy, about_["sampler"], about_["workers"])
        }

    return figures.difference(of(about_["policy"]), of("none")) or ""


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


def latency_table(latencies: Sequence[Row]) -> Table:
    """The median of what asks took, in milliseconds."""
    counts = sorted({row["observations"] for row in latencies})
    shown = Table(title="one ask, milliseconds (median), by how many results are known")
    shown.add_column("sampler")
    for count in counts:
        shown.add_column(f"{count:,}", justify="right")
    for name in sorted({row["contender"] for row in latencies}):
        found = {r["observations"]: r["seconds"] for r in latencies if r["contender"] == name}
        cells = [f"{1000 * np.median(found[c]):.1f}" if c in found else "" for c in counts]
        shown.add_row(name, *cells)
    return shown


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
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, "Ask latency against the number of results")


def _use(runs: Mapping[Key, Runs]) -> Table:
    """The share of the workers' time that trials ran, the sampler's own time charged."""
    workers = sorted({at_once for _, at_once in runs})
    shown = Table(title="worker use: the share of their time that trials ran (mean)")
    shown.add_column("sampler")
    for at_once in workers:
        shown.add_column(f"{at_once} workers", justify="right")
    for name in sorted({name for name, _ in runs}):
        cells = [runs.get((name, at_once)) for at_once in workers]
        shown.add_row(name, *("" if c is None else f"{np.mean(c.busy):.1%}" for c in cells))
    return shown


def _speed_ups(runs: Mapping[Key, Runs]) -> Table:
    """How many times as many trials random takes."""
    shown = Table(title="trials that random takes for the same regret, times as many")
    shown.add_column("sampler")
    keys = sorted(key for key in runs if key[0] != "random" and ("random", key[1]) in runs)
    for budget in LOOKED_AT:
        shown.add_column(f"as after {budget}", justify="right")
    for name, at_once in keys:
        each, random = runs[name, at_once], runs["random", at_once]
        cells = [_times(each, random, budget) for budget in LOOKED_AT]
        shown.add_row(f"{name}, {at_once} workers", *cells)
    return shown


def _times(runs: Runs, random: Runs, budget: int) -> str:
    found = figures.speed_up(runs, random, budget)
    if found is None:
        return ""
    times, reached = found
    return f"{times:.1f}" if reached else f"more than {times:.1f}"


LATENCY = "latency.parquet"
_TITLES = {
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
best of all that were proposed. The recommended policy is marked with *.</p>"""
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
