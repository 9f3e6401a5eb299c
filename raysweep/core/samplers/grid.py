"""Grid sampling: every combination once, in order, the last parameter fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from raysweep.core import checks
from raysweep.core.samplers.sampler import Observation
from raysweep.core.space import Choice, Space, Value
from raysweep.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All combinations of choice, randint, quniform and qloguniform; has nothing random."""

    kind: ClassVar[str] = "grid"
    learns: ClassVar[bool] = False

    @property
    def seed(self) -> None:
        """A grid needs none."""
        return

    def check(self, space: Space) -> None:
        """Refuse, by name, a parameter whose values cannot be counted."""
        for dimension in space.dimensions:
            expression = dimension.expression
            if expression.size is None and not isinstance(expression, Choice):
                raise SpecError(
                    f"grid sampling needs parameters of countable values, but got a"
                    f" {expression.kind} for {dimension.name!r};"
                    " use choice, randint or quniform for it, or random sampling"
                )

    def size(self, space: Space) -> int | None:
        """The number of combinations."""
        return space.size

    def propose(
        self,
        space: Space,
        known: Sequence[Observation],  # noqa: ARG002  (it does not learn)
        trial: int,
        seed: int,  # noqa: ARG002  (nor draws)
    ) -> dict[str, Value] | None:
        """The trial-th combination; None past the last."""
        self.check(space)
        size = space.size
        assert size is not None, "what passes the check can be counted"
        return space.at(trial) if checks.whole("trial", trial, at_least=0) < size else None
