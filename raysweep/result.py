"""A sweep's result, read from its folder: what came out, and where it is kept.

One rule: everything here is derived from the journal; no cluster is needed.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raysweep.core.events import Assign, End, Exchanged, Opened, Params
from raysweep.core.state import Phase, SweepState
from raysweep.core.trials import Kept, Trial
from raysweep.errors import NoTrialCompletedError, SpecError
from raysweep.storage import checkpoints, journal
from raysweep.storage.bucket import Bucket
from raysweep.storage.folder import SweepFolder, default_storage, find_sweep
from raysweep.storage.following import follower_of
from raysweep.storage.mirror import is_bucket


@dataclass(frozen=True)
class TrialResult:
    """One trial of a sweep.

    Attributes:
        number: 0, 1, 2, ... in the order of proposal.
        params: the values that were drawn for it.
        state: `completed`, `stopped`, `timed_out`, `canceled`, `failed`, or how far it has come.
        reason: why it ended, in numbers where a policy decided.
        error: of its last failed attempt, one line.
        intervals: how many reports of the primary metric count.
        best: the best finite counted value of the primary metric, or None.
        best_interval: the interval of that value; 0 without one.
        curve: the counted values of the primary metric, an interval each.
    """

    number: int
    params: Params
    state: str
    reason: str
    error: str
    attempts: int
    intervals: int
    best: float | None
    best_interval: int
    curve: list[float]
    _result: Result
    _kept: Kept | None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics that were reported with the best value."""
        return self._result.metrics_at(self.number, self.best_interval)

    @property
    def checkpoint_path(self) -> str | None:
        """The file of the nearest checkpoint at or before the best interval."""
        if self._kept is None:
            return None
        return f"{self._result.path}/{self._kept.checkpoint.path}"

    @property
    def checkpoint_interval(self) -> int | None:
        """The interval that this checkpoint was taken at."""
        return None if self._kept is None else self._kept.interval

    @property
    def log(self) -> str:
        """What the trial wrote to stdout and stderr."""
        folder = self._result.folder
        path = folder.log(self.number)
        folder.fetch_all(path.parent)
        return path.read_text(errors="replace") if path.exists() else ""

    @cached_property
    def traceback(self) -> str:
        """Of its last failed attempt."""
        return self._result.traceback_of(self.number)

    def checkpoint(self, **how: Any) -> Any:  # noqa: ANN401  (the tree that the user's own code saved)
        """The state tree of that checkpoint, verified; None when there is none.

        Args:
            how: as `load_checkpoint` takes it: `lazy`, `device`, `trusted`.

        Raises:
            CheckpointDamagedError: the file fails its checksum.
        """
        path = self.checkpoint_path
        return None if path is None else load_checkpoint(path, **how)


class Result:
    """What a sweep came to."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._records = list(journal.read(folder.journal))
        self.state = SweepState(folder.read_spec())
        for record in self._records:
            self.state.apply(record.event, record.commands)

        self._metric = self.state.spec.objective.metric

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.state.counts.items() if count)
        return f"<Result of {self.name!r}: {self.phase}; {counts or 'no trials'}>"

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.folder.name

    @property
    def path(self) -> str:
        """The sweep's folder."""
        return self.folder.uri

    @property
    def phase(self) -> Phase:
        """`completed`, `failed`, `canceled`; `running` or `ending` while it is not over."""
        return self.state.phase

    @cached_property
    def standing(self) -> str:
        """The phase; `interrupted` for a sweep that is not over and that nobody has in hand.

        Nobody has when its controller was told to leave it, when the process that ran it on a Ray of
        its own is gone, or when its journal has had no sign of life for the length of a lease.
        """
        state = self.state
        if state.over or not self._interrupted():
            return str(state.phase)
        return "interrupted"

    def _interrupted(self) -> bool:
        follower = follower_of(self.folder)
        if follower is not None and follower.is_here and follower.owns_ray:
            return not follower.lives
        silence = self.folder.journal.silence()
        return self.state.suspended or silence is None or silence > self.state.spec.lease

    @property
    def began(self) -> str:
        """When a controller first took the sweep up, as UTC; "" before that."""
        opened = (r.event.wall for r in self._records if isinstance(r.event, Opened))
        return next(opened, "")

    @property
    def reason(self) -> str:
        """Why the sweep ended, when that is not plain."""
        return self.state.reason

    @property
    def seconds(self) -> float:
        """The sweep's own time: what it ran, time spent down not counted."""
        return self.state.time

    @cached_property
    def trials(self) -> Sequence[TrialResult]:
        """Every trial, by number."""
        return [self._trial(trial) for trial in self.state.trials]

    def trial(self, number: int) -> TrialResult:
        """One trial by its number.

        Raises:
            SpecError: there is none of this number.
        """
        if not 0 <= number < len(self.trials):
            last = len(self.trials) - 1
            there = f"it has trials 0 to {last}" if self.trials else "it has none yet"
            raise SpecError(f"sweep {self.name!r} has no trial {number}: {there}")
        return self.trials[number]

    @property
    def best(self) -> TrialResult:
        """The trial with the best value, whatever its state; ties go to the lower number.

        Raises:
            NoTrialCompletedError: no trial has reported a finite value.
        """
        best = self.state.best
        if best is None:
            errors = sorted({trial.error for trial in self.state.trials if trial.error})
            why = f"; errors: {' | '.join(errors[:3])}" if errors else ""
            raise NoTrialCompletedError(
                f"sweep {self.name!r} has no finite value of"
                f" {self.state.spec.objective.metric!r}{why}"
            )
        return self.trials[best.trial]

    def to_pandas(self) -> Any:  # noqa: ANN401  (pandas is the caller's to have)
        """The trials as a pandas DataFrame, a row each: state, values, and `params.*`."""
        import pandas as pd  # noqa: PLC0415  (only those who call this need it)

        return pd.DataFrame([_flat(trial) for trial in self.trials])

    def metrics_at(self, number: int, interval: int) -> dict[str, float]:
        """The metrics that a trial reported with its counted value at an interval."""
        found: dict[int, dict[str, float]] = {}
        reached = 0
        for record in self._records:
            if isinstance(record.event, Exchanged):
                if any(id_.trial == number for id_ in record.event.fresh):
                    reached = 0
                for block in record.event.reports:
                    if block.id.trial == number and self._metric in block.names:
                        for values in block.table().tolist():
                            reached += 1  # an interval that was redone overwrites the first try
                            found[reached] = dict(zip(block.names, values, strict=True))
            for command in record.commands:
                if isinstance(command, Assign) and command.id.trial == number:
                    reached = command.start
        return found.get(interval, {})

    def traceback_of(self, number: int) -> str:
        """The traceback of a trial's last failed attempt; "" when it has none."""
        ends: list[End] = [
            end
            for record in self._records
            if isinstance(record.event, Exchanged)
            for end in record.event.ends
            if end.id.trial == number and end.traceback
        ]
        return ends[-1].traceback if ends else ""

    def _trial(self, trial: Trial) -> TrialResult:
        history = self.state.history
        intervals = history.intervals(trial.number)
        curve = [history.value(trial.number, k) for k in range(1, intervals + 1)]
        best = history.best(trial.number)
        interval = 0 if best is None else curve.index(best) + 1
        return TrialResult(
            number=trial.number,
            params=trial.params,
            state=str(trial.state),
            reason=trial.reason,
            error=trial.error,
            attempts=trial.attempt,
            intervals=intervals,
            best=best,
            best_interval=interval,
            curve=curve,
            _result=self,
            _kept=trial.nearest_checkpoint(interval) if interval else None,
        )


def load_result(name: str, storage: str | None = None) -> Result:
    """The result of a sweep, finished or not, by its name.

    Raises:
        SweepNotFoundError: there is none of this name in this storage.
        JournalDamagedError: its journal is damaged.
    """
    return Result(find_sweep(storage or default_storage(), name))


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    lazy: bool = False,
    device: Any = None,  # noqa: ANN401  (a name, or torch's own)
    trusted: Collection[str] = (),
) -> Any:  # noqa: ANN401  (the tree that the user's own code saved)
    """The state tree of a checkpoint, verified; no code that is stored in it runs.

    Arrays and tensors lie in the file, mapped, and arrays are read-only: what is not used is not read
    again, and what is changed is changed in memory only.

    Args:
        path: a file, or an object in a bucket: `s3://BUCKET/FOLDER/....arrow`.
        lazy: read and verify a leaf when it is taken: `load_checkpoint(path, lazy=True)["model"]["fc.bias"]`
            reads that tensor alone, of an object that is fetched as a whole. Dicts come as mappings, lists and tuples as sequences.
        device: where tensors go, as torch takes it: `"cuda"`. None: they stay in the CPU's memory.
        trusted: types that scikit-learn's estimators may hold beyond those that are harmless whoever
            wrote the file; the error that names them says when.

    Raises:
        CheckpointDamagedError: the file fails its checksum; if lazy, also when a leaf is taken.
        FileNotFoundError: there is none.
        UserError: torch or skops is needed and not installed, or a type is not trusted.
    """
    with checkpoint_file(path) as file:
        return checkpoints.load(file, lazy=lazy, device=device, trusted=trusted)


@contextlib.contextmanager
def checkpoint_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A checkpoint on this machine while the block lasts; what is mapped stays when its name is gone.

    Raises:
        FileNotFoundError: there is no such object.
    """
    name = os.fspath(path)
    if not is_bucket(name):
        yield Path(name)
        return
    place, _, key = name.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="raysweep-") as folder:
        file = Path(folder) / key
        Bucket(place).download(key, file)
        yield file


def _flat(trial: TrialResult) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "trial": trial.number,
        "state": trial.state,
        "best": trial.best,
        "best_interval": trial.best_interval,
        "intervals": trial.intervals,
        "attempts": trial.attempts,
        "reason": trial.reason,
        "error": trial.error,
    }
    return columns | {f"params.{name}": value for name, value in trial.params.items()}
