"""Ray Tune's own release tests, scaled to two cores: wall clock of a whole sweep to the time its trials sleep.

One rule: the number of events a second is that of Ray's test, and so is what it allows itself. Where Ray
starts a trial a core, here two cores start them all, which takes most of a minute for a hundred: so
trials last for five minutes, not 100 s. Tune's need not: they are timed without its start, which favours it.
"""

from __future__ import annotations

from typing import Any

from rows import TUNE, Group, Row
from runs import Run
from sides import BUFFERED, LOGGERS_OFF, SLOTS, SNAPSHOTS_RARE, ours, sized, theirs

ENOUGH = "raysweep {0.reports:,} each, its start included, Tune {1.reports:,}, from its first trial's begin on"


def release(  # a row of Ray's release tests
    name: str,
    our: Run,
    their: Run,
    *,
    target: float,
    hold: float,
    about: str,
    tune: str = "wall_to_ideal",  # what is taken of Tune's answer
) -> Row:
    """Wall clock of the whole sweep to the time that its trials sleep."""
    return Row(
        what=f"{name}: wall clock to ideal (Ray's test allows {target})",
        unit="x ideal",
        ours=(our, "wall_to_ideal"),
        theirs=(their, tune),
        beside=f"{TUNE}, as its release test",
        hold=hold,
        judged="raysweep",
        target=target,
        about=f"{about}; a report, then a sleep, as Ray's test has it",
    )


def bookkeeping() -> Group:
    """Many trials of one report and one second."""
    our = ours(trials=SLOTS * sized(300, 3), every=1.0, expect=sized(320, 6))
    their = theirs(
        trials=SLOTS * sized(40, 3), every=1.0, settings=SNAPSHOTS_RARE, expect=sized(140, 7)
    )
    row = release(
        "bookkeeping",
        our,
        their,
        target=1.28,
        hold=1.03,
        about=f"{SLOTS} slots, trials of 1 s: raysweep {our.trials:,}, a process each, Tune {their.trials:,}",
    )
    return Group(name="bookkeeping", rounds=1, rows=(row,))


def cluster_throughput() -> Group:
    """500 results a second over many trials."""
    slots = sized(100, SLOTS)
    size: dict[str, Any] = {"slots": slots, "trials": slots, "every": 0.2}
    our = ours(**size, reports=sized(1_500, 20), isolation="none", expect=sized(360, 6))
    their = theirs(
        **size, reports=sized(300, 20), settings=LOGGERS_OFF + BUFFERED, expect=sized(170, 7)
    )
    row = release(
        "500 results a second",
        our,
        their,
        target=1.30,
        hold=1.30,
        about=f"{slots} trials at once, 5 results a second each: {ENOUGH.format(our, their)}; Ray's test: 1,000 "
        "trials on 1,024 CPUs, one result in 2 s each",
        tune="seconds_to_ideal",
    )
    return Group(name="cluster-throughput", rounds=1, rows=(row,))


def node_throughput() -> Group:
    """4,800 results a second over 96 trials."""
    slots = sized(96, SLOTS)
    size: dict[str, Any] = {"slots": slots, "trials": slots, "every": 0.02}
    our = ours(**size, reports=sized(15_000, 200), isolation="none", expect=sized(360, 6))
    their = theirs(
        **size, reports=sized(200, 100), settings=LOGGERS_OFF + BUFFERED, expect=sized(190, 6)
    )
    row = release(
        "4,800 results a second",
        our,
        their,
        target=1.20,
        hold=1.20,
        about=f"{slots} trials at once, 50 results a second each: {ENOUGH.format(our, their)}; Ray's test: 96 "
        "trials on 96 CPUs",
        tune="seconds_to_ideal",
    )
    return Group(name="node-throughput", rounds=1, rows=(row,))


def durable() -> Group:
    """16 MB of checkpoints a second."""
    size: dict[str, Any] = {
        "trials": SLOTS,
        "reports": sized(12, 2),
        "every": sized(5, 2),
        "checkpoint_each": sized(2, 2),
        "checkpoint_bytes": 10_000_000,
    }
    our = ours(**size, expect=sized(80, 6))
    their = theirs(**size, keep=4, expect=sized(100, 7))
    row = release(
        "durable checkpoints",
        our,
        their,
        target=2.17,
        hold=2.17,
        about=f"{SLOTS} trials at once, {our.reports} reports each, one in {our.every:g} s, every second one with "
        "a checkpoint of 10 MB; raysweep syncs and keeps all, Tune keeps 4 and syncs none",
    )
    return Group(name="durable", rounds=1, rows=(row,))
