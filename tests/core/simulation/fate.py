"""Chance, time and the story: what every part of a simulation shares.

One rule: there is one generator and one time. Whoever wants to know whether something happens asks
here, in an order that the seed alone decides, and what breaks is counted here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from simulation.scenario import RATES, Fault, Scenario

T = TypeVar("T")

Story = Callable[[str], None]


class Violation(AssertionError):  # noqa: N818  (it names what was done, not what went wrong in here)
    """A rule of the design was broken."""


class Fate:
    """What happens, and when it is."""

    def __init__(self, scenario: Scenario, story: Story | None = None) -> None:
        self.now = 0  # the moment
        self.injected: Counter[Fault] = Counter()
        self._random = Random(f"fate {scenario.seed}")
        self._likely = scenario.likely
        self._calm_from = scenario.calm_from
        self._story = story

    def chance(self, likely: float) -> bool:
        """Whether something that is this likely happens."""
        return self._random.random() < likely

    def one_of(self, choices: Sequence[T]) -> T:
        """One of these, each as likely."""
        return self._random.choice(choices)

    def number(self, first: int, last: int) -> int:
        """A whole number from `first` to `last`."""
        return self._random.randint(first, last)

    def strikes(self, fault: Fault) -> bool:
        """Whether a fault happens here and now."""
        likely = self._likely.get(fault, 0.0)
        if not likely or self.now >= self._calm_from or not self.chance(likely):
            return False
        self.injected[fault] += 1
        self.tell("  !!", fault.value)
        return True

    def tell(self, *words: object) -> None:
        """Add a line to the story, if somebody listens."""
        if self._story is not None:
            self._story(f"{self.now:5d}  {' '.join(map(str, words))}")


class Clock:
    """A process's monotonic clock: it began anywhere, and goes a little too fast or too slow.

    It goes on while its process is frozen.
    """

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self._began = fate.number(0, 10**6)
        self._rate = fate.one_of(RATES)

    def now(self) -> float:
        """Seconds since whenever."""
        return self._began + self._rate * self._fate.now
