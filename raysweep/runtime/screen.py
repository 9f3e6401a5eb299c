"""What is shown of a running sweep: a live table on a terminal, quiet lines elsewhere.

One rule: all of it goes to stderr, so that stdout is left to results; and a frame is a pure function
of a status and of the room that there is. A frame always fits the terminal, and the last one stays.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from raysweep.core.trials import LIVE, TrialState
from raysweep.runtime.status import Row, Status
from raysweep.runtime.table import (
    GUTTER,
    STYLES,
    compact,
    duration,
    number,
    said,
    state_text,
    trials_table,
)

EVERY = 1.0  # seconds between lines, where there is no terminal
BURST = 20  # lines of a log at once; of more, the last
WINDOW = 10.0  # seconds that reports are counted over
FAST = 100  # reports a second, from where on tenths are noise
ECHO = 3  # columns kept free, so that the `^C` that a terminal echoes never begins a new line
SILENT = "the controller does not answer just now; the trials go on"

ScreenKind = Literal["auto", "live", "lines", "none"]
Watcher = Callable[[Status | None], None]


@contextlib.contextmanager
def shown(kind: ScreenKind) -> Iterator[Watcher]:
    """A watcher that shows each status it is given; None is a controller that does not answer."""
    console = Console(stderr=True, highlight=False)
    if kind == "auto":  # rich is not asked: FORCE_COLOR makes no terminal of a file
        kind = "live" if sys.stderr.isatty() and not console.is_dumb_terminal else "lines"
    if kind == "live":
        with _live(console) as watcher:
            yield watcher
    elif kind == "lines":
        quiet = Lines(sys.stderr)
        try:
            yield quiet
        finally:
            quiet.flush()
    else:
        yield lambda _: None


@contextlib.contextmanager
def _live(console: Console) -> Iterator[Watcher]:
    """A table that is drawn anew, in its place, with each status."""
    # What is printed meanwhile goes above the table, unless it goes to a file or a pipe.
    with Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live:
        yield Frames(console, live)


class Frames:
    """Draws a frame for each status."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._size = console.size
        self._pace = Pace()
        self._last: Status | None = None

    def __call__(self, status: Status | None) -> None:
        """Draw the status, or the one before with a word that it is old."""
        if status is not None:
            self._pace.note(status.elapsed, status.reports)
            self._last = status
        if self._console.size != self._size:  # the terminal has wrapped the frame anew: wipe it
            self._size = self._console.size
            self._console.clear()
        self._live.update(self._frame(answers=status is not None), refresh=True)

    def _frame(self, *, answers: bool) -> RenderableType:
        if self._last is None:
            return Text(SILENT, "yellow")
        width, height = self._size
        width = max(1, width - ECHO)
        return render(self._last, width=width, height=height, rate=self._pace.rate, answers=answers)


class Pace:
    """How many reports a second there were of late."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # (sweep's time, reports until then)

    def note(self, elapsed: float, reports: int) -> None:
        """Take in how many reports there are after so many seconds."""
        self._seen.append((elapsed, reports))
        while elapsed - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Reports a second; None before there is a second to count in."""
        if not self._seen:
            return None
        (begin, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - begin) if end - begin >= 1.0 else None


class Lines:
    """A line for each thing that happened and one for where the sweep stands, once a second."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._printed = -math.inf  # when
        self._log: list[str] = []  # what happened and was not printed yet
        self._notice = ""  # the latest word on silence or a pause
        self._status: Status | None = None
        self._said = ""  # the last line on where the sweep stands, without the time

    def __call__(self, status: Status | None) -> None:
        """Take a status in; print the news unless the last lines are too young."""
        self._note(SILENT if status is None else status.paused)
        if status is not None:
            self._log += status.log
            self._status = status
        if self._clock() - self._printed >= EVERY:
            self.flush()

    def _note(self, notice: str) -> None:
        if notice != self._notice:
            self._log.append(notice or "the sweep goes on")
        self._notice = notice

    def flush(self) -> None:
        """Print the news now."""
        told = self._log[-BURST:]
        if hidden := len(self._log) - len(told):
            told.insert(0, f"... {hidden:,} lines before ...")
        told += self._progress()
        self._log = []
        if told:
            self._printed = self._clock()
            print("\n".join(told), file=self._file, flush=True)

    def _progress(self) -> list[str]:
        """The line on where the sweep stands, if it stands elsewhere than it did."""
        if self._status is None or (line := progress(self._status)) == self._said:
            return []
        self._said = line
        return [f"{line} · {duration(self._status.elapsed)}"]


def progress(status: Status) -> str:
    """Where a sweep stands, in a line that changes with what happens and not with the time."""
    best = status.best
    leader = f"best {status.metric} {number(best.best)} (trial {best.number})" if best else ""
    return " · ".join(part for part in (_ended(status), _counts(status).plain, leader) if part)


# --- a frame of the live table --------------------------------------------------------------------


def render(
    status: Status,
    *,
    width: int,
    height: int,
    rate: float | None = None,
    answers: bool = True,
) -> Group:
    """A frame: a head, then a table of the trials that run and of those that ended last.

    Args:
        status: what to show.
        width: columns of the terminal.
        height: lines of the terminal; the frame takes at most one less.
        rate: reports a second, where known.
        answers: False while the controller does not answer, so that the frame is old.
    """
    lines: list[RenderableType] = [*head(status, width=width, rate=rate, answers=answers)]
    rows = fitting(status.rows, height - len(lines) - 4)  # blank, head, what is left out, cursor
    if rows:
        best = status.best.number if status.best else None
        lines += [Text(), trials_table(rows, width=width, best=best)]
    if rows and (hidden := status.ended + status.live - len(rows)):
        lines.append(_cropped(Text(f"and {hidden:,} more, ended or running", "dim")))
    return Group(*lines[: max(1, height - 1)])


def head(
    status: Status, *, width: int, rate: float | None = None, answers: bool = True
) -> list[Text]:
    """Where a sweep stands, in lines of at most `width` columns; the arguments are `render`'s."""
    return [
        _ends(_title(status), _times(status), width),
        _bar(status, width),
        _ends(_counts(status), _pace(status, rate), width),
        *_leader(status),
        *_notices(status, answers=answers),
    ]


def fitting(rows: Sequence[Row], room: int) -> list[Row]:
    """As many rows as there is room for, by number: those that run first, then the latest."""
    ranked = sorted(rows, key=lambda row: (row.state not in LIVE, -row.number))
    return sorted(ranked[: max(0, room)], key=lambda row: row.number)


def _ends(left: Text, right: Text, width: int) -> Text:
    """One text at the left end of a line and one at the right, if there is room for it."""
    gap = width - left.cell_len - right.cell_len
    whole = Text.assemble(left, " " * gap, right) if gap >= GUTTER else left
    return _cropped(whole)


def _cropped(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _title(status: Status) -> Text:
    title = Text.assemble((status.name, "bold"), " ", state_text(status.phase))
    return title.append(f": {status.reason}" if status.reason else "")


def _times(status: Status) -> Text:
    left = time_left(status)
    about = "" if left is None else f" · about {duration(left)} left"
    return Text(f"{duration(status.elapsed)}{about}")


def time_left(status: Status) -> float | None:
    """Seconds that the sweep will take from here if it goes on as it did; None if unknown."""
    if status.over or status.total is None or not status.ended:
        return None
    done = status.ended + status.live / 2  # what runs is halfway, on average
    return max(0.0, status.elapsed * (status.total - done) / done)


def _bar(status: Status, width: int) -> Text:
    """How many trials have ended, of how many: ended, running and to come, in three strokes."""
    label = _ended(status)
    if status.total is None:
        return _cropped(Text(label))
    room = max(0, width - len(label) - GUTTER)
    ended = room * status.ended // status.total
    live = room * (status.ended + status.live) // status.total - ended
    strokes = ("━" * ended, "green"), ("╍" * live, "cyan"), ("─" * (room - ended - live), "dim")
    return _cropped(Text.assemble(*strokes, " " * GUTTER, label))


def _ended(status: Status) -> str:
    of = "" if status.total is None else f" of {status.total:,}"
    return f"{status.ended:,}{of} trials ended"


def _counts(status: Status) -> Text:
    """How many trials are in each state."""
    counts = [(status.counts.get(state, 0), state) for state in TrialState]
    shown_counts = [
        Text(f"{count:,} {said(state)}", STYLES[state]) for count, state in counts if count
    ]
    return Text(" · ").join(shown_counts)


def _pace(status: Status, rate: float | None) -> Text:
    a_second = "" if rate is None or status.over else f", {rate:,.{int(rate < FAST)}f} a second"
    slots = f" · {status.slots:,} slots" if status.slots else ""
    return Text(f"{status.reports:,} reports{a_second}{slots}", "dim")


def _leader(status: Status) -> list[Text]:
    """The best trial so far, in two lines."""
    best = status.best
    if best is None:
        return [Text(f"best {status.metric}: no value yet", "dim")]
    line = Text.assemble(
        f"best {status.metric} ",
        (number(best.best), "bold green"),
        f" in trial {best.number} at interval {status.best_interval}",
    )
    return [_cropped(line), _cropped(Text(f"  {compact(best.params)}", "dim"))]


def _notices(status: Status, *, answers: bool) -> list[Text]:
    """What somebody should know, each a line."""
    told = [] if answers else [Text(SILENT, "yellow")]
    if status.paused:
        told.append(Text(f"paused: {status.paused}", "bold red"))
    return [_cropped(text) for text in told]
