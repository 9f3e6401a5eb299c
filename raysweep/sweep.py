"""`Sweep`: what a user writes, and what runs it.

One rule: whatever the trials are, a sweep is a spec, a storage, and a folder that can be made.
"""

from __future__ import annotations

import dataclasses
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from raysweep.core import checks
from raysweep.core.policies import NoPolicy, Policy
from raysweep.core.samplers import Auto, Random, Sampler
from raysweep.core.space import Expression, Space
from raysweep.core.spec import Limits, Objective, Resources, SweepSpec, drawn_points
from raysweep.core.suiting import suited
from raysweep.errors import SpecError
from raysweep.result import Result
from raysweep.runtime import code
from raysweep.runtime.proposals import check as check_sampler
from raysweep.runtime.proposals import draw
from raysweep.runtime.screen import ScreenKind
from raysweep.storage.folder import SweepFolder, default_storage, find_sweep, made
from raysweep.warm_start import WarmStart, refuse_gone_through, results_of


class Runnable(ABC):
    """A sweep that can be run, whatever its trials are.

    Attributes:
        spec: what was asked for.
        storage: the folder in which the sweep's own will be.
        asked: the sampler that was asked for: an `Auto` for which another stands in the spec.
    """

    spec: SweepSpec
    storage: str
    asked: Sampler
    _about: tuple[str, ...] = ()  # what else a person should know
    _why: tuple[str, ...] = ()  # this sampler
    _begins: tuple[str, ...] = ()  # with which results

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know before it runs, a line each."""
        return (*self._about, *self._why, *self._begins)

    def settle(self, spec: SweepSpec) -> None:
        """Run this; in place of an `Auto` stands what suits it."""
        self.asked = spec.sampler
        self.spec, self._why = suited(spec)

    @abstractmethod
    def create(self) -> SweepFolder:
        """Make the sweep's folder, with all that its trials need; nothing runs yet."""

    def run(self, *, address: str | None = None, screen: ScreenKind = "auto") -> Result:
        """Run the sweep to its end.

        Args:
            address: of a Ray cluster (`auto`, `host:port`); None takes the Ray that this process
                is connected to, that RAY_ADDRESS names, or starts one on this machine.
            screen: what is shown meanwhile: a `live` table, `lines`, `none`, or, `auto`, a table
                on a terminal and lines elsewhere.

        Raises:
            SweepExistsError: the name is taken in this storage.
            StorageUnusableError: the storage cannot be written, or not from every node.
            ResourcesError: no node can ever offer what a trial asks for.
            UnstorableError: the shared data hold what no file can.
            ControllerLostError: the cluster is gone; `raysweep resume` takes the sweep up.
        """
        from raysweep.runtime.session import run  # noqa: PLC0415  (ray is imported by who runs)

        if screen != "none":
            for notice in self.notices:
                print(notice, file=sys.stderr)  # noqa: T201  (beside the screen)
        return run(self.spec, self.create, storage=self.storage, address=address, screen=screen)

    def warm_start(self, source: WarmStart, *, storage: str | None = None) -> None:
        """Have the sampler begin with the results of an earlier sweep.

        Args:
            source: as `Sweep` takes it.
            storage: where a name is looked for; this sweep's storage unless given.

        Raises:
            SweepNotFoundError: there is no sweep of this name.
            SpecError: the sampler does not learn, the objective is another, or no result lies in
                the search space.
        """
        earlier, line = results_of(
            source,
            space=self.spec.space,
            objective=self.spec.objective,
            storage=storage or self.storage,
        )
        sampler = self.asked if isinstance(self.asked, Auto) else self.spec.sampler
        self.settle(dataclasses.replace(self.spec, sampler=sampler, earlier=earlier))
        self._begins = (line,)
        refuse_gone_through(self.spec)

    def preview(self, count: int = 5) -> list[dict[str, Any]]:
        """The parameters of the first trials, as a sampler that learns nothing yet proposes them."""
        spec = self.spec
        bound = count if spec.total_trials is None else min(count, spec.total_trials)
        return [dict(params) for params in draw(spec, [], range(bound))]


class Sweep(Runnable):
    """A hyperparameter sweep over a training function.

    Args:
        train: called with a `Trial`; reports metrics and checkpoints through it.
        space: parameter name -> expression, such as `rs.loguniform(1e-4, 1e-1)`.
        objective: `rs.maximize("accuracy")` or `rs.minimize("loss")`.
        sampler: proposes the values; `rs.Random()` unless given. `rs.Auto()` chooses by the space
            and the number of trials, and says why in `notices`.
        policy: ends hopeless trials early; none unless given.
        limits: how many trials, how many at once, for how long.
        resources: what one trial needs.
        shared: large data for all trials: a tree of arrays and tensors, stored once, mapped by
            every trial as `trial.shared`.
        name: unique in its storage; made from the function's name and the time unless given.
        storage: a folder that every node of the cluster reaches; what RAYSWEEP_STORAGE names, or
            ~/raysweep, unless given.
        max_attempts: tries at a trial whose code raises or whose process is killed. A lost machine
            does not count.
        isolation: `process`, a process for each trial, or `none` for light functions that may
            share the slot's.
        sync_decisions: whether `trial.report` waits for the policy's answer.
        grace: seconds that a trial has to end after a stop, before it is killed.
        lease: seconds that trials go on without hearing from a controller.
        keep_checkpoints: how many checkpoints of each trial are kept: the last so many, and the one
            of its best value. All unless given; 2 or more, so that one that is damaged has one before it.
        try_first: parameters of the first trials; the sampler proposes those that come after them.
        warm_start: an earlier sweep, whose results a sampler that learns begins with: its `Result`,
            its name in this storage, or STORAGE/NAME; or a list of (params, value). They are copied.

    Raises:
        SweepNotFoundError: there is no earlier sweep of this name.
        SpecError: something of this cannot be run; the message says what and what to do.
    """

    def __init__(
        self,
        train: Callable[[Any], object],
        *,
        space: Mapping[str, Expression] | Space,
        objective: Objective,
        sampler: Sampler | None = None,
        policy: Policy | None = None,
        limits: Limits | None = None,
        resources: Resources | None = None,
        shared: Mapping[str, Any] | None = None,
        name: str | None = None,
        storage: str | None = None,
        max_attempts: int = 1,
        isolation: Literal["process", "none"] = "process",
        sync_decisions: bool = False,
        grace: float = 10.0,
        lease: float = 300.0,
        keep_checkpoints: int | None = None,
        try_first: Sequence[Mapping[str, Any]] = (),
        warm_start: WarmStart | None = None,
    ) -> None:
        code.check(train)
        space = space if isinstance(space, Space) else Space(checks.mapping("space", space))
        limits = Limits() if limits is None else limits
        sampler = Random() if sampler is None else sampler
        seed = getattr(sampler, "seed", None)
        self.train = train
        self.shared = None if shared is None else checks.mapping("shared", shared)
        self.storage = storage or default_storage()
        spec = SweepSpec(
            name=_generated(train) if name is None else name,
            space=space,
            objective=objective,
            sampler=sampler,
            seed=secrets.randbits(32) if seed is None else seed,
            policy=NoPolicy() if policy is None else policy,
            limits=limits,
            resources=Resources() if resources is None else resources,
            max_attempts=max_attempts,
            isolation=isolation,
            sync_decisions=sync_decisions,
            grace=grace,
            lease=lease,
            keep_checkpoints=keep_checkpoints,
            try_first=drawn_points("try_first", space, try_first),
        )
        self.settle(spec)
        check_sampler(self.spec)
        if warm_start is not None:
            self.warm_start(warm_start)

    def create(self) -> SweepFolder:
        """Make the sweep's folder: spec, code and shared data; nothing runs yet."""
        from raysweep.storage import checkpoints  # noqa: PLC0415  (pyarrow, only with shared data)

        data = code.pickled(self.train)
        place = code.home(self.train)
        document, diff = code.origin(place)
        with made(self.storage, self.spec.name) as folder:
            if self.shared is not None:
                checkpoints.save(folder.shared, dict(self.shared))
            for relative, source in code.sources(place):
                (folder.sources / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder.sources / relative).write_bytes(source)
            files = {folder.code: data, folder.diff: diff.encode()}
            folder.create(self.spec, origin=document, files=files)
        return find_sweep(self.storage, self.spec.name)


def resume(
    name: str,
    storage: str | None = None,
    *,
    limits: Limits | None = None,
    address: str | None = None,
    screen: ScreenKind = "auto",
) -> Result:
    """Take up a sweep that was interrupted, on whatever cluster; or have one that is over do more.

    What had ended stays ended, what ran restarts from its checkpoints, and the time between does not
    count. Code and shared data come from the storage.

    Args:
        name: the sweep's.
        storage: where it lives; as for `Sweep`.
        limits: that hold from now on; None: those that held before. With a higher `max_total_trials` a
            sweep that is over goes on.
        address: of a Ray cluster; as for `Sweep.run`.
        screen: as for `Sweep.run`.

    Raises:
        SweepNotFoundError: there is no such sweep.
        SpecError: the sweep is over, and stays so under these limits.
        SweepExistsError: it is running.
        JournalDamagedError: its journal is damaged; the message says where and what to do.
    """
    from raysweep.runtime import session  # noqa: PLC0415  (ray is imported by who runs)

    folder = find_sweep(storage or default_storage(), name)
    return session.resume(folder, limits=limits, address=address, screen=screen)


def _generated(train: object) -> str:
    """A name that tells which function and when, and that no other sweep has."""
    function = getattr(train, "__name__", type(train).__name__).strip("_<>") or "sweep"
    moment = time.strftime("%Y%m%d-%H%M%S")
    return f"{function}-{moment}-{secrets.token_hex(2)}"


def found_in(module: Any) -> Runnable:  # noqa: ANN401  (a module)
    """The one sweep that a module defines at its top level.

    Raises:
        SpecError: there is none, or more than one.
    """
    found = {name: value for name, value in vars(module).items() if isinstance(value, Runnable)}
    if len(set(map(id, found.values()))) == 1:
        return next(iter(found.values()))
    if not found:
        raise SpecError(
            f"{module.__file__} defines no sweep; write `sweep = rs.Sweep(train, ...)` at its top"
            f" level (not only under `if __name__ == '__main__'`)"
        )
    raise SpecError(f"{module.__file__} defines {len(found)} sweeps ({', '.join(found)}); keep one")
