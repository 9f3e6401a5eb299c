"""The endpoint that hears what a trial's command logs, as an MLflow server would.

One rule: a script cannot tell it from MLflow's own, and nothing it sends takes the trial down. It
listens on loopback, inside the process that watches one trial, and answers that trial alone.

What is logged to the script's own run, and to any other run that is no part of one, is the trial's:
its metrics are reported. Nested runs (the candidates of a grid search, say) are only written down.
"""

from __future__ import annotations

import base64
import getpass
import hmac
import json
import os
import re
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from raysweep.errors import MetricError, SpecError, Stopped
from raysweep.runtime import reporting
from raysweep.runtime.tracking.fields import Fields, now
from raysweep.runtime.tracking.rest import ENDPOINTS, METRICS, endpoint, run_of
from raysweep.runtime.tracking.runs import (
    EXPERIMENT,
    RUN_NAME,
    Book,
    Json,
    Metric,
    RefusedError,
    Run,
)
from raysweep.runtime.tracking.server import Answer, Request, Server
from raysweep.storage import atomic

Report = Callable[[Mapping[str, float]], None]

LOOPBACK = ("127.0.0.1", "localhost")
RECENT = 16_384  # metrics that are remembered, to know them again; a retry comes within minutes
RECORD_EVERY = 30.0  # seconds between two writings of the record, at least
RECORD_SHARE = 20  # times that one writing took, at least, until the next

STATUS = {  # of an answer, by MLflow's name for the error; 400 for the rest
    "ENDPOINT_NOT_FOUND": 404,
    "INTERNAL_ERROR": 500,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "UNAUTHENTICATED": 401,
}

# What MLflow's client does unless it is told otherwise, and what suits a trial better.
BETTER = {
    # A report waits while the storage is full. The default of two minutes would be over too soon.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3600",
    # With its ten threads, what is logged with `synchronous=False` arrives in any order.
    "MLFLOW_ASYNC_LOGGING_THREADPOOL_SIZE": "1",
    # The end of a run prints a link to a page, and there is no page.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# What would have the client sign in some other way, or ask for a part of the server.
MISLEADING = {
    "MLFLOW_TRACKING_AUTH": "",
    "MLFLOW_TRACKING_AWS_SIGV4": "false",
    "MLFLOW_WORKSPACE": "",
}


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """Who the script is, as MLflow sees it."""

    run_id: str  # 32 hexadecimal characters
    name: str  # digits_3: the sweep's name and the trial's number
    experiment: str
    artifacts: Path  # a folder; the script's own MLflow writes there
    params: Mapping[str, object]  # shown as the run's params until the script logs them itself
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{32}", self.run_id):
            raise SpecError(f"run_id must be 32 hexadecimal characters, but got {self.run_id!r}")
        if not self.artifacts.is_absolute():
            raise SpecError(f"artifacts must be an absolute path, but got {self.artifacts}")


class Reports:
    """Metrics on their way to the trial's slot: each once, in groups, one group at a time.

    MLflow's client sends a request again when it has heard no answer, with the timestamp that it
    took before the first try; what has the same run, key, value, timestamp and step is the same.
    So are two calls that log one value at one step within one millisecond. MLflow's own database
    has those five as its key and keeps one of the two as well, and a script that waits for its
    answers is not as fast.
    """

    def __init__(self, report: Report, keep: Callable[[Run, list[Metric]], None]) -> None:
        self.seen: dict[str, None] = {}  # names, in order of arrival
        self._report = report
        self._keep = keep
        self._turn = threading.Lock()
        self._recent: dict[tuple[object, ...], None] = {}
        self._stopped = False  # the trial is to end: what comes now is no report

    def take(self, run: Run, metrics: Iterable[Metric]) -> None:
        """Report what MLflow's client has sent in one request.

        Raises:
            MetricError: a group of it is none that can be reported.
        """
        with self._turn:
            marked = {(run.run_id, *metric.identity): metric for metric in metrics}
            fresh = [metric for mark, metric in marked.items() if mark not in self._recent]
            for group in grouped(fresh):
                self._pass_on(run, group)
                for metric in group:
                    self._remember((run.run_id, *metric.identity))

    def take_together(self, run: Run, mark: str, metrics: list[Metric]) -> None:
        """Report metrics as one group, unless the mark has been seen before.

        Raises:
            MetricError: they are none that can be reported.
        """
        with self._turn:
            if (mark,) not in self._recent:
                self._pass_on(run, metrics)
                self._remember((mark,))

    def _pass_on(self, run: Run, group: list[Metric]) -> None:
        if not run.nested and not self._stopped:
            try:
                self._report({metric.key: metric.value for metric in group})
            except Stopped:  # its supervisor ends the script; the script itself gets its answer
                self._stopped = True
            self.seen.update(dict.fromkeys(metric.key for metric in group))
        self._keep(run, group)

    def _remember(self, mark: tuple[object, ...]) -> None:
        self._recent[mark] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]


def grouped(metrics: Iterable[Metric]) -> Iterator[list[Metric]]:
    """What was measured together: the values of one step, until a metric comes a second time."""
    groups: list[dict[str, Metric]] = []
    latest: dict[int, dict[str, Metric]] = {}  # the group that a step's next value goes to
    for metric in metrics:
        if metric.key in latest.setdefault(metric.step, {}):
            latest[metric.step] = {}
        group = latest[metric.step]
        if not group:
            groups.append(group)
        group[metric.key] = metric
    return (list(group.values()) for group in groups)


class Tracking:
    """Serves one trial's script from `__enter__` to `__exit__`.

    Args:
        run: who the script is.
        report: called with each group of metrics that were logged together, one call at a time. The
            script waits until it returns. It may raise `MetricError`, which the script is told, and
            `Stopped`: then the script is answered as ever, and nothing is reported any more.
        record: a JSON file for what was logged besides the trial's curves: params, tags, other
            runs, models; written now and then, and when all is over.
    """

    def __init__(self, run: TrackedRun, report: Report, *, record: Path | None = None) -> None:
        own = Run(
            run_id=run.run_id,
            artifact_uri=run.artifacts.as_uri(),
            start_time=now(),
            user=_user(),
            params={name: str(value) for name, value in run.params.items()},
            tags={**run.tags, RUN_NAME: run.name},
            given=set(run.params),
        )
        self._book = Book(own, run.experiment, run.artifacts)
        self._lock = threading.Lock()  # for all that the book holds
        self._changed = True  # since the record was last written
        self._reports = Reports(report, self._keep)
        self._token = secrets.token_urlsafe(32)
        self._signed = _authorizations(own.user, self._token)
        self._record = record
        self._over = threading.Event()
        self._recording = threading.Thread(target=self._keep_record, name="tracking record")

    def __enter__(self) -> Self:
        self._server = Server(self._respond)
        self._recording.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        self._over.set()
        self._recording.join()
        self._write_record()

    @property
    def seen(self) -> tuple[str, ...]:
        """The names of the metrics that were reported, in order of arrival."""
        return tuple(self._reports.seen)

    @property
    def aside(self) -> tuple[str, ...]:
        """The names of metrics that came in nested runs only, and so were not reported."""
        with self._lock:
            names = {key: None for run in self._book.runs.values() for key in run.curves}
        return tuple(name for name in names if name not in self._reports.seen)

    @property
    def environment(self) -> dict[str, str]:
        """What the script's environment needs, to be laid over this process's own.

        Settings of MLflow's client that are there already stand, where nothing here depends on
        them. Whoever adds variables of another kind afterwards calls `unproxied` once more.
        """
        return {
            **{name: value for name, value in BETTER.items() if name not in os.environ},
            **{name: value for name, value in MISLEADING.items() if name in os.environ},
            "MLFLOW_TRACKING_URI": self._server.address,
            "MLFLOW_TRACKING_TOKEN": self._token,
            # A user and a password in a file of the user's own would be preferred to the token.
            "MLFLOW_TRACKING_USERNAME": self._book.own.user,
            "MLFLOW_TRACKING_PASSWORD": self._token,
            "MLFLOW_RUN_ID": self._book.own.run_id,
            "MLFLOW_EXPERIMENT_ID": EXPERIMENT,
            "MLFLOW_EXPERIMENT_NAME": self._book.experiment,
            "RAYSWEEP_TRACKING_URI": self._server.address,
            "RAYSWEEP_TRACKING_TOKEN": self._token,
            **unproxied(os.environ),
        }

    def _respond(self, request: Request) -> Answer:
        """The answer to a request, whatever it is."""
        try:
            return Answer.of(self._answered(request))
        except RefusedError as error:
            return Answer.error(STATUS.get(error.code, 400), error.code, error.message)
        except MetricError as error:
            return Answer.error(400, "INVALID_PARAMETER_VALUE", str(error))
        except Exception as error:  # noqa: BLE001  (`report` is its caller's: what it raises is told)
            traceback.print_exc(file=sys.stderr)
            return Answer.error(500, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")

    def _answered(self, request: Request) -> Json:
        path = request.target.partition("?")[0]
        if path == "/health":
            return {"status": "OK"}
        if not any(hmac.compare_digest(request.authorization.encode(), it) for it in self._signed):
            raise RefusedError(
                "UNAUTHENTICATED",
                "this is a raysweep trial's endpoint, and the request has not its token: take"
                " MLFLOW_TRACKING_TOKEN from the environment; an entry in ~/.netrc can hide it",
            )
        if (request.method, path) == ("POST", reporting.PATH):
            return self._reported(Fields.of(request))
        return self._logged(request, path)

    def _reported(self, fields: Fields) -> Json:
        """What `raysweep.report` has sent."""
        together = [
            Metric(key=item.text("key"), value=item.number("value"), timestamp=now(), step=0)
            for item in fields.each("metrics")
        ]
        self._reports.take_together(self._book.own, fields.text("mark"), together)
        return {}

    def _logged(self, request: Request, path: str) -> Json:
        """What MLflow's client has sent."""
        try:
            key, ids = endpoint(request.method, path)
        except RefusedError:
            with self._lock:
                self._book.refuse(f"{request.method} {path}")
                self._changed = True
            raise
        fields = Fields({**Fields.of(request).values, **ids})
        metrics = list(METRICS[key](fields)) if key in METRICS else []
        with self._lock:
            answer = ENDPOINTS[key](self._book, fields)
            self._changed |= request.method != "GET"
        if metrics:
            self._reports.take(run_of(self._book, fields), metrics)
            with self._lock:
                self._book.measure(metrics)
        return answer

    def _keep(self, run: Run, metrics: list[Metric]) -> None:
        with self._lock:
            run.add(metrics)

    def _keep_record(self) -> None:
        """Write the record now and then, so that a supervisor that is killed leaves one."""
        pause = RECORD_EVERY
        while not self._over.wait(pause):
            began = time.monotonic()
            self._write_record()
            pause = max(RECORD_EVERY, RECORD_SHARE * (time.monotonic() - began))

    def _write_record(self) -> None:
        if self._record is None:
            return
        with self._lock:
            if not self._changed:
                return
            text = json.dumps(self._book.record(), indent=2, ensure_ascii=False, allow_nan=False)
            self._changed = False
        try:
            atomic.write_bytes(self._record, f"{text}\n".encode())
        except OSError as error:
            self._changed = True
            print(f"raysweep: cannot write {self._record}: {error}", file=sys.stderr)  # noqa: T201  (the trial's log)


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with which no client in an environment asks a proxy for loopback.

    >>> unproxied({"NO_PROXY": "example.org"})["no_proxy"]
    'example.org,127.0.0.1,localhost'
    """
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if named.strip() != "*":  # everything already, and understood only where it stands alone
        hosts = [named, *(host for host in LOOPBACK if host not in named.split(","))]
        named = ",".join(filter(None, hosts))
    return {"NO_PROXY": named, "no_proxy": named}


def _user() -> str:
    """Who runs the trial; MLflow tags what a script logs with the name that it signs in with."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return "raysweep"


def _authorizations(user: str, token: str) -> tuple[bytes, ...]:
    """The headers that a client may sign its requests with."""
    basic = base64.b64encode(f"{user}:{token}".encode())
    return f"Bearer {token}".encode(), b"Basic " + basic
