"""A sweep over a wire that cannot be trusted: books, receptions and states, without a cluster.

One rule: everything that happens derives from the seed. Requests and replies are dropped, doubled,
delayed and so reordered; slots die and are cut off; the controller dies between any two moments and
another replays what was committed. A `World` keeps what is true beside what is said, and checks after
each moment that no acknowledged report is lost or counted twice and that nothing runs twice.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import msgpack
from drafts import as_read_back, replayed

from raysweep.core.events import (
    Assign,
    AttemptId,
    Checkpoint,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Proposed,
    Reports,
    SlotLost,
)
from raysweep.core.exchange import Reception, Refusal, Reply, Request, SlotBook
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.core.trials import TERMINAL
from raysweep.storage.journal import Record

LEASE = 30  # moments
MARGIN = 5
PATIENCE = 6  # moments that a slot waits for a reply before it asks again
HOLD = 9  # moments that a controller holds an idle slot's request, for a trial to come


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How likely each fault is: of a message, or at each moment of a slot or the controller."""

    until: int = 150  # the moment from which on nothing breaks any more
    drop: float = 0.1
    double: float = 0.1
    delay: float = 0.3
    slot_dies: float = 0.01
    slot_is_cut_off: float = 0.003
    controller_dies: float = 0.02
    attempt_fails: float = 0.02
    checkpoint_is_damaged: float = 0.05


@dataclass
class Run:
    """An attempt where it runs."""

    assign: Assign
    interval: int  # what it has reached
    stop: bool = False


class Slot:
    """A slot's actor with several places; it trusts its book alone."""

    def __init__(self, world: World, number: int, incarnation: int, places: int) -> None:
        self.number, self.incarnation = number, incarnation
        self.alive = True
        self.cut_off_until = 0
        self.runs: dict[AttemptId, Run] = {}
        self._world = world
        self._places = places
        self._book = SlotBook(slot=number, incarnation=incarnation, places=places)
        self._requests: dict[int, tuple[int, Request]] = {}  # all that were sent, and when
        self._waits = 0  # for the answer to the request of this number; 0: for none
        self._lease_until = world.now + LEASE

    def act(self) -> None:
        """Train for a moment, then speak if it is time to."""
        for id_ in list(self.runs):
            self._train(self.runs[id_])
        if self._world.now > self._lease_until:
            self.die()
        elif not self._waits or self._world.now - self._requests[self._waits][0] >= PATIENCE:
            request = self._book.request()
            self._requests[request.sequence] = (self._world.now, request)
            self._waits = request.sequence
            self._world.send_request(request, self)

    def die(self) -> None:
        """End with all that runs here; nothing more is said."""
        self.alive = False
        self.runs.clear()

    def hear(self, reply: Reply) -> None:
        """Do what a reply says; which replies are outdated, the book knows."""
        sent, request = self._requests[reply.sequence]
        self._lease_until = max(self._lease_until, sent + LEASE)
        if reply.sequence == self._waits:
            self._waits = 0
        for command in self._book.digest(request, reply):
            if isinstance(command, Assign):
                self.runs[command.id] = self._begun(command)
            elif command.id in self.runs and command.reason:
                self.runs[command.id].stop = True
            else:
                self.runs.pop(command.id, None)
        if reply.refused is Refusal.SUPERSEDED or reply.close:
            self.die()

    def _begun(self, assign: Assign) -> Run:
        saved = assign.checkpoint
        assert (0 if saved is None else interval_in(saved)) == assign.start
        fresh = assign.checkpoint is not None and self._world.chance(0.1)
        if fresh:
            self._book.fresh(assign.id)
        return Run(assign, 0 if fresh else assign.start)

    def _train(self, run: Run) -> None:
        """One moment's work: perhaps a report, a checkpoint, the end."""
        id_, world = run.assign.id, self._world
        broken = run.assign.checkpoint
        if broken is not None and not self._book.last_report(id_) and world.checkpoint_is_damaged():
            self._end(id_, Ending.LOST, damaged=broken.path)
        elif run.stop:
            self._end(id_, Ending.OBEYED)
        elif world.attempt_fails():
            self._end(id_, Ending.RAISED, error="ValueError: by chance", where=f"line {world.now}")
        elif run.interval == world.length(id_.trial):
            self._end(id_, Ending.RETURNED)
        elif not self._book.full(id_) and world.chance(0.7):
            self._report(run)

    def _report(self, run: Run) -> None:
        id_ = run.assign.id
        if self._world.chance(0.2):
            self._world.reported[id_] = self._book.report(id_, {"loss": 0.0}, at=0.0)
        run.interval += 1
        value = self._world.value(id_.trial, run.interval)
        report = self._book.report(id_, {"acc": value, "interval": run.interval}, at=0.0)
        self._world.reported[id_] = report
        if self._world.chance(0.4):
            path = f"{id_.trial}/{id_.attempt}-{report}"
            self._book.checkpoint(
                Checkpoint(id=id_, report=report, path=path, size=run.interval, checksum="")
            )

    def _end(self, id_: AttemptId, ending: Ending, **more: Any) -> None:  # noqa: ANN401  (fields of an end)
        del self.runs[id_]
        last = self._book.last_report(id_)
        self._book.end(End(id=id_, last_report=last, ending=ending, **more))


def interval_in(saved: Checkpoint) -> int:
    """The interval that a checkpoint was really taken at, which its size tells here."""
    return saved.size


class Controller:
    """One life of a controller: it replays, applies, commits now and then, and only then answers."""

    def __init__(self, world: World, records: list[Record], epoch: int) -> None:
        self.state = replayed(world.spec, records)
        self.state.spec = world.spec
        self._world = world
        self._began = world.now - int(self.state.time)
        self._gathered: list[Record] = []
        self._held: list[tuple[int, Slot, Request]] = []  # until when, and whose
        self._replies: list[tuple[Slot, Reply]] = []
        self._reception = Reception(epoch, LEASE)
        self.apply(Opened(time=self._time, epoch=epoch, slots_kept=True))
        for number, slot in self.state.slots.items():
            self._reception.expect(number, slot.incarnation, world.now)

    @property
    def _time(self) -> float:
        return self._world.now - self._began

    def apply(self, event: Event) -> None:
        """Apply an event and gather its record as a journal would give it back."""
        self._gathered.append(as_read_back(event, self.state.apply(event)))

    def act(self) -> None:
        """Propose, look after limits and silent slots, answer who was held, commit perhaps."""
        first = len(self.state.trials)
        if wanted := self.state.proposals_wanted(ahead=2):
            params = tuple({"x": number} for number in range(first, first + wanted))
            self.apply(Proposed(time=self._time, params=params))
        for event in self.state.due(self._time):
            self.apply(event)
        for number, incarnation in self._reception.silent(self._world.now, MARGIN):
            self.lose(number, incarnation)
        held, self._held = self._held, []
        for until, slot, request in held:
            self._hold_or_answer(until, slot, request)
        if self._world.chance(0.5):
            self.commit()

    def commit(self) -> None:
        """Make durable what was gathered, then let the replies go."""
        self._world.records += self._gathered
        self._gathered = []
        replies, self._replies = self._replies, []
        for slot, reply in replies:
            self._world.send_reply(reply, slot)

    def take(self, request: Request, slot: Slot) -> None:
        """Take a request as the controller on Ray does."""
        refusal = self._reception.admit(request, self._world.now)
        news = refusal or self.state.novel(request, self._time)
        assert news is not Refusal.GAP, "an honest slot leaves no gap"
        if isinstance(news, Refusal):
            reply = Reply(epoch=self._reception.epoch, sequence=request.sequence, refused=news)
            self._replies.append((slot, reply))
        else:
            self.apply(news)
            self._hold_or_answer(self._world.now + HOLD, slot, request)

    def _hold_or_answer(self, until: int, slot: Slot, request: Request) -> None:
        """Answer, unless the slot is idle and may yet be given something."""
        number, who = request.slot, (request.slot, request.incarnation)
        if self.state.can_assign(number) and not self.state.superseded(*who):
            self.apply(
                Exchanged(time=self._time, slot=number, incarnation=who[1], places=request.places)
            )
        idle = not (self.state.over or self.state.slots[number].holds)
        if idle and self._world.now < until:
            self._held.append((until, slot, request))
        else:
            self._replies.append((slot, self._answer(request)))

    def _answer(self, request: Request) -> Reply:
        assigns, stops, drops = self.state.owed(request)
        return Reply(
            epoch=self._reception.epoch,
            sequence=request.sequence,
            acknowledged=self.state.acknowledged(request),
            assigns=tuple(assigns),
            stops=tuple(stops),
            drops=tuple(drops),
            close=self.state.over,
        )

    def lose(self, number: int, incarnation: int) -> None:
        """A slot is gone, or was silent for too long."""
        self._reception.forget(number, incarnation)
        if not self.state.superseded(number, incarnation):
            cause = "by chance"
            self.apply(SlotLost(time=self._time, slot=number, incarnation=incarnation, cause=cause))


class Count:
    """What the committed records say that was reported, held against what was."""

    def __init__(self, world: World) -> None:
        self.reports: Counter[AttemptId] = Counter()
        self._world = world
        self._read = 0  # records

    def read(self) -> None:
        """Count what was committed since: each report once, in order, as it was made."""
        new, self._read = self._world.records[self._read :], len(self._world.records)
        for record in new:
            if isinstance(record.event, Exchanged):
                for block in record.event.reports:
                    self._count(block)

    def _count(self, block: Reports) -> None:
        assert block.first == self.reports[block.id] + 1, f"{block.id}: lost or counted twice"
        for value, interval in block.table().tolist() if "acc" in block.names else ():
            assert self._world.value(block.id.trial, int(interval)) == value
        self.reports[block.id] = block.last
        assert block.last <= self._world.reported[block.id]


class World:
    """All there is: a wire, slots, a journal, most of the time a controller; and what is true."""

    def __init__(self, spec: SweepSpec, seed: int, *, slots: int, faults: Faults) -> None:
        self.spec = spec
        self.now = 0
        self.records: list[Record] = []  # that are committed
        self.reported: dict[AttemptId, int] = {}  # how many reports each attempt made
        self._faults = faults
        self._seed = seed
        self._random = Random(seed)
        self._wire: list[tuple[int, int, Callable[[], None]]] = []  # a heap: when, order, what
        self._sent = itertools.count()
        self._epochs = itertools.count(1)
        self._incarnations: Counter[int] = Counter()
        self._actors: list[Slot] = []  # every slot that ever stood
        self._slots = [self._slot(number) for number in range(slots)]
        self._controller: Controller | None = None
        self._down_until = 0
        self._count = Count(self)

    # --- what is true -----------------------------------------------------------------------------

    def chance(self, likely: float) -> bool:
        """Whether something happens that is this likely."""
        return self._random.random() < likely

    def strikes(self, likely: float) -> bool:
        """Whether a fault that is this likely happens now."""
        return self.now < self._faults.until and self.chance(likely)

    def attempt_fails(self) -> bool:
        """Whether the training code raises."""
        return self.strikes(self._faults.attempt_fails)

    def checkpoint_is_damaged(self) -> bool:
        """Whether what an attempt is to start from cannot be read."""
        return self.strikes(self._faults.checkpoint_is_damaged)

    def length(self, trial: int) -> int:
        """How many intervals a trial has."""
        return 3 + trial * 7 % 11

    def value(self, trial: int, interval: int) -> float:
        """What a trial reports at an interval, on whichever attempt."""
        return Random(f"{self._seed} {trial} {interval}").random()

    # --- one moment after another -----------------------------------------------------------------

    def run(self, moments: int) -> SweepState:
        """Let the sweep come to its end, all of it committed; returns the controller's state."""
        for self.now in range(moments):
            self._strike()
            for slot in self._standing():
                slot.act()
            self._deliver()
            if self._controller is not None:
                self._controller.act()
            self._count.read()
            self._check_that_nothing_runs_twice()
            if self._controller is not None and self._controller.state.over:
                return self._ended(self._controller)
        raise AssertionError(f"seed {self._seed}: not over after {moments} moments")

    def _strike(self) -> None:
        """What dies, dies now; what died has a successor after a while."""
        if self._controller is None:
            if self.now >= self._down_until:
                self._controller = Controller(self, self.records, next(self._epochs))
        elif self.strikes(self._faults.controller_dies):
            self._controller = None  # with all that it had not committed
            self._down_until = self.now + self._random.choice([0, 3, 3, 2 * LEASE])
        for slot in self._standing():
            if self.strikes(self._faults.slot_dies):
                slot.die()
            elif self.strikes(self._faults.slot_is_cut_off):
                slot.cut_off_until = self.now + 2 * LEASE
        if self._controller is not None:
            self._replace(self._controller)

    def _replace(self, controller: Controller) -> None:
        """Another slot takes the place of one that surely died, once its death is known."""
        for number, slot in enumerate(self._slots):
            if not slot.alive and self.chance(0.3):
                controller.lose(number, slot.incarnation)
                self._slots[number] = self._slot(number)

    def _slot(self, number: int) -> Slot:
        self._incarnations[number] += 1
        slot = Slot(self, number, self._incarnations[number], places=1 + number)
        self._actors.append(slot)
        return slot

    def _standing(self) -> list[Slot]:
        return [slot for slot in self._actors if slot.alive]

    # --- the wire ---------------------------------------------------------------------------------

    def send_request(self, request: Request, slot: Slot) -> None:
        """Send a slot's request to whichever controller there is when it arrives."""
        packed = msgpack.packb(to_plain(request))
        self._send(partial(self._arrive, packed, slot), slot)

    def send_reply(self, reply: Reply, slot: Slot) -> None:
        """Send a reply to a slot, which may be gone when it arrives."""
        packed = msgpack.packb(to_plain(reply))
        self._send(partial(self._return, packed, slot), slot)

    def _arrive(self, packed: bytes, slot: Slot) -> None:
        if self._controller is not None and self.now >= slot.cut_off_until:
            self._controller.take(from_plain(Request, msgpack.unpackb(packed)), slot)

    def _return(self, packed: bytes, slot: Slot) -> None:
        if slot.alive and self.now >= slot.cut_off_until:
            reply = from_plain(Reply, msgpack.unpackb(packed))
            for known in reply.acknowledged:
                assert known.report <= self._count.reports[known.id], "not committed"
            slot.hear(reply)

    def _send(self, arrive: Callable[[], None], slot: Slot) -> None:
        """Put a message on the wire: once, twice or not at all, for at once or later."""
        dropped = self.strikes(self._faults.drop) or self.now < slot.cut_off_until
        for _ in range(0 if dropped else 1 + self.strikes(self._faults.double)):
            late = self._random.randint(1, 2 * PATIENCE) if self.strikes(self._faults.delay) else 0
            heapq.heappush(self._wire, (self.now + late, next(self._sent), arrive))

    def _deliver(self) -> None:
        while self._wire and self._wire[0][0] <= self.now:
            _, _, arrive = heapq.heappop(self._wire)
            arrive()

    # --- what holds -------------------------------------------------------------------------------

    def _check_that_nothing_runs_twice(self) -> None:
        running = Counter(id_.trial for slot in self._standing() for id_ in slot.runs)
        assert max(running.values(), default=0) <= 1, f"{running} at {self.now}"

    def _ended(self, controller: Controller) -> SweepState:
        """Check what the sweep came to, from its committed records alone."""
        controller.commit()
        self._count.read()
        state = replayed(self.spec, self.records)
        assert controller.state == state
        assert state.reports == self._count.reports.total()
        for trial in state.trials:
            assert trial.state in TERMINAL
            reached = state.history.intervals(trial.number)
            curve = [state.history.value(trial.number, k) for k in range(1, reached + 1)]
            assert curve == [self.value(trial.number, k) for k in range(1, reached + 1)]
            complete = trial.reason == "ran to its end"  # and no stop crossed its end
            assert reached == self.length(trial.number) or not complete
        return state
