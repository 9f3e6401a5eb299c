"""The frozen vocabulary of a sweep: events go in, commands come out.

One rule: an event is one batch and carries its own time, so that the same events give the same
state whenever they are applied. A journal is a list of these events, each with the commands that
were given for it; `raysweep.core.plain` turns them into plain lists and back. Fields are only ever
added at the end, with a default: an old journal then still reads.

`time` is always the sweep's own time: seconds during which a controller had it in hand, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.errors import MetricError

Params = Mapping[str, Any]  # what a space draws: numbers, strings, booleans, None, lists, mappings


class AttemptId(NamedTuple):
    """One try at running one trial; also its fence: what an older attempt sends is refused."""

    trial: int
    attempt: int  # 1, 2, 3, ... within the trial

    def __str__(self) -> str:
        """`trial 3, attempt 1`, as messages name it."""
        return f"trial {self.trial}, attempt {self.attempt}"


class Ending(StrEnum):
    """How an attempt ended, as its slot saw it."""

    RETURNED = "returned"  # the training function came to its end
    OBEYED = "obeyed"  # it was told to stop and ended, by itself or by a signal
    RAISED = "raised"  # the training code raised
    KILLED = "killed"  # its process was killed: out of memory, a segmentation fault, a signal
    LOST = "lost"  # the slot gave it up through no fault of the trial


class StopCause(StrEnum):
    """Why a trial is told to stop."""

    POLICY = "policy"
    TRIAL_TIMEOUT = "trial_timeout"
    SWEEP_ENDS = "sweep_ends"  # canceled, out of time, or failed as a whole


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer to one report: go on or stop, and the reason in numbers."""

    stop: bool
    reason: str


GO_ON = Decision(stop=False, reason="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Contiguous reports of one attempt that hold the same metrics, in columns.

    The slot encodes them once; the journal stores the same bytes; the state reads one column.
    """

    id: AttemptId
    first: int  # number of the first report; the others follow without a gap
    names: tuple[str, ...]  # the metrics, in the order of the columns
    times: bytes  # float64, one a report: seconds since the attempt began
    values: bytes  # float64, one row a report, one column a name

    def __post_init__(self) -> None:
        whole = len(self.times) % 8 == 0 and len(self.values) == len(self.times) * len(self.names)
        if not whole or self.first < 1:
            raise MetricError(
                f"reports of {self.id} from number {self.first} on must hold {len(self.names)}"
                f" metrics each, but got {len(self.times)} bytes of times and"
                f" {len(self.values)} bytes of values"
            )

    @property
    def count(self) -> int:
        """How many reports these are."""
        return len(self.times) // 8

    @property
    def last(self) -> int:
        """The number of the last report."""
        return self.first + self.count - 1

    def table(self) -> npt.NDArray[np.float64]:
        """The values, shape (count, len(names))."""
        return np.frombuffer(self.values).reshape(self.count, len(self.names))

    def column(self, name: str) -> list[float] | None:
        """One metric's values, a float a report; None when these reports do not hold it."""
        if name not in self.names:
            return None
        column: list[float] = self.table()[:, self.names.index(name)].tolist()
        return column

    def after(self, number: int) -> Reports | None:
        """These reports without those numbered up to `number`; None when nothing is left."""
        known = number - self.first + 1
        if known <= 0:
            return self
        if known >= self.count:
            return None
        return replace(
            self,
            first=number + 1,
            times=self.times[8 * known :],
            values=self.values[8 * known * len(self.names) :],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A durable checkpoint: announced only once it is on disk whole."""

    id: AttemptId
    report: int  # the report that it was handed to
    path: str  # relative to the sweep's folder
    size: int  # bytes
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An attempt's end; applied after its last report."""

    id: AttemptId
    last_report: int
    ending: Ending
    error: str = ""  # one line: `ValueError: shapes do not match`, `killed by SIGSEGV`
    where: str = ""  # `train.py:12 in train`: tells failures of one kind from others
    traceback: str = ""
    damaged: str = ""  # path of the checkpoint that could not be restored


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A controller has taken the sweep up, under a new epoch."""

    time: float
    epoch: int
    slots_kept: bool  # False on a new cluster: whatever ran there is lost
    wall: str = ""  # UTC, for people only


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """The sampler's next trials, numbered on from those before."""

    time: float
    params: tuple[Params, ...]
    exhausted: bool = False  # True when the sampler has no more to propose
    known: int = 0  # how many trials with a value the sampler had seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """The sampler has thought again of a trial that waits: it knows more than when it proposed it."""

    time: float
    trial: int
    params: Params
    known: int = 0  # as `Proposed.known`


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What one slot had to say, less what was known before."""

    time: float
    slot: int
    incarnation: int  # 1, 2, 3, ...: the slot's actor, counted anew each time it is replaced
    places: int  # how many trials the slot holds at once
    begun: tuple[AttemptId, ...] = ()
    fresh: tuple[AttemptId, ...] = ()  # began from nothing though a checkpoint was given
    reports: tuple[Reports, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    ends: tuple[End, ...] = ()
    ahead: int = 0  # how many trials the slot takes beyond its places, to begin one after the other
    returned: tuple[AttemptId, ...] = ()  # of those, given back: they had not begun

    @property
    def has_news(self) -> bool:
        """Whether the slot said anything beyond being there."""
        said = self.begun or self.fresh or self.reports or self.checkpoints or self.ends
        return bool(said or self.returned)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLost:
    """A slot's actor is gone, or its lease is over."""

    time: float
    slot: int
    incarnation: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialsTimedOut:
    """Attempts that have run for the whole of `trial_timeout`."""

    time: float
    ids: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTimedOut:
    """The sweep has run for the whole of `timeout`."""

    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody wants the sweep to end now."""

    time: float
    reason: str = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerFailed:
    """The sampler raised; no further trial can be proposed."""

    time: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged:
    """The sweep has other limits from now on; one that was over goes on if they leave it room."""

    time: float
    max_total_trials: int | None
    max_concurrent_trials: int | None
    timeout: float | None
    trial_timeout: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """The sweep's controller has left it, for another to take up."""

    time: float


Event = (
    Opened
    | Proposed
    | Exchanged
    | SlotLost
    | TrialsTimedOut
    | SweepTimedOut
    | CancelAsked
    | SamplerFailed
    | LimitsChanged
    | Suspended
    | Revised
)
EVENTS: tuple[type[Event], ...] = (
    Opened,
    Proposed,
    Exchanged,
    SlotLost,
    TrialsTimedOut,
    SweepTimedOut,
    CancelAsked,
    SamplerFailed,
    LimitsChanged,
    Suspended,
    Revised,
)  # fmt: skip  (the order is the journal's: append only)


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Run this attempt on this slot."""

    id: AttemptId
    slot: int
    incarnation: int
    params: Params
    start: int = 0  # the interval that the attempt continues from
    checkpoint: Checkpoint | None = None  # what it is restored from


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this attempt, and why."""

    id: AttemptId
    report: int  # the report that was decided on; 0 when no report was
    cause: StopCause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The sweep is over."""

    phase: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Delete these checkpoints of the trial, once the journal says that they are not needed."""

    id: AttemptId
    report: int  # whose checkpoint takes their place; 0 when the attempt took no notice of them
    paths: tuple[str, ...]  # relative to the sweep's folder


Command = Assign | Stop | Finish | Discard
COMMANDS: tuple[type[Command], ...] = (Assign, Stop, Finish, Discard)  # append only, as EVENTS
