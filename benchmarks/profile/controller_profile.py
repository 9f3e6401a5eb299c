"""Where the controller's time goes while 16 trials report as fast as they can, 8 metrics a report.

One rule: it is a real sweep on a Ray of its own, through the public face; nothing in raysweep knows that it is
looked at. Prints the shares by file and by function; writes a picture and the stacks, for other tools.

    make profile            half a minute
    make profile QUICK=1    a quarter of it
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from heapq import nlargest
from pathlib import Path
from typing import Any

import ray
import sampling
from icicle import icicle
from own_ray import own_ray
from record import QUICK
from rich.console import Console
from rich.table import Table

import raysweep as rs
from raysweep.core.events import Exchanged
from raysweep.storage import journal

TRIALS = 16
REPORTS = 5_000 if QUICK else 30_000  # of a trial
METRICS = 8
SHOWN = 12  # files, and functions, at most
WRITTEN = Path(tempfile.gettempdir()) / "raysweep-profile"

Shares = defaultdict[str, float]


def watched_ray(folder: Path) -> AbstractContextManager[None]:
    """A Ray in whose controller somebody looks."""
    looks = str(folder)

    def arm() -> None:
        sampling.arm(looks)

    ray.cloudpickle.register_pickle_by_value(sampling)
    return own_ray(TRIALS, folder / "ray", {"worker_process_setup_hook": arm})


def training(folder: Path) -> Callable[[rs.Trial], None]:
    """A function that reports as fast as it can, once all trials are there."""
    there = str(folder)

    def train(trial: rs.Trial) -> None:
        (Path(there) / f"trial-{trial.number}").touch()
        while len([*Path(there).glob("trial-*")]) < TRIALS:
            time.sleep(0.05)
        others = {f"metric_{number}": 0.1 * number for number in range(1, METRICS)}
        for number in range(1, REPORTS + 1):
            trial.report({**others, "score": 1 / number})

    return train


def swept(folder: Path) -> tuple[float, float]:
    """Run the sweep; returns its exchanges and its reports a second."""
    result = rs.Sweep(
        training(folder),
        space={"rate": rs.loguniform(1e-4, 1e-2)},
        objective=rs.maximize("score"),
        sampler=rs.Random(seed=1),
        limits=rs.Limits(max_total_trials=TRIALS, max_concurrent_trials=TRIALS),
        name="profile",
        storage=str(folder),
    ).run(screen="none")
    said = [event for event, _ in journal.read(result.folder.journal)]
    times = [event.time for event in said if isinstance(event, Exchanged) and event.reports]
    seconds = times[-1] - times[0]
    return len(times) / seconds, result.state.reports / seconds


def shares(stacks: Mapping[str, float]) -> tuple[Shares, Shares, Shares]:
    """Seconds by file and by function in which they were spent; by function with what it calls."""
    files, own, whole = Shares(float), Shares(float), Shares(float)
    for stack, seconds in stacks.items():
        names = stack.split(";")
        files[names[-1].rpartition(":")[0]] += seconds
        own[names[-1]] += seconds
        for name in set(names):
            whole[name] += seconds
    return files, own, whole


def shown(title: str, found: Shares, total: float, *, only: str = "") -> Table:
    """The largest of these as a table."""
    table = Table("share", title, width=100)
    largest = nlargest(
        SHOWN, (name for name in found if name.startswith(only)), key=found.__getitem__
    )
    for name in largest:
        table.add_row(f"{found[name] / total:.1%}", name)
    return table


def main() -> None:
    """Run, show, write."""
    console = Console(width=110, highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="rs-", dir="/tmp") as short,  # sockets lie in it
        tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as storage,
    ):
        with watched_ray(Path(short)):
            exchanges, reports = swept(Path(storage))
        (looks,) = Path(short).glob("*.json")
        told: dict[str, Any] = json.loads(looks.read_text(encoding="utf-8"))
    stacks: dict[str, float] = told["stacks"]
    total = sum(stacks.values())
    files, own, whole = shares(stacks)
    console.print(shown("file in which the time was spent", files, total))
    console.print(shown("function in which the time was spent", own, total))
    console.print(
        shown("raysweep's functions, with what they call", whole, total, only="raysweep/")
    )
    busy = {name: told[name] / told["seconds"] for name in ("process", "unseen", "looking")}
    console.print(
        f"{exchanges:,.0f} exchanges and {reports:,.0f} reports a second, looked at for"
        f" {told['seconds']:.0f} s. Of a core the controller's process took {busy['process']:.0%}: its"
        f" Python {total / told['seconds']:.0%}, {busy['unseen']:.0%} between two looks, {busy['looking']:.0%}"
        f" to look, the rest Ray's own threads."
    )
    WRITTEN.mkdir(exist_ok=True)
    title = f"the controller's Python, {total:.1f} s of CPU time; {reports:,.0f} reports a second"
    (WRITTEN / "controller.svg").write_text(icicle(stacks, title), encoding="utf-8")
    lines = [f"{stack} {round(1e6 * seconds)}\n" for stack, seconds in stacks.items()]
    (WRITTEN / "controller.collapsed").write_text("".join(lines), encoding="utf-8")
    console.print(f"{WRITTEN}/controller.svg, {WRITTEN}/controller.collapsed (microseconds)")


if __name__ == "__main__":
    main()
