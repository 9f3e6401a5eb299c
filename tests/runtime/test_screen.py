"""What is shown of a running sweep: frames that fit, lines that do not flood."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raysweep.runtime.screen import BURST, SILENT, Lines, Pace, fitting, render, shown, time_left
from raysweep.runtime.status import Row, Status

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def row(number: int, state: str = "completed", reason: str = "ran to its end") -> Row:
    """A trial."""
    params = {"lr": 0.001 * (number + 1), "width": 16, "model": {"depth": number, "bias": True}}
    return Row(
        number=number,
        state=state,
        intervals=number + 1,
        best=0.9 + number / 1000,
        latest=0.89,
        reason=reason,
        params=params,
    )


ROWS = (
    *(row(number) for number in range(6)),
    row(
        6, "stopped", "bandit: best 0.612 < 0.667 = 0.8 / (1 + 0.2) at interval 10 (best: trial 4)"
    ),
    row(7, "failed", "ValueError: [red]shapes[/red] do not match"),
    row(8, "running", ""),
    row(9, "stopping", "trial_timeout of 60 s reached"),
)
STATUS = Status(
    name="digits",
    phase="running",
    reason="",
    metric="accuracy",
    goal="maximize",
    elapsed=83.4,
    counts={"completed": 6, "stopped": 1, "failed": 1, "running": 1, "stopping": 1, "waiting": 6},
    total=16,
    reports=340,
    slots=2,
    best=ROWS[5],
    best_interval=4,
    rows=ROWS,
    paused="",
    over=False,
    finished=False,
    log=(),
    logged=0,
)


def drawn(status: Status, *, width: int = 100, height: int = 30, **more: object) -> list[str]:
    """The lines of a frame."""
    console = Console(width=width, force_terminal=False, file=io.StringIO())
    console.print(render(status, width=width, height=height, **more))  # type: ignore[arg-type]  # as `render` takes them
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "height"), [("wide", 130, 30), ("usual", 100, 30), ("low", 80, 12)]
)
def test_a_frame_is_as_recorded(name: str, width: int, height: int) -> None:
    """Head, then table; what the room does not hold gives way."""
    frame = drawn(STATUS, width=width, height=height, rate=21.34)
    assert (GOLDEN / f"cli_frame_{name}.txt").read_text().splitlines() == frame


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("height", [2, 5, 8, 12, 50])
def test_a_frame_always_fits(width: int, height: int) -> None:
    """No terminal is scrolled, and no line is wrapped."""
    troubled = replace(STATUS, paused="the storage refuses: No space left on device")
    frame = drawn(troubled, width=width, height=height, answers=False)
    assert len(frame) < height
    assert max(map(len, frame)) <= width


def test_a_parameter_may_have_any_name() -> None:
    """One that is called like a column of the table stands beside it."""
    named = replace(row(0), params={"state": "solid", "best": "[bold]"})
    frame = drawn(replace(STATUS, rows=(named,)))
    assert frame[-3].split() == [
        "trial", "state", "intervals", "best", "latest", "state", "best", "why",
    ]  # fmt: skip
    assert "solid  [bold]" in frame[-2]


def test_trials_that_run_are_shown_first() -> None:
    """With little room the latest of those that ended give way last."""
    assert [7, 8, 9] == [each.number for each in fitting(ROWS, 3)]
    assert [3, 8] == [each.number for each in fitting([ROWS[8], *ROWS[:4]], 2)]


def test_a_pause_is_told() -> None:
    """The storage's own words stand in the frame."""
    frame = drawn(replace(STATUS, paused="the storage refuses: No space left on device"))
    assert "paused: the storage refuses: No space left on device" in frame


def test_silence_is_told() -> None:
    """An old frame says that it is old."""
    assert SILENT in drawn(STATUS, answers=False)


def test_a_sweep_without_an_end_has_no_bar() -> None:
    """Only its timeout ends it: there is nothing to have a share of."""
    frame = drawn(replace(STATUS, total=None))
    assert "8 trials ended" in frame
    assert "left" not in frame[0]


def test_the_time_left_goes_by_what_has_ended() -> None:
    """What runs counts as half done; before the first end nobody knows."""
    assert 50.0 == time_left(replace(STATUS, elapsed=50.0, counts={"completed": 7, "running": 2}))
    assert time_left(replace(STATUS, counts={"running": 2})) is None
    assert time_left(replace(STATUS, over=True)) is None


def test_the_pace_is_that_of_late() -> None:
    """Reports of long ago do not count; within the first second there is none."""
    pace = Pace()
    pace.note(0.0, 0)
    assert pace.rate is None
    for second in range(1, 30):
        pace.note(float(second), 0 if second < 20 else 5 * (second - 19))
    assert 5.0 == pace.rate


# --- lines ----------------------------------------------------------------------------------------


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time that it is."""
        return self.now


def told(*steps: tuple[float, Status | None], flush: bool = False) -> list[str]:
    """The lines that come of statuses at these times."""
    file, clock = io.StringIO(), Clock()
    lines = Lines(file, clock)
    for moment, status in steps:
        clock.now = moment
        lines(status)
    if flush:
        lines.flush()
    return file.getvalue().splitlines()


def with_log(*log: str) -> Status:
    """The status with news."""
    return replace(STATUS, log=log)


def test_news_comes_with_where_the_sweep_stands() -> None:
    """What happened, then how far it is."""
    stands = (
        "8 of 16 trials ended · 6 waiting · 1 running · 1 stopping · 6 completed · 1 stopped"
        " · 1 failed · best accuracy 0.905 (trial 5) · 1m 23s"
    )
    assert ["trial 3 completed", stands] == told((0.0, with_log("trial 3 completed")))


def test_nothing_new_is_no_line() -> None:
    """That time goes by is no news."""
    later = replace(STATUS, elapsed=99.0)
    assert told((0.0, STATUS)) == told((0.0, STATUS), (5.0, later), (10.0, later))


def test_lines_come_once_a_second() -> None:
    """What happens in between waits, and nothing of it is lost."""
    steps = [(0.0, with_log("a")), (0.5, with_log("b")), (0.9, with_log("c"))]
    assert ["a"] == [line for line in told(*steps) if len(line) == 1]
    assert ["a", "b", "c"] == [line for line in told(*steps, (1.1, STATUS)) if len(line) == 1]


def test_what_waits_is_printed_at_the_end() -> None:
    """The last second of a sweep is not lost."""
    steps = [(0.0, with_log("a")), (0.5, with_log("b"))]
    assert "b" == told(*steps, flush=True)[-1]


def test_a_flood_is_cut() -> None:
    """Who attaches late gets the last lines, and how many there were."""
    lines = told((0.0, with_log(*(str(number) for number in range(100)))))
    assert [f"... {100 - BURST} lines before ...", str(100 - BURST)] == lines[:2]


def test_silence_is_told_once() -> None:
    """And its end, too."""
    steps: list[tuple[float, Status | None]] = [
        (0.0, STATUS), (2.0, None), (4.0, None), (6.0, STATUS), (8.0, STATUS),
    ]  # fmt: skip
    assert [SILENT, "the sweep goes on"] == told(*steps)[1:]


def test_where_there_is_no_terminal_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout is left to results."""
    with shown("auto") as watcher:
        watcher(with_log("trial 3 completed"))
    printed = capsys.readouterr()
    assert ("", "trial 3 completed") == (printed.out, printed.err.splitlines()[0])


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """As asked for."""
    with shown("none") as watcher:
        watcher(with_log("trial 3 completed"))
    assert ("", "") == capsys.readouterr()
