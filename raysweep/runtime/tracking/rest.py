"""MLflow's REST interface: what each request means for what a script has logged.

One rule: a table says what there is. What is not in it is answered with MLflow's own word for that;
what is in it works on the book alone, and returns what the client reads as JSON.

Metrics are not kept here: `METRICS` says which requests bring some, and whoever asked takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from raysweep.runtime.tracking import registry
from raysweep.runtime.tracking.fields import Fields, now
from raysweep.runtime.tracking.runs import (
    EXPERIMENT,
    RUN_NAME,
    Book,
    Json,
    Metric,
    Model,
    RefusedError,
    Run,
    pairs,
)
from raysweep.runtime.tracking.search import Subject, Value, ordered, where

PREFIX = re.compile(r"/(?:ajax-)?api/\d\.\d/(?:preview/)?mlflow/(.+?)/?")
PAGE = 1000  # runs or models of one answer, unless the client says otherwise
HISTORY = 25_000  # values of a metric in one answer, at most
DIGITS = 18  # of a page's token; more is none of ours
DATASET = ("name", "digest", "source_type", "source", "schema", "profile")
ATTRIBUTES = {"run name": "run_name", "created": "start_time"}  # their other names in a search
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")

Act = Callable[[Book, Fields], Json]

# What a trial has no place for, and what to do instead.
NOT_HERE = {
    "registered-models": "a trial has no model registry, only a note of what a script registers;"
    " register the best trial's model when the sweep is done, or set MLFLOW_REGISTRY_URI",
    "traces": "a trial keeps no traces; mlflow.tracing.disable() has the client send none",
}
NOT_HERE["model-versions"] = NOT_HERE["registered-models"]


def endpoint(method: str, path: str) -> tuple[tuple[str, str], dict[str, str]]:
    """The entry of the table that a path stands for, and the ids that are in the path.

    Raises:
        RefusedError: there is none.
    """
    found = PREFIX.fullmatch(path)
    parts = found[1].split("/") if found else [path]
    if (method, "/".join(parts)) in ENDPOINTS:
        return (method, "/".join(parts)), {}
    if parts[0] == "logged-models" and len(parts) > 1:
        shape = "/".join([parts[0], "{model_id}", *parts[2:3], *("{key}" for _ in parts[3:])])
        if (method, shape) in ENDPOINTS:
            return (method, shape), {"model_id": unquote(parts[1]), "key": unquote(parts[-1])}
    if parts[0] in NOT_HERE:
        raise RefusedError("FEATURE_DISABLED", NOT_HERE[parts[0]])
    raise RefusedError("ENDPOINT_NOT_FOUND", f"raysweep has no {method} {path}")


# Experiments: there is one, and every name is its name


def _create_experiment(book: Book, fields: Fields) -> Json:
    book.experiment = fields.text("name")
    book.experiment_tags |= fields.mapping("tags")
    return {"experiment_id": EXPERIMENT}


def _get_experiment(book: Book, _: Fields) -> Json:
    return {"experiment": book.shown_experiment()}


def _name_experiment(book: Book, fields: Fields) -> Json:
    book.experiment = fields.text("experiment_name", "new_name")
    return {"experiment": book.shown_experiment()}


def _search_experiments(book: Book, _: Fields) -> Json:
    return {"experiments": [book.shown_experiment()]}


def _tag_experiment(book: Book, fields: Fields) -> Json:
    book.experiment_tags[fields.text("key")] = fields.text("value", default="")
    return {}


def _untag_experiment(book: Book, fields: Fields) -> Json:
    book.experiment_tags.pop(fields.text("key"), None)
    return {}


def _keep_experiment(_: Book, __: Fields) -> Json:
    raise RefusedError(
        "INVALID_PARAMETER_VALUE", "a trial's one experiment can be neither deleted nor restored"
    )


# Runs


def run_of(book: Book, fields: Fields) -> Run:
    """The run that a request names."""
    return book.run(fields.text("run_id", "run_uuid"))


def _active(book: Book, fields: Fields) -> Run:
    run = run_of(book, fields)
    run.require_active()
    return run


def _create_run(book: Book, fields: Fields) -> Json:
    tags = fields.mapping("tags")
    if name := fields.text("run_name", default=""):
        tags[RUN_NAME] = name
    user = fields.text("user_id", default="")
    run = book.new_run(start_time=fields.whole("start_time", now()), user=user, tags=tags)
    return {"run": run.shown()}


def _get_run(book: Book, fields: Fields) -> Json:
    return {"run": run_of(book, fields).shown()}


def _update_run(book: Book, fields: Fields) -> Json:
    run = _active(book, fields)
    status = fields.text("status", default=run.status)
    if status not in STATUSES:
        raise RefusedError(
            "INVALID_PARAMETER_VALUE",
            f"status must be one of {', '.join(STATUSES)}, not {status!r}",
        )
    run.status = status
    run.end_time = None if status == "RUNNING" else fields.whole("end_time", now())
    if name := fields.text("run_name", default=""):
        run.tags[RUN_NAME] = name
    return {"run_info": run.info()}


def _delete_run(book: Book, fields: Fields) -> Json:
    run_of(book, fields).deleted = True
    return {}


def _restore_run(book: Book, fields: Fields) -> Json:
    run_of(book, fields).deleted = False
    return {}


def _search_runs(book: Book, fields: Fields) -> Json:
    view = fields.text("run_view_type", default="ACTIVE_ONLY")
    deleted = {"ACTIVE_ONLY": (False,), "DELETED_ONLY": (True,)}.get(view, (False, True))
    wanted = where(fields.text("filter", default=""))
    found = [run for run in book.runs.values() if run.deleted in deleted and wanted(_of_run(run))]
    by = [*fields.texts("order_by"), "start_time DESC"]
    return _page("runs", [run.shown() for run in ordered(found, by, _of_run)], fields)


def _of_run(run: Run) -> Subject:
    """What a search may ask of a run."""

    def subject(kind: str, key: str) -> Value:
        if kind == "metrics":
            curve = run.curves.get(key)
            return curve.last.value if curve is not None and curve.last is not None else None
        if kind == "attributes":
            return _attribute(run.info().get(ATTRIBUTES.get(key.lower(), key)))
        return run.params.get(key) if kind == "params" else run.tags.get(key)

    return subject


def _log_metrics(book: Book, fields: Fields) -> Json:
    """A run's params and tags, if the request has any; its metrics go elsewhere."""
    run = _active(book, fields)
    for key, value in fields.mapping("params").items():
        run.set_param(key, value)
    run.tags |= fields.mapping("tags")
    return {}


def _log_param(book: Book, fields: Fields) -> Json:
    _active(book, fields).set_param(fields.text("key"), fields.text("value", default=""))
    return {}


def _set_tag(book: Book, fields: Fields) -> Json:
    _active(book, fields).tags[fields.text("key")] = fields.text("value", default="")
    return {}


def _delete_tag(book: Book, fields: Fields) -> Json:
    key = fields.text("key")
    if _active(book, fields).tags.pop(key, None) is None:
        raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"the run has no tag {key!r}")
    return {}


def _log_inputs(book: Book, fields: Fields) -> Json:
    run = _active(book, fields)
    _extend(run.datasets, map(_dataset, fields.each("datasets")))
    _extend(run.model_inputs, ({"model_id": one.text("model_id")} for one in fields.each("models")))
    return {}


def _log_outputs(book: Book, fields: Fields) -> Json:
    run = _active(book, fields)
    models = fields.each("models")
    steps = ({"model_id": one.text("model_id"), "step": one.whole("step", 0)} for one in models)
    _extend(run.model_outputs, steps)
    return {}


def _dataset(fields: Fields) -> Json:
    """A dataset that a run has used."""
    about = fields.within("dataset")
    said = {name: about.text(name, default="") for name in DATASET}
    return {"dataset": said, "tags": pairs(fields.mapping("tags"))}


def _extend(known: list[Json], more: Iterable[Json]) -> None:
    """Add what is not known yet: clients repeat themselves."""
    known += [item for item in more if item not in known]


def _log_model(book: Book, fields: Fields) -> Json:
    """A model of the old kind; its files are among the run's artifacts, and say all there is."""
    _active(book, fields)
    return {}


def _get_history(book: Book, fields: Fields) -> Json:
    key = fields.text("metric_key")
    curve = run_of(book, fields).curves.get(key)
    start = _start(fields)
    end = start + max(1, min(fields.whole("max_results", HISTORY), HISTORY))
    if curve is None:
        return {"metrics": []}
    answer: Json = {"metrics": [metric.shown() for metric in curve.metrics(key, start, end)]}
    return answer | ({"next_page_token": str(end)} if end < len(curve.values) else {})


# Logged models


def _create_model(book: Book, fields: Fields) -> Json:
    model = book.new_model(
        name=fields.text("name", default=""),
        now=now(),
        model_type=fields.text("model_type", default=""),
        source_run_id=fields.text("source_run_id", default=""),
    )
    model.params |= fields.mapping("params")
    model.tags |= fields.mapping("tags")
    return {"model": model.shown()}


def _model(book: Book, fields: Fields) -> Model:
    return book.model(fields.text("model_id"))


def _get_model(book: Book, fields: Fields) -> Json:
    return {"model": _model(book, fields).shown()}


def _finalize_model(book: Book, fields: Fields) -> Json:
    model = _model(book, fields)
    model.status, model.updated = fields.text("status"), now()
    return {"model": model.shown()}


def _delete_model(book: Book, fields: Fields) -> Json:
    _model(book, fields).deleted = True
    return {}


def _param_model(book: Book, fields: Fields) -> Json:
    _model(book, fields).params |= fields.mapping("params")
    return {}


def _tag_model(book: Book, fields: Fields) -> Json:
    model = _model(book, fields)
    model.tags |= fields.mapping("tags")
    return {"model": model.shown()}


def _untag_model(book: Book, fields: Fields) -> Json:
    _model(book, fields).tags.pop(fields.text("key"), None)
    return {}


def _search_models(book: Book, fields: Fields) -> Json:
    wanted = where(fields.text("filter", default=""))
    found = [
        model for model in book.models.values() if not model.deleted and wanted(_of_model(model))
    ]
    by = [_clause(item) for item in fields.each("order_by")]
    models = ordered(found, [*by, "creation_timestamp_ms DESC"], _of_model)
    return _page("models", [model.shown() for model in models], fields)


def _clause(order: Fields) -> str:
    falling = order.values.get("ascending") is False
    return f"{order.text('field_name')} {'DESC' if falling else 'ASC'}"


def _of_model(model: Model) -> Subject:
    """What a search may ask of a model."""

    def subject(kind: str, key: str) -> Value:
        if kind == "metrics":
            return model.metrics[key].value if key in model.metrics else None
        if kind == "attributes":
            info = model.shown()["info"]
            return _attribute(info.get(key, info.get(f"{key}_ms")))
        return model.params.get(key) if kind == "params" else model.tags.get(key)

    return subject


def _attribute(value: object) -> Value:
    """An attribute as it is compared: a text, a number, or nothing."""
    return float(value) if isinstance(value, int) else value if isinstance(value, str) else None


# Pages


def _start(fields: Fields) -> int:
    """Where a page begins; a page's token is the number of what came before it."""
    token = fields.text("page_token", default="") or "0"
    if not (token.isascii() and token.isdigit() and len(token) <= DIGITS):
        raise RefusedError("INVALID_PARAMETER_VALUE", f"{token!r} is no page_token of this server")
    return int(token)


def _page(name: str, found: list[Json], fields: Fields) -> Json:
    start = _start(fields)
    end = start + max(1, fields.whole("max_results", PAGE))
    answer: Json = {name: found[start:end]}
    return answer | ({"next_page_token": str(end)} if end < len(found) else {})


def _server_info(_: Book, __: Fields) -> Json:
    return {"store_type": "raysweep", "workspaces_enabled": False}


ENDPOINTS: dict[tuple[str, str], Act] = {
    ("POST", "experiments/create"): _create_experiment,
    ("POST", "experiments/delete"): _keep_experiment,
    ("POST", "experiments/delete-experiment-tag"): _untag_experiment,
    ("GET", "experiments/get"): _get_experiment,
    ("GET", "experiments/get-by-name"): _name_experiment,
    ("POST", "experiments/restore"): _keep_experiment,
    ("GET", "experiments/search"): _search_experiments,
    ("POST", "experiments/search"): _search_experiments,
    ("POST", "experiments/set-experiment-tag"): _tag_experiment,
    ("POST", "experiments/update"): _name_experiment,
    ("POST", "logged-models"): _create_model,
    ("POST", "logged-models/search"): _search_models,
    ("DELETE", "logged-models/{model_id}"): _delete_model,
    ("GET", "logged-models/{model_id}"): _get_model,
    ("PATCH", "logged-models/{model_id}"): _finalize_model,
    ("POST", "logged-models/{model_id}/params"): _param_model,
    ("PATCH", "logged-models/{model_id}/tags"): _tag_model,
    ("DELETE", "logged-models/{model_id}/tags/{key}"): _untag_model,
    ("GET", "metrics/get-history"): _get_history,
    ("POST", "model-versions/create"): registry.create_version,
    ("GET", "model-versions/get"): registry.get_version,
    ("GET", "model-versions/get-download-uri"): registry.get_source,
    ("POST", "registered-models/create"): registry.create_model,
    ("GET", "registered-models/get"): registry.get_model,
    ("POST", "runs/create"): _create_run,
    ("POST", "runs/delete"): _delete_run,
    ("POST", "runs/delete-tag"): _delete_tag,
    ("GET", "runs/get"): _get_run,
    ("POST", "runs/log-batch"): _log_metrics,
    ("POST", "runs/log-inputs"): _log_inputs,
    ("POST", "runs/log-metric"): _log_metrics,
    ("POST", "runs/log-model"): _log_model,
    ("POST", "runs/log-parameter"): _log_param,
    ("POST", "runs/outputs"): _log_outputs,
    ("POST", "runs/restore"): _restore_run,
    ("POST", "runs/search"): _search_runs,
    ("POST", "runs/set-tag"): _set_tag,
    ("POST", "runs/update"): _update_run,
    ("GET", "server-info"): _server_info,
}

# Requests that bring metrics, and how to read them.
METRICS: dict[tuple[str, str], Callable[[Fields], Iterable[Metric]]] = {
    ("POST", "runs/log-batch"): Fields.metrics,
    ("POST", "runs/log-metric"): lambda fields: [fields.metric()],
}
