"""A sweep on a real Ray: what it gives, and what it survives."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import objectives
import pytest
from sweeps import (
    alive,
    controller_pid,
    finished,
    given_back,
    journaled,
    kill,
    running,
    slot_pid,
    sweep,
    until,
)

import raysweep as rs
from raysweep.result import Result, load_result
from raysweep.runtime.session import resume, run, watch

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_gives_the_best_trial_with_its_metrics_and_checkpoint(tmp_path: Path) -> None:
    """The best trial comes with its values, its metrics and the state that it saved."""
    result = sweep(objectives.climb, tmp_path).run(screen="none")
    best = max(result.trials, key=lambda trial: trial.params["x"])
    assert result.phase == "completed"
    assert result.best.number == best.number
    assert result.best.metrics == {"score": best.params["x"] * 6, "start": 0.0}
    assert result.best.checkpoint() == {"epoch": 6}
    assert [trial.intervals for trial in result.trials] == [6, 6, 6, 6]


def test_stops_hopeless_trials_with_the_reason_in_numbers(tmp_path: Path) -> None:
    """A bandit policy ends trials early and says why."""
    made = sweep(
        objectives.climb,
        tmp_path,
        policy=rs.Bandit(slack_factor=0.1, delay_evaluation=2),
        limits={"max_total_trials": 8, "max_concurrent_trials": 1},
        sync_decisions=True,
    )
    result = made.run(screen="none")
    stopped = [trial for trial in result.trials if trial.state == "stopped"]
    assert stopped
    assert all(trial.reason.startswith("bandit: best ") for trial in stopped)
    assert {trial.intervals for trial in stopped} == {2}


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_a_long_trial_keeps_none_waiting_behind_it(tmp_path: Path, isolation: str) -> None:
    """What its slot held ready for after it, when all were short, runs elsewhere."""
    place = tmp_path / "others"
    place.mkdir()
    made = sweep(
        objectives.wait_for_all_others,
        tmp_path,
        space={"place": rs.choice([str(place)]), "others": rs.choice([59])},
        limits={"max_total_trials": 60, "trial_timeout": 60},
        isolation=isolation,
    )
    result = made.run(screen="none")
    assert [trial.state for trial in result.trials] == ["completed"] * 60
    assert [trial.failures + trial.losses for trial in result.state.trials] == [0] * 60
    assert given_back(result)


def test_survives_a_killed_controller(tmp_path: Path) -> None:
    """The controller is killed in the middle: the sweep finishes, each report counted once."""
    made = sweep(objectives.climb, tmp_path, space={"pause": rs.choice([0.1])})
    with running(made) as client:
        until(client, lambda status: status.reports >= 5)
        kill(controller_pid(client))
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert [trial.state for trial in result.trials] == ["completed"] * 4
    assert [trial.attempts for trial in result.trials] == [1] * 4
    assert len(journaled(result)) == len(set(journaled(result))) == 24
    assert all(trial.curve == curve(trial.params["x"]) for trial in result.trials)


def test_gives_a_killed_slots_trial_another_attempt(tmp_path: Path) -> None:
    """A slot's actor is killed: its trial continues elsewhere from its last checkpoint."""
    made = sweep(
        objectives.climb,
        tmp_path,
        space={"pause": rs.choice([0.2])},
        limits={"max_concurrent_trials": 1},
    )
    with running(made) as client:
        until(client, lambda status: any(row.intervals >= 3 for row in status.rows))
        kill(slot_pid(client, 0))
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert [trial.state for trial in result.trials] == ["completed"] * 4
    assert [trial.attempts for trial in result.trials] == [2, 1, 1, 1]
    assert result.trials[0].metrics["start"] >= 2
    assert all(trial.curve == curve(trial.params["x"]) for trial in result.trials)


def test_gives_a_killed_process_another_attempt_only_as_the_spec_says(tmp_path: Path) -> None:
    """A trial's process dies: with max_attempts=2 it continues from its checkpoint, named."""
    result = sweep(objectives.die, tmp_path, max_attempts=2).run(screen="none")
    assert [trial.state for trial in result.trials] == ["completed"] * 4
    assert [trial.error for trial in result.trials] == ["killed by SIGABRT"] * 4
    assert [trial.curve for trial in result.trials] == [[0.0, 1.0]] * 4


def test_begins_the_curve_anew_when_a_checkpoint_is_not_taken(tmp_path: Path) -> None:
    """A function that ignores its checkpoint starts over, and so does its curve."""
    made = sweep(
        objectives.forget,
        tmp_path,
        space={"pause": rs.choice([0.2])},
        limits={"max_total_trials": 1},
    )
    with running(made) as client:
        until(client, lambda status: any(row.intervals >= 3 for row in status.rows))
        kill(slot_pid(client, 0))
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert [trial.attempts for trial in result.trials] == [2]
    assert all(trial.curve == curve(trial.params["x"]) for trial in result.trials)


def test_a_trial_that_holds_the_gil_is_stopped_by_its_timeout(tmp_path: Path) -> None:
    """A trial that never comes back is killed at its timeout, and its slot goes on."""
    made = sweep(
        objectives.hold_the_gil,
        tmp_path,
        limits={"trial_timeout": 1.0, "max_concurrent_trials": 1},
        grace=0.2,
    )
    result = made.run(screen="none")
    assert [t.state for t in result.trials] == ["timed_out"] + ["completed"] * 3
    assert result.trials[0].reason == "trial_timeout of 1 s reached"


def test_a_stop_is_not_swallowed_by_except_exception(tmp_path: Path) -> None:
    """`except Exception` around a report does not keep a trial alive."""
    made = sweep(objectives.swallow, tmp_path, limits={"trial_timeout": 0.3})
    result = made.run(screen="none")
    assert {trial.state for trial in result.trials} == {"timed_out"}
    assert {trial.error for trial in result.trials} == {""}


def test_kills_a_stopped_trials_children(tmp_path: Path) -> None:
    """What a trial started is gone when the trial is."""
    note = tmp_path / "child"
    made = sweep(
        objectives.leave_a_child,
        tmp_path,
        space={"note": rs.choice([str(note)])},
        limits={"max_total_trials": 1, "trial_timeout": 1.0},
    )
    made.run(screen="none")
    assert not alive(int(note.read_text()))


def test_kills_a_killed_slots_trials_and_their_children(tmp_path: Path) -> None:
    """When a slot's actor is killed, nothing that it ran lives on."""
    note = tmp_path / "child"
    made = sweep(
        objectives.leave_a_child,
        tmp_path,
        space={"note": rs.choice([str(note)])},
        limits={"max_total_trials": 1},
    )
    with running(made) as client:
        until(client, lambda status: status.reports >= 3)
        child = int(note.read_text())
        kill(slot_pid(client, 0))
        deadline = time.monotonic() + 30
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(child)


def test_ends_when_the_first_trials_fail_alike(tmp_path: Path) -> None:
    """Three first trials that raise at the same line end the sweep, traceback kept."""
    made = sweep(objectives.raise_value_error, tmp_path, limits={"max_total_trials": 50})
    result = made.run(screen="none")
    assert result.phase == "failed"
    assert result.reason.startswith("the first 3 trials failed alike: ValueError: no such width")
    assert "objectives.py" in result.trials[0].traceback


@pytest.mark.parametrize(
    ("train", "error"),
    [
        (objectives.report_another_metric,
         "primary metric 'score' was never reported (saw: acc, loss)"),
        (objectives.report_text,
         ("raysweep.errors.MetricError: metric 'score' must be a number, but got '0.9' (str);"
          " report a float, or leave it out")),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_used_fails_the_trial(
    tmp_path: Path, train: object, error: str
) -> None:
    """What was reported instead is named."""
    result = sweep(train, tmp_path, limits={"max_total_trials": 1}).run(screen="none")
    assert result.trials[0].state == "failed"
    assert result.trials[0].error == error


def test_proposes_the_same_trials_with_one_slot_or_with_eight(tmp_path: Path) -> None:
    """The seed decides, not the order in which slots ask; a trial's own numbers as well."""
    results = [
        sweep(
            objectives.draw,
            tmp_path,
            name=f"with-{slots}",
            resources=rs.Resources(cpus=0.5),
            limits={"max_total_trials": 8, "max_concurrent_trials": slots},
        ).run(screen="none")
        for slots in (1, 8)
    ]
    one, eight = ([(trial.params, trial.best) for trial in result.trials] for result in results)
    assert one == eight
    assert len({best for _, best in one}) == 8


def test_shared_data_reach_every_trial(tmp_path: Path) -> None:
    """Shared arrays are mapped by the trials."""
    made = sweep(objectives.read_shared, tmp_path, shared={"numbers": np.arange(10)})
    assert [trial.best for trial in made.run(screen="none").trials] == [45.0] * 4


def test_runs_light_functions_in_the_slot(tmp_path: Path) -> None:
    """isolation="none" gives the same results, without a process a trial."""
    made = sweep(
        objectives.once,
        tmp_path,
        isolation="none",
        limits={"max_total_trials": 50, "max_concurrent_trials": 4},
    )
    result = made.run(screen="none")
    assert [trial.curve for trial in result.trials] == [[t.params["x"]] for t in result.trials]


def test_cancel_ends_what_runs(tmp_path: Path) -> None:
    """A cancelled sweep stops its trials and says so."""
    made = sweep(objectives.climb, tmp_path, space={"pause": rs.choice([0.2])})
    with running(made) as client:
        until(client, lambda status: status.reports >= 2)
        client.cancel("enough")
        until(client, finished)
    result = load_result("t", str(tmp_path))
    assert (result.phase, result.reason) == ("canceled", "enough")
    assert {trial.state for trial in result.trials} <= {"canceled", "completed"}


def test_a_suspended_sweep_is_resumed_from_its_checkpoints(tmp_path: Path) -> None:
    """Resume runs what is left; what was finished stays finished."""
    made = sweep(objectives.climb, tmp_path, space={"pause": rs.choice([0.2])})
    with running(made) as client:
        until(
            client, lambda status: status.ended >= 1 and any(r.intervals > 1 for r in status.rows)
        )
    before: Result = load_result("t", str(tmp_path))
    after = resume(before.folder, screen="none")
    assert [trial.state for trial in after.trials] == ["completed"] * 4
    assert all(trial.curve == curve(trial.params["x"]) for trial in after.trials)
    done = [trial.number for trial in before.trials if trial.state == "completed"]
    assert done
    assert {after.trials[number].attempts for number in done} == {1}


def test_resume_removes_checkpoints_that_the_journal_does_not_name(tmp_path: Path) -> None:
    """What was being saved when a machine was lost is not kept for ever."""
    made = sweep(objectives.climb, tmp_path, space={"pause": rs.choice([0.2])})
    with running(made) as client:
        until(client, lambda status: status.reports >= 2)
    folder = load_result("t", str(tmp_path)).folder
    orphan = folder.checkpoint(0, 1, 999)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"half of it")
    result = resume(folder, screen="none")
    assert not orphan.exists()
    assert result.best.checkpoint() == {"epoch": 6}


def test_a_detached_sweep_goes_on_and_is_watched(tmp_path: Path) -> None:
    """With `detach` the call returns at once; whoever attaches later sees the end."""
    made = sweep(objectives.climb, tmp_path)
    started = run(made.spec, made.create, storage=made.storage, detach=True, screen="none")
    assert not started.state.over
    assert watch(started.folder, address=None, screen="none")
    assert load_result("t", str(tmp_path)).phase == "completed"


def test_sweeps_of_one_name_in_two_storages_do_not_meet(tmp_path: Path) -> None:
    """A name is unique in its storage, not on a cluster."""
    pause = {"pause": rs.choice([0.2])}
    with (
        running(sweep(objectives.climb, tmp_path / "a", space=pause)) as one,
        running(
            sweep(objectives.climb, tmp_path / "b", space=pause, limits={"max_total_trials": 1})
        ) as other,
    ):
        until(other, finished)
        until(one, finished)
    assert len(load_result("t", str(tmp_path / "a")).trials) == 4
    assert len(load_result("t", str(tmp_path / "b")).trials) == 1


def curve(x: float) -> list[float]:
    """What `climb` reports."""
    return [x * (epoch + 1) for epoch in range(objectives.EPOCHS)]
