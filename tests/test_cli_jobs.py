"""The command line over Azure ML job files: everything that needs no cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysweep.cli import cli

JOB = """
type: sweep
trial:
  code: src
  command: >-
    python train.py --lr ${{search_space.lr}} --note ${{inputs.note}} --to ${{outputs.model}}
  environment: azureml:AzureML-sklearn-1.5@latest
inputs:
  note: it's $HOME
outputs:
  model: {type: uri_folder}
compute: azureml:cluster
search_space:
  lr: {type: choice, values: [0.1, 1e-4]}
sampling_algorithm: grid
objective: {goal: maximize, primary_metric: score}
limits: {max_total_trials: 8}
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job file with a code folder beside it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").touch()
    file = tmp_path / "sweep.yml"
    file.write_text(JOB)
    return file


def asked(*words: object) -> Result:
    """What a command answers."""
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_preview_shows_the_commands_as_they_will_run(job: Path) -> None:
    """Values are quoted where they have to be; 1e-4 is the string that YAML 1.1 makes of it."""
    done = asked("preview", job)
    assert 0 == done.exit_code, done.output
    assert "python train.py --lr 0.1 --note 'it'\"'\"'s $HOME' --to ./outputs/model" in done.stdout
    assert "--lr 1e-4 " in done.stdout
    assert "not used here: compute" in done.stderr


def test_preview_as_json_has_params_and_commands(job: Path) -> None:
    """For programs."""
    trials = json.loads(asked("preview", job, "-o", "json", "-n", 1).stdout)
    assert [{"lr": 0.1}] == [trial["params"] for trial in trials]
    assert trials[0]["command"].startswith("python train.py --lr 0.1 ")


def test_validate_tells_every_problem_with_its_place(job: Path) -> None:
    """File, line, column, path, what is wrong, and a guess."""
    job.write_text(
        JOB.replace("max_total_trials: 8", "max_total_trails: 8")
        .replace("goal: maximize", "goal: best")
        .replace("${{inputs.note}}", "${{inputs.not}}")
    )
    done = asked("validate", job)
    assert 2 == done.exit_code
    lines = done.stderr.splitlines()
    place = 1 + JOB.splitlines().index("objective: {goal: maximize, primary_metric: score}")
    assert any(line.startswith(f"error: {job}:") for line in lines[:1])
    assert any(line.startswith(f"{job}:{place}:19: objective.goal: must be") for line in lines)
    assert any("did you mean 'max_total_trials'?" in line for line in lines)
    assert any("did you mean" in line and "inputs.not" in line for line in lines)


def test_set_changes_the_job_by_azures_keys(job: Path) -> None:
    """And by those of raysweep's own block."""
    document = json.loads(
        asked(
            *("validate", job, "-o", "json"),
            *("--set", "limits.max_total_trials=1"),
            *("--set", "raysweep.resources.gpus=0.5"),
        ).stdout
    )
    assert 1 == document["limits"]["max_total_trials"]
    assert 0.5 == document["resources"]["gpus"]


def test_run_refuses_a_broken_job_before_anything_starts(job: Path, tmp_path: Path) -> None:
    """No folder, no Ray."""
    job.write_text(JOB.replace("type: choice", "type: choices"))
    done = asked("run", job, "--storage", tmp_path / "sweeps")
    assert 2 == done.exit_code
    assert "did you mean 'choice'?" in done.stderr
    assert not (tmp_path / "sweeps").exists()


def test_a_python_file_may_hold_a_job(job: Path, tmp_path: Path) -> None:
    """`sweep = rs.load(...)` at the top level, as for any sweep."""
    file = tmp_path / "sweep.py"
    file.write_text(f"import raysweep as rs\nsweep = rs.load({str(job)!r})\n")
    done = asked("validate", file, "--set", "limits.max_total_trials=1")
    assert 0 == done.exit_code, done.output
    assert "1, as many as fit at once" in done.stdout


def test_a_sampler_may_be_named_on_the_command_line(job: Path) -> None:
    """It goes before the file's, with its seed."""
    flags = ("--sampler", "optuna:TPESampler", "--set", "raysweep.try_first=[{lr: 0.1}]")
    spec = json.loads(asked("validate", job, *flags, "-o", "json").stdout)
    expected: dict[str, object] = {
        "type": "optuna",
        "sampler": "TPESampler",
        "options": {},
        "seed": None,
    }
    assert (expected, [{"lr": 0.1}]) == (spec["sampler"], spec["try_first"])


def test_a_job_cannot_begin_with_a_sweep_that_is_not_there(job: Path, tmp_path: Path) -> None:
    """Named by the command line, in the storage that it names."""
    flags = ("--warm-start", "earlier", "--sampler", "bayesian", "--storage", tmp_path)
    done = asked("validate", job, *flags)
    assert 2 == done.exit_code
    assert f"no sweep named 'earlier' in {tmp_path}" in done.stderr
