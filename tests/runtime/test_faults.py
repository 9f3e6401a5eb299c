"""What breaks around a sweep on a real Ray: slots that stand still, controllers that vanish, clients.

One rule: a fault is the real thing, a signal to a process; what has to hold is read from the journal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import objectives
import pytest
import ray
from sweeps import (
    PATIENCE,
    alive,
    controller_pid,
    finished,
    journaled,
    running,
    slot_pid,
    sweep,
    until,
)

import raysweep as rs
from raysweep.errors import SpecError, SweepExistsError
from raysweep.result import Result, load_result
from raysweep.runtime.client import Client
from raysweep.runtime.crew import cause_of
from raysweep.runtime.process_tree import MARK
from raysweep.runtime.session import resume, run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

LEASE = 2.0  # seconds


def slow(storage: Path, *, pause: float = 0.2, **changes: Any) -> rs.Sweep:  # noqa: ANN401  (as `sweep` takes them)
    """Four trials of six reports, a fifth of a second each unless told otherwise."""
    space = {"pause": rs.choice([pause])}
    return sweep(objectives.climb, storage, space=space, **changes)


@pytest.fixture(scope="module")
def over(local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a sweep of two trials that is over."""
    del local_ray
    storage = tmp_path_factory.mktemp("over")
    made = sweep(objectives.once, storage, isolation="none", limits={"max_total_trials": 2})
    made.run(screen="none")
    return storage


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


def processes_of(storage: Path) -> list[int]:
    """The processes of a storage's sweeps that trials and templates are, by their marks."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = f"{MARK}=".encode() in (entry / "environ").read_bytes()
                ours = str(storage).encode() in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marked and ours and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def complete(storage: Path) -> Result:
    """The result, every trial of which ran to its end with its whole curve, each report once."""
    result = load_result("t", str(storage))
    assert {"completed"} == {trial.state for trial in result.trials}
    for trial in result.trials:
        x = trial.params["x"]
        assert [x * (epoch + 1) for epoch in range(objectives.EPOCHS)] == trial.curve
    assert len(set(journaled(result))) == len(journaled(result))
    return result


def test_a_slot_that_stands_still_loses_its_trial_and_ends(tmp_path: Path) -> None:
    """Stopped by a signal, it cannot end its trial when its lease is over: its template does."""
    made = slow(tmp_path, lease=LEASE, limits={"max_total_trials": 2, "max_concurrent_trials": 1})
    with running(made) as client:
        until(client, lambda status: any(row.intervals >= 2 for row in status.rows))
        stopped = slot_pid(client, 0)
        before = processes_of(tmp_path)
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: not alive(stopped))
        wait_for(lambda: not {*before} & {*processes_of(tmp_path)})
        until(client, finished)
    result = complete(tmp_path)
    assert [2, 1] == [trial.attempts for trial in result.trials]
    assert [1, 0] == [trial.losses for trial in result.state.trials]


def test_a_slot_that_stands_still_for_less_goes_on(tmp_path: Path) -> None:
    """Its trial trained on; what it had to say is said once."""
    made = slow(tmp_path, lease=10.0, limits={"max_total_trials": 2, "max_concurrent_trials": 1})
    with running(made) as client:
        until(client, lambda status: any(row.intervals >= 2 for row in status.rows))
        pid = slot_pid(client, 0)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        until(client, finished)
    assert [1, 1] == [trial.attempts for trial in complete(tmp_path).trials]


def test_a_slot_without_a_controller_ends_within_its_lease(tmp_path: Path) -> None:
    """With all that it runs; what it had acknowledged is resumed from."""
    made = slow(tmp_path, lease=LEASE)
    with running(made) as client:
        until(client, lambda status: status.reports >= 2)
        slots = [slot_pid(client, number) for number in (0, 1)]
        ray.kill(client._controller)  # for good: Ray does not restart it
        wait_for(lambda: not any(map(alive, slots)))
        wait_for(lambda: not processes_of(tmp_path))
    resume(made_folder(tmp_path), screen="none")
    complete(tmp_path)


def made_folder(storage: Path) -> Any:  # noqa: ANN401  (a SweepFolder)
    """The folder of the sweep in a storage."""
    return load_result("t", str(storage)).folder


def test_a_controller_that_stands_still_goes_on(tmp_path: Path) -> None:
    """Its slots wait for its answers, and say all again."""
    with running(slow(tmp_path, lease=10.0)) as client:
        until(client, lambda status: status.reports >= 2)
        pid = controller_pid(client)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(pid, signal.SIGCONT)
        until(client, finished)
    assert {1} == {trial.attempts for trial in complete(tmp_path).trials}


def test_a_controller_that_cannot_see_who_has_the_sweep_renews_no_lease(tmp_path: Path) -> None:
    """Its slots end when theirs are over; it goes on, and loses nothing, when it can see again."""
    with running(slow(tmp_path, lease=LEASE)) as client:
        until(client, lambda status: status.reports >= 2)
        slots = [slot_pid(client, number) for number in (0, 1)]
        journal = tmp_path / "t" / "journal"
        journal.rename(tmp_path / "away")
        until(client, lambda status: "has been removed" in status.paused)
        wait_for(lambda: not any(map(alive, slots)))
        (tmp_path / "away").rename(journal)
        until(client, finished)
    complete(tmp_path)


def test_a_finished_sweep_goes_on_under_higher_limits(tmp_path: Path) -> None:
    """What was finished stays so; the trials that follow are those a larger sweep would have had."""
    first = sweep(objectives.climb, tmp_path, limits={"max_total_trials": 2}).run(screen="none")
    whole = sweep(objectives.climb, tmp_path, name="whole").run(screen="none")
    more = rs.resume("t", str(tmp_path), limits=rs.Limits(max_total_trials=4), screen="none")
    assert "completed" == more.phase
    assert [trial.params for trial in whole.trials] == [trial.params for trial in more.trials]
    assert [trial.curve for trial in first.trials] == [trial.curve for trial in more.trials[:2]]
    assert {1} == {trial.attempts for trial in more.trials}
    complete(tmp_path)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (rs.Limits(max_total_trials=1), "at least 2, the trials that 't' has, but got 1"),
        (rs.Limits(max_total_trials=2, timeout=9), "gives sweep 't' no further trial"),
        (rs.Limits(max_total_trials=9, timeout=1e-3), r"limits\.timeout of 0\.001 s is used up"),
        (None, r"`raysweep resume t --storage \S+ --set limits\.max_total_trials=4`"),
    ],
)
def test_limits_that_leave_nothing_to_do_are_refused(
    over: Path, limits: rs.Limits | None, message: str
) -> None:
    """The message says what would be enough."""
    with pytest.raises(SpecError, match=message):
        rs.resume("t", str(over), limits=limits, screen="none")


def test_limits_may_change_while_nobody_has_the_sweep(tmp_path: Path) -> None:
    """A sweep that was left is taken up with fewer trials than it was to have."""
    with running(slow(tmp_path)) as client:
        until(client, lambda status: status.reports >= 2)
    assert "interrupted" == load_result("t", str(tmp_path)).standing
    limits = rs.Limits(max_total_trials=3, max_concurrent_trials=2)
    there = len(load_result("t", str(tmp_path)).trials)
    if there > 3:
        limits = rs.Limits(max_total_trials=there, max_concurrent_trials=2)
    result = rs.resume("t", str(tmp_path), limits=limits, screen="none")
    assert limits.max_total_trials == len(result.trials)
    complete(tmp_path)


def test_a_sweep_that_runs_is_not_taken_up_again(tmp_path: Path) -> None:
    """On its own cluster it is refused, not interfered with."""
    with running(slow(tmp_path)) as client:
        until(client, lambda status: status.reports >= 1)
        with pytest.raises(SweepExistsError, match="is running"):
            resume(made_folder(tmp_path), screen="none")
        until(client, finished)
    complete(tmp_path)


def test_a_slot_that_cannot_start_says_why() -> None:
    """In the line that watchers see, which is not Ray's whole traceback."""

    class Unfit:
        def __init__(self) -> None:
            raise ModuleNotFoundError("No module named 'seldom'")

        def stand(self) -> None:
            """As a slot's; nobody will hear it."""

    unfit: Any = ray.remote(Unfit).options(num_cpus=0).remote()
    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(unfit.stand.remote())
    expected = "it could not start: ModuleNotFoundError: No module named 'seldom'"
    assert expected == cause_of(caught.value)


def raysweep(*arguments: object) -> subprocess.Popen[str]:
    """The command line, with a Ray of its own."""
    command = [str(Path(sys.executable).with_name("raysweep")), *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def test_a_sweep_whose_client_was_killed_is_taken_up(tmp_path: Path) -> None:
    """A Ray that `run` started goes with it; `list` says so, and `resume` goes on from there."""
    file = tmp_path / "sweep_t.py"
    file.write_text(SWEEP.format(storage=str(tmp_path)))
    client = raysweep("run", file)
    wait_for(lambda: (tmp_path / "t").exists() and reports_of(tmp_path) >= 2)
    client.kill()
    client.communicate()  # its Ray, which holds the other end, goes with it
    wait_for(lambda: not processes_of(tmp_path))
    listed = raysweep("list", "--storage", tmp_path)
    assert "interrupted" in listed.communicate()[0]
    (tmp_path / "go").touch()
    resumed = raysweep("resume", "t", "--storage", tmp_path)
    assert "completed" in resumed.communicate(timeout=PATIENCE)[0]
    complete(tmp_path)


def test_of_two_controllers_the_later_one_has_the_sweep(tmp_path: Path) -> None:
    """One on another Ray takes it over; the first falls silent, and ends its slots."""
    made = slow(tmp_path, pause=2.0, lease=60.0)  # longer than the other takes to begin
    run(made.spec, made.create, storage=made.storage, detach=True, screen="none")
    client = Client.attach(made_folder(tmp_path))
    assert client is not None
    until(client, lambda status: status.reports >= 1)
    slots = [slot_pid(client, number) for number in (0, 1)]
    other = raysweep("resume", "t", "--storage", tmp_path)
    wait_for(lambda: not any(map(alive, slots)))
    wait_for(lambda: Client.attach(made_folder(tmp_path)) is None)
    assert not load_result("t", str(tmp_path)).state.over
    assert "completed" in other.communicate(timeout=PATIENCE)[0]
    complete(tmp_path)


@pytest.mark.parametrize(("which", "length"), [("train", 60), ("neglect", 120)])
def test_a_trial_leaves_a_machine_that_is_taken_away(
    tmp_path: Path, which: str, length: int
) -> None:
    """It saves when it is asked to and moves at once; one that does not is moved in time."""
    script = str(Path(__file__).with_name("drained.py"))
    command = [sys.executable, script, str(tmp_path), which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert [epoch + 1.0 for epoch in range(length)] == told["curve"]
    assert ("completed", 2, 1, 0) == (
        told["state"],
        told["attempts"],
        told["losses"],
        told["failures"],
    )
    assert told["start"] % 5 == 0 if which == "neglect" else told["start"] > 7


@pytest.mark.parametrize("reports", [0, 2])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, reports: int) -> None:
    """While the sweep starts, or later: one line, no traceback, and `resume` does what it says."""
    file = tmp_path / "sweep_t.py"
    file.write_text(SWEEP.format(storage=str(tmp_path)))
    client = raysweep("run", file)
    wait_for(lambda: (tmp_path / "t").exists() and (not reports or reports_of(tmp_path) >= reports))
    client.send_signal(signal.SIGINT)
    said = client.communicate(timeout=PATIENCE)[0]
    assert "interrupted; nothing is lost" in said
    assert f"raysweep resume t --storage {tmp_path}" in said
    assert "Traceback" not in said
    assert 130 == client.returncode
    (tmp_path / "go").touch()
    resumed = raysweep("resume", "t", "--storage", tmp_path)
    assert "completed" in resumed.communicate(timeout=PATIENCE)[0]
    complete(tmp_path)


def reports_of(storage: Path) -> int:
    """How many reports are committed."""
    return load_result("t", str(storage)).state.reports


# No trial ends before the file `go` is there: the sweep is not over when its client ends.
SWEEP = """
import time
from pathlib import Path
import raysweep as rs

def train(trial):
    start = (trial.checkpoint() or {{"epoch": 0}})["epoch"]
    for epoch in range(start, 6):
        time.sleep(0.2)
        while epoch == 5 and not Path({storage!r}, "go").exists():
            time.sleep(0.05)
            trial.heed()
        trial.report(score=trial.params["x"] * (epoch + 1), checkpoint={{"epoch": epoch + 1}})

sweep = rs.Sweep(train, space={{"x": rs.uniform(0, 1)}}, objective=rs.maximize("score"), name="t",
                 sampler=rs.Random(seed=3), storage={storage!r},
                 limits=rs.Limits(max_total_trials=4, max_concurrent_trials=2))
"""
