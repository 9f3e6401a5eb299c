"""Grid sampling: every combination once, in order, the last parameter fastest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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

    def beside(
        self, space: Space, first: Sequence[Mapping[str, Value]], trial: int
    ) -> dict[str, Value] | None:
        """The combination of a trial that comes after others that were tried first.

        A trial has the combination of its number, as without those. Where that is one of the first,
        it has instead one of those whose numbers the first have taken: none comes twice.

        Args:
            space: of countable parameters.
            first: the parameters of trials 0, 1, ..., all different.
            trial: a number beyond theirs.
        """
        proposed = self.propose(space, (), trial, 0)
        if not first or proposed is None:
            return proposed
        texts = [_text(params) for params in first]
        if _text(proposed) not in texts:
            return proposed
        passed = [space.at(number) for number in range(len(first))]
        left = [params for params in passed if _text(params) not in texts]
        there = {_text(params) for params in passed}
        taken = (text for text in texts if text not in there)
        # Where options overlap, a combination has more than one number, and comes more than once.
        return dict(zip(taken, left, strict=False)).get(_text(proposed), proposed)


def _text(params: object) -> str:
    return json.dumps(params, sort_keys=True)
