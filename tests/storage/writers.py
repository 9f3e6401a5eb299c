"""A controller's hand for tests of storages: it takes a sweep over, applies events and journals them."""

from __future__ import annotations

from typing import Any

from raysweep.core.events import Assign, AttemptId, Event, Exchanged, Opened, Proposed, Reports
from raysweep.core.policies import MedianStopping
from raysweep.core.samplers import Random
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.storage import replay
from raysweep.storage.segments import Segments

SPEC = SweepSpec(
    name="s",
    space=Space({"x": uniform(0, 1)}),
    objective=maximize("score"),
    sampler=Random(seed=1),
    seed=1,
    policy=MedianStopping(),
    limits=Limits(max_total_trials=100),
)


class Writer:
    """One life of a controller; a commit an event."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.journal, self.state = replay.take_over(segments, SPEC)
        self.note(Opened(time=self.state.time, epoch=self.journal.epoch, slots_kept=True))

    def note(self, event: Event) -> list[AttemptId]:
        """Apply and commit an event; returns the attempts that were assigned."""
        commands = self.state.apply(event)
        self.journal.append(event, commands)
        self.journal.write(self.journal.seal())
        return [command.id for command in commands if isinstance(command, Assign)]

    def train(self, trials: int) -> Writer:
        """Some trials run, each on a slot of its own, three reports each."""
        for _ in range(trials):
            time = self.state.time + 1.0
            self.note(Proposed(time=time, params=({"x": 0.5},)))
            slot: dict[str, Any] = {"slot": len(self.state.trials), "incarnation": 1, "places": 1}
            (id_,) = self.note(Exchanged(time=time, **slot))
            block = Reports(id=id_, first=1, names=("score",), times=bytes(24), values=bytes(24))
            self.note(Exchanged(time=time, **slot, begun=(id_,), reports=(block,)))
        return self
