"""What the tracking endpoint makes of what a script logs."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tracked import API, RUN, Json, Trial, tracked

from raysweep.errors import MetricError, SpecError, Stopped
from raysweep.runtime import tracking
from raysweep.runtime.tracking import TrackedRun, grouped, unproxied
from raysweep.runtime.tracking.runs import Metric


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A trial whose reports are kept."""
    with tracked(tmp_path) as trial:
        yield trial


# Metrics and reports


def test_a_metric_is_a_report(trial: Trial) -> None:
    """What `log-metric` brings is reported at once."""
    trial.metric("accuracy", 0.5)
    trial.metric("loss", 2, step=1)
    assert [{"accuracy": 0.5}, {"loss": 2.0}] == trial.reports
    assert ("accuracy", "loss") == trial.tracking.seen


def test_what_is_not_finite_is_reported_as_it_is(trial: Trial) -> None:
    """Protobuf's words and JSON's own both arrive as floats."""
    for at, value in enumerate(["NaN", "Infinity", "-Infinity", math.nan, -math.inf]):
        trial.metric("loss", value, at=at)
    values = [repr(report["loss"]) for report in trial.reports]
    assert ["nan", "inf", "-inf", "nan", "-inf"] == values
    assert "-Infinity" == trial.run()["data"]["metrics"][0]["value"]


def metrics(*told: tuple[str, float, int]) -> list[Metric]:
    """Metrics from key, value and step."""
    return [Metric(key=key, value=value, timestamp=1, step=step) for key, value, step in told]


@pytest.mark.parametrize(
    ("told", "groups"),
    [
        ([], []),
        ([("a", 1, 0), ("b", 2, 0)], [{"a": 1, "b": 2}]),
        ([("a", 1, 0), ("a", 2, 1)], [{"a": 1}, {"a": 2}]),
        (
            [("a", 1, 0), ("a", 2, 1), ("b", 3, 0), ("b", 4, 1)],
            [{"a": 1, "b": 3}, {"a": 2, "b": 4}],
        ),
        ([("a", 1, 0), ("a", 2, 0), ("b", 3, 0)], [{"a": 1}, {"a": 2, "b": 3}]),
        ([("a", 1, 0), ("a", 2, 5), ("a", 3, 0)], [{"a": 1}, {"a": 2}, {"a": 3}]),
    ],
)
def test_a_batch_is_reported_by_step(
    told: list[tuple[str, float, int]], groups: list[dict[str, float]]
) -> None:
    """One report a step, until a metric comes a second time."""
    found = [{metric.key: metric.value for metric in group} for group in grouped(metrics(*told))]
    assert groups == found


def test_a_batch_brings_params_and_tags_too(trial: Trial) -> None:
    """`log-batch` is reported in groups; the rest of it is kept."""
    trial.post(
        "runs/log-batch",
        run_id=RUN,
        metrics=[
            {"key": "a", "value": 1.0, "timestamp": 5, "step": 1},
            {"key": "b", "value": 2.0, "timestamp": 5, "step": 1},
            {"key": "a", "value": 3.0, "timestamp": 6, "step": 2},
        ],
        params=[{"key": "depth", "value": "3"}],
        tags=[{"key": "kind", "value": "big"}],
    )
    assert [{"a": 1.0, "b": 2.0}, {"a": 3.0}] == trial.reports
    data = trial.run()["data"]
    assert {"key": "depth", "value": "3"} in data["params"]
    assert {"key": "kind", "value": "big"} in data["tags"]


def test_a_request_that_comes_again_is_not_reported_again(trial: Trial) -> None:
    """A client that heard no answer sends the same timestamp; a new call has a new one."""
    trial.metric("accuracy", 0.5, at=1)
    trial.metric("accuracy", 0.5, at=1)
    trial.metric("accuracy", 0.5, at=2)
    trial.metric("accuracy", "NaN", at=3)
    trial.metric("accuracy", "NaN", at=3)
    assert 3 == len(trial.reports)


def test_the_rest_of_a_batch_that_comes_again_is_reported(trial: Trial) -> None:
    """What of a batch was heard before is left out, and nothing else."""
    first = {"key": "a", "value": 1.0, "timestamp": 1, "step": 1}
    second = {"key": "a", "value": 2.0, "timestamp": 2, "step": 2}
    trial.post("runs/log-batch", run_id=RUN, metrics=[first])
    trial.post("runs/log-batch", run_id=RUN, metrics=[first, second])
    assert [{"a": 1.0}, {"a": 2.0}] == trial.reports


def test_a_metric_on_two_models_is_one_report(trial: Trial) -> None:
    """MLflow's client sends a metric once for each model that it was measured on."""
    models = [trial.post("logged-models", name=name)["model"]["info"]["model_id"] for name in "ab"]
    said = {"key": "accuracy", "value": 0.5, "timestamp": 1, "step": 0}
    both = [said | {"model_id": model} for model in models]
    trial.post("runs/log-batch", run_id=RUN, metrics=both)
    assert [{"accuracy": 0.5}] == trial.reports
    found = trial.post("logged-models/search", filter="metrics.accuracy > 0.4")["models"]
    assert set(models) == {model["info"]["model_id"] for model in found}


def test_the_answer_waits_for_the_report(tmp_path: Path) -> None:
    """A script goes on when its report has been taken, and meanwhile may read."""
    told: list[str] = []
    released = threading.Event()

    def slow(_: Mapping[str, float]) -> None:
        released.wait()
        told.append("reported")

    trial = Trial(tmp_path, slow)
    with trial.tracking, ThreadPoolExecutor() as pool:
        answer = pool.submit(trial.metric, "accuracy", 0.5)
        answer.add_done_callback(lambda _: told.append("answered"))
        assert RUN == trial.run()["info"]["run_id"]
        released.set()
        answer.result()
    assert ["reported", "answered"] == told


def test_nothing_is_reported_after_a_stop(tmp_path: Path) -> None:
    """A stop is between the trial and its supervisor: the script's calls all succeed."""
    reports: list[dict[str, float]] = []

    def stop(metrics: Mapping[str, float]) -> None:
        reports.append(dict(metrics))
        raise Stopped("bandit")

    trial = Trial(tmp_path, stop)
    with trial.tracking:
        for at in range(3):
            trial.metric("accuracy", 0.5, at=at, step=at)
        assert 2 == trial.run()["data"]["metrics"][0]["step"]
    assert [{"accuracy": 0.5}] == reports


def test_a_report_that_is_none_is_told_to_the_script(tmp_path: Path) -> None:
    """A MetricError is the answer, and the trial goes on."""
    reports: list[dict[str, float]] = []

    def picky(metrics: Mapping[str, float]) -> None:
        if not reports:
            reports.append({"refused": 1.0})
            raise MetricError("no metric is called bad")
        reports.append(dict(metrics))

    trial = Trial(tmp_path, picky)
    with trial.tracking:
        bad = {"run_id": RUN, "key": "bad", "value": 1.0, "timestamp": 1, "step": 0}
        answer = trial.refused("runs/log-metric", **bad)
        trial.post("runs/log-metric", **bad)
    assert (400, "INVALID_PARAMETER_VALUE", "no metric is called bad") == answer
    assert [{"refused": 1.0}, {"bad": 1.0}] == reports


def test_a_report_that_fails_is_taken_when_it_comes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What raises anything else is answered with 500, at which MLflow's client tries again."""
    reports: list[dict[str, float]] = []

    def failing(metrics: Mapping[str, float]) -> None:
        reports.append(dict(metrics))
        if len(reports) == 1:
            raise RuntimeError("no way to the slot")

    trial = Trial(tmp_path, failing)
    with trial.tracking:
        said = {"run_id": RUN, "key": "a", "value": 1.0, "timestamp": 1, "step": 0}
        assert (500, "INTERNAL_ERROR") == trial.refused("runs/log-metric", **said)[:2]
        trial.post("runs/log-metric", **said)
    assert [{"a": 1.0}, {"a": 1.0}] == reports
    assert "no way to the slot" in capsys.readouterr().err


def test_many_threads_report_one_at_a_time(tmp_path: Path) -> None:
    """Whoever logs at the same time waits for the others; nothing is lost."""
    reports: list[float] = []
    inside = threading.Lock()

    def alone(metrics: Mapping[str, float]) -> None:
        assert inside.acquire(blocking=False)
        reports.append(metrics["a"])
        inside.release()

    trial = Trial(tmp_path, alone)
    with trial.tracking, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: trial.metric("a", value, at=value), range(200)))
        assert 200 == len(
            trial.ask("GET", f"{API}/metrics/get-history?run_id={RUN}&metric_key=a")[1]["metrics"]
        )
    assert set(range(200)) == set(reports)
    assert 200 == len(reports)


# Runs


def test_a_nested_run_is_written_down_and_not_reported(tmp_path: Path) -> None:
    """The candidates of a search within the trial are no reports of the trial."""
    trial = Trial(tmp_path)
    with trial.tracking:
        tags = [{"key": "mlflow.parentRunId", "value": RUN}]
        nested = trial.post("runs/create", experiment_id="1", tags=tags)["run"]["info"]["run_id"]
        trial.metric("inner", 0.25, run=nested, step=4)
    assert [] == trial.reports
    assert ((), ("inner",)) == (trial.tracking.seen, trial.tracking.aside)
    (other,) = trial.record()["others"]
    assert ({"inner": [[4, 0.25]]}, nested) == (other["history"], other["run_id"])


def test_a_second_run_of_its_own_is_the_trial_s_too(trial: Trial) -> None:
    """A script that ends its run and starts another goes on reporting."""
    trial.post("runs/update", run_id=RUN, status="FINISHED", end_time=7)
    second = trial.post("runs/create", run_name="again")["run"]["info"]
    trial.metric("accuracy", 0.75, run=second["run_id"])
    assert [{"accuracy": 0.75}] == trial.reports
    assert "again" == second["run_name"]


def test_a_run_is_shown_with_the_trial_s_values(trial: Trial) -> None:
    """Before the script has logged anything its run has a name, params and tags."""
    run = trial.run()
    assert ("digits_3", "RUNNING") == (run["info"]["run_name"], run["info"]["status"])
    assert [{"key": "lr", "value": "0.1"}, {"key": "width", "value": "32"}] == run["data"]["params"]
    assert {"key": "sweep", "value": "digits"} in run["data"]["tags"]


def test_a_script_may_log_what_it_was_given(trial: Trial) -> None:
    """The script's own word for a value replaces the sweep's, and then stands."""
    trial.post("runs/log-parameter", run_id=RUN, key="lr", value="0.10")
    trial.post("runs/log-parameter", run_id=RUN, key="lr", value="0.10")
    status, code, message = trial.refused("runs/log-parameter", run_id=RUN, key="lr", value="0.2")
    assert (400, "INVALID_PARAMETER_VALUE") == (status, code)
    assert "param 'lr'" in message
    assert "'0.10' and cannot be changed to '0.2'" in message


def test_a_metric_s_value_is_the_one_at_its_last_step(trial: Trial) -> None:
    """As MLflow has it: the largest step, and not the latest arrival, is the value now."""
    trial.metric("a", 0.9, step=10, at=1)
    trial.metric("a", 0.1, step=2, at=2)
    assert 0.9 == trial.run()["data"]["metrics"][0]["value"]


def test_a_long_history_comes_in_pages(trial: Trial) -> None:
    """A client that asks for a few values is told where to go on."""
    for step in range(5):
        trial.metric("a", step, step=step)
    path = f"{API}/metrics/get-history?run_id={RUN}&metric_key=a&max_results=3"
    first = trial.ask("GET", path)[1]
    rest = trial.ask("GET", f"{path}&page_token={first['next_page_token']}")[1]
    assert [0, 1, 2] == [metric["step"] for metric in first["metrics"]]
    assert [3, 4] == [metric["step"] for metric in rest["metrics"]]
    assert "next_page_token" not in rest


def test_a_deleted_run_takes_nothing_until_it_is_restored(trial: Trial) -> None:
    """Deleting hides a run from searches and refuses what is logged to it."""
    run = trial.post("runs/create")["run"]["info"]["run_id"]
    trial.post("runs/delete", run_id=run)
    assert 400 == trial.refused("runs/set-tag", run_id=run, key="a", value="b")[0]
    assert 1 == len(trial.post("runs/search")["runs"])
    assert 2 == len(trial.post("runs/search", run_view_type="ALL")["runs"])
    trial.post("runs/restore", run_id=run)
    trial.post("runs/set-tag", run_id=run, key="a", value="b")


def test_a_run_that_is_not_there_is_named(trial: Trial) -> None:
    """MLflow's word for it, and the id."""
    answer = trial.refused("runs/set-tag", run_id="no such run", key="a", value="b")
    assert (404, "RESOURCE_DOES_NOT_EXIST", "this trial has no run 'no such run'") == answer


def test_every_experiment_is_the_one(trial: Trial) -> None:
    """Whatever experiment a script names, its run is in it."""
    own = trial.run()["info"]["experiment_id"]
    named = trial.ask("GET", f"{API}/experiments/get-by-name?experiment_name=mine")[1]
    numbered = trial.ask("GET", f"{API}/experiments/get?experiment_id=77")[1]
    made = trial.post("experiments/create", name="another")
    assert {own} == {
        named["experiment"]["experiment_id"],
        numbered["experiment"]["experiment_id"],
        made["experiment_id"],
    }
    assert "mine" == named["experiment"]["name"]


# The environment and the record


def test_the_environment_names_the_run(trial: Trial) -> None:
    """What Azure ML sets, and what `raysweep.report` needs."""
    environment = trial.tracking.environment
    assert RUN == environment["MLFLOW_RUN_ID"]
    assert "digits" == environment["MLFLOW_EXPERIMENT_NAME"]
    assert trial.run()["info"]["experiment_id"] == environment["MLFLOW_EXPERIMENT_ID"]
    assert environment["MLFLOW_TRACKING_URI"] == environment["RAYSWEEP_TRACKING_URI"]
    assert environment["MLFLOW_TRACKING_TOKEN"] == environment["RAYSWEEP_TRACKING_TOKEN"]


def test_every_trial_has_a_token_of_its_own(tmp_path: Path) -> None:
    """One trial's script cannot report for another."""
    assert Trial(tmp_path).tracking._token != Trial(tmp_path).tracking._token


def test_the_user_s_settings_of_the_client_stand(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except those with which it would sign in some other way."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "true")
    environment = trial.tracking.environment
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in environment
    assert "false" == environment["MLFLOW_TRACKING_AWS_SIGV4"]
    assert "1" == environment["MLFLOW_ASYNC_LOGGING_THREADPOOL_SIZE"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.org"}, "a.org,127.0.0.1,localhost"),
        ({"no_proxy": "b.org", "NO_PROXY": "a.org"}, "b.org,127.0.0.1,localhost"),
        ({"no_proxy": "127.0.0.1"}, "127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_loopback_is_never_proxied(given: dict[str, str], expected: str) -> None:
    """What the user has excepted from proxies stays excepted."""
    assert {"NO_PROXY": expected, "no_proxy": expected} == unproxied(given)


def test_the_record_holds_what_the_journal_does_not(tmp_path: Path) -> None:
    """Params, tags, datasets, models and the other runs; the trial's own curves are elsewhere."""
    trial = Trial(tmp_path)
    with trial.tracking:
        trial.metric("loss", "NaN")
        trial.post("runs/log-parameter", run_id=RUN, key="depth", value="3")
        dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "x"}
        trial.post("runs/log-inputs", run_id=RUN, datasets=[{"dataset": dataset, "tags": []}])
        trial.post("logged-models", name="net", source_run_id=RUN)
        trial.post("runs/update", run_id=RUN, status="FINISHED", end_time=7)
    record = trial.record()
    assert {"lr": "0.1", "width": "32", "depth": "3"} == record["run"]["params"]
    assert ("FINISHED", {"loss": "NaN"}) == (record["run"]["status"], record["run"]["metrics"])
    assert "history" not in record["run"]
    assert ["d"] == [each["dataset"]["name"] for each in record["run"]["datasets"]]
    assert ["net"] == [model["info"]["name"] for model in record["models"]]
    assert [] == record["others"]


def test_the_record_is_written_while_the_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that is killed leaves what was logged until shortly before."""
    monkeypatch.setattr(tracking, "RECORD_EVERY", 0.01)
    trial = Trial(tmp_path)
    with trial.tracking:
        trial.post("runs/set-tag", run_id=RUN, key="stage", value="2")
        while not (trial.record_path.exists() and trial.record()["run"]["tags"].get("stage")):
            pass
    assert "2" == trial.record()["run"]["tags"]["stage"]


def test_a_record_that_cannot_be_written_ends_no_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial's log says so."""
    trial = Trial(tmp_path / "gone")
    with trial.tracking:
        trial.metric("a", 1.0)
    assert [{"a": 1.0}] == trial.reports
    assert f"raysweep: cannot write {trial.record_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"run_id": "x"}, "run_id must be 32 hex"), ({"artifacts": Path("a")}, "artifacts must be")],
)
def test_a_run_checks_itself(wrong: Json, message: str) -> None:
    """What MLflow's client would refuse later is refused when the run is made."""
    right: Json = {"run_id": RUN, "name": "a", "experiment": "b", "artifacts": Path("/a")}
    with pytest.raises(SpecError, match=message):
        TrackedRun(**right | wrong, params={}, tags={})
