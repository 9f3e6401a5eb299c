"""The processes of this benchmark: found by a mark that all of them inherit, told apart, signalled.

One rule: nothing is signalled that does not carry the mark of this very run, so that other work on
the machine is safe from it, and nothing that it left behind can hide.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RAYSWEEP_CHAOS"
TEMPLATE = "raysweep.runtime.template"
SLOT = "RAYSWEEP_SLOT"  # the variable that tells whose trial or template a process is
SWEEPS = ("controller", "slot", "template", "trial")  # the kinds that belong to a sweep


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process as `/proc` showed it."""

    pid: int
    kind: str  # one of SWEEPS, "starter" of a template, or "other"
    command: str
    slot: str = ""  # the actor's name of the slot that a template or a trial belongs to


def new_mark() -> str:
    """Mark this process, and with it all that it will start; returns the mark."""
    mark = secrets.token_hex(8)
    os.environ[VARIABLE] = mark
    return mark


def marked(mark: str) -> list[Process]:
    """Every process that was started under a mark, but for this one and those that have ended."""
    found = (_process(entry, mark) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process and process.pid != os.getpid()]


def of_sweeps(mark: str, *kinds: str) -> list[Process]:
    """The processes of these kinds, or of all kinds that belong to a sweep."""
    return [process for process in marked(mark) if process.kind in (kinds or SWEEPS)]


def kill(pid: int) -> None:
    """SIGKILL, as the kernel does when memory runs out."""
    send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that has ended needs none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def kill_marked(mark: str) -> None:
    """Kill all that is left, and what that has started meanwhile."""
    while left := marked(mark):
        for process in left:
            kill(process.pid)
        _reap()
        time.sleep(0.05)


def until(reached: Callable[[], bool], patience: float, every: float = 0.1) -> bool:
    """Wait for something; False when it does not come."""
    deadline = time.monotonic() + patience
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def _reap() -> None:
    """Let go of children of this process that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _process(entry: Path, mark: str) -> Process | None:
    """The process, if it was started under the mark and lives."""
    try:
        variables = dict(_variables(entry))
        if variables.get(VARIABLE) != mark:
            return None
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state, parent, leader = _stat(entry)
    except OSError:  # it has ended, or is somebody else's
        return None
    if state == "Z":
        return None
    kind = _kind(int(entry.name), command.strip(), parent, leader)
    return Process(
        pid=int(entry.name), kind=kind, command=command.strip(), slot=variables.get(SLOT, "")
    )


def _variables(entry: Path) -> Iterator[tuple[str, str]]:
    for variable in (entry / "environ").read_bytes().split(b"\0"):
        name, _, value = variable.decode(errors="replace").partition("=")
        yield name, value


def _stat(entry: Path) -> tuple[str, int, int]:
    """A process's state, parent and session leader."""
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])


def _kind(pid: int, command: str, parent: int, leader: int) -> str:
    """What a process is to its sweep."""
    if command.startswith("ray::Controller"):
        return "controller"
    if command.startswith("ray::Slot"):
        return "slot"
    if TEMPLATE not in command:
        return "other"
    if TEMPLATE in _command(parent):
        return "trial" if pid == leader else "template"  # forked by a starter that still lives
    return "starter" if pid == leader else "template"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
