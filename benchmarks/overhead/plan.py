"""What is measured: every row of the design's table that is this benchmark's, with its sizes.

One rule: sizes are chosen so that starting up does not weigh on a rate; where the two sides do different
amounts of work, a row says so. Tune takes longer for a trial the more it has had, so that fewer favour it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from record import QUICK
from releases import bookkeeping, cluster_throughput, durable, node_throughput
from rows import Group, Row
from runs import Run
from sides import DEFAULT, LOGGERS_OFF, REUSE, REUSE_OFF, SLOTS, ours, sized, theirs


def calibration() -> Run:
    """How long an epoch of the real trials takes, two at a time."""
    return Run(side="alone", work="epoch", slots=2, expect=6)


def plan(seconds_an_epoch: float) -> list[Group]:
    """All groups of rows, in the order in which they are measured."""
    return [
        digits(seconds_an_epoch),
        no_ops(),
        reports(),
        bookkeeping(),
        cluster_throughput(),
        node_throughput(),
        durable(),
        decisions(),
        first_report(),
        many_trials(),
        commands(),
    ]


def digits(seconds_an_epoch: float) -> Group:
    """What people feel first: short real trials."""
    trials, seconds = sized(100, 4), 0.5 if QUICK else 2.0
    epochs = max(1, round(seconds / seconds_an_epoch))
    size: dict[str, Any] = {"work": "digits", "slots": 2, "trials": trials, "epochs": epochs}
    our = ours(**size, expect=sized(120, 9))
    reused = theirs(**size, expect=sized(130, 5))
    default = theirs(**size, reuse=False, once=True, expect=sized(300, 15))
    about = (
        f"{trials} trials over 2 slots, {epochs} epochs of a CNN on scikit-learn's digits each, a report an "
        f"epoch, about {seconds:g} s, one thread; raysweep: a process each"
    )
    wall = Row(
        what=f"{trials} short real trials over 2 slots: wall clock",
        unit="s",
        ours=(our, "wall"),
        theirs=(default, "wall"),
        beside=DEFAULT,
        about=about,
        hold=0.5,
    )
    beyond = Row(
        what="slot idle beyond one bare actor call, median",
        unit="ms",
        ours=(our, "idle_beyond"),
        theirs=(our, "bare_call"),
        beside="one bare call of a warm actor",
        hold=20.0,
        judged="raysweep",
        about=f"{about}; the bare call is measured in the same Ray",
    )
    again = replace(wall, theirs=(reused, "wall"), beside=REUSE, hold=0.95)
    rows = (*with_costs(wall), *with_costs(again), beyond)
    return Group(name="digits", rounds=sized(2, 1), rows=rows)


def with_costs(wall: Row) -> tuple[Row, Row, Row]:
    """The wall clock of real trials, and what it is lost to."""
    idle = replace(
        wall,
        what="slot idle between two of them, median",
        unit="ms",
        ours=(wall.ours[0], "idle"),
        theirs=(wall.theirs[0], "idle"),
        hold=None,
        about=f"{wall.about}; from the end of a last training step to the next trial's code in that slot",
    )
    cpu = replace(
        wall,
        what="CPU spent outside of their training",
        ours=(wall.ours[0], "cpu_outside"),
        theirs=(wall.theirs[0], "cpu_outside"),
        hold=None,
        about=f"{wall.about}; all CPU time of the machine less that of the training steps",
    )
    return wall, idle, cpu


def no_ops() -> Group:
    """How many trials a second, when they do nothing but report once."""
    inline = ours(trials=sized(20_000, 1_000), isolation="none", expect=sized(25, 3))
    process = ours(trials=sized(3_000, 150), expect=sized(40, 4))
    logged = theirs(trials=sized(500, 16), expect=sized(75, 5))
    quiet = replace(logged, settings=LOGGERS_OFF)
    default = theirs(trials=sized(80, 8), reuse=False, once=True, expect=sized(45, 6))
    compared = [
        ("in the slot's process", inline, logged, REUSE, 100.0),
        ("in the slot's process", inline, quiet, REUSE_OFF, 100.0),
        ("a process each", process, default, DEFAULT, 40.0),
    ]
    rows = tuple(
        Row(
            what=f"no-op trials a second, {kind}",
            unit="trials/s",
            ours=(our, "trials_a_second"),
            theirs=(their, "trials_a_second"),
            beside=beside,
            hold=hold,
            least=True,
            about=f"{SLOTS} slots; raysweep {our.trials:,} trials, Tune {their.trials:,}; one report a trial",
        )
        for kind, our, their, beside, hold in compared
    )
    return Group(name="no-ops", rounds=sized(3, 1), rows=rows)


def reports() -> Group:
    """How many durable reports a second."""
    process = ours(trials=SLOTS, reports=sized(600_000, 3_000), metrics=8, expect=sized(70, 5))
    inline = replace(process, isolation="none", expect=sized(55, 5))
    logged = theirs(trials=SLOTS, reports=sized(1_000, 20), metrics=8, expect=sized(60, 4))
    quiet = replace(logged, settings=LOGGERS_OFF, expect=sized(35, 4))
    rows = tuple(
        Row(
            what=f"durable reports a second, 8 metrics each, {kind}",
            unit="reports/s",
            ours=(our, "reports_a_second"),
            theirs=(their, "reports_a_second"),
            beside=beside,
            hold=200.0,
            least=True,
            about=f"{SLOTS} trials at once, as fast as they can: raysweep {our.reports:,} reports each, "
            f"Tune {their.reports:,}",
        )
        for kind, our in (
            ("in the slot's process", inline),
            ("a process each", process),
        )
        for their, beside in ((logged, REUSE), (quiet, REUSE_OFF))
    )
    return Group(name="reports", rounds=sized(3, 1), rows=rows)


def decisions() -> Group:
    """From a report to its decision."""
    idle = ours(work="decide", reports=sized(2_000, 300), expect=sized(25, 4))
    loaded = replace(idle, trials=SLOTS, reports=sized(500, 60), expect=sized(30, 5))
    holds = {(idle, 50): 2.0, (idle, 99): 5.0}
    rows = tuple(
        Row(
            what=f"report to decision, {kind}, p{share}",
            unit="ms",
            ours=(run, f"p{share}"),
            theirs=(run, f"bare_p{share}"),
            beside="a bare actor call and one fsync",
            hold=holds.get((run, share)),
            quick=share == 50,  # noqa: PLR2004  (a tail takes more samples)
            about=f"sync_decisions=True, a process each, {run.reports} reports in a row; {load}; the bare call goes "
            "from an actor to another, which appends 100 bytes to a file on the same disk and syncs it, idle",
        )
        for kind, run, load in (
            ("idle", idle, "no other trial"),
            (
                "under load",
                loaded,
                f"{loaded.trials - 1} other trials report 100 times a second each",
            ),
        )
        for share in (50, 99)
    )
    return Group(name="decisions", rounds=sized(3, 1), rows=rows)


def first_report() -> Group:
    """From run() to the first report."""
    our = ours(slots=2, trials=2, warm=True, expect=sized(15, 4))
    their = theirs(slots=2, trials=2, warm=True, reuse=False, expect=sized(20, 5))
    row = Row(
        what="from run() to the first report",
        unit="s",
        ours=(our, "until_first"),
        theirs=(their, "until_first"),
        beside=DEFAULT,
        about="2 trials over 2 slots; Ray is up and a sweep went before; raysweep: a process each",
    )
    return Group(name="first-report", rounds=sized(3, 1), rows=(row,))


def many_trials() -> Group:
    """What is left of many trials: memory, and the time to take them up again."""
    size = {"warm": not QUICK, "expect": sized(30, 3), "place": "many-ours"}
    our = ours(trials=sized(10_000, 300), isolation="none", **size)
    size |= {"expect": sized(150, 5), "place": "many-theirs"}
    their = theirs(trials=sized(600, 16), broken=True, **size)
    again, anew = (
        replace(run, work="resume", warm=False, expect=sized(20, 2)) for run in (our, their)
    )
    about = f"after {our.trials:,} no-op trials, in the slot's process; Tune after {their.trials:,}"
    row = Row(
        what="memory of the controller",
        unit="bytes/trial",
        ours=(our, "controller_bytes"),
        theirs=(their, "driver_bytes"),
        beside=REUSE,
        about=f"{about}, whose driver is its controller; growth from a tenth of the trials on to the last",
    )
    driver = replace(
        row,
        what="memory of the driver",
        ours=(our, "driver_bytes"),
        about=f"{about}; raysweep: growth by all of run(), the Result of all trials in hand included",
    )
    resume = replace(
        row,
        what="from resume to the first new trial",
        unit="s",
        ours=(again, "until_first"),
        theirs=(anew, "until_first"),
        about=f"{about}; raysweep: rs.resume of a sweep that is over, with one trial more; Tune: Tuner.restore("
        "resume_errored=True).fit() of an experiment whose last trial failed; in a fresh process with a fresh Ray",
    )
    return Group(name="many-trials", rounds=1, rows=(row, driver, resume))


def commands() -> Group:
    """What a user waits for before anything happens."""
    run = Run(side="alone", work="imports", trials=sized(11, 7), expect=sized(4, 1))
    rows = tuple(
        Row(
            what=what,
            unit="ms",
            ours=(run, name),
            theirs=(run, "click"),
            beside="import click",
            hold=1.5,
            quick=True,
            about=f"whole commands, fresh processes, in turns, {run.trials} times a round",
        )
        for what, name in (("import raysweep", "import"), ("raysweep --help", "help"))
    )
    return Group(name="commands", rounds=sized(3, 1), rows=rows)
