"""A sweep over a wire, a storage and clocks that cannot be trusted, and what must hold all the same.

One rule: everything that happens derives from the seed, so that a seed that finds something finds it
again. `simulate` runs one; `tests/core/simulate.py` runs thousands.

The state, the exchange, the answers, the journal and the replay are the real ones. Simulated is what
is around them: slots and what they train (`slot`), controllers that die, freeze and are doubled
(`controller`), storage that fills up, goes away and tears what is written (`segments`), the wire and
the clocks (`world`). What was really done is noted beside it all in a ledger (`ledger`), which is
kept from the design alone and against which everything is held.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from raysweep.core.policies import NoPolicy
from raysweep.core.state import SweepState
from raysweep.core.trials import TrialState
from simulation.fate import Story, Violation
from simulation.scenario import Fault, Scenario
from simulation.world import World

__all__ = ["Fault", "Outcome", "Scenario", "Violation", "World", "simulate"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a seed came to."""

    seed: int
    moments: int
    injected: Mapping[Fault, int]
    seen: Mapping[str, int]  # what came of it
    made: int  # reports
    acknowledged: int
    lost: int
    twice: int
    violation: str = ""  # what was violated, one line; empty when nothing was
    trace: str = ""  # where

    @property
    def replay(self) -> str:
        """The line that runs this seed alone and tells its story."""
        return f"python tests/core/simulate.py --seed {self.seed} --verbose"


def simulate(seed: int, story: Story | None = None) -> Outcome:
    """Run one seed; whatever is raised in it is that seed's violation."""
    scenario = Scenario.of(seed)
    world = World(scenario, story)
    violation = trace = ""
    try:
        _compare_with_undisturbed(scenario, world.run())
    except Exception as error:  # noqa: BLE001  (a KeyError in the state is found here as well)
        violation = f"{type(error).__name__}: {error}"
        trace = traceback.format_exc()
    ledger = world.ledger
    return Outcome(
        seed=seed,
        moments=world.now,
        injected=world.fate.injected,
        seen=world.seen + Counter(f"trial {state}" for state in ledger.ended()),
        made=sum(ledger.made.values()),
        acknowledged=sum(ledger.acknowledged.values()),
        lost=ledger.lost,
        twice=ledger.twice,
        violation=violation,
        trace=trace,
    )


def _compare_with_undisturbed(scenario: Scenario, state: SweepState) -> None:
    """Without a policy, a sweep whose trials all came to their end has the best that it would have.

    Had nothing broken, that is: the same sweep is run again, undisturbed. A trial that was told to
    stop and came to its end all the same is none of these: what it reported then does not count.
    """
    whole = all(trial.state is TrialState.COMPLETED and not trial.cause for trial in state.trials)
    bounded = scenario.spec.total_trials is not None and state.all_proposed
    if not (whole and bounded and isinstance(scenario.spec.policy, NoPolicy)):
        return
    calm = World(scenario.undisturbed()).run()
    if (len(calm.trials), calm.best) != (len(state.trials), state.best):
        raise Violation(f"the best is {state.best}, but undisturbed it would be {calm.best}")
