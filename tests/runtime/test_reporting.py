"""`raysweep.report`, as a script without MLflow calls it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from tracked import Trial, tracked

import raysweep
from raysweep.errors import ClusterError, MetricError, NotInTrialError
from raysweep.runtime import reporting


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A trial whose reports are kept."""
    with tracked(tmp_path) as trial:
        yield trial


@pytest.fixture
def script(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    """A trial whose environment the test's own process has."""
    for name, value in trial.tracking.environment.items():
        monkeypatch.setenv(name, value)
    yield trial
    while reporting._lines:
        reporting._lines.pop()._connection.close()


def test_a_script_reports_without_mlflow(script: Trial) -> None:
    """Names and a mapping of names, one report a call; a step is a metric like `trial.report`'s."""
    raysweep.report(accuracy=0.5)
    raysweep.report({"val/loss": 0.25}, step=3)
    assert [{"accuracy": 0.5}, {"val/loss": 0.25, "step": 3.0}] == script.reports


def test_reports_that_are_alike_are_all_heard(script: Trial) -> None:
    """A report has a mark of its own, so that none is taken for one that comes again."""
    for _ in range(3):
        raysweep.report(accuracy=1.0)
    assert 3 == len(script.reports)


def test_a_report_takes_whatever_holds_one_number(script: Trial) -> None:
    """Scalars of numpy, arrays of one element, what is not finite."""
    raysweep.report(a=np.float32(0.5), b=np.array([2]), c=float("nan"), d=True)
    (report,) = script.reports
    assert (0.5, 2.0, "nan", 1.0) == (report["a"], report["b"], repr(report["c"]), report["d"])


def test_a_report_of_nothing_is_refused(script: Trial) -> None:
    """As in a training function: no metric, or one that is no number."""
    with pytest.raises(MetricError, match="at least one metric"):
        raysweep.report()
    with pytest.raises(MetricError, match="metric 'a' must be a number"):
        raysweep.report(a="high")
    assert [] == script.reports


def test_a_report_that_the_trial_refuses_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script hears what `report` had to say."""

    def refuse(_: Mapping[str, float]) -> None:
        raise MetricError("too many metrics")

    trial = Trial(tmp_path, refuse)
    with trial.tracking:
        for name, value in trial.tracking.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(MetricError, match="too many metrics"):
            raysweep.report(a=1.0)
        reporting._lines.pop()._connection.close()


def test_a_report_outside_of_a_trial_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that no command runs, or a training function, is told so."""
    monkeypatch.delenv("RAYSWEEP_TRACKING_URI", raising=False)
    with pytest.raises(NotInTrialError, match=r"a training function uses trial\.report"):
        raysweep.report(accuracy=0.5)


def test_a_report_keeps_its_connection_and_mends_it(script: Trial) -> None:
    """A connection that broke is made anew, and the report is heard once."""
    raysweep.report(a=1.0)
    kept = reporting._lines[0]._connection.sock
    raysweep.report(a=2.0)
    assert kept is reporting._lines[0]._connection.sock
    kept.shutdown(socket.SHUT_RDWR)
    raysweep.report(a=3.0)
    assert [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}] == script.reports


def test_a_report_to_nobody_is_the_cluster_s_loss(
    script: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that is gone, or another trial's."""
    monkeypatch.setenv("RAYSWEEP_TRACKING_TOKEN", "wrong")
    with pytest.raises(ClusterError, match="answered with 401"):
        raysweep.report(a=1.0)
    reporting._lines.pop()._connection.close()
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    monkeypatch.setenv("RAYSWEEP_TRACKING_URI", f"http://127.0.0.1:{port}")
    with pytest.raises(ClusterError, match=f"does not answer at 127.0.0.1:{port}"):
        raysweep.report(a=1.0)
    assert [] == script.reports


FORKING = """
import os, raysweep
raysweep.report(a=0)
for child in (1, 2):
    if not os.fork():
        raysweep.report(a=child)
        os._exit(0)
for _ in range(2):
    assert os.wait()[1] == 0
raysweep.report(a=3)
"""


def test_a_script_s_children_report_too(trial: Trial) -> None:
    """Each process has a connection of its own, and no proxy is asked."""
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies, **trial.tracking.environment}
    ran = subprocess.run(
        [sys.executable, "-c", FORKING],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (ran.returncode, ran.stderr)
    assert {0.0, 1.0, 2.0, 3.0} == {report["a"] for report in trial.reports}
    assert 4 == len(trial.reports)


LOADED = "import json, sys, raysweep; raysweep.report; print(json.dumps([*sys.modules]))"


def test_reporting_loads_nothing_heavy() -> None:
    """A script that reports starts as fast as one that does not."""
    ran = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    heavy = {"msgpack", "mlflow", "numpy", "pyarrow", "ray", "scipy", "torch"}
    assert set() == heavy & {name.partition(".")[0] for name in json.loads(ran.stdout)}
