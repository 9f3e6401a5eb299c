"""A whole sweep in a bucket, on a real Ray and a real S3 server that is not always there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, Fault, Proxy, environment, proxy_of
from sweeps import PATIENCE, journaled

import raysweep as rs
from raysweep.result import Result, load_result

STORAGE = f"s3://{BUCKET}/team"
EPOCHS = 6

SWEEP = """
import time
import numpy as np
import raysweep as rs

def train(trial):
    start = (trial.checkpoint() or {"epoch": 0})["epoch"]
    for epoch in range(start, 6):
        time.sleep(0.2)
        print("epoch", epoch)
        trial.report(score=trial.params["x"] * (epoch + 1) + trial.shared["zeros"].sum(),
                     checkpoint={"epoch": epoch + 1, "weights": np.full(1000, epoch)})

sweep = rs.Sweep(train, space={"x": rs.uniform(0, 1)}, objective=rs.maximize("score"), name="t",
                 sampler=rs.Random(seed=3), shared={"zeros": np.zeros(10)}, lease=60.0,
                 limits=rs.Limits(max_total_trials=4, max_concurrent_trials=2))
"""


@pytest.fixture
def proxy(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to it, and a machine of the test's own as far as mirrors go."""
    with proxy_of(server) as one:
        for name, value in environment(one.endpoint).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "here"))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield one


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command line, on a Ray of its own; it and the test have one mirror."""
    command = [str(Path(sys.executable).with_name("raysweep")), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended."""
    return process.communicate(timeout=PATIENCE)[0]


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.2)


def complete(name: str) -> Result:
    """The result of a sweep all of whose trials ran to their ends, each report counted once."""
    result = load_result(name, STORAGE)
    assert {"completed"} == {trial.state for trial in result.trials}
    for trial in result.trials:
        x = trial.params["x"]
        assert [x * (epoch + 1) for epoch in range(EPOCHS)] == trial.curve
    assert len(set(journaled(result))) == len(journaled(result))
    return result


def test_a_sweep_in_a_bucket_that_loses_every_tenth_request_finishes(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is there for another machine: results, checkpoints, logs, Parquet."""
    file = tmp_path / "sweep_t.py"
    file.write_text(SWEEP)
    proxy.every(10, Fault.DROP)
    output = said(start("run", file, "--storage", STORAGE, "--name", "lossy"))
    assert "4 completed" in output
    proxy.mend()
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "elsewhere"))
    result = complete("lossy")
    assert f"{STORAGE}/lossy" == result.path
    assert {EPOCHS} == {result.best.checkpoint()["epoch"]}
    path = result.trials[0].checkpoint_path
    assert path is not None
    assert path.startswith(STORAGE)
    assert EPOCHS == rs.load_checkpoint(path)["epoch"]
    assert ["epoch 0", "epoch 5"] == result.trials[0].log.splitlines()[:: EPOCHS - 1]
    assert "lossy" in said(start("list", "--storage", STORAGE))
    assert "[3] epoch 5" in said(start("logs", "lossy", "--storage", STORAGE))
    assert result.folder.mirror is not None
    assert {"trials.parquet", "decisions.parquet"} <= {*result.folder.mirror.bucket.entries("")}
    assert "a sweep named 'lossy' is already in" in said(
        start("run", file, "--storage", STORAGE, "--name", "lossy")
    )


def test_a_sweep_outlives_its_client_and_a_bucket_that_is_away(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses, says so, and goes on; another machine takes it up where it was killed."""
    file = tmp_path / "sweep_t.py"
    file.write_text(SWEEP)
    client = start("run", file, "--storage", STORAGE, "--name", "away")
    wait_for(lambda: reports_of("away") >= 2)
    proxy.every(1, Fault.FORBIDDEN)
    time.sleep(4)
    proxy.mend()
    known = reports_of("away")
    wait_for(lambda: reports_of("away") > known)
    client.kill()
    paused = said(client)
    assert "the storage refuses" in paused
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "elsewhere"))
    said(start("resume", "away", "--storage", STORAGE))
    complete("away")


def reports_of(name: str) -> int:
    """How many reports are committed."""
    try:
        return load_result(name, STORAGE).state.reports
    except (rs.UserError, OSError):
        return 0


def test_a_bucket_that_is_not_there_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    """Before anything starts, in words."""
    del proxy
    file = tmp_path / "sweep_t.py"
    file.write_text(SWEEP)
    output = said(start("run", file, "--storage", "s3://nowhere/team"))
    assert "storage s3://nowhere/team cannot be used" in output
    assert "there is no such bucket: create it" in output
    assert "cannot be" in said(start("doctor", "--storage", "s3://nowhere/team"))
    assert os.environ["AWS_ENDPOINT_URL"] not in output
