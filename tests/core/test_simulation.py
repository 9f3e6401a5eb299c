"""Simulated sweeps in which everything breaks: a few seeds of `make simulate`, and that they bite."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import simulate as script
from click.testing import CliRunner
from drafts import replayed
from simulation import Fault, Outcome, Scenario, World, simulate
from simulation.controller import Controller, Letter
from simulation.scenario import LEASE

from raysweep.core import requests
from raysweep.core.events import AttemptId, Checkpoint, Opened
from raysweep.core.exchange import Reception, Refusal, Request
from raysweep.core.history import History
from raysweep.core.roster import Roster
from raysweep.core.state import SweepState
from raysweep.core.trials import LIVE, Trial, TrialState
from raysweep.storage.journal import Journal, Record

SEEDS = range(150)
ENOUGH = 1_000  # seeds in which a mistake must be found
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """What each of the seeds comes to."""
    return [simulate(seed) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_violated(seed: int, outcomes: list[Outcome]) -> None:
    """Whatever breaks, each acknowledged report counts once, nothing runs twice, every trial ends."""
    outcome = outcomes[seed]
    if outcome.violation:
        pytest.fail(f"{outcome.trace}\nto see it again: {outcome.replay}", pytrace=False)


def test_everything_breaks_in_them(outcomes: list[Outcome]) -> None:
    """No kind of fault has quietly stopped to happen, and every refusal is heard."""
    assert set(Fault) == {fault for outcome in outcomes for fault in outcome.injected}
    seen = {what for outcome in outcomes for what in outcome.seen}
    assert set() == {f"request refused: {why}" for why in Refusal} - seen
    ends = {TrialState.COMPLETED, TrialState.STOPPED, TrialState.TIMED_OUT, TrialState.FAILED}
    assert set() == {f"trial {end}" for end in {*ends, TrialState.CANCELED}} - seen
    assert {"trial revised", "trial revised too late"} <= seen


def records_of(scenario: Scenario) -> list[Record]:
    """What a scenario's journal holds at its end."""
    world = World(scenario)
    world.run()
    return world.records


def test_a_seed_tells_the_whole_story() -> None:
    """The same seed gives the same records, and the same lines of its story."""
    stories: list[list[str]] = [[], []]
    for story in stories:
        simulate(3, story.append)
    assert stories[0] == stories[1]
    assert records_of(Scenario.of(3)) == records_of(Scenario.of(3))


def test_replay_may_begin_anywhere() -> None:
    """A controller that dies after any record is followed by one that knows what it knew."""
    scenario = Scenario.of(11)
    records = records_of(scenario)
    state = SweepState(scenario.spec)
    for known, record in enumerate(records):
        assert replayed(scenario.spec, records[:known]) == state
        state.apply(record.event, record.commands)


def test_a_jump_of_the_wall_clock_changes_nothing() -> None:
    """But for what people are shown, a sweep is the same with a wall clock that jumps all the time."""
    scenario = Scenario.of(11)
    often, never = (
        dataclasses.replace(scenario, likely={**scenario.likely, Fault.WALL_CLOCK_JUMPS: likely})
        for likely in (1.0, 0.0)
    )
    assert records_of(often) != records_of(never)
    assert [*map(without_wall, records_of(often))] == [*map(without_wall, records_of(never))]


def without_wall(record: Record) -> Record:
    """The record less what the clock on the wall showed."""
    if not isinstance(record.event, Opened):
        return record
    return record._replace(event=dataclasses.replace(record.event, wall=""))


# --- mistakes that must be found ------------------------------------------------------------------


def acknowledge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies do not wait for the commit."""

    def leave(self: Controller, letter: Letter) -> None:
        del self
        letter()

    monkeypatch.setattr(Controller, "_leave_with_commit", leave)


def hear_stale_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older attempt of a trial says is taken for what the current one says."""

    def current(self: Roster, id_: AttemptId) -> Trial | None:
        trial = self.trials[id_.trial]
        return trial if trial.state in LIVE else None

    monkeypatch.setattr(Roster, "current", current)


def take_what_was_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence of a request is not looked at."""

    def admit(self: Reception, request: Request, now: float) -> Refusal | None:
        self._heard[request.slot, request.incarnation] = now
        return None if request.epoch == self.epoch else Refusal.EPOCH

    monkeypatch.setattr(Reception, "admit", admit)


def give_up_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent slot is given up after half its lease."""
    silent = Reception.silent

    def early(self: Reception, now: float, margin: float) -> list[tuple[int, int]]:
        return silent(self, now, margin - LEASE / 2)

    monkeypatch.setattr(Reception, "silent", early)


def fence_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that was replaced goes on committing."""
    monkeypatch.setattr(Journal, "verify", lambda _: None)


def keep_any_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is kept though its report is not known."""

    def takes(self: Trial, checkpoint: Checkpoint, last_report: int) -> bool:
        del last_report
        return self.restored is None or self.restored.report < checkpoint.report

    monkeypatch.setattr(Trial, "takes", takes)
    monkeypatch.setattr(requests, "_lacks_reports", lambda *_: False)


def end_before_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is taken though reports before it are missing."""
    monkeypatch.setattr(requests, "_lacks_reports", lambda *_: False)


def forget_to_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new attempt's reports are added after those that its trial made before."""
    monkeypatch.setattr(History, "restart", lambda *_: None)


def revise_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial gets other values though a slot was told of it."""
    monkeypatch.setattr(Trial, "untouched", property(lambda _: True))


MISTAKES: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    acknowledge_at_once: r"lost: report \d+ of .* is acknowledged, but \d+ are committed",
    hear_stale_attempts: r"is not slot .* to run, but it was heard",
    take_what_was_overtaken: r"took request \d+ of slot .* after request",
    give_up_too_early: r"runs on slot .* and slot .* at once",
    fence_nobody: r"^Violation: lost: ",
    keep_any_checkpoint: r"was kept, but its report is not known",
    end_before_the_last_report: r"was taken after report",
    forget_to_restart: r"the curve of trial \d+ should be",
    revise_what_runs: r"is told .*, but the trial has|led to .*, but by the design to",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this mistake in the code, some seed fails, and for that reason."""
    mistake(monkeypatch)
    violations = (simulate(seed).violation for seed in range(ENOUGH))
    assert any(re.search(MISTAKES[mistake], violation) for violation in violations)


def test_a_seed_that_fails_is_told_with_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script tells each message and fault of it, says what was violated and exits with 1."""
    forget_to_restart(monkeypatch)
    failing = next(seed for seed in range(ENOUGH) if simulate(seed).violation)
    told = CliRunner().invoke(script.main, ["--seed", str(failing), "--verbose"])
    assert 1 == told.exit_code
    assert "a controller opens" in told.output
    assert f"seed {failing}: Violation: " in told.output


def test_the_line_that_replays_a_seed_runs() -> None:
    """As it is printed, from the root of the repository."""
    outcome = simulate(3)
    command = outcome.replay.split()
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bool(outcome.violation) == bool(done.returncode)
    assert f"{outcome.made} reports made" in done.stdout
