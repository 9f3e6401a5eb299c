"""What a controller keeps of a trial that has ended, and of each of its reports.

One rule: it is memory that the process has from the system, and what counts is how it grows: from a tenth
of the trials to all of them, for short trials and for long ones, each in a process of its own.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import msgpack
import numpy as np
from record import QUICK
from world import POLICIES, SPACE, sweep

from raysweep.core.events import AttemptId, End, Ending, Event, Exchanged, Opened, Proposed, Reports
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.space import Value
from raysweep.core.state import SweepState
from raysweep.core.trials import TrialState

TRIALS = 5_000 if QUICK else 20_000
SHORT, LONG = 10, 110  # reports of a trial
BATCH = 50  # reports
NEVER = 10 * LONG  # reports until a policy begins to judge
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes."""

    completed: float  # a trial that ran to its end, with its parameters, without its reports
    stopped: float  # the same of one that the policy stopped, which has a reason
    report: float


def memory(policy: str) -> Memory:
    """What a sweep under this policy keeps."""
    todo = ((SHORT, NEVER), (LONG, NEVER), (SHORT, SHORT))
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as apart:
        short, long, stopped = (apart.submit(growth, policy, *one).result() for one in todo)
    report = (long - short) / (LONG - SHORT)
    return Memory(completed=short - SHORT * report, stopped=stopped - SHORT * report, report=report)


def growth(policy: str, length: int, delay: int) -> float:
    """Bytes that each further trial takes, with so many reports, judged from so many on."""
    spec = sweep(policy)
    if policy != "none":
        spec = replace(spec, policy=replace(spec.policy, delay_evaluation=delay))  # type: ignore[type-var]
    state, random = SweepState(spec), np.random.default_rng(0)
    state.apply(Opened(time=0.0, epoch=1, slots_kept=True))
    ending = Ending.OBEYED if delay == length else Ending.RETURNED
    marks = []
    for trial in range(TRIALS):
        if trial == TRIALS // 10:
            marks.append(used())
        for event in story(trial, length, ending, random):
            state.apply(event)
    marks.append(used())
    stopped = state.counts[TrialState.STOPPED]
    assert stopped >= (0.9 * TRIALS if policy != "none" and delay == length else 0), stopped
    return (marks[1] - marks[0]) / (TRIALS - TRIALS // 10)


def story(trial: int, length: int, ending: Ending, random: np.random.Generator) -> Iterator[Event]:
    """All that happens to a trial, each worse than those before; what a slot says has come over a wire."""
    id_, time = AttemptId(trial, 1), float(trial)
    yield Proposed(time=time, params=(drawn(random),))
    yield Exchanged(time=time, slot=0, incarnation=1, places=1)
    for first in range(1, length + 1, BATCH):
        count = min(BATCH, length + 1 - first)
        block = Reports(
            id=id_,
            first=first,
            names=("accuracy",),
            times=np.arange(count, dtype=float).tobytes(),
            values=(random.random(count) - trial).tobytes(),
        )
        yield heard(Exchanged(time=time, slot=0, incarnation=1, places=1, reports=(block,)))
    end = End(id=id_, last_report=length, ending=ending)
    yield heard(Exchanged(time=time + 0.5, slot=0, incarnation=1, places=1, ends=(end,)))


def drawn(random: np.random.Generator) -> dict[str, Value]:
    """Parameters as a sampler gives them: a mapping of each trial's own."""
    return SPACE.from_unit(random.random(len(SPACE.dimensions)))


def heard(event: Exchanged) -> Exchanged:
    """The same after it was sent: nothing in it is shared with what was there before."""
    return from_plain(Exchanged, msgpack.unpackb(msgpack.packb(to_plain(event))))


def used() -> int:
    """Bytes that this process has in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


if __name__ == "__main__":
    for each in POLICIES:
        print(each, memory(each))
