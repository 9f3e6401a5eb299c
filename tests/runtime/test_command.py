"""Trials that are commands, on a real Ray: what they are given, how they end, what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jobs import job
from sweeps import alive, finished, kill, running, slot_pid, until
from test_shell import HOSTILE

import raysweep as rs
from raysweep.cli import cli
from raysweep.result import load_result

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

REPORT = """
    import sys
    import raysweep
    raysweep.report(score=float(sys.argv[1]), loss=1)
"""
ONE = {"max_total_trials": 1}


def run(sweep: rs.JobSweep) -> rs.Result:
    """The result of a sweep."""
    return sweep.run(screen="none")


def test_what_a_script_reports_is_the_trials_result(tmp_path: Path) -> None:
    """`raysweep.report` from a script drives the sweep."""
    result = run(job(tmp_path, REPORT))
    assert [1.0, 2.0, 3.0, 4.0] == [trial.best for trial in result.trials]
    assert {"score": 4.0, "loss": 1.0} == result.best.metrics
    assert {"completed"} == {trial.state for trial in result.trials}


def test_values_arrive_whole_and_are_not_executed(tmp_path: Path) -> None:
    """From the search space through bash into the script and its environment."""
    script = """
        import json, os, sys
        import raysweep
        with open(os.environ["AZURE_ML_OUTPUT_seen"] + "/argv.json", "w") as file:
            json.dump([*sys.argv[1:], os.environ["AZUREML_SWEEP_x"]], file)
        raysweep.report(score=1)
    """
    command = """
        python train.py ${{search_space.x}} "${{search_space.x}}" '${{search_space.x}}' &&
        echo ${{outputs.seen}}
    """
    sweep = job(
        tmp_path,
        script,
        trial={"command": command},
        search_space={"x": {"type": "choice", "values": HOSTILE}},
        outputs={"seen": {"type": "uri_folder"}},
        limits={"max_total_trials": len(HOSTILE), "max_concurrent_trials": 2},
    )
    result = run(sweep)
    for trial in result.trials:
        seen = json.loads((result.folder.output(trial.number, "seen") / "argv.json").read_text())
        assert [trial.params["x"]] * 4 == seen
    assert not list(tmp_path.rglob("executed"))


def test_the_code_folder_is_the_working_directory_of_each_alone(tmp_path: Path) -> None:
    """A trial finds the folder as it stood when the sweep began, less what is ignored."""
    (tmp_path / "code" / "pkg").mkdir(parents=True)
    (tmp_path / "code" / "pkg" / "mine.py").write_text("VALUE = 5")
    (tmp_path / "code" / ".amlignore").write_text("*.bin\n")
    (tmp_path / "code" / "large.bin").write_bytes(bytes(100))
    script = """
        import os
        import raysweep
        from pkg import mine
        assert not os.path.exists("mark"), "a trial before this one was here"
        assert not os.path.exists("large.bin")
        open("mark", "w").close()
        raysweep.report(score=mine.VALUE)
    """
    result = run(job(tmp_path, script))
    assert [5.0] * 4 == [trial.best for trial in result.trials]


def test_a_command_may_be_a_shell_script(tmp_path: Path) -> None:
    """Several commands, pipes, line breaks, variables of the job and of Azure."""
    command = """
        set -e
        echo "${{search_space.lr}} $COLOUR" | tr a-z A-Z > shout
        grep -q "$AZUREML_SWEEP_lr BLUE" shout
        for i in 1 2; do python train.py ${{search_space.lr}}; done
        python train.py ${{inputs.bonus}}
    """
    result = run(
        job(
            tmp_path,
            REPORT,
            trial={"command": command, "environment_variables": {"COLOUR": "blue"}},
            inputs={"bonus": 9},
            limits=ONE,
        )
    )
    assert [1.0, 1.0, 9.0] == result.trials[0].curve


def test_inputs_are_files_where_the_trial_runs(tmp_path: Path) -> None:
    """A local file is read where it lies."""
    (tmp_path / "data.csv").write_text("7")
    script = """
        import sys
        import raysweep
        raysweep.report(score=float(open(sys.argv[1]).read()))
    """
    sweep = job(
        tmp_path,
        script,
        trial={"command": "python train.py ${{inputs.data}}"},
        inputs={"data": {"type": "uri_file", "path": str(tmp_path / "data.csv")}},
        limits=ONE,
    )
    assert 7.0 == run(sweep).best.best


def test_what_a_failed_command_printed_last_is_told(tmp_path: Path) -> None:
    """Exit code and last lines in the message, the rest in the traceback and the log."""
    script = """
        import sys
        print("\\n".join(f"line {i}" for i in range(80)))
        sys.exit("no such width: 0")
    """
    trial = run(job(tmp_path, script, limits=ONE)).trials[0]
    assert "failed" == trial.state
    assert "the command exited with code 1: line 78 | line 79 | no such width: 0" == trial.error
    assert 50 == len(trial.traceback.splitlines())
    assert trial.log.startswith("line 0\n")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("kill -SEGV $$", "the command was killed by SIGSEGV"),
        ("no-such-program", "the command exited with code 127 (command not found)"),
        (
            "(kill -9 $BASHPID); exit $?",
            "the command exited with code 137 (128 + 9: killed by SIGKILL;",
        ),
        ("true", "primary metric 'score' never logged (saw nothing: log it with"),
    ],
)
def test_ends_have_names(tmp_path: Path, command: str, error: str) -> None:
    """Signals, exit codes and a metric that never came."""
    trial = run(job(tmp_path, "", trial={"command": command}, limits=ONE)).trials[0]
    assert "failed" == trial.state
    assert trial.error.startswith(error)


def test_metrics_in_place_of_the_primary_one_are_named(tmp_path: Path) -> None:
    """A typo in a metric's name is seen at once."""
    script = "import raysweep; raysweep.report(Score=1, loss=2)"
    trial = run(job(tmp_path, script, limits=ONE)).trials[0]
    assert "primary metric 'score' never logged (saw: Score, loss)" == trial.error


def test_a_missing_module_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Which module, where it is missing, and what to do."""
    trial = run(job(tmp_path, "import lightgbm_that_is_not_there", limits=ONE)).trials[0]
    assert "module 'lightgbm_that_is_not_there' is missing in" in trial.error
    assert "mapping file" in trial.error


ENDLESS = """
    import os, subprocess, sys, time
    import raysweep
    child = subprocess.Popen(["sleep", "1000"])
    far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print(f"pids {os.getpid()} {child.pid} {far.pid}")
    for step in range(10_000):
        raysweep.report(score=float(sys.argv[1]) * (step + 1))
        time.sleep(0.05)
"""
HALF = {"type": "bandit", "slack_factor": 0.1, "delay_evaluation": 3}


def pids(log: str) -> list[int]:
    """The processes that a trial said it started."""
    line = next(line for line in log.splitlines() if line.startswith("pids "))
    return [int(word) for word in line.split()[1:]]


def test_a_policy_ends_a_script_in_its_middle_with_its_children(tmp_path: Path) -> None:
    """Ended by SIGTERM, with the children of its own group and those that had left it."""
    script = ENDLESS.replace("range(10_000)", "range(10_000 if sys.argv[1] == '1' else 5)")
    sweep = job(
        tmp_path,
        script,
        search_space={"lr": {"type": "choice", "values": [2, 1]}},
        early_termination=HALF,
        limits={"max_total_trials": 2},
    )
    good, bad = run(sweep).trials
    assert ("completed", "stopped") == (good.state, bad.state)
    assert bad.reason.startswith("bandit: best 3 < ")
    assert not any(alive(pid) for pid in pids(good.log) + pids(bad.log))


def test_a_script_may_end_in_order_when_it_is_stopped(tmp_path: Path) -> None:
    """SIGTERM comes first, and what it writes then is kept."""
    script = """
        import os, signal, sys, time
        import raysweep
        def leave(*_):
            print("tidying up")
            open(os.environ["AZURE_ML_OUTPUT_model"] + "/last", "w").close()
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        raysweep.report(score=1)
        time.sleep(1000)
    """
    sweep = job(
        tmp_path,
        script,
        trial={"command": "python train.py # ${{outputs.model}}"},
        outputs={"model": {"type": "uri_folder"}},
        limits=ONE | {"trial_timeout": 1},
    )
    result = run(sweep)
    assert "timed_out" == result.trials[0].state
    assert "tidying up\n" == result.trials[0].log
    assert (result.folder.output(0, "model") / "last").exists()


def test_a_script_that_will_not_end_is_killed(tmp_path: Path) -> None:
    """SIGTERM is ignored: SIGKILL follows after the grace period."""
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ENDLESS.replace(
        "\n    ", "\n"
    )
    limits = ONE | {"trial_timeout": 1}
    trial = run(job(tmp_path, script, limits=limits, raysweep={"grace": 0.5})).trials[0]
    assert "timed_out" == trial.state
    assert not any(alive(pid) for pid in pids(trial.log))


RESUMING = """
    import os, pathlib, sys, time
    import raysweep
    state = pathlib.Path(os.environ["RAYSWEEP_CHECKPOINT_DIR"], "deep", "state.txt")
    begin = int(state.read_text()) if state.exists() else 0
    print("begins at", begin)
    for step in range(begin, 8):
        time.sleep(0.15)
        state.parent.mkdir(exist_ok=True)
        state.write_text(str(step + 1))
        pathlib.Path(os.environ["AZURE_ML_OUTPUT_model"], f"step-{step}").touch()
        raysweep.report(score=step + 1)
"""


def test_a_script_continues_from_its_own_files(tmp_path: Path) -> None:
    """The slot is killed: the next attempt finds its checkpoint folder and outputs again."""
    sweep = job(
        tmp_path,
        RESUMING,
        trial={"command": "python train.py ${{outputs.model}}"},
        outputs={"model": {"type": "uri_folder"}},
        limits=ONE,
    )
    with running(sweep) as client:
        until(client, lambda status: any(row.intervals >= 3 for row in status.rows))
        kill(slot_pid(client, 0))
        until(client, finished)
    result = load_result("t", sweep.storage)
    trial = result.trials[0]
    assert ("completed", 2) == (trial.state, trial.attempts)
    assert [float(step + 1) for step in range(8)] == trial.curve
    first, second = (int(line.split()[2]) for line in trial.log.splitlines())
    assert 0 == first < 2 <= second
    assert 8 == len(list(result.folder.output(0, "model").iterdir()))


def test_ranks_of_one_node_run_together(tmp_path: Path) -> None:
    """`distribution: pytorch` with two processes: each knows its rank."""
    script = """
        import os
        import raysweep
        if os.environ["RANK"] == "1":
            raysweep.report(score=int(os.environ["WORLD_SIZE"]))
    """
    distribution = {"type": "pytorch", "process_count_per_instance": 2}
    trial = {"command": "python train.py", "distribution": distribution}
    assert 2.0 == run(job(tmp_path, script, trial=trial, limits=ONE)).best.best


def test_a_rank_that_fails_ends_the_others(tmp_path: Path) -> None:
    """Nobody waits for ever for a peer that is gone."""
    script = """
        import os, sys, time
        if os.environ["LOCAL_RANK"] == "1":
            sys.exit(3)
        time.sleep(1000)
    """
    distribution = {"type": "pytorch", "process_count_per_instance": 2}
    trial = {"command": "python train.py", "distribution": distribution}
    failed = run(job(tmp_path, script, trial=trial, limits=ONE)).trials[0]
    assert "the command exited with code 3" == failed.error


def test_what_trials_left_is_handed_out(tmp_path: Path) -> None:
    """`download` gives the best trial's output, `logs` what was printed."""
    script = """
        import os, pathlib, sys
        import raysweep
        pathlib.Path(os.environ["AZURE_ML_OUTPUT_model"], "weights").write_text(sys.argv[1])
        os.makedirs("outputs", exist_ok=True)
        pathlib.Path("outputs", "plot.txt").write_text("drawn")
        print("trained with", sys.argv[1])
        raysweep.report(score=float(sys.argv[1]))
    """
    sweep = job(
        tmp_path,
        script,
        trial={"command": "python train.py ${{search_space.lr}} ${{outputs.model}}"},
        outputs={"model": {"type": "uri_folder"}},
    )
    run(sweep)
    there = ["--storage", sweep.storage]
    target = tmp_path / "got"
    asked("download", "t", *there, "--output-name", "model", "-p", target)
    assert "4" == (target / "t-trial-3" / "outputs" / "model" / "weights").read_text()
    asked("download", "t", *there, "--trial", 0, "-p", target)
    assert "drawn" == (target / "t-trial-0" / "artifacts" / "outputs" / "plot.txt").read_text()
    assert "trained with 1\n" == (target / "t-trial-0" / "log.txt").read_text()
    assert "trained with 2\n" == asked("logs", "t", 1, *there)
    lines = asked("logs", "t", "-f", *there).splitlines()
    assert [f"[{number}] trained with {number + 1}" for number in range(4)] == lines
    refused: Any = CliRunner().invoke(cli, ["download", "t", *there, "--output-name", "modle"])
    assert "did you mean 'model'?" in refused.output
    assert 2 == refused.exit_code


def asked(*words: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert 0 == done.exit_code, done.output
    return done.output


def test_logs_are_followed_while_a_trial_runs(tmp_path: Path) -> None:
    """`logs -f` prints lines as they come and returns when the sweep is over."""
    script = """
        import time
        import raysweep
        for step in range(4):
            print("step", step)
            time.sleep(0.3)
        raysweep.report(score=1)
    """
    sweep = job(tmp_path, script, limits=ONE)
    with running(sweep) as client:
        output = asked("logs", "t", 0, "-f", "--storage", sweep.storage)
        assert [f"step {step}" for step in range(4)] == output.splitlines()
        until(client, finished)


def test_a_script_behind_a_shell_has_its_grace(tmp_path: Path) -> None:
    """Bash is gone at once; what it waited for may still end in order."""
    script = """
        import signal, sys, time
        import raysweep
        def leave(*_):
            time.sleep(0.5)
            print("tidied up")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        raysweep.report(score=1)
        time.sleep(1000)
    """
    sweep = job(
        tmp_path,
        script,
        trial={"command": "python train.py && echo done"},
        limits=ONE | {"trial_timeout": 1},
        raysweep={"grace": 20},
    )
    trial = run(sweep).trials[0]
    assert ("timed_out", "tidied up\n") == (trial.state, trial.log)


def test_the_outputs_folder_is_kept_with_what_was_in_it(tmp_path: Path) -> None:
    """A code folder that has one from a run on a desk; scripts that make it anew."""
    (tmp_path / "code" / "outputs").mkdir(parents=True)
    (tmp_path / "code" / "outputs" / "old").write_text("old")
    script = """
        import os, pathlib, shutil, sys
        import raysweep
        if sys.argv[1] == "2":
            shutil.rmtree("outputs")
            os.mkdir("outputs")
        pathlib.Path("outputs", "model").write_text(sys.argv[1])
        os.symlink("model", "outputs/latest")
        os.mkfifo("outputs/pipe")
        raysweep.report(score=1)
    """
    result = run(job(tmp_path, script, limits={"max_total_trials": 2}))
    one, two = (result.folder.artifacts(number) / "outputs" for number in (0, 1))
    assert ("old", "1") == ((one / "old").read_text(), (one / "latest").read_text())
    assert {"model", "latest"} == {path.name for path in two.iterdir()}


@pytest.mark.parametrize("order", ["save(); log(); other()", "other(); log(); save()"])
def test_a_checkpoint_belongs_to_the_interval_it_was_made_at(tmp_path: Path, order: str) -> None:
    """Whether a script saves and then logs or the other way round, with other metrics between."""
    script = f"""
        import os, pathlib, time
        import raysweep
        state = pathlib.Path(os.environ["RAYSWEEP_CHECKPOINT_DIR"], "state")
        begin = int(state.read_text()) if state.exists() else 0
        for step in range(begin, 7):
            time.sleep(0.6)
            def save(): state.write_text(str(step + 1))
            def log(): raysweep.report(score=step + 1)
            def other(): raysweep.report(loss=1)
            {order}
    """
    sweep = job(tmp_path, script, limits=ONE)
    with running(sweep) as client:
        until(client, lambda status: any(row.intervals >= 3 for row in status.rows))
        kill(slot_pid(client, 0))
        until(client, finished)
    trial = load_result("t", sweep.storage).trials[0]
    assert ("completed", 2) == (trial.state, trial.attempts)
    assert [float(step + 1) for step in range(7)] == trial.curve


def test_an_attempt_with_nothing_left_to_log_completes(tmp_path: Path) -> None:
    """The machine was lost after the last report: what was logged before still counts."""
    script = """
        import os, pathlib, time
        import raysweep
        state = pathlib.Path(os.environ["RAYSWEEP_CHECKPOINT_DIR"], "state")
        if not state.exists():
            state.touch()
            raysweep.report(score=7)
            time.sleep(1000)
    """
    sweep = job(tmp_path, script, limits=ONE)
    with running(sweep) as client:
        until(client, lambda _: checkpointed(sweep))
        kill(slot_pid(client, 0))
        until(client, finished)
    trial = load_result("t", sweep.storage).trials[0]
    assert ("completed", [7.0]) == (trial.state, trial.curve)


def test_an_attempt_that_fails_is_no_success_for_its_checkpoint(tmp_path: Path) -> None:
    """It logs into a store of its own, and has nothing to show but an earlier attempt's report."""
    script = """
        import os, pathlib, sys, time
        import raysweep
        state = pathlib.Path(os.environ["RAYSWEEP_CHECKPOINT_DIR"], "state")
        if state.exists():
            sys.exit("Run '" + os.environ["MLFLOW_RUN_ID"] + "' not found")
        state.touch()
        raysweep.report(score=7)
        time.sleep(1000)
    """
    sweep = job(tmp_path, script, limits=ONE)
    with running(sweep) as client:
        until(client, lambda _: checkpointed(sweep))
        kill(slot_pid(client, 0))
        until(client, finished)
    assert load_result("t", sweep.storage).trials[0].state == "failed"


def checkpointed(sweep: rs.JobSweep) -> bool:
    """Whether the first trial has a checkpoint that the journal knows."""
    trials = load_result("t", sweep.storage).trials
    return bool(trials) and trials[0].checkpoint_path is not None


def test_first_trials_that_fail_alike_end_the_sweep(tmp_path: Path) -> None:
    """A broken script does not go through all of the trials, whatever its values."""
    script = """
        import sys
        def main():
            raise ValueError(f"no such width: {sys.argv[1]}")
        main()
    """
    result = run(job(tmp_path, script))
    assert "failed" == result.phase
    assert result.reason.startswith(
        "the first 3 trials failed alike: the command exited with code 1"
    )


def test_an_environment_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    """In the trial's error, its traceback and the log of the node's setup."""
    environment = {"pip": ["./no-such-package-anywhere"]}
    sweep = job(tmp_path, REPORT, limits=ONE, raysweep={"environment": environment})
    trial = run(sweep).trials[0]
    assert trial.error.startswith("the environment cannot be built on ")
    assert "no-such-package-anywhere" in trial.error
    assert "no-such-package-anywhere" in trial.traceback
    assert "[setup " in asked("logs", "t", "--storage", sweep.storage)


def test_a_jobs_variables_do_not_replace_values(tmp_path: Path) -> None:
    """They are the script's environment; the command has what was drawn."""
    sweep = job(
        tmp_path,
        REPORT,
        trial={"environment_variables": {"AZUREML_SWEEP_lr": "77"}},
        search_space={"lr": {"type": "choice", "values": ["3 "]}},
        limits=ONE,
    )
    assert 3.0 == run(sweep).best.best


def test_a_command_can_be_interrupted(tmp_path: Path) -> None:
    """SIGINT is neither ignored nor blocked, as `timeout -s INT` and launchers expect."""
    script = """
        import time
        import raysweep
        try:
            time.sleep(1000)
        except KeyboardInterrupt:
            raysweep.report(score=1)
    """
    command = "timeout --foreground -s INT 1 python train.py; true"
    assert 1.0 == run(job(tmp_path, script, trial={"command": command}, limits=ONE)).best.best


def test_nothing_outlives_a_template_that_is_killed(tmp_path: Path) -> None:
    """As by the kernel when memory runs out: what had left every group is found by its mark."""
    script = """
        import os, subprocess, time
        import raysweep
        far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print("pids", far.pid, os.getppid())
        attempt = int(os.environ["RAYSWEEP_ATTEMPT"])
        raysweep.report(score=attempt)
        time.sleep(1000 if attempt == 1 else 0)
    """
    sweep = job(tmp_path, script, limits=ONE)
    with running(sweep) as client:
        until(client, lambda status: any(row.intervals == 1 for row in status.rows))
        log = load_result("t", sweep.storage).trials[0].log
        far, supervisor = pids(log)
        kill(parent(supervisor))
        until(client, finished)
    trial = load_result("t", sweep.storage).trials[0]
    assert ("completed", 2) == (trial.state, trial.attempts)
    assert not alive(far)


def parent(pid: int) -> int:
    """The process that started this one: of a supervisor its template."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
