"""What a slot and its trials say to each other, whether or not they share a process.

One rule: it imports nothing heavy, since a slot is light. What a trial says are short lists:

    ["metrics", [name]]    which the reports hold from here on
    ["fresh"]              the attempt began from nothing, though it was given a checkpoint
    ["report", numbers]    float64: seconds since the attempt began, and the value of each metric;
                           one report as it is said, some in a row as they may be heard
    ["saved", report, path, size, checksum]    of that report or an earlier one; never after the end
    ["end", ending, error, where, traceback, damaged checkpoint]
    ["late", [module]]     what a forked process has imported that its template could have

and what it is told is its order, then

    ["stop", reason]
    ["leave"]              the machine is to be taken away: save soon
    ["heard", report]      only when the sweep asks for sync_decisions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from raysweep.core.events import AttemptId, Params

Message = list[Any]

PACKET = 256 * 1024  # bytes; more than a metric report or a traceback ever needs
LEAVING = "its machine is taken away"


class Channel(Protocol):
    """The way between a trial and its slot."""

    def send(self, message: Message) -> None:
        """Say something; waits while the slot has too much that is not acknowledged."""

    def receive(self, *, wait: bool) -> Message | None:
        """What the trial is told next; None when it is told nothing and need not wait."""

    def fileno(self) -> int:
        """A file descriptor that is readable when there is something to receive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that an attempt needs to run."""

    id: AttemptId
    params: Params
    seed: int
    folder: str  # of the sweep
    checkpoint: str = ""  # relative to the folder; what it is restored from
    start: int = 0  # the interval that the checkpoint stands at
    metric: str = ""  # the primary one
    sync: bool = False
