"""The world of a simulation: a storage, a wire, slots, controllers, people; and what breaks them.

One rule: one moment follows another, and in each the same happens in the same order: something
breaks, controllers open, slots act, messages arrive, controllers act, and what must hold is checked.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import msgpack
from drafts import replayed

from raysweep.core.exchange import Refusal, Reply, Request
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.state import SweepState
from raysweep.errors import StaleEpochError
from raysweep.storage import journal, replay
from raysweep.storage.journal import Place, Record, UnknownPlaceError
from simulation.controller import Controller
from simulation.fate import Fate, Story, Violation
from simulation.ledger import Ledger, follow_all
from simulation.scenario import LEASE, Fault, Scenario
from simulation.segments import Died, FaultySegments, MemorySegments
from simulation.slot import PATIENCE, Slot

MOMENTS = 3_000  # after which a sweep that is not over never will be
LONGEST = 3 * LEASE  # that anything is away: twice what it takes to be given up


class World:
    """All there is."""

    def __init__(self, scenario: Scenario, story: Story | None = None) -> None:
        self.fate = Fate(scenario, story)
        self.ledger = Ledger(scenario)
        self.records: list[Record] = []  # that are committed
        self.seen: Counter[str] = Counter()  # what came of what broke
        self._scenario = scenario
        self._storage = MemorySegments()
        self._full_until = self._away_until = 0
        self._place: Place | None = None  # how far the journal was read
        self._wire: list[tuple[int, int, Callable[[], None]]] = []  # a heap: when, order, what
        self._order = itertools.count()
        self._arrived: dict[tuple[str, Slot], int] = {}  # the order of the latest that arrived
        self._slots: list[Slot] = []  # every actor that stood on this cluster
        self._controllers: list[Controller] = []  # that live, by epoch
        self._known: dict[Slot, Controller] = {}  # whom each slot talks to
        self._islands: dict[Slot, tuple[Controller, int]] = {}  # who sees none but whom, until when
        self._opening_at: int | None = 0  # the moment at which a controller opens
        self._slots_kept = True  # whether the next one finds the slots of the one before
        self._acting: Controller | None = None
        self._is_racing = False
        self._asked_to_cancel: Controller | None = None
        self._asked_to_suspend: Controller | None = None
        self._is_canceled = self._was_suspended = False
        self._wall = _WallClock(scenario)

    @property
    def now(self) -> int:
        """The moment."""
        return self.fate.now

    @property
    def _newest(self) -> Controller | None:
        return self._controllers[-1] if self._controllers else None

    # --- one moment after another -----------------------------------------------------------------

    def run(self, moments: int = MOMENTS) -> SweepState:
        """Let the sweep come to its end, all of it committed; returns the controller's state."""
        for self.fate.now in range(moments):
            self._break()
            self._ask()
            if self._opening_at is not None and self.now >= self._opening_at:
                self._open()
            for slot in self._standing():
                slot.act()
            self._deliver()
            for controller in [*self._controllers]:
                if self.now >= controller.frozen_until:
                    self._let(controller, controller.act)
            self._check_what_runs()
            if self._scenario.snapshots and self.fate.chance(self._scenario.snapshots):
                self._keep_snapshot()
            if self._newest is not None and self._newest.is_done:
                return self._ended(self._newest)
        raise Violation(f"the sweep is not over after {moments} moments")

    def _standing(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.alive]

    def _ask(self) -> None:
        """People cancel and suspend; who hears no answer asks the next controller."""
        newest, scenario = self._newest, self._scenario
        if newest is None or self.now < newest.frozen_until:
            return
        if _is_due(scenario.suspend_at, self.now) and not self._was_suspended:
            if self._asked_to_suspend is not newest:
                self._asked_to_suspend = newest
                self.fate.tell("somebody suspends the sweep")
                self._let(newest, newest.suspend)
        elif (
            _is_due(scenario.cancel_at, self.now)
            and not self._is_canceled
            and self._asked_to_cancel is not newest
        ):
            self._asked_to_cancel = newest
            self.fate.tell("somebody cancels the sweep")
            self._let(newest, newest.cancel)

    # --- what breaks ------------------------------------------------------------------------------

    def _break(self) -> None:
        """What breaks, breaks now."""
        if self._wall.jumps(self.now, self._scenario.calm_from):
            self.fate.injected[Fault.WALL_CLOCK_JUMPS] += 1
        if self.fate.strikes(Fault.STORAGE_FULL):
            self._full_until = self.now + self._a_while()
        if self.fate.strikes(Fault.STORAGE_AWAY):
            self._away_until = self.now + self._a_while()
        self._storage.full = self.now < self._full_until
        self._storage.away = self.now < self._away_until
        if self.fate.strikes(Fault.CLUSTER_LOST):
            self._lose_cluster()
        for slot in self._standing():
            self._break_slot(slot)
        for controller in [*self._controllers]:
            self._break_controller(controller)

    def _a_while(self) -> int:
        """How long something is away: often not for long, sometimes beyond every lease."""
        return self.fate.number(1, self.fate.one_of((LEASE // 3, LEASE, LONGEST)))

    def _break_slot(self, slot: Slot) -> None:
        if self.fate.strikes(Fault.SLOT_KILLED):
            self.fate.tell(slot, "is killed")
            slot.die(known=True)
        elif self.fate.strikes(Fault.NODE_LOST):
            self.fate.tell(slot, "is lost with its node")
            slot.die(known=False)
        elif self.fate.strikes(Fault.SLOT_CUT_OFF):
            slot.cut_off_until = self.now + self._a_while()
            self.fate.tell(slot, "is cut off until", slot.cut_off_until)
        elif self.fate.strikes(Fault.SLOT_FROZEN):
            slot.frozen_until = self.now + self._a_while()
            self.fate.tell(slot, "is frozen until", slot.frozen_until)

    def _break_controller(self, controller: Controller) -> None:
        if self.fate.strikes(Fault.CONTROLLER_KILLED):
            self._bury(controller, "is killed")
        elif self.fate.strikes(Fault.CONTROLLER_FROZEN):
            controller.frozen_until = self.now + self._a_while()
            self.fate.tell(controller, "is frozen until", controller.frozen_until)
        elif self._opening_at is None and self.fate.strikes(Fault.SECOND_CONTROLLER):
            self._split(controller)
            self._opening_at = self.now + self.fate.number(0, 3)

    def _split(self, controller: Controller) -> None:
        """A controller is taken for dead: some slots still see it, and see no other for a while."""
        for slot in self._standing():
            if self.fate.chance(0.4):
                until = self.now + self.fate.number(1, LONGEST)
                self._islands[slot] = (controller, until)
                self.fate.tell(slot, "sees none but", controller, "until", until)

    def _lose_cluster(self) -> None:
        """Everything but the storage is gone."""
        self.fate.tell("the cluster is lost")
        for slot in self._standing():
            slot.die(known=False)
        for controller in [*self._controllers]:
            self._bury(controller, "is lost with its cluster")
        self._leave_cluster()

    def _leave_cluster(self) -> None:
        """The sweep is to be taken up where none of its slots are."""
        self._wire.clear()
        self._slots.clear()
        self._slots_kept = False
        self._opening_at = self.now + self._a_while()

    def _bury(self, controller: Controller, how: str) -> None:
        """A controller is no more, with all that it had not committed; another follows."""
        self.fate.tell(controller, how)
        controller.gone = True
        if controller in self._controllers:
            self._controllers.remove(controller)
        self._succeed()

    def _succeed(self) -> None:
        if not self._controllers and self._opening_at is None:
            self._opening_at = self.now + self.fate.one_of((0, 3, 3, self._a_while()))

    # --- controllers ------------------------------------------------------------------------------

    def _open(self) -> None:
        """A controller takes the sweep over, unless the storage or another one is against it."""
        self._opening_at = None
        self.fate.tell("a controller opens")
        segments = FaultySegments(self._storage, self.fate, self._race)
        acting, self._acting = self._acting, None
        try:
            controller = Controller(
                segments,
                scenario=self._scenario,
                fate=self.fate,
                cluster=self,
                slots_kept=self._slots_kept,
                wall=self._wall.shown(self.now),
            )
        except OSError as error:
            self.fate.tell("the opening controller waits:", error)
            self._opening_at = self.now + 1
            return
        except (Died, StaleEpochError) as error:
            self.fate.tell("the opening controller is gone:", repr(error))
            self._slots_kept = True  # as far as the one that is started in its place can know
            self._succeed()
            return
        finally:
            self._acting = acting
        self._slots_kept = True
        self._welcome(controller)

    def _welcome(self, controller: Controller) -> None:
        """What a controller has replayed is what was committed; from now on it acts."""
        self._read_on()
        self.ledger.compare_all(controller.state)
        if controller.state != replayed(self._scenario.spec, self.records):
            raise Violation(f"{controller} does not stand where a replay of the journal leads")
        self._controllers.append(controller)
        self._controllers.sort(key=lambda each: each.epoch)
        self.fate.tell(controller, f"takes over after {len(self.records)} records")
        self._let(controller, controller.open)

    def _let(self, controller: Controller, act: Callable[[], None]) -> None:
        """Let a controller do something; it may die of it, or learn that it was replaced."""
        if controller.gone:
            return
        acting, self._acting = self._acting, controller
        try:
            act()
        except Died:
            self._bury(controller, "dies")
        except StaleEpochError:
            self.seen["controller learned that it was replaced"] += 1
            self._bury(controller, "was replaced and falls silent")
        finally:
            self._acting = acting

    def _race(self) -> None:
        """While one is at the storage, others may be there, too, and be done before it."""
        if self._is_racing or not self.fate.strikes(Fault.RACE):
            return
        self._is_racing = True
        try:
            if self.fate.chance(0.3):
                self._open()
            for controller in [*self._controllers]:
                if controller is not self._acting and self.now >= controller.frozen_until:
                    self._let(controller, controller.act)
            if self._scenario.snapshots and self.fate.chance(0.5):
                self._keep_snapshot()
        finally:
            self._is_racing = False

    def _keep_snapshot(self) -> None:
        """A process beside the controllers writes down what a replay comes to."""
        replay.keep_snapshot(self._storage, self._scenario.spec)
        self.seen["snapshot kept"] += 1

    # --- what a controller can do: `simulation.controller.Cluster` --------------------------------

    def committed(self, controller: Controller) -> None:
        """Follow what is new in the journal; the controller that wrote it stands there, too."""
        self._read_on()
        if controller.has_uncommitted:
            return
        self.ledger.compare(controller.state)
        if self.fate.chance(0.02):
            self._compare_replay(controller.state)

    def _read_on(self) -> None:
        try:
            found, place = journal.read_on(self._storage, self._place)
        except UnknownPlaceError as error:
            raise Violation(f"lost: what was committed at {self._place} is gone") from error
        records = [*found]
        self._place = place
        self.records += records
        follow_all(self.ledger, records)

    def _compare_replay(self, state: SweepState) -> None:
        if replayed(self._scenario.spec, self.records) != state:
            raise Violation("a replay of the journal does not lead to the state that wrote it")

    def revised(self, *, late: bool) -> None:
        """A sampler has thought again of a trial that waits, or has waited until just now."""
        self.seen[f"trial revised{' too late' * late}"] += 1

    def canceled(self) -> None:
        """Whoever asked is told that the sweep ends."""
        if self.ledger.phase.value == "running":
            raise Violation("a cancel was answered, but the journal does not hold it")
        self._is_canceled = True

    def suspended(self) -> None:
        """Whoever asked is told that the sweep is left; its slots are ended."""
        self._was_suspended = True
        for slot in self._standing():
            slot.die(known=True)
        for controller in [*self._controllers]:
            self._bury(controller, "leaves the sweep")
        self._leave_cluster()

    def start_slot(self, number: int, incarnation: int) -> Slot:
        """Start a slot's actor; one of this name that lives is taken up."""
        if (there := self.find_slot(number, incarnation)) is not None:
            return there
        slot = Slot(
            number,
            incarnation,
            scenario=self._scenario,
            fate=self.fate,
            ledger=self.ledger,
            wire=self,
        )
        self._slots.append(slot)
        self.fate.tell(slot, "starts")
        return slot

    def find_slot(self, number: int, incarnation: int) -> Slot | None:
        """The living actor of this name."""
        named = (slot for slot in self._standing() if slot.who == (number, incarnation))
        return next(named, None)

    def kill_slot(self, slot: Slot) -> None:
        """Kill an actor, if the order reaches it."""
        if slot.alive and self._is_in_sight(slot) and self.fate.chance(0.7):
            self.fate.tell(slot, "is ended by its controller")
            slot.die(known=True)

    def sees_death(self, slot: Slot) -> bool:
        """Whether it is known by now that an actor has died."""
        dead = not slot.alive and slot.death_is_known and self._is_in_sight(slot)
        return dead and self.fate.chance(0.3)

    def _is_in_sight(self, slot: Slot) -> bool:
        assert self._acting is not None, "only a controller that acts looks after slots"
        return self._reaches(slot, self._acting)

    # --- the wire ---------------------------------------------------------------------------------

    def _reaches(self, slot: Slot, controller: Controller) -> bool:
        """Whether a message goes through between these two now."""
        only, until = self._islands.get(slot, (controller, 0))
        alone = self.now < until and only is not controller
        return self.now >= slot.cut_off_until and not alone

    def _find_controller(self, slot: Slot) -> Controller | None:
        """The controller that a slot finds by its name: nearly always the one that took over last."""
        within_reach = [each for each in self._controllers if self._reaches(slot, each)]
        if not within_reach:
            return None
        return self.fate.one_of(within_reach) if self.fate.chance(0.1) else within_reach[-1]

    def send_request(self, request: Request, slot: Slot, *, look: bool) -> None:
        """Send a request to the controller that its slot knows, or to one that it looks for."""
        known = self._known.get(slot)
        if known is None or look or (known.gone and self.fate.chance(0.5)):
            known = self._find_controller(slot)
        if known is None:
            self._known.pop(slot, None)
            self.fate.tell(slot, "finds no controller")
            return
        self._known[slot] = known
        self.fate.tell(slot, "->", known, _described(request))
        pack = partial(self._packed, request)
        arrive = partial(self._request_arrives, slot, known)
        self._send(("to", slot), pack, arrive)

    def _packed(self, request: Request) -> bytes:
        """A request as bytes; in one copy of many, some of the reports get lost."""
        if request.reports and self.fate.strikes(Fault.HOLE):
            kept = [*request.reports]
            del kept[self.fate.number(0, len(kept) - 1)]
            request = dataclasses.replace(request, reports=tuple(kept))
        return _as_bytes(request)

    def send_reply(self, reply: Reply, slot: Slot) -> None:
        """Send a reply to a slot, which may be gone when it arrives."""
        controller = self._acting
        assert controller is not None, "only a controller that acts replies"
        self.fate.tell(controller, "->", slot, _answered(reply))
        for known in reply.acknowledged:
            self.ledger.check_acknowledgement(known.id, known.report)
        if self._reaches(slot, controller):
            pack = partial(_as_bytes, reply)
            self._send(("from", slot), pack, partial(self._reply_arrives, slot, controller))

    def _send(
        self, way: tuple[str, Slot], pack: Callable[[], bytes], arrive: Callable[[bytes], None]
    ) -> None:
        """Put a message on the wire: once, twice or not at all, for at once or later."""
        if self.fate.strikes(Fault.DROP):
            return
        for _ in range(1 + self.fate.strikes(Fault.DOUBLE)):
            late = self.fate.number(1, 2 * PATIENCE) if self.fate.strikes(Fault.DELAY) else 0
            order = next(self._order)
            come: Callable[[], None] = partial(self._come, way, order, partial(arrive, pack()))
            heapq.heappush(self._wire, (self.now + late, order, come))

    def _come(self, way: tuple[str, Slot], order: int, arrive: Callable[[], None]) -> None:
        if order < self._arrived.get(way, -1):
            self.seen["message overtaken"] += 1
        self._arrived[way] = max(order, self._arrived.get(way, -1))
        arrive()

    def _deliver(self) -> None:
        while self._wire and self._wire[0][0] <= self.now:
            _, _, arrive = heapq.heappop(self._wire)
            arrive()

    def _keep_until(self, moment: int, arrive: Callable[[], None]) -> None:
        """What arrives at a process that is frozen waits there."""
        heapq.heappush(self._wire, (moment, next(self._order), arrive))

    def _request_arrives(self, slot: Slot, controller: Controller, packed: bytes) -> None:
        """At the controller that it was sent to, or at the next life of that one."""
        at = self._newest if controller.gone else controller
        if at is None or not self._reaches(slot, at):
            return
        if self.now < at.frozen_until:
            arrive = partial(self._request_arrives, slot, controller, packed)
            self._keep_until(at.frozen_until, arrive)
            return
        request = from_plain(Request, msgpack.unpackb(packed))
        self._let(at, partial(at.take, request, slot))

    def _reply_arrives(self, slot: Slot, controller: Controller, packed: bytes) -> None:
        if not slot.alive or not self._reaches(slot, controller):
            return
        if slot.is_frozen:
            arrive = partial(self._reply_arrives, slot, controller, packed)
            self._keep_until(slot.frozen_until, arrive)
            return
        reply = from_plain(Reply, msgpack.unpackb(packed))
        if reply.refused is not None:
            self.seen[f"request refused: {reply.refused}"] += 1
        if reply.refused is Refusal.SUPERSEDED and slot.waits_for_its_last_word:
            self.seen["slot woke up and was told that it was given up"] += 1
        for known in reply.acknowledged:
            self.ledger.note_acknowledged(known.id, known.report)
        slot.hear(reply)

    # --- what holds -------------------------------------------------------------------------------

    def _check_what_runs(self) -> None:
        """Nothing runs twice, and no more at once than may."""
        training = Counter(id_.trial for slot in self._standing() for id_ in slot.trained)
        for trial, count in training.items():
            if count > 1:
                where = [
                    str(slot)
                    for slot in self._standing()
                    for id_ in slot.trained
                    if id_.trial == trial
                ]
                raise Violation(f"trial {trial} runs on {' and '.join(where)} at once")
        most = self._scenario.spec.limits.max_concurrent_trials
        if most is not None and len(training) > most:
            raise Violation(f"{len(training)} trials run at once, but at most {most} may")

    def _ended(self, controller: Controller) -> SweepState:
        """What the sweep came to, from its committed records alone."""
        self.ledger.compare_all(controller.state)
        self.ledger.check_the_end()
        self._compare_replay(controller.state)
        if replay.replayed(self._storage, self._scenario.spec) != controller.state:
            raise Violation("the snapshot and what follows it lead elsewhere than the journal")
        return controller.state


class _WallClock:
    """What the clock on the wall shows: it jumps, and has a chance of its own to do so.

    So a seed tells the same story with its jumps and without them.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._random = Random(f"wall {scenario.seed}")
        self._likely = scenario.likely.get(Fault.WALL_CLOCK_JUMPS, 0.0)
        self._ahead = 0  # seconds

    def jumps(self, now: int, calm_from: int) -> bool:
        """Whether it does now."""
        if now >= calm_from or self._random.random() >= self._likely:
            return False
        self._ahead += self._random.choice((-86_400, -3_600, -1, 1, 3_600, 86_400))
        return True

    def shown(self, now: int) -> str:
        """What it shows."""
        return f"second {now + self._ahead}"


def _is_due(moment: int | None, now: int) -> bool:
    return moment is not None and now >= moment


def _as_bytes(message: Request | Reply) -> bytes:
    packed: bytes = msgpack.packb(to_plain(message))
    return packed


def _described(request: Request) -> str:
    """A request in a line."""
    said = [f"{block.id}: reports {block.first} to {block.last}" for block in request.reports]
    said += [f"{one.id}: checkpoint at {one.report}" for one in request.checkpoints]
    said += [f"{end.id}: {end.ending} after {end.last_report}" for end in request.ends]
    said += [f"{id_}: fresh" for id_ in request.fresh]
    holds = ", ".join(f"{id_.trial}.{id_.attempt}" for id_ in request.holds) or "nothing"
    head = f"request {request.sequence}, epoch {request.epoch}, holds {holds}"
    return "; ".join([head, *said])


def _answered(reply: Reply) -> str:
    """A reply in a line."""
    said = [f"refused: {reply.refused}"] if reply.refused else []
    said += [f"{known.id}: up to {known.report}" for known in reply.acknowledged]
    said += [f"run {one.id} from {one.start}" for one in reply.assigns]
    said += [f"stop {one.id}: {one.reason}" for one in reply.stops]
    said += [f"drop {id_}" for id_ in reply.drops]
    said += ["close"] if reply.close else []
    return "; ".join([f"reply to {reply.sequence}, epoch {reply.epoch}", *said])
