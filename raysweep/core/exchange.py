"""The exchange between a slot and the controller: both ends of it, without a wire.

One rule: delivery at least once, effect exactly once. A slot keeps what it has not heard
acknowledged and sends it again; the controller recognises what it has seen by one integer an
attempt, and repeats what it has ordered until the slot lists it. `SlotBook` is the slot's end,
`Reception` the controller's door; what a request means is `raysweep.core.state`'s to say.

A slot may take more trials than it has places for: they lie in its queue, not begun, so that the
next one begins without asking. What lies there can be taken back by either side.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from raysweep.core.events import Assign, AttemptId, Checkpoint, End, Reports, Stop, StopCause

KEEP = 10_000  # reports an attempt may have unacknowledged before its `report` waits


class Refusal(StrEnum):
    """Why a request had no effect."""

    EPOCH = "epoch"  # it names another epoch: take over the reply's if it is later, send again
    SUPERSEDED = "superseded"  # the slot was given up: it ends its trials and itself
    STALE = "stale"  # a later request has been answered already
    GAP = "gap"  # reports are missing before those sent: send again from the acknowledged
    PAUSED = "paused"  # storage does not take writes: keep everything, try again


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything a slot has to say."""

    epoch: int
    slot: int
    incarnation: int
    sequence: int  # 1, 2, 3, ...; one request is in flight
    places: int
    holds: tuple[AttemptId, ...] = ()  # those that end in this request or are returned included
    fresh: tuple[AttemptId, ...] = ()
    reports: tuple[Reports, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    ends: tuple[End, ...] = ()
    ahead: int = 0  # how many it takes beyond its places
    queued: tuple[AttemptId, ...] = ()  # of those that it holds: not begun
    returned: tuple[AttemptId, ...] = ()  # of these: given back


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """All reports of an attempt up to this one are in the journal."""

    id: AttemptId
    report: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Everything the controller has to say to a slot; repeated until the slot shows it knows."""

    epoch: int
    sequence: int  # of the request that this answers
    refused: Refusal | None = None
    acknowledged: tuple[Acknowledged, ...] = ()
    assigns: tuple[Assign, ...] = ()
    stops: tuple[Stop, ...] = ()
    drops: tuple[AttemptId, ...] = ()  # held, but not the slot's to run: end them unheard
    tick: float = 0.1  # seconds to gather reports before the next request
    close: bool = False  # nothing will follow: the slot ends itself
    leave: float | None = None  # seconds until the slot's machine is taken away; None: it stays


class Reception:
    """The controller's door: who may come in, and who has been silent for too long.

    It forgets with its controller: after a restart every slot counts as just heard.
    """

    def __init__(self, epoch: int, lease: float) -> None:
        self.epoch = epoch
        self._lease = lease
        self._sequences: dict[tuple[int, int], int] = {}
        self._heard: dict[tuple[int, int], float] = {}  # monotonic seconds

    def expect(self, slot: int, incarnation: int, now: float) -> None:
        """Count the lease of a slot from now on."""
        self._heard[slot, incarnation] = now

    def admit(self, request: Request, now: float) -> Refusal | None:
        """Why this request may not come in; None when it may. Renews the slot's lease."""
        if request.epoch != self.epoch:
            return Refusal.EPOCH
        who = (request.slot, request.incarnation)
        if request.sequence <= self._sequences.get(who, 0):
            return Refusal.STALE
        self._sequences[who] = request.sequence
        self._heard[who] = now
        return None

    def silent(self, now: float, margin: float) -> list[tuple[int, int]]:
        """The slots (number, incarnation) whose lease is over, with a margin for slow clocks."""
        bound = now - self._lease - margin
        return [who for who, heard in self._heard.items() if heard < bound]

    def forget(self, slot: int, incarnation: int) -> None:
        """This slot is gone."""
        self._sequences.pop((slot, incarnation), None)
        self._heard.pop((slot, incarnation), None)


class SlotBook:
    """The slot's end: what it holds, what it has to say, what it has been told.

    `report`, `fresh`, `checkpoint` and `end` note what happens; `request` gathers it; `digest`
    takes the answer and returns what is new to do. A request whose answer does not come is
    followed by another that repeats what has not been acknowledged. After an end `next_to_begin`
    says what takes its place.
    """

    def __init__(self, *, slot: int, incarnation: int, places: int) -> None:
        self.epoch = 0
        self.tick = 0.1
        self._slot = slot
        self._incarnation = incarnation
        self.places = places
        self.ahead = 0  # how many attempts it takes beyond its places
        self._sequence = 0
        self._held: dict[AttemptId, _Held] = {}

    @property
    def holds(self) -> tuple[AttemptId, ...]:
        """The attempts that the slot has and that are not acknowledged as ended."""
        return tuple(self._held)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to say beyond being there."""
        return any(held.waiting for held in self._held.values())

    @property
    def urgent(self) -> bool:
        """Whether a place has become free that a trial could use, or will be before long."""
        ended = any(held.end is not None for held in self._held.values())
        return ended and 2 * self.queued <= self.ahead

    @property
    def crowded(self) -> bool:
        """Whether some attempt has half as many unacknowledged reports as it may have."""
        return any(2 * held.unacknowledged >= KEEP for held in self._held.values())

    @property
    def queued(self) -> int:
        """How many attempts wait here for a place."""
        return sum(held.in_queue for held in self._held.values())

    @property
    def next_up(self) -> list[Assign]:
        """Of these, as many as there are places: those that begin next."""
        queue = [held.assign for held in self._held.values() if held.in_queue]
        return queue[: self.places]

    def report(self, id_: AttemptId, metrics: Mapping[str, float], at: float) -> int:
        """Note a report made `at` seconds into the attempt; returns its number."""
        self.name(id_, tuple(metrics))
        return self.add(id_, array("d", [at, *metrics.values()]).tobytes())

    def name(self, id_: AttemptId, metrics: tuple[str, ...]) -> None:
        """Say which metrics the reports hold that are added from now on."""
        self._held[id_].name(metrics)

    def add(self, id_: AttemptId, numbers: bytes) -> int:
        """Note reports, float64, the seconds and the metrics of each; returns the last one's number."""
        return self._held[id_].add(numbers)

    def full(self, id_: AttemptId) -> bool:
        """Whether so much of this attempt is unacknowledged that its next report must wait."""
        return id_ in self._held and self._held[id_].unacknowledged >= KEEP

    def fresh(self, id_: AttemptId) -> None:
        """Note that the attempt began from nothing though it was given a checkpoint."""
        self._held[id_].fresh = True

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Note a checkpoint that is durable."""
        self._held[checkpoint.id].checkpoints.append(checkpoint)

    def end(self, end: End) -> None:
        """Note that an attempt has ended; nothing of it may be noted after."""
        self._held[end.id].end = end

    def last_report(self, id_: AttemptId) -> int:
        """The number of the attempt's last report; 0 before the first."""
        return self._held[id_].last

    def next_to_begin(self) -> list[Assign]:
        """The assignments that there are places for now; they have begun when this returns."""
        free = self.places - sum(held.is_running for held in self._held.values())
        queue = [held for held in self._held.values() if held.in_queue]
        begin = queue[: max(0, free)]
        for held in begin:
            held.begun = True
        return [held.assign for held in begin]

    def give_back(self) -> None:
        """Give back what lies in the queue."""
        for held in self._held.values():
            held.returned = held.returned or held.in_queue

    def request(self) -> Request:
        """The next request: all that is not acknowledged."""
        self._sequence += 1
        held = self._held.values()
        return Request(
            epoch=self.epoch,
            slot=self._slot,
            incarnation=self._incarnation,
            sequence=self._sequence,
            places=self.places,
            holds=self.holds,
            fresh=tuple(attempt.id for attempt in held if attempt.fresh),
            reports=tuple(block for attempt in held for block in attempt.blocks()),
            checkpoints=tuple(one for attempt in held for one in attempt.checkpoints),
            ends=tuple(attempt.end for attempt in held if attempt.end is not None),
            ahead=self.ahead,
            queued=tuple(attempt.id for attempt in held if not attempt.begun),
            returned=tuple(attempt.id for attempt in held if attempt.returned),
        )

    def digest(self, request: Request, reply: Reply) -> list[Assign | Stop]:
        """Take the answer to a request; returns the stops not yet known here, and what begins now.

        A stop of an attempt that is not the slot's to run any more has an empty reason. An answer
        from an older epoch is that of a controller which has been replaced, and the answer to
        another request than the latest is outdated: they are not heeded.
        """
        if reply.epoch < self.epoch or not reply.sequence == request.sequence == self._sequence:
            return []
        self.epoch = reply.epoch
        if reply.refused in (Refusal.EPOCH, Refusal.PAUSED, Refusal.STALE):
            return []
        self.tick = reply.tick
        for acknowledged in reply.acknowledged:
            if acknowledged.id in self._held:
                self._held[acknowledged.id].acknowledge(acknowledged.report)
        if reply.refused is not None:
            return []
        self._settle(request)
        stops = list(self._new_stops(reply))
        for assign in reply.assigns:
            if assign.id not in self._held:
                self._held[assign.id] = _Held(id=assign.id, assign=assign)
        return [*stops, *self.next_to_begin()]

    def _settle(self, request: Request) -> None:
        """All that the request held is journaled: it need not be said again."""
        queued = set(request.queued)
        for id_ in request.holds:
            if id_ in self._held:
                self._held[id_].listed_as_begun = id_ not in queued
                self._held[id_].listed = True
        for id_ in (*request.returned, *(end.id for end in request.ends)):
            self._held.pop(id_, None)
        for held in self._held.values():
            held.checkpoints = [one for one in held.checkpoints if one not in request.checkpoints]
            held.fresh = held.fresh and held.id not in request.fresh

    def _new_stops(self, reply: Reply) -> Iterator[Stop]:
        for stop in reply.stops:
            if stop.id in self._held and not self._held[stop.id].told:
                self._held[stop.id].told = True
                yield stop
        for id_ in reply.drops:
            if (dropped := self._held.pop(id_, None)) and dropped.begun:
                yield dropped.drop()


@dataclass(slots=True)
class _Held:
    """One attempt on the slot's side."""

    id: AttemptId
    assign: Assign
    begun: bool = False
    returned: bool = False  # given back unbegun
    last: int = 0
    acknowledged: int = 0
    closed: list[Reports] = field(default_factory=list)  # encoded once, sent until acknowledged
    names: tuple[str, ...] = ()  # of the block that is being filled
    filling: bytearray = field(default_factory=bytearray)  # float64: seconds and values, in rows
    checkpoints: list[Checkpoint] = field(default_factory=list)
    end: End | None = None
    fresh: bool = False
    told: bool = False  # whether a stop was passed on
    listed: bool = False  # whether the controller knows that the slot has it
    listed_as_begun: bool = False  # and that it has begun

    @property
    def unacknowledged(self) -> int:
        return self.last - self.acknowledged

    @property
    def in_queue(self) -> bool:
        return not self.begun and not self.returned

    @property
    def is_running(self) -> bool:
        return self.begun and self.end is None

    @property
    def waiting(self) -> bool:
        unsaid = self.unacknowledged or self.checkpoints or self.fresh or self.end or self.returned
        return bool(unsaid or not self.listed or self.begun != self.listed_as_begun)

    def name(self, metrics: tuple[str, ...]) -> None:
        if metrics != self.names:
            self._close()
            self.names = metrics

    def add(self, numbers: bytes) -> int:
        self.filling += numbers
        self.last += len(numbers) // (8 * (1 + len(self.names)))
        return self.last

    def blocks(self) -> list[Reports]:
        self._close()
        return self.closed

    def acknowledge(self, report: int) -> None:
        self.acknowledged = max(self.acknowledged, report)
        self.closed = [left for block in self.closed if (left := block.after(report))]

    def drop(self) -> Stop:
        return Stop(id=self.id, report=0, cause=StopCause.SWEEP_ENDS, reason="")

    def _close(self) -> None:
        if not self.filling:
            return
        values, width = array("d", bytes(self.filling)), 1 + len(self.names)
        times = values[::width]
        del values[::width]
        self.closed.append(
            Reports(
                id=self.id,
                first=self.last - len(times) + 1,
                names=self.names,
                times=times.tobytes(),
                values=values.tobytes(),
            )
        )
        self.filling.clear()
