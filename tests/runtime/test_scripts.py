"""Training scripts with real MLflow clients, unedited, as the commands of a sweep on a real Ray."""

from __future__ import annotations

import json
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest
from jobs import job
from sweeps import alive
from test_command import HALF, ONE, pids, run

import raysweep as rs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "azure"


def python(environment: str) -> dict[str, str]:
    """A job's block that names the interpreter of one of the environments that make made."""
    path = ROOT / environment / "bin" / "python"
    assert path.exists(), f"{path} is missing: run `make mlflow`"
    return {"python": str(path)}


@pytest.mark.parametrize("environment", [".venv-mlflow", ".venv-mlflow-skinny"])
def test_log_metric_drives_the_policy(tmp_path: Path, environment: str) -> None:
    """A script that knows nothing of raysweep is stopped in its middle, its children with it."""
    script = """
        import os, subprocess, sys, time
        import mlflow
        child = subprocess.Popen(["sleep", "1000"])
        far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(f"pids {os.getpid()} {child.pid} {far.pid}")
        steps = 10_000 if sys.argv[1] == "1" else 5
        with mlflow.start_run():
            mlflow.log_param("lr", sys.argv[1])
            for step in range(steps):
                mlflow.log_metric("score", float(sys.argv[1]) * (step + 1), step=step)
                time.sleep(0.05)
        mlflow.log_metrics({"loss": 0.5})
    """
    sweep = job(
        tmp_path,
        script,
        search_space={"lr": {"type": "choice", "values": [2, 1]}},
        early_termination=HALF,
        limits={"max_total_trials": 2},
        raysweep={"environment": python(environment)},
    )
    result = run(sweep)
    good, bad = result.trials
    assert ("completed", "stopped") == (good.state, bad.state)
    assert [2.0 * (step + 1) for step in range(5)] == good.curve
    assert bad.reason.startswith("bandit: best 3 < ")
    assert not any(alive(pid) for pid in pids(good.log) + pids(bad.log))
    tracked = json.loads(result.folder.tracked(0, 1).read_text())
    assert "2" in json.dumps(tracked)


@pytest.mark.parametrize(
    "log",
    [
        "mlflow.log_metric('score', 1)",
        (
            "client = mlflow.MlflowClient(); run = client.create_run('0');"
            " client.log_metric(run.info.run_id, 'score', 1)"
        ),
    ],
)
def test_a_tracking_uri_of_its_own_is_told(tmp_path: Path, log: str) -> None:
    """A script that logs elsewhere ends with what was seen here: nothing."""
    sweep = job(
        tmp_path,
        f"import mlflow\nmlflow.set_tracking_uri('file:./mine')\n{log}",
        limits=ONE,
        trial={"environment_variables": {"MLFLOW_ALLOW_FILE_STORE": "true"}},
        raysweep={"environment": python(".venv-mlflow")},
    )
    trial = run(sweep).trials[0]
    assert "failed" == trial.state
    assert trial.error.startswith("primary metric 'score' never logged (saw nothing:")
    assert "tracking URI of its own" in trial.error


def test_the_tutorials_yaml_and_its_sdk_object_give_the_same_best_trial(tmp_path: Path) -> None:
    """examples/azure: argparse, pandas, autolog, log_metric, log_artifact."""
    mapping = tmp_path / "environments.yml"
    mapping.write_text(f"AzureML-sklearn-1.5: {json.dumps(python('.venv-mlflow'))}")
    few = {"limits.max_total_trials": "4"}
    written = rs.load(
        EXAMPLE / "sweep.yml",
        settings=few | {"name": "from-yaml"},
        storage=str(tmp_path),
        environments=mapping,
    )
    with warnings.catch_warnings():  # azure-ai-ml 1.35 warns of itself as it is imported
        warnings.simplefilter("ignore")
        made: Any = runpy.run_path(str(EXAMPLE / "sdk.py"))["sweep_job"]
    coded = rs.load(
        made,
        settings=few | {"name": "from-sdk"},
        storage=str(tmp_path),
        environments=mapping,
    )
    one, other = run(written), run(coded)
    assert [trial.params for trial in one.trials] == [trial.params for trial in other.trials]
    assert [trial.curve for trial in one.trials] == [trial.curve for trial in other.trials]
    assert one.best.number == other.best.number
    left = one.folder.artifacts(one.best.number)
    assert list(left.rglob("confusion.csv"))
    assert list(left.rglob("MLmodel"))
