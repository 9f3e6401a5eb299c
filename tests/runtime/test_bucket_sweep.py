"""A whole sweep in a bucket, on a real Ray and a real S3 server that is not always there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from s3_server import BUCKET, Fault, Proxy, Request, point_at, proxy_of, unfinished
from sweeps import PATIENCE, journaled

import raysweep as rs
from raysweep.result import Result, load_result
from raysweep.storage.bucket import PART, Bucket

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

# Checkpoints of 40 MB that do not compress, in three parts each.
LARGE = SWEEP.replace(
    "np.full(1000, epoch)", "np.random.default_rng(epoch).random(5_000_000)"
).replace("range(start, 6)", "range(start, 2)")
SLOW = SWEEP.replace("time.sleep(0.2)", "time.sleep(1)").replace("trials=4", "trials=2")


@pytest.fixture
def proxy(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to it, and a machine of the test's own as far as mirrors go."""
    with proxy_of(server) as one:
        point_at(one, tmp_path / "here", monkeypatch)
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


def checkpoints_of(result: Result) -> list[str]:
    """Every checkpoint that the journal names, as keys in the sweep's folder."""
    return [one.checkpoint.path for trial in result.state.trials for one in trial.checkpoints]


def complete(name: str, epochs: int = EPOCHS) -> Result:
    """The result of a sweep all of whose trials ran to their ends, each report counted once."""
    result = load_result(name, STORAGE)
    assert {"completed"} == {trial.state for trial in result.trials}
    for trial in result.trials:
        x = trial.params["x"]
        assert [x * (epoch + 1) for epoch in range(epochs)] == trial.curve
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


def test_every_large_checkpoint_is_whole_in_a_bucket_that_loses_every_tenth_request(
    proxy: Proxy, server: str, tmp_path: Path
) -> None:
    """Before, amid and after what is sent, and amid the answer; nothing that was begun stays half."""
    file = tmp_path / "sweep_t.py"
    file.write_text(LARGE)
    faults = (Fault.DROP, Fault.CUT_REQUEST, Fault.LOSE, Fault.CUT_ANSWER)
    proxy.every(10, *faults)
    each_tenth, begun = proxy.fault, []

    def chosen(request: Request) -> Fault | None:
        if "?uploads=" in request.path:
            begun.append(request.path)
            if len(begun) == 1:  # the client begins another, and does not know of this one
                return Fault.LOSE
        return each_tenth(request)

    proxy.fault = chosen
    assert "4 completed" in said(start("run", file, "--storage", STORAGE, "--name", "large"))
    proxy.mend()
    result = complete("large", epochs=2)
    named = checkpoints_of(result)
    assert 8 == len(named)
    bucket = Bucket(result.path)
    assert set(named) == {*bucket.entries("checkpoints")}
    assert all(entry.size > 2 * PART for entry in bucket.entries("checkpoints").values())
    for key in named:
        tree = rs.load_checkpoint(bucket.name(key))
        drawn = np.random.default_rng(tree["epoch"] - 1).random(5_000_000)
        assert np.array_equal(drawn, tree["weights"])
    assert [] == unfinished(server, result.path)


def test_a_trial_goes_on_from_the_checkpoint_before_one_that_was_damaged_in_the_bucket(
    proxy: Proxy, tmp_path: Path
) -> None:
    """Cut short, or replaced by something as long: its checksum tells."""
    del proxy
    file = tmp_path / "sweep_t.py"
    file.write_text(SLOW)
    client = start("run", file, "--storage", STORAGE, "--name", "damaged")
    wait_for(lambda: reports_of("damaged") >= 5)
    client.send_signal(signal.SIGINT)
    said(client)
    result = load_result("damaged", STORAGE)
    bucket = Bucket(result.path)
    last = [[one.checkpoint.path for one in trial.checkpoints][-1] for trial in result.state.trials]
    cut, replaced = ((key, bucket.read(key) or b"") for key in last)
    bucket.write(cut[0], cut[1][: len(cut[1]) // 2])
    bucket.write(replaced[0], bytes(len(replaced[1])))
    said(start("resume", "damaged", "--storage", STORAGE))
    named = checkpoints_of(complete("damaged"))
    assert set() == {*named} & {*last}
    for key in named:
        rs.load_checkpoint(bucket.name(key))


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
