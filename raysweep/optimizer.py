"""`Optimizer`: any sampler, asked and told by hand, for trials that no sweep runs.

One rule: it is a sweep without the running. Its trials are numbered, seeded and proposed as those
of a sweep with the same space, objective and sampler are.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from raysweep.core import checks
from raysweep.core.events import Params
from raysweep.core.history import History, Track
from raysweep.core.samplers import Observation, Random, Sampler, trial_seed
from raysweep.core.space import Expression, Space
from raysweep.core.spec import Earlier, Limits, Objective, SweepSpec, drawn_points
from raysweep.core.standing import observed
from raysweep.core.suiting import suited
from raysweep.errors import ExhaustedError, MetricError, NoTrialCompletedError, UserError
from raysweep.runtime import metrics
from raysweep.runtime.proposals import check as check_sampler
from raysweep.runtime.proposals import draw
from raysweep.storage.folder import default_storage
from raysweep.warm_start import WarmStart, refuse_gone_through, results_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial that was asked for.

    Attributes:
        number: 0, 1, 2, ... in the order of asking.
        params: the values to try, by name.
        seed: a number of the trial's own, from 0 to 2**32 - 1.
    """

    number: int
    params: Params
    seed: int


@dataclass(frozen=True, kw_only=True)
class BestTold:
    """The trial with the best value that was told.

    Attributes:
        number: of the trial.
        params: its values.
        value: the best of the objective's metric.
    """

    number: int
    params: Params
    value: float


class Optimizer:
    """A sampler to be asked for trials and told what came of them.

    >>> import raysweep as rs
    >>> space = {"x": rs.uniform(-2, 2), "n": rs.randint(3)}
    >>> opt = rs.Optimizer(space, rs.minimize("y"), rs.Sobol(seed=1), initial=[{"x": 1, "n": 2}])
    >>> for _ in range(8):
    ...     trial = opt.ask()
    ...     opt.tell(trial, y=trial.params["x"] ** 2 + trial.params["n"])
    >>> opt.best.number, round(opt.best.value, 3)
    (1, 0.268)

    Several trials may be asked for before one is told: a sampler that learns knows that they run.

    >>> one, two = opt.ask(2)
    >>> opt.tell(two, y=0.5, done=False)  # a value on the way
    >>> opt.tell(two, y=0.25)
    >>> opt.tell(one, failed=True)

    Args:
        space: parameter name -> expression, such as `rs.loguniform(1e-4, 1e-1)`.
        objective: `rs.maximize("accuracy")` or `rs.minimize("loss")`.
        sampler: proposes the values; `rs.Random()` unless given. `rs.Auto()` chooses by the space,
            and says why in `notices`.
        initial: parameters of the first trials.
        warm_start: results that a sampler that learns begins with, as `rs.Sweep` takes them: a
            `Result`, a sweep's name, or a list of (params, value).
        storage: where a sweep's name is looked for; what RAYSWEEP_STORAGE names, or ~/raysweep,
            unless given.

    Attributes:
        spec: what was asked for, as of a sweep.
        notices: what a person should know, a line each.

    Raises:
        SweepNotFoundError: there is no earlier sweep of this name.
        SpecError: something of this cannot be; the message says what and what to do.
    """

    def __init__(
        self,
        space: Mapping[str, Expression] | Space,
        objective: Objective,
        sampler: Sampler | None = None,
        *,
        initial: Sequence[Mapping[str, Any]] = (),
        warm_start: WarmStart | None = None,
        storage: str | None = None,
    ) -> None:
        sampler = Random() if sampler is None else sampler
        seed = getattr(sampler, "seed", None)  # of what is no sampler, the spec says so
        space = space if isinstance(space, Space) else Space(checks.mapping("space", space))
        begins: tuple[str, ...] = ()
        earlier: tuple[Earlier, ...] = ()
        if warm_start is not None:
            place = storage or default_storage()
            earlier, line = results_of(warm_start, space=space, objective=objective, storage=place)
            begins = (line,)
        spec = SweepSpec(
            name="optimizer",
            space=space,
            objective=objective,
            sampler=sampler,
            seed=secrets.randbits(32) if seed is None else seed,
            limits=Limits(timeout=1.0),  # something must end a sweep; nothing runs here
            try_first=drawn_points("initial", space, initial),
            earlier=earlier,
        )
        self.spec, why = suited(spec)
        self.notices: tuple[str, ...] = (*why, *begins)
        check_sampler(self.spec)
        if earlier:
            refuse_gone_through(self.spec)
        self._asked: list[Asked] = []
        self._ended: set[int] = set()
        self._history = History(objective.goal, Track.NONE)

    @overload
    def ask(self) -> Asked: ...

    @overload
    def ask(self, count: int) -> list[Asked]: ...

    def ask(self, count: int | None = None) -> Asked | list[Asked]:
        """The next trial; with a count, a list of so many.

        Raises:
            ExhaustedError: there is none left. Where fewer than `count` are left, they are what
                comes out.
        """
        wanted = 1 if count is None else checks.whole("count", count, at_least=1)
        first = len(self._asked)
        known = self._observations() if self.spec.sampler.learns else []
        drawn = draw(self.spec, known, range(first, first + wanted))
        if not drawn:
            raise ExhaustedError(
                f"the {self.spec.sampler.kind} sampler has no trial left to propose: all"
                f" {first} were asked for"
            )
        new = [
            Asked(number=number, params=params, seed=trial_seed(self.spec.seed, number))
            for number, params in enumerate(drawn, first)
        ]
        self._asked += new
        handed = [_copied(trial) for trial in new]
        return handed[0] if count is None else handed

    def tell(
        self,
        trial: Asked | int,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        done: bool = True,
        failed: bool = False,
        **more: Any,  # noqa: ANN401  (a number of any library)
    ) -> None:
        """What came of a trial.

        Args:
            trial: what `ask` gave, or its number.
            values: metrics by name, for names that are no identifiers; one is the objective's.
            done: whether the trial has ended; False for a value on the way. A trial counts with the
                best of its values.
            failed: whether it has ended without a value; one on the way counts all the same. A
                trial that ends with NaN has ended without a value, too.
            more: metrics by name.

        Raises:
            UserError: there is no such trial, or it has ended already.
            MetricError: a metric is no number, the objective's is missing, or is there although the
                trial failed.
        """
        number = self._number(trial)
        found = self._metrics(number, values, more, failed=failed)
        if (value := found.get(self.spec.objective.metric)) is not None:
            self._history.add(number, value)
        if done or failed:
            self._ended.add(number)
            self._history.finish(number)

    def _metrics(
        self, number: int, values: object, more: Mapping[str, Any], *, failed: bool
    ) -> Mapping[str, float]:
        """What a trial was told, by name; refuses what says too little, or too much."""
        metric = self.spec.objective.metric
        if values is not None and not isinstance(values, Mapping):
            raise MetricError(
                f"trial {number} must be told metrics by name, but got {checks.described(values)};"
                f" tell(trial, {{{metric!r}: ...}}) names one"
            )
        found = metrics.checked({**(values or {}), **more})
        if failed and math.isfinite(found.get(metric, math.nan)):
            raise MetricError(
                f"trial {number} cannot both fail and have a value of {metric!r}; tell a value on the"
                " way with done=False first, or leave out failed=True"
            )
        if metric not in found and not failed:
            raise MetricError(
                f"trial {number} must be told {metric!r}, but got {sorted(found)};"
                " tell(trial, failed=True) ends one without a value"
            )
        return found

    def _number(self, trial: Asked | int) -> int:
        """A trial's number; refuses one that nobody asked for here, or that has ended."""
        if isinstance(trial, Mapping):
            raise UserError(
                f"trial must be what ask() gave, or its number, but got {checks.described(trial)}"
            )
        number = trial.number if isinstance(trial, Asked) else checks.whole("trial", trial)
        if not 0 <= number < len(self._asked):
            raise UserError(
                f"trial must be one that was asked for, 0 to {len(self._asked) - 1}, but got {number}"
                if self._asked
                else f"trial must be one that was asked for, but got {number} before any was"
            )
        if isinstance(trial, Asked) and trial.seed != self._asked[number].seed:
            raise UserError(f"trial {number} was asked of another optimizer: tell that one")
        if number in self._ended:
            raise UserError(
                f"trial {number} has ended already and cannot be told more; ask() for another"
            )
        return number

    @property
    def trials(self) -> Sequence[Asked]:
        """Every trial that was asked for, by number."""
        return tuple(map(_copied, self._asked))

    @property
    def best(self) -> BestTold:
        """The trial with the best value that was told; ties go to the lower number.

        Raises:
            NoTrialCompletedError: no finite value has been told.
        """
        best = self._history.best_trial()
        if best is None:
            raise NoTrialCompletedError(
                f"no finite value of {self.spec.objective.metric!r} has been told yet"
            )
        params = _copied(self._asked[best.trial]).params
        return BestTold(number=best.trial, params=params, value=best.value)

    def _observations(self) -> list[Observation]:
        """What the sampler may know."""
        return [
            observed(self._history, n, trial.params, pending=n not in self._ended)
            for n, trial in enumerate(self._asked)
        ]


def _copied(trial: Asked) -> Asked:
    """A trial for whoever asked: what is done to its values changes nothing that is known here."""
    return dataclasses.replace(trial, params=copy.deepcopy(trial.params))
