"""What raysweep costs beyond this machine: up to a million trials and ten thousand slots, simulated.

One rule: the controller and its journal are the real ones, fsync included; the slots and their trials are
played, on a virtual clock. Measured are the time of a report as the sweep grows, memory, the journal, and
how busy a controller is with so many slots.

    make bench-scale            most of half an hour; writes the results and the chart
    make bench-scale QUICK=1    two minutes, up to ten thousand trials and a thousand slots
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import chart
import growth
from bare_actor import Bare, bare
from growth import SMALL, Size, Stretch
from load import SLOTS, Load, load
from memory import Memory, memory
from record import QUICK, RESULTS, spread, written
from rich.console import Console
from rich.table import Table
from world import POLICIES

RESULT = RESULTS / "scale.json"
FLAT = 1.2  # times, of a report's time
TRIAL = 1_000  # bytes
REPORT = {"none": 32, "bandit": 32, "median_stopping": 64, "truncation_selection": 64}  # bytes
WIDTH = 130  # columns
Row = dict[str, Any]


def row(
    what: str,
    value: float,
    peer: float | None = None,
    *,
    hold: float | None = None,
    judged: bool = True,
    **more: object,
) -> Row:
    """What is written down; what is held is the ratio where there is one."""
    ratio = None if peer is None else value / peer
    held = value if ratio is None else ratio
    return {
        "what": what,
        "raysweep": short(value),
        "peer": None if peer is None else short(peer),
        "ratio": None if ratio is None else round(ratio, 3),
        "hold": hold,
        "holds": None if hold is None or not judged else held <= hold,
        **more,
    }


def short(value: float) -> float:
    """Four digits of a number."""
    return float(f"{value:.4g}")


def time_rows(policy: str, sizes: Sequence[Size]) -> list[Row]:
    """How a report's time grew; judged by the median of the ratios, each of one moment."""
    last, large, small = sizes[-1], reports(sizes[-1].large), reports(sizes[-1].small)
    made = row(
        f"time of a report, {policy}: at {last.grown.ended:,} trials beside {SMALL:,}, µs",
        statistics.median(large),
        statistics.median(small),
        hold=FLAT,
        judged=not QUICK,
        ratio_spread=spread(last.ratios, 3),
        raysweep_spread=spread(large, 2),
        peer_spread=spread(small, 2),
        rounds=len(large),
    )
    made["ratio"] = round(last.ratio, 3)
    made["holds"] = None if QUICK else last.ratio <= FLAT
    return [made]


def reports(stretches: Sequence[Stretch]) -> list[float]:
    """Microseconds of a report, of each."""
    return [each.report for each in stretches]


def memory_rows(policy: str, found: Memory) -> list[Row]:
    """What is kept."""
    rows = [row(f"memory of a completed trial, {policy}, bytes", found.completed, hold=TRIAL)]
    if policy != "none":
        rows.append(row(f"memory of a stopped trial, {policy}, bytes", found.stopped, hold=TRIAL))
    return [*rows, row(f"memory of a report, {policy}, bytes", found.report, hold=REPORT[policy])]


def journal_rows(
    sizes: Mapping[str, Sequence[Size]], loads: Mapping[str, Sequence[Load]]
) -> list[Row]:
    """What the journal takes on disk; the median over the policies."""
    whole = [each[-1].grown.journal / each[-1].grown.ended for each in sizes.values()]
    rows = [
        row("journal, bytes a trial of 10 reports of 4 metrics, in bulk", statistics.median(whole))
    ]
    for slots, each in zip(SLOTS, zip(*loads.values(), strict=True), strict=True):
        what = f"journal, bytes a report of 8 metrics once a second, {slots:,} slots"
        rows.append(row(what, statistics.median(one.journal for one in each)))
    return rows


def load_rows(found: Mapping[str, Sequence[Load]], ray: Bare) -> list[Row]:
    """How busy a controller is; the median over the policies."""
    rows = []
    for slots, each in zip(SLOTS, zip(*found.values(), strict=True), strict=True):
        calls = statistics.median(one.calls for one in each)
        busy = statistics.median(one.busy(ray.call) for one in each)
        rows.append(row(f"calls of the controller a second, {slots:,} slots", calls))
        rows.append(row(f"busy share of the controller's process, {slots:,} slots", busy))
    if not QUICK:  # it takes two sizes at which slots speak as seldom as they do then
        full = [saturated(loads, ray) for loads in found.values()]
        what = (
            "slots that would fill a core with the controller's process, by the last two of these"
        )
        rows.append(row(what, min(full), spread=spread(full, 0)))
    return rows


def saturated(loads: Sequence[Load], ray: Bare) -> float:
    """The slots that would keep a controller busy all the time, on the line through the last two."""
    few, many = loads[-2:]
    each = (many.busy(ray.call) - few.busy(ray.call)) / (many.slots - few.slots)
    return many.slots + (1 - many.busy(ray.call)) / each


def shown(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    table = Table("what", "raysweep", "beside", "ratio", "hold", "holds", width=WIDTH)
    for each in rows:
        numbers = [each[name] for name in ("raysweep", "peer", "ratio", "hold")]
        holds = {None: "", True: "yes", False: "[red]NO"}[each["holds"]]
        table.add_row(
            each["what"], *("" if one is None else f"{one:,.4g}" for one in numbers), holds
        )
    return table


def grown(console: Console) -> dict[str, list[Size]]:
    """Let a sweep grow under each policy."""
    found: dict[str, list[Size]] = {}
    for policy in POLICIES:
        found[policy] = []
        with tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as folder:
            for size in growth.sizes(policy, Path(folder)):
                found[policy].append(size)
                took = statistics.median(reports(size.large))
                console.print(
                    f"{policy}, {size.grown.ended:,} trials: {took:.1f} µs a report, {size.ratio:.3f}"
                    f" times {SMALL:,}'s {spread(size.ratios, 3)}; {size.grown.in_bulk:.2f} µs in bulk;"
                    f" garbage {size.grown.garbage:.2f} µs, {size.grown.longest:.0f} ms at most;"
                    f" status {size.grown.status:.2f} ms; {size.grown.memory / 2**20:,.0f} MiB",
                    highlight=False,
                )
    return found


def loaded(console: Console) -> dict[str, list[Load]]:
    """Have a controller serve more and more slots under each policy."""
    found: dict[str, list[Load]] = {}
    for policy in POLICIES:
        found[policy] = [load(policy, slots) for slots in SLOTS]
        for each in found[policy]:
            console.print(
                f"{policy}, {each.slots:,} slots: {each.calls:.0f} calls a second, {each.call:.0f} µs"
                f" each; {each.reports:,.0f} reports a second; {each.journal:.0f} bytes a report in"
                f" the journal", highlight=False,
            )  # fmt: skip
    return found


def main() -> None:
    """Measure, show, write down."""
    console, began = Console(width=WIDTH), time.monotonic()
    kept = {policy: memory(policy) for policy in POLICIES}
    loads = loaded(console)
    requests = statistics.mean(each[-1].request for each in loads.values())
    ray = bare(int(requests))
    console.print(
        f"a bare actor: {ray.calls:,.0f} calls a second; of its process {ray.call:.0f} µs each, of"
        f" which {ray.loop:.0f} µs on its own thread", highlight=False,
    )  # fmt: skip
    sizes = grown(console)
    rows = [made for policy in POLICIES for made in time_rows(policy, sizes[policy])]
    rows += [made for policy, one in kept.items() for made in memory_rows(policy, one)]
    rows += [*journal_rows(sizes, loads), *load_rows(loads, ray)]
    console.print(shown(rows))
    minutes = (time.monotonic() - began) / 60
    console.print(f"{minutes:.1f} minutes", highlight=False)
    if not QUICK:
        written(
            RESULT,
            rows,
            packages=("raysweep", "ray", "numpy", "msgpack"),
            growth={policy: [asdict(size) for size in each] for policy, each in sizes.items()},
            load={policy: [asdict(one) for one in each] for policy, each in loads.items()},
            bare_actor=asdict(ray),
            minutes=round(minutes, 1),
        )
        chart.draw(RESULT)


if __name__ == "__main__":
    main()
