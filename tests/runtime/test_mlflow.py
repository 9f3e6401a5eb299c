"""Real MLflow clients against the tracking endpoint: unmodified scripts, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from mlflow_clients import CLIENTS, Client, Heard
from mlflow_scripts import BESIDES, FITTING, LOGGING
from tracked import RUN

from raysweep.errors import MetricError, Stopped


@pytest.fixture(scope="module", params=["mlflow", "mlflow-skinny"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Either client."""
    client = Client(*CLIENTS[request.param])
    yield client
    client.close()


@pytest.fixture(scope="module")
def full() -> Iterator[Client]:
    """The whole MLflow, with scikit-learn beside it."""
    client = Client(*CLIENTS["full"])
    yield client
    client.close()


# Which runs are the trial's


@pytest.mark.parametrize(
    "script",
    [
        "mlflow.log_metric('accuracy', 0.5)",
        "mlflow.start_run(); mlflow.log_metric('accuracy', 0.5); mlflow.end_run()",
        "with mlflow.start_run(run_name='mine'): mlflow.log_metric('accuracy', 0.5)",
        "with mlflow.start_run(run_id=os.environ['MLFLOW_RUN_ID']): mlflow.log_metric('accuracy', 0.5)",
        "mlflow.set_experiment('mine'); mlflow.start_run(); mlflow.log_metric('accuracy', 0.5)",
        "mlflow.set_experiment(experiment_id='77'); mlflow.log_metric('accuracy', 0.5)",
        "run = mlflow.start_run(); mlflow.set_experiment('mine'); mlflow.log_metric('accuracy', 0.5)",
        "mlflow.set_experiment('a'); mlflow.set_experiment('b'); mlflow.log_metric('accuracy', 0.5)",
        "mlflow.start_run(experiment_id='5'); mlflow.log_metric('accuracy', 0.5)",
        "mlflow.MlflowClient().log_metric(os.environ['MLFLOW_RUN_ID'], 'accuracy', 0.5)",
        "mlflow.log_metric('accuracy', 0.5, run_id=os.environ['MLFLOW_RUN_ID'])",
    ],
)
def test_however_a_script_begins_its_metric_is_the_trial_s(
    client: Client, tmp_path: Path, script: str
) -> None:
    """A bare call, a run with or without a name, by its id, in whatever experiment."""
    heard = client.run(tmp_path, f"import os, mlflow\n{script}")
    assert [{"accuracy": 0.5}] == heard.reports
    assert (RUN, []) == (heard.record["run"]["run_id"], heard.record["others"])


def test_a_run_after_the_first_is_the_trial_s_too(client: Client, tmp_path: Path) -> None:
    """`with mlflow.start_run()`, twice one after the other."""
    heard = client.run(
        tmp_path,
        """
        import mlflow
        for value in (0.5, 0.75):
            with mlflow.start_run():
                mlflow.log_metric("accuracy", value)
        """,
    )
    assert [{"accuracy": 0.5}, {"accuracy": 0.75}] == heard.reports
    assert 1 == len(heard.record["others"])


def test_a_nested_run_is_only_written_down(client: Client, tmp_path: Path) -> None:
    """Its metrics are its own, with their history."""
    heard = client.run(
        tmp_path,
        """
        import mlflow
        with mlflow.start_run():
            for fold in range(2):
                with mlflow.start_run(run_name=f"fold {fold}", nested=True):
                    mlflow.log_param("fold", fold)
                    mlflow.log_metric("accuracy", fold / 2, step=7)
            mlflow.log_metric("accuracy", 0.25)
        """,
    )
    assert [{"accuracy": 0.25}] == heard.reports
    others = heard.record["others"]
    assert ["fold 0", "fold 1"] == [run["run_name"] for run in others]
    assert [{"accuracy": [[7, 0.0]]}, {"accuracy": [[7, 0.5]]}] == [
        run["history"] for run in others
    ]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("mlflow.start_run(); mlflow.end_run()", "FINISHED"),
        ("mlflow.start_run(); mlflow.end_run('FAILED')", "FAILED"),
        ("mlflow.start_run()", "FINISHED"),
    ],
)
def test_the_end_of_a_run_is_written_down(
    client: Client, tmp_path: Path, script: str, status: str
) -> None:
    """As the script says it, or as MLflow does when the script ends."""
    heard = client.run(tmp_path, f"import mlflow\n{script}")
    assert status == heard.record["run"]["status"]


# Metrics


@pytest.fixture(scope="module")
def logged(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """A script that logs metrics in every way there is."""
    return client.run(tmp_path_factory.mktemp("logged"), LOGGING)


def test_one_call_is_one_report(logged: Heard) -> None:
    """`log_metric`, `log_metrics` and a step of `log_batch`, in order."""
    first, second, both, _, _, *batch = logged.reports[:7]
    assert [{"plain": 0.5}, {"plain": 0.25}, {"together": 1.0, "with": 2.5}] == [
        first,
        second,
        both,
    ]
    assert [{"a": 1.0, "b": 2.0}, {"a": 3.0}] == batch


def test_what_is_not_finite_arrives(logged: Heard) -> None:
    """NaN and the infinities, as floats and back."""
    assert ["nan", "-inf"] == [repr(value) for r in logged.reports[3:5] for value in r.values()]


def test_what_is_logged_in_the_background_keeps_its_order(logged: Heard) -> None:
    """Policies count reports, so they must not overtake one another."""
    assert [{"later": float(value)} for value in range(50)] == logged.reports[7:]


def test_what_was_logged_can_be_read(logged: Heard) -> None:
    """Histories, last values and params come back to the script."""
    assert [[0, 0.5], [1, 0.25]] == logged.told["history"]
    assert 2.5 == logged.told["metrics"]["with"]
    assert {"lr": "0.1", "width": "32", "depth": "3"} == logged.told["params"]
    assert "big" == logged.record["run"]["tags"]["kind"]


def test_a_report_that_fails_once_is_heard_once(client: Client, tmp_path: Path) -> None:
    """The client tries again by itself, and two tries are one report."""
    reports: list[dict[str, float]] = []
    tries = []

    def failing(metrics: Mapping[str, float]) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("no way to the slot")
        reports.append(dict(metrics))

    client.run(tmp_path, "import mlflow; mlflow.log_metric('a', 1.0)", failing)
    assert [{"a": 1.0}] == reports


def test_a_stop_is_no_error_of_the_script_s(client: Client, tmp_path: Path) -> None:
    """What it logs until it is terminated succeeds, and is not reported."""
    reports: list[dict[str, float]] = []

    def stop(metrics: Mapping[str, float]) -> None:
        reports.append(dict(metrics))
        raise Stopped("bandit")

    script = "import mlflow\nfor i in range(3): mlflow.log_metric('a', i, step=i)\ntold = i"
    assert 2 == client.run(tmp_path, script, stop).told
    assert [{"a": 0.0}] == reports


def test_a_metric_that_is_none_raises_in_the_script(client: Client, tmp_path: Path) -> None:
    """With the message of whoever refused it."""

    def refuse(_: Mapping[str, float]) -> None:
        raise MetricError("metric 'a' is not wanted")

    script = """
        import mlflow
        try:
            mlflow.log_metric("a", 1.0)
        except mlflow.MlflowException as error:
            told = str(error)
        """
    assert "metric 'a' is not wanted" in client.run(tmp_path, script, refuse).told


def test_children_and_threads_log_at_once(client: Client, tmp_path: Path) -> None:
    """A data loader's workers and a script's threads, all to the one run."""
    heard = client.run(
        tmp_path,
        """
        import os, threading
        import mlflow
        run_id = mlflow.start_run().info.run_id
        def log(name):
            for step in range(10):
                mlflow.log_metric(name, step, step=step, run_id=run_id)
        for child in range(3):
            if not os.fork():
                log(f"child {child}")
                os._exit(0)
        threads = [threading.Thread(target=log, args=(f"thread {t}",)) for t in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = [os.wait()[1] for _ in range(3)]
        """,
    )
    assert [0, 0, 0] == heard.told
    named = [next(iter(report.items())) for report in heard.reports]
    for name in (f"{kind} {number}" for kind in ("child", "thread") for number in range(3)):
        assert list(map(float, range(10))) == [value for key, value in named if key == name]


# Everything else a script logs


@pytest.fixture(scope="module")
def besides(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """A script that does all else that is done with MLflow."""
    return client.run(tmp_path_factory.mktemp("besides"), BESIDES)


def test_params_and_tags_are_written_down(besides: Heard) -> None:
    """Hundreds at once; what the trial was given may be logged again with other digits."""
    run = besides.record["run"]
    assert {f"p{i}" for i in range(450)} | {"lr", "width"} == set(run["params"])
    assert "0.10" == run["params"]["lr"]
    assert ("1", "yes", "a note") == tuple(
        run["tags"][n] for n in ("kept", "started", "mlflow.note.content")
    )
    assert "dropped" not in run["tags"]
    assert "cannot be changed" in besides.told["changed param"]


def test_artifacts_are_files_of_the_trial(besides: Heard) -> None:
    """The client writes them itself, into the trial's folder."""
    assert {"file.txt", "folder", "texts", "dict.json"} <= set(besides.told["listed"])
    assert "text" == besides.told["read"]
    assert "content" == (besides.artifacts / "folder" / "file.txt").read_text(encoding="utf-8")


def test_all_experiments_are_one(besides: Heard) -> None:
    """Made, found by name, by number or by a search: it is the run's."""
    assert 1 == len(set(besides.told["experiments"]))
    assert {"team": "vision"} == besides.record["experiment"]["tags"]


def test_runs_are_found(besides: Heard) -> None:
    """By metric, param, tag and parent, in the order that is asked for."""
    assert {
        "all": ["inner", "digits_3"],
        "better": ["inner"],
        "tagged": ["digits_3"],
        "children": ["inner"],
    } == besides.told["found"]


def test_a_run_is_renamed_ended_deleted_and_restored(besides: Heard) -> None:
    """As on any server."""
    assert ("deleted", "renamed") == (besides.told["deleted"], besides.told["restored"])
    assert "KILLED" == besides.record["others"][1]["status"]


def test_models_are_kept_with_their_params_and_metrics(besides: Heard) -> None:
    """What MLflow 3 calls a logged model, from its making to its end."""
    assert {
        "params": 250,
        "tags": {"a": "b"},
        "status": "READY",
        "metrics": [["size", 7.0]],
        "inputs": [True],
    } == besides.told["model"]
    assert 0 == besides.told["models"]


def test_what_a_trial_has_not_is_a_clear_error(besides: Heard) -> None:
    """The script hears what is missing, and may go on."""
    code, message = besides.told["registry"]
    assert "FEATURE_DISABLED" == code
    assert "a trial has no model registry" in message
    assert "INVALID_PARAMETER_VALUE" == besides.told["unknown"][0]
    assert "raysweep cannot read 'this is none'" in besides.told["bad filter"][1]
    assert "GET /api/2.0/mlflow/registered-models/search" in besides.record["refused"]


def test_a_traced_function_still_runs(besides: Heard) -> None:
    """A trace that finds no place is a warning in the output."""
    assert 2 == besides.told["traced"]
    assert {"after": 1.0} == besides.reports[-1]


def test_no_link_to_a_page_is_printed(besides: Heard) -> None:
    """There is no page, so the client is told not to point to one."""
    assert "View run" not in besides.output


# With scikit-learn


@pytest.fixture(scope="module")
def fitted(full: Client, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """A script that fits models of scikit-learn."""
    return full.run(tmp_path_factory.mktemp("fitted"), FITTING)


def test_models_that_were_logged_can_be_loaded(fitted: Heard) -> None:
    """By their own address and by the run's, in the new way and the old."""
    assert [True, True, True] == fitted.told["loaded"]
    assert {"named", "pathed", "again"} == {
        model["info"]["name"] for model in fitted.record["models"]
    }
    assert {"LOGGED_MODEL_READY"} == {model["info"]["status"] for model in fitted.record["models"]}


def test_a_metric_beside_models_is_reported_once(fitted: Heard) -> None:
    """The client ties it to the models that the run has made."""
    assert 1 == fitted.reports.count({"with models": 1.0})


def test_what_is_registered_is_written_down(fitted: Heard) -> None:
    """Twice under one name: two versions, which the script can load, and a record of both."""
    assert fitted.told["registry"]
    versions = fitted.record["registered"]["registered"]
    assert ["1", "2"] == [version["version"] for version in versions]


def test_datasets_are_written_down(fitted: Heard) -> None:
    """With what they were used for, and the metric that was measured on them."""
    first = fitted.record["run"]["datasets"][0]
    assert ("frame", "training") == (first["dataset"]["name"], first["tags"][0]["value"])
    assert {"on data": 0.5} in fitted.reports


def test_pictures_and_tables_are_artifacts(fitted: Heard) -> None:
    """Figures, images and tables."""
    for name in ("table.json", "image.png", "figure.png"):
        assert (fitted.artifacts / name).stat().st_size > 0


def test_autologging_reports(fitted: Heard) -> None:
    """What scikit-learn's training measures is the trial's; a grid's candidates are not."""
    assert "1.0" == fitted.told["autologged"]
    assert {"training_accuracy_score", "best_cv_score"} <= set(fitted.seen)
    assert 2 == fitted.told["candidates"]
    assert "mean_test_score" not in fitted.seen
    assert 2 == sum("mean_test_score" in run["metrics"] for run in fitted.record["others"])


def test_autologging_of_everything_reports(full: Client, tmp_path: Path) -> None:
    """`mlflow.autolog()` and a fit, and no other word of MLflow."""
    heard = full.run(
        tmp_path,
        """
        import mlflow
        mlflow.autolog()
        from sklearn.linear_model import LogisticRegression
        LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        """,
    )
    assert {"training_accuracy_score": 1.0}.items() <= heard.reports[0].items()
    assert ["READY"] == [model["info"]["status"][-5:] for model in heard.record["models"]]
