"""Carry the runs out, in turns, each in a fresh process, and say how long it will take.

One rule: nothing is measured while anything else is. In the long run each run has a Ray of its own; in a
short one those of a side share one, since starting it takes longer than they do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from record import QUICK, ROOT
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rows import Group
from runs import Answer, Run, to_json

ONE = Path(__file__).with_name("one.py")
DISK = "/var/tmp"  # noqa: S108  (where both sides store; on a disk, where /tmp may be memory)
PATIENCE = 5  # times what a run is thought to take
START = 60.0  # seconds more, for Ray
TOLD = 2_000  # characters of what a run that failed wrote

Batch = tuple[Run, ...]  # runs that share a process


def batches(groups: Sequence[Group]) -> list[Batch]:
    """What is run in which order."""
    if not QUICK:
        turns = ((number, group) for group in groups for number in range(group.rounds))
        return [
            (run,) for number, group in turns for run in group.runs if not (run.once and number)
        ]
    shared: dict[str, list[Run]] = defaultdict(list)
    for run in dict.fromkeys(run for group in groups for run in group.runs):
        shared[run.side].append(run)
    return [tuple(runs) for runs in shared.values()]


def expected(todo: Sequence[Batch]) -> float:
    """Seconds that it is thought to take."""
    return sum(run.expect for batch in todo for run in batch)


@dataclass(kw_only=True)
class Bench:
    """Where it is run, and how far it has come."""

    console: Console
    folder: Path
    answers: dict[Run, list[Answer]] = field(default_factory=lambda: defaultdict(list))

    def carry_out(self, todo: Sequence[Batch]) -> None:
        """Do it all."""
        text, left = TextColumn("{task.description}"), expected(todo)
        with Progress(text, BarColumn(), console=self.console, transient=True) as progress:
            task = progress.add_task("", total=left)
            for batch in todo:
                with contextlib.closing(_lines(batch, self.folder)) as lines:
                    for run in batch:
                        progress.update(task, description=f"{run}; {left / 60:.0f} minutes left")
                        began = time.monotonic()
                        self.answers[run].append(json.loads(next(lines)))
                        took = time.monotonic() - began
                        self.console.print(f"{run}: {took:.0f} s", highlight=False)
                        progress.advance(task, run.expect)
                        left -= run.expect
                    assert next(lines, None) is None, "a process answers once a run"


def _lines(batch: Batch, folder: Path) -> Generator[str]:
    """What one process says, line by line.

    Raises:
        SystemExit: it failed, or took far too long.
    """
    temporary = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))  # sockets lie in it: short
    command = [sys.executable, str(ONE), str(folder), str(temporary), to_json(batch)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/benchmarks", "RAY_DEDUP_LOGS": "0"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603  (our own)
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            with _killed_after(process, PATIENCE * expected([batch]) + START):
                yield from process.stdout
            if process.wait():
                log.seek(0)
                raise SystemExit(
                    f"{log.read()[-TOLD:]}\none of {', '.join(map(str, batch))} failed"
                )
        finally:
            _kill(process)
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    """End a process that takes far too long; Ray ends with it."""
    timer = threading.Timer(seconds, _kill, [process])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process, its Ray included, if it is still there."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
