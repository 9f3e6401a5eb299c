"""The frozen vocabulary of a sweep: events go in, commands come out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer to one report: go on or stop, and the reason in numbers."""

    stop: bool
    reason: str


GO_ON = Decision(stop=False, reason="")
