"""Every exception that raysweep raises, by whose it is to mend.

    RaysweepError
    +-- UserError                  the user's mistake: nothing was started, nothing is lost
    |   +-- SpecError                a spec, a space, a policy or a limit that cannot be run
    |   |   `-- JobFileError             a job file: all that is wrong with it, with lines and columns
    |   +-- MetricError              a metric that is not a number, or a report without any
    |   +-- SweepExistsError         the name is taken in this storage
    |   +-- SweepNotFoundError       there is no sweep of this name in this storage
    |   +-- StorageUnusableError     the storage cannot be written, or not from every node
    |   +-- ExhaustedError           another trial was asked for, and the sampler has none left
    |   +-- NotInTrialError          a report from a script that no sweep's command runs
    |   +-- ResourcesError           no node can ever offer what a trial asks for
    |   +-- EnvironmentBuildError    an environment of a command that cannot be built
    |   `-- UnstorableError          a value of a checkpoint or of shared data that has no stored form
    +-- TrialError                 a trial's failure
    |   +-- CommandError             a command that cannot be run with its values, or that failed
    |   `-- NoTrialCompletedError    the sweep ended without a result to hand out
    +-- ClusterError               the cluster's loss: machines, processes, disks
    |   +-- ControllerLostError      the sweep's controller does not answer
    |   +-- StaleEpochError          another controller has taken the sweep over
    |   +-- JournalDamagedError      a journal whose committed part fails its checksum
    |   `-- CheckpointDamagedError   a checkpoint that fails its checksum
    `-- InvalidTransitionError     raysweep's own mistake: a state that cannot be left this way

`Stopped` stands apart: it is how a stop reaches a training function, and derives from
`BaseException` so that `except Exception` does not swallow it while `finally` still runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class RaysweepError(Exception):
    """The root of all that raysweep raises."""


class UserError(RaysweepError):
    """The user's mistake: the message says what was wrong, what was found, and what to do."""


class SpecError(UserError):
    """A spec or a part of one that cannot be run; raised before anything starts."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a job file."""

    message: str  # what is wrong, what was found, what to do
    path: str = ""  # of keys: search_space.lr.values[2]; "": the file as a whole
    file: str = ""  # or the setting it came with: --set limits.timeout; "": no file
    line: int | None = None  # from 1; None: what has no lines
    column: int | None = None  # from 1

    def __str__(self) -> str:
        """`sweep.yml:12:7: limits.timeout: what is wrong`."""
        places = (self.file, self.line, self.column)
        where = ":".join(str(place) for place in places if place not in ("", None))
        path = "" if where.endswith(f" {self.path}") else self.path
        return ": ".join(part for part in (where, path, self.message) if part)


class JobFileError(SpecError):
    """A job file, or an object like it, that cannot be run; tells all that is wrong, a line each.

    Attributes:
        problems: what is wrong, in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[JobFileError], tuple[tuple[Problem, ...]]]:
        """Pickled by what is wrong, not by its text."""
        return type(self), (self.problems,)


class MetricError(UserError):
    """A report whose metrics are not numbers, or that holds none."""


class SweepExistsError(UserError):
    """A sweep of this name is already in this storage."""


class SweepNotFoundError(UserError):
    """No sweep of this name is in this storage."""


class StorageUnusableError(UserError):
    """A storage that cannot be written, or that not every node reaches."""


class ExhaustedError(UserError):
    """Another trial was asked for, and the sampler has been through the whole space."""


class NotInTrialError(UserError):
    """A report from a script that no sweep's command runs."""


class ResourcesError(UserError):
    """Resources that no node of the cluster, and no node type of its autoscaler, can ever offer."""


class EnvironmentBuildError(UserError):
    """An environment that a command asks for and that cannot be built.

    Attributes:
        output: what the tool that builds it said last.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class UnstorableError(UserError):
    """A value that no checkpoint or shared file can hold; the message names its path and type."""


class TrialError(RaysweepError):
    """A trial's failure."""


class CommandError(TrialError):
    """A trial's command that cannot be run with its values, or that failed.

    Attributes:
        output: the last lines that it printed, or "".
        kind: what failures of one kind have in common; the message unless given.
    """

    def __init__(self, message: str, output: str = "", *, kind: str = "") -> None:
        super().__init__(message)
        self.output = output
        self.kind = kind or message


class NoTrialCompletedError(TrialError):
    """A sweep that ended without any finite value of its primary metric."""


class ClusterError(RaysweepError):
    """The cluster's loss: a machine, a process or a disk that is gone or damaged."""


class ControllerLostError(ClusterError):
    """The controller of a sweep that does not answer."""


class StaleEpochError(ClusterError):
    """A controller, or a message to one, of an epoch that the storage has moved beyond."""


class JournalDamagedError(ClusterError):
    """A journal whose committed part fails its checksum; it is never shortened silently."""


class CheckpointDamagedError(ClusterError):
    """A checkpoint that fails its checksum or is cut short."""


class InvalidTransitionError(RaysweepError):
    """A state that cannot be left this way; the message tells the story that led there."""


class Stopped(BaseException):
    """The trial is asked to end: raised by `trial.report`, let it pass through `finally`."""
