"""Scripts that a trial's command may run: what is done with MLflow, and what came of it in `told`."""

from __future__ import annotations

# Metrics, in every way there is.
LOGGING = """
import math, os, threading
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

run_id = os.environ["MLFLOW_RUN_ID"]
client = MlflowClient()
mlflow.log_metric("plain", 0.5)
mlflow.log_metric("plain", 0.25, step=1)
mlflow.log_metrics({"together": 1, "with": 2.5}, step=3)
mlflow.log_metric("nan", math.nan)
mlflow.log_metric("infinite", -math.inf)
client.log_batch(
    run_id,
    [Metric("a", 1.0, 10, 1), Metric("b", 2.0, 10, 1), Metric("a", 3.0, 11, 2)],
    [Param("depth", "3")],
    [RunTag("kind", "big")],
)
for value in range(50):
    mlflow.log_metric("later", value, step=value, synchronous=False)
mlflow.flush_async_logging()
told = {
    "history": [(m.step, m.value) for m in client.get_metric_history(run_id, "plain")],
    "metrics": mlflow.get_run(run_id).data.metrics,
    "params": mlflow.get_run(run_id).data.params,
}
"""

# All else that is done without another package.
BESIDES = """
import os, pathlib
import mlflow
from mlflow import MlflowClient

run_id = os.environ["MLFLOW_RUN_ID"]
client = MlflowClient()
told = {}
mlflow.start_run(tags={"started": "yes"}, description="a note")
mlflow.log_params({f"p{i}": "v" * 100 for i in range(450)})
mlflow.log_param("lr", "0.10")
mlflow.set_tags({"kept": 1, "dropped": 2})
mlflow.delete_tag("dropped")
try:
    mlflow.log_param("p0", "other")
except mlflow.MlflowException as error:
    told["changed param"] = str(error)

pathlib.Path("made").mkdir()
pathlib.Path("made/file.txt").write_text("content")
mlflow.log_artifact("made/file.txt")
mlflow.log_artifacts("made", "folder")
mlflow.log_text("text", "texts/a.txt")
mlflow.log_dict({"a": 1}, "dict.json")
told["listed"] = [file.path for file in mlflow.artifacts.list_artifacts(run_id=run_id)]
told["read"] = mlflow.artifacts.load_text(f"runs:/{run_id}/texts/a.txt")

made = mlflow.create_experiment("made")
told["experiments"] = [
    made,
    mlflow.get_experiment_by_name("other").experiment_id,
    mlflow.get_experiment("99").experiment_id,
    mlflow.search_experiments(filter_string="name = 'x'")[0].experiment_id,
    mlflow.active_run().info.experiment_id,
]
mlflow.set_experiment_tag("team", "vision")

mlflow.log_metric("accuracy", 0.5)
with mlflow.start_run(nested=True, run_name="inner") as inner:
    mlflow.log_metric("accuracy", 0.75)
def found(text, **more):
    runs = mlflow.search_runs(["1"], text, output_format="list", **more)
    return [run.info.run_name for run in runs]
told["found"] = {
    "all": found("", order_by=["metrics.accuracy DESC"]),
    "better": found("metrics.accuracy > 0.6"),
    "tagged": found("tags.kept = '1' and params.lr = '0.10'"),
    "children": found(f"tags.mlflow.parentRunId = '{run_id}'"),
}

other = client.create_run("1").info.run_id
client.update_run(other, name="renamed")
client.set_terminated(other, "KILLED")
client.delete_run(other)
told["deleted"] = client.get_run(other).info.lifecycle_stage
client.restore_run(other)
told["restored"] = client.get_run(other).info.run_name

params = {f"k{i}": str(i) for i in range(250)}
model = mlflow.initialize_logged_model("net", params=params)
mlflow.set_logged_model_tags(model.model_id, {"a": "b", "c": "d"})
mlflow.delete_logged_model_tag(model.model_id, "c")
mlflow.finalize_logged_model(model.model_id, "READY")
mlflow.log_metric("size", 7, model_id=model.model_id)
model = mlflow.get_logged_model(model.model_id)
told["model"] = {
    "params": len(model.params),
    "tags": {key: value for key, value in model.tags.items() if not key.startswith("mlflow.")},
    "status": str(model.status),
    "metrics": [(metric.key, metric.value) for metric in model.metrics],
    "inputs": [i.model_id == model.model_id for i in mlflow.get_run(run_id).inputs.model_inputs],
}
client.delete_logged_model(model.model_id)
told["models"] = len(client.search_logged_models(["1"], "name = 'net'"))

def refused(call):
    try:
        call()
    except mlflow.MlflowException as error:
        return [error.error_code, str(error)]
told["registry"] = refused(lambda: client.search_registered_models())
told["unknown"] = refused(lambda: client.delete_experiment("1"))
told["bad filter"] = refused(lambda: mlflow.search_runs(["1"], "this is none", output_format="list"))

@mlflow.trace
def traced(x):
    return x + 1
told["traced"] = traced(1)
mlflow.log_metric("after", 1.0)
"""

# With scikit-learn, pandas and matplotlib.
FITTING = """
import os
import mlflow, pandas, numpy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

run_id = os.environ["MLFLOW_RUN_ID"]
x = numpy.random.default_rng(0).random((40, 3))
y = (x[:, 0] > 0.5).astype(int)
plain = {"serialization_format": "cloudpickle", "pip_requirements": []}
told = {}
with mlflow.start_run():
    frame = pandas.DataFrame({"a": [1.0, 2.0]})
    dataset = mlflow.data.from_pandas(frame, name="frame")
    mlflow.log_input(dataset, context="training")
    mlflow.log_metric("on data", 0.5, dataset=dataset)
    mlflow.log_table({"a": [1, 2]}, "table.json")
    mlflow.log_image(numpy.zeros((2, 2, 3), dtype=numpy.uint8), "image.png")
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    mlflow.log_figure(pyplot.figure(), "figure.png")

    model = LogisticRegression().fit(x, y)
    named = mlflow.sklearn.log_model(model, name="named", **plain)
    pathed = mlflow.sklearn.log_model(model, artifact_path="pathed", **plain)
    expected = model.predict(x).tolist()
    told["loaded"] = [
        mlflow.pyfunc.load_model(uri).predict(x).tolist() == expected
        for uri in (named.model_uri, f"runs:/{run_id}/named", f"runs:/{run_id}/pathed")
    ]
    mlflow.log_metric("with models", 1.0)
    mlflow.register_model(f"runs:/{run_id}/named", "registered")
    mlflow.sklearn.log_model(model, name="again", registered_model_name="registered", **plain)
    loaded = mlflow.pyfunc.load_model("models:/registered/2")
    told["registry"] = loaded.predict(x).tolist() == expected

mlflow.sklearn.autolog(log_models=False)
with mlflow.start_run() as run:
    LogisticRegression().fit(x, y)
    told["autologged"] = mlflow.get_run(run.info.run_id).data.params["C"]
with mlflow.start_run() as run:
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).fit(x, y)
    told["candidates"] = len(mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'"))
"""
