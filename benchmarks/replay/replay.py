"""How long a controller takes to know a sweep of a million reports again, and what those take on disk.

One rule: the journal is written by the very code that a controller writes with, and read by what its
successor reads with: 2,000 trials of 500 reports of one metric, 50 reports a batch, a commit each. Under
each policy all of it is replayed, then what follows a snapshot that was kept after it.

    make bench-replay            a minute
    make bench-replay QUICK=1    a tenth of the reports
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from record import QUICK, RESULTS, spread, written
from rich.console import Console
from rich.table import Table

from raysweep.core.events import AttemptId, End, Ending, Event, Exchanged, Opened, Proposed, Reports
from raysweep.core.policies import (
    Bandit,
    MedianStopping,
    NoPolicy,
    Policy,
    TruncationSelection,
)
from raysweep.core.samplers import Random
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.storage import replay
from raysweep.storage.journal import Journal
from raysweep.storage.segments import FileSegments

TRIALS = 200 if QUICK else 2_000
LENGTH = 500  # reports of a trial
BATCH = 50
SLOTS = 16
ROUNDS = 1 if QUICK else 3
POLICIES: dict[str, Policy] = {  # none of them stops a trial: every report counts
    "none": NoPolicy(),
    "bandit": Bandit(slack_factor=1e6),
    "median_stopping": MedianStopping(delay_evaluation=10 * LENGTH),
    "truncation_selection": TruncationSelection(
        truncation_percentage=1, delay_evaluation=10 * LENGTH
    ),
}
SPEC = SweepSpec(
    name="large",
    space=Space({"x": uniform(0, 1)}),
    objective=maximize("accuracy"),
    sampler=Random(seed=1),
    seed=1,
    limits=Limits(max_total_trials=TRIALS),
)


def write(segments: FileSegments) -> int:
    """Write the journal of a whole sweep; returns its bytes."""
    journal, _ = Journal.open(segments)
    state = SweepState(SPEC)
    random = np.random.default_rng(0)

    def note(event: Event) -> None:
        journal.append(event, state.apply(event))

    note(Opened(time=0.0, epoch=1, slots_kept=True))
    for trial in range(TRIALS):
        slot, time_ = trial % SLOTS, float(trial)
        note(Proposed(time=time_, params=({"x": random.random()},)))
        note(Exchanged(time=time_, slot=slot, incarnation=1, places=1))
        id_ = AttemptId(trial, 1)
        for first in range(1, LENGTH, BATCH):
            note(
                Exchanged(
                    time=time_,
                    slot=slot,
                    incarnation=1,
                    places=1,
                    reports=(block(id_, first, random),),
                )
            )
            journal.write(journal.seal())
        over = End(id=id_, last_report=LENGTH, ending=Ending.RETURNED)
        note(Exchanged(time=time_, slot=slot, incarnation=1, places=1, ends=(over,)))
    journal.write(journal.seal())
    journal.close()
    return journal.size


def block(id_: AttemptId, first: int, random: np.random.Generator) -> Reports:
    """Some reports of a trial."""
    times, values = np.arange(first, first + BATCH, dtype=float), random.random(BATCH)
    return Reports(
        id=id_, first=first, names=("accuracy",), times=times.tobytes(), values=values.tobytes()
    )


def seconds(segments: FileSegments, spec: SweepSpec) -> float:
    """What a replay takes."""
    began = time.perf_counter()
    state = replay.replayed(segments, spec)
    took = time.perf_counter() - began
    assert state.reports == TRIALS * LENGTH
    return took


def row(name: str, segments: FileSegments, folder: Path) -> dict[str, object]:
    """What is written down of a policy."""
    spec = replace(SPEC, policy=POLICIES[name])
    (folder / "snapshot").unlink(missing_ok=True)
    whole = [seconds(segments, spec) for _ in range(ROUNDS)]
    replay.keep_snapshot(segments, spec)
    kept = [seconds(segments, spec) for _ in range(ROUNDS)]
    return {
        "what": f"replay of {TRIALS * LENGTH:,} reports, seconds",
        "policy": name,
        "whole": round(statistics.median(whole), 2),
        "whole_spread": spread(whole, 2),
        "from_snapshot": round(statistics.median(kept), 2),
        "from_snapshot_spread": spread(kept, 2),
        "snapshot_bytes": (folder / "snapshot").stat().st_size,
        "hold": "whole at most 10 s for 1,000,000 reports",
        "holds": bool(statistics.median(whole) <= 10 * TRIALS * LENGTH / 1e6),
    }


def main() -> None:
    """Measure, show, write down."""
    with tempfile.TemporaryDirectory(prefix="raysweep-", dir="/var/tmp") as place:
        segments = FileSegments(Path(place))
        size = write(segments)
        rows = [row(name, segments, Path(place)) for name in POLICIES]
    each = round(size / (TRIALS * LENGTH), 2)
    disk = {
        "what": "journal on disk, bytes a report of one metric in batches of 50",
        "bytes": each,
        "hold": "at most 40",
        "holds": each <= 40,  # noqa: PLR2004  (the line above)
    }
    table = Table("policy", "whole, s", "from a snapshot, s", title=str(rows[0]["what"]))
    for one in rows:
        table.add_row(
            str(one["policy"]),
            f"{one['whole']} {one['whole_spread']}",
            f"{one['from_snapshot']} {one['from_snapshot_spread']}",
        )
    console = Console(width=100)
    console.print(table)
    console.print(f"{each} bytes a report on disk")
    if not QUICK:
        packages = ("raysweep", "numpy", "msgpack")
        written(RESULTS / "replay.json", [*rows, disk], packages=packages)


if __name__ == "__main__":
    main()
