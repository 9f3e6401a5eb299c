"""What the tuner costs beside the training: raysweep and Ray Tune do the same work, in one run.

One rule: both sides run the same trials, in turns, each measurement in a fresh process with a Ray of its
own; a result in which raysweep's journal does not hold every report exactly once is none.

    make bench-overhead                     about 65 minutes; writes the results and the chart
    make bench-overhead QUICK=1             3 minutes: every row, but not every one can be judged
    python benchmarks/overhead/overhead.py --only digits,no-ops     some groups; writes nothing
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import chart
import exactly_once
import plan
from measuring import DISK, Bench, batches, expected
from record import QUICK, RESULTS, written
from rich.console import Console
from rich.table import Table
from rows import Group
from sides import SETTINGS

WIDTH = 150  # columns
RESULT = RESULTS / "overhead.json"
SCALE = RESULTS / "scale.json"  # rows of the design's table that are measured in benchmarks/scale
PACKAGES = ("raysweep", "ray", "numpy", "pyarrow", "torch", "scikit-learn", "tensorboardX", "click")


def options() -> argparse.Namespace:
    """What the command line says."""
    known = [group.name for group in plan.plan(1.0)]
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", metavar="GROUP[,GROUP]", help=f"of {', '.join(known)}")
    chosen = parser.parse_args()
    chosen.only = known if chosen.only is None else chosen.only.split(",")
    if unknown := set(chosen.only) - set(known):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen.whole = len(chosen.only) == len(known)
    return chosen


def measured(bench: Bench, only: list[str]) -> list[Group]:
    """Measure the groups that are asked for; returns them."""
    calibration = plan.calibration()
    if "digits" in only:
        bench.carry_out([(calibration,)])
    epoch = bench.answers[calibration][0]["seconds"] if "digits" in only else 1.0
    groups = [group for group in plan.plan(epoch) if group.name in only]
    todo = batches(groups)
    bench.console.print(f"it will take about {expected(todo) / 60:.0f} minutes", highlight=False)
    bench.carry_out(todo)
    return groups


def shown(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table(
        "what", "raysweep", "peer", "unit", "ratio", "hold", "holds", "beside", width=WIDTH
    )
    for row in rows:
        kind, _, judged = row["hold_is"].partition(", of ")
        sign = "≥" if kind == "at least" else "≤"
        of = row["unit"] if judged == "raysweep" else "x"
        hold = "" if row["hold"] is None else f"{sign} {row['hold']:g} {of}"
        holds = {None: "", True: "yes", False: "[red]NO"}[row["holds"]]
        cells = [f"{row[side]:,.4g}" for side in ("raysweep", "peer")]
        table.add_row(
            row["what"], *cells, row["unit"], f"{row['ratio']:.3g}", hold, holds, row["beside"]
        )
    return table


def elsewhere() -> Table | None:
    """The rows of the design's table that another benchmark has measured, if it has."""
    if not SCALE.exists():
        return None
    document = json.loads(SCALE.read_text(encoding="utf-8"))
    names = ("what", "raysweep", "peer", "ratio", "hold", "holds")
    table = Table(
        *names, title=f"measured earlier, by make bench-scale ({SCALE.name})", width=WIDTH
    )
    for row in document["rows"]:
        table.add_row(*(plain(row[name]) for name in names))
    return table


def plain(value: str | float | bool | None) -> str:
    """A value as the table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "[red]NO"
    return "" if value is None else value if isinstance(value, str) else f"{value:,.4g}"


def main() -> None:
    """Measure, show, write down."""
    chosen = options()
    exactly_once.prove()
    console = Console(width=WIDTH)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raysweep-bench-", dir=DISK) as folder:
        bench = Bench(console=console, folder=Path(folder))
        groups = measured(bench, chosen.only)
    rows = [row.measured(bench.answers) for group in groups for row in group.rows]
    answers = [answer for made in bench.answers.values() for answer in made]
    checked = int(sum(answer.get("reports_checked", 0) for answer in answers))
    minutes = (time.monotonic() - began) / 60
    console.print(shown(rows))
    if (table := elsewhere()) is not None:
        console.print(table)
    console.print(
        f"{checked:,} reports of raysweep's trials: each is in its journal exactly once. "
        f"{minutes:.1f} minutes.", highlight=False,
    )  # fmt: skip
    if chosen.whole and not QUICK:
        written(
            RESULT,
            rows,
            packages=PACKAGES,
            tune=SETTINGS,
            reports_checked=checked,
            minutes=round(minutes, 1),
        )
        chart.draw(RESULT)


if __name__ == "__main__":
    main()
