"""What trials write down about themselves, in a folder that both sides' trials are told.

One rule: a note is one short write to a file that is only added to, so that trials in many processes
need no lock and none of them waits. Times are of the monotonic clock, which all processes of a
machine share.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

LINE = 18  # bytes of a line of the ledger: its length tells how many trials have ended


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The folder, as a trial and as the one who reads it sees it."""

    folder: str

    def made(self) -> Notes:
        """The same, there."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        return self

    # --- what a trial writes ----------------------------------------------------------------------

    def begun(self) -> None:
        """A trial is about to report; the first one of all leaves the time."""
        try:
            file = os.open(self._path("first"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        os.write(file, repr(time.monotonic()).encode())
        os.close(file)

    def ended(self, trial: int, reports: int) -> None:
        """A trial has made so many reports, and makes no more."""
        self._add("ledger", f"{trial:08d} {reports:08d}\n")

    def trained(self, began: float, ended: float, cpu: float) -> None:
        """A trial's code began then, its last training step ended then, and its training took so much CPU."""
        self._add("trained", f"{began!r} {ended!r} {cpu!r}\n")

    def took(self, seconds: list[float]) -> None:
        """What each report of the one trial that is timed took."""
        Path(self._path("took")).write_text(json.dumps(seconds), encoding="utf-8")

    def mark(self, name: str) -> None:
        """Leave a mark that others wait for."""
        Path(self._path(f"mark-{name}")).touch()

    # --- what is read -----------------------------------------------------------------------------

    def marks(self) -> int:
        """How many marks there are."""
        return len(list(Path(self.folder).glob("mark-*")))

    def is_marked(self, name: str) -> bool:
        """Whether this mark is there."""
        return os.path.exists(self._path(f"mark-{name}"))  # noqa: PTH110  (asked before each report)

    def forget_first(self) -> None:
        """The next trial that begins is the first."""
        Path(self._path("first")).unlink(missing_ok=True)

    def first(self) -> float:
        """When the first trial was about to report."""
        return float(Path(self._path("first")).read_text(encoding="ascii"))

    def count(self) -> int:
        """How many trials have ended."""
        try:
            return os.stat(self._path("ledger")).st_size // LINE  # noqa: PTH116  (asked ten times a second)
        except FileNotFoundError:
            return 0

    def ledger(self) -> dict[int, int]:
        """How many reports each trial made."""
        text = Path(self._path("ledger")).read_text(encoding="ascii")
        return {int(line[:8]): int(line[9:]) for line in text.splitlines()}

    def training(self) -> npt.NDArray[np.float64]:
        """Of each trial: when its code began, when its last step ended, CPU seconds; shape (n, 3)."""
        return np.loadtxt(self._path("trained"), ndmin=2)

    def times(self) -> list[float]:
        """What each report of the one trial that is timed took, in seconds."""
        seconds: list[float] = json.loads(Path(self._path("took")).read_text(encoding="utf-8"))
        return seconds

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _add(self, name: str, line: str) -> None:
        file = os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, line.encode())
        os.close(file)
