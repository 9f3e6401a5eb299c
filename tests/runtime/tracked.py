"""A trial whose script is the test: it logs by HTTP, and looks at what was reported of it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysweep.runtime.tracking import TrackedRun, Tracking

RUN = "ab" * 16
API = "/api/2.0/mlflow"
Json = dict[str, Any]


class Trial:
    """A trial whose script is the test: what it logs, and what was reported of it."""

    def __init__(
        self, folder: Path, report: Callable[[Mapping[str, float]], None] | None = None
    ) -> None:
        self.reports: list[dict[str, float]] = []
        self.record_path = folder / "record.json"
        run = TrackedRun(
            run_id=RUN,
            name="digits_3",
            experiment="digits",
            artifacts=folder / "artifacts",
            params={"lr": 0.1, "width": 32},
            tags={"sweep": "digits"},
        )
        self.tracking = Tracking(run, report or self.hear, record=self.record_path)

    def hear(self, metrics: Mapping[str, float]) -> None:
        """Take a report."""
        self.reports.append(dict(metrics))

    @property
    def address(self) -> tuple[str, int]:
        """Where the endpoint listens."""
        host, _, port = self.tracking._server.address.removeprefix("http://").partition(":")
        return host, int(port)

    @property
    def bearer(self) -> str:
        """What a request is signed with."""
        return f"Bearer {self.tracking.environment['MLFLOW_TRACKING_TOKEN']}"

    def ask(
        self, method: str, path: str, body: object = None, *, signed: str | None = None
    ) -> tuple[int, Json]:
        """Send one request on a connection of its own; the status and the answer's JSON."""
        sent = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {"Authorization": self.bearer if signed is None else signed}
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path, None if method == "GET" else sent, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def post(self, path: str, **fields: object) -> Json:
        """Send a request of MLflow's that must succeed."""
        status, answer = self.ask("POST", f"{API}/{path}", fields)
        assert (200, {}) == (status, answer if status != 200 else {})
        return answer

    def refused(self, path: str, **fields: object) -> tuple[int, str, str]:
        """Send a request of MLflow's that must not; the status, the error's code and message."""
        status, answer = self.ask("POST", f"{API}/{path}", fields)
        return status, answer["error_code"], answer["message"]

    def metric(
        self, key: str, value: object, *, step: int = 0, at: int = 1, run: str = RUN
    ) -> None:
        """Log one metric."""
        self.post("runs/log-metric", run_id=run, key=key, value=value, step=step, timestamp=at)

    def run(self, run: str = RUN) -> Json:
        """A run, as the client reads it."""
        answer = self.ask("GET", f"{API}/runs/get?run_id={run}")[1]["run"]
        assert isinstance(answer, dict)
        return answer

    def raw(self, sent: bytes) -> bytes:
        """Send bytes, and read until the other end closes."""
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def record(self) -> Json:
        """The record that was left."""
        record = json.loads(self.record_path.read_text(encoding="utf-8"))
        assert isinstance(record, dict)
        return record


@contextmanager
def tracked(
    folder: Path, report: Callable[[Mapping[str, float]], None] | None = None
) -> Iterator[Trial]:
    """A trial while its endpoint listens."""
    trial = Trial(folder, report)
    with trial.tracking:
        yield trial
