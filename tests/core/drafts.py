"""Short hands for what the core's tests are made of: a spec, reports, what a slot says, a record.

One rule: whatever a test does not care about has a plain default here.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import msgpack

from raysweep.core.events import (
    Assign,
    AttemptId,
    Checkpoint,
    Command,
    End,
    Ending,
    Event,
    Exchanged,
    Proposed,
    Reports,
    Stop,
)
from raysweep.core.exchange import Request
from raysweep.core.policies import NoPolicy, Policy
from raysweep.core.samplers import Random
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, Objective, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.storage import journal
from raysweep.storage.journal import Record

SPACE = Space({"x": uniform(0, 1)})
METRIC = "acc"


def draft_spec(
    *,
    policy: Policy | None = None,
    objective: Objective | None = None,
    max_attempts: int = 1,
    max_total_trials: int | None = 3,
    max_concurrent_trials: int | None = None,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    keep_checkpoints: int | None = None,
) -> SweepSpec:
    """A spec of so many trials."""
    return SweepSpec(
        name="draft",
        space=SPACE,
        objective=maximize(METRIC) if objective is None else objective,
        sampler=Random(),
        seed=0,
        policy=NoPolicy() if policy is None else policy,
        limits=Limits(
            max_total_trials=max_total_trials,
            max_concurrent_trials=max_concurrent_trials,
            timeout=timeout,
            trial_timeout=trial_timeout,
        ),
        max_attempts=max_attempts,
        keep_checkpoints=keep_checkpoints,
    )


def proposed(count: int, *, time: float = 0.0, exhausted: bool = False) -> Proposed:
    """So many trials, proposed at once."""
    params = tuple({"x": number / 8} for number in range(count))
    return Proposed(time=time, params=params, exhausted=exhausted)


def reports(
    id_: AttemptId, values: Sequence[float], *, first: int = 1, name: str = METRIC
) -> Reports:
    """A value a report, of one metric."""
    times = array("d", range(len(values)))
    return Reports(
        id=id_,
        first=first,
        names=(name,),
        times=times.tobytes(),
        values=array("d", values).tobytes(),
    )


def checkpoint(id_: AttemptId, report: int) -> Checkpoint:
    """A checkpoint that was handed to a report."""
    path = f"{id_.trial}/{id_.attempt}-{report}.arrow"
    return Checkpoint(id=id_, report=report, path=path, size=1, checksum="c")


def end(
    id_: AttemptId,
    last_report: int,
    ending: Ending = Ending.RETURNED,
    *,
    error: str = "",
    where: str = "",
    damaged: str = "",
) -> End:
    """An attempt's end."""
    return End(
        id=id_, last_report=last_report, ending=ending, error=error, where=where, damaged=damaged
    )


def said(
    time: float,
    *,
    slot: int = 0,
    incarnation: int = 1,
    places: int = 1,
    **what: Any,  # noqa: ANN401  (any field of an exchange)
) -> Exchanged:
    """What a slot says."""
    return Exchanged(time=time, slot=slot, incarnation=incarnation, places=places, **what)


def request(*, slot: int = 0, incarnation: int = 1, sequence: int = 1, **what: Any) -> Request:  # noqa: ANN401  (any field of a request)
    """A request in the first epoch, from a slot of one place."""
    return Request(epoch=1, slot=slot, incarnation=incarnation, sequence=sequence, places=1, **what)


def assigns(commands: Sequence[Command]) -> list[AttemptId]:
    """The attempts that are assigned, in order."""
    return [command.id for command in commands if isinstance(command, Assign)]


def stops(commands: Sequence[Command]) -> list[Stop]:
    """The stops, in order."""
    return [command for command in commands if isinstance(command, Stop)]


def on_the_way(spec: SweepSpec, *, slots: int = 1, count: int | None = None) -> SweepState:
    """A sweep at time 1 whose slots of one place each run a trial: slot 0 trial 0, and so on."""
    state = SweepState(spec)
    state.apply(proposed(spec.total_trials or 0 if count is None else count))
    for slot in range(slots):
        (id_,) = assigns(state.apply(said(1.0, slot=slot)))
        state.apply(said(1.0, slot=slot, begun=(id_,)))
    return state


def as_read_back(event: Event, commands: Sequence[Command]) -> Record:
    """A record as a journal gives it back."""
    return journal._decoded(msgpack.unpackb(journal.encode(event, commands)))


class Silent:
    """A spec whose policy and sampler cannot be asked, equal to the spec that it stands for."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

    def __getattr__(self, name: str) -> object:
        assert name not in {"policy", "sampler"}, f"a replay asked the {name}"
        return getattr(self._spec, name)

    def __eq__(self, other: object) -> bool:
        return self._spec == other

    __hash__ = None  # type: ignore[assignment]  # never needed


def twin(spec: SweepSpec) -> SweepState:
    """A state to replay into: its policy and its sampler cannot be asked."""
    state = SweepState(spec)
    state.spec = Silent(spec)  # type: ignore[assignment]  # it stands for the spec
    return state


def replayed(spec: SweepSpec, records: Sequence[Record]) -> SweepState:
    """The state that a journal's records lead to."""
    state = twin(spec)
    for record in records:
        state.apply(record.event, record.commands)
    return state
