"""`raysweep.report`: metrics of a script that a sweep's command runs, without MLflow.

One rule: it imports next to nothing and asks for nothing but two environment variables. It speaks
to the endpoint of `raysweep.runtime.tracking`, on the machine it runs on and through no proxy.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from raysweep.errors import ClusterError, MetricError, NotInTrialError
from raysweep.runtime.metrics import checked

PATH = "/raysweep/report"
OK, UNAUTHORIZED, SERVER_ERROR = 200, 401, 500


def report(
    metrics: Mapping[str, float] | None = None,
    /,
    *,
    step: int | None = None,
    **named: float,
) -> None:
    """Report metrics of the trial whose command runs this script; waits until they are heard.

    Args:
        metrics: metrics whose names are no Python names.
        step: reported as a metric of that name; policies count reports, not steps.
        named: the metrics: numbers, numpy scalars or tensors of one element.

    Raises:
        NotInTrialError: no sweep's command runs this script.
        MetricError: a metric is no number, or there is none.
        ClusterError: the process that watches the trial is gone.
    """
    values = checked({**(metrics or {}), **named})
    if not values:
        raise MetricError("report() needs at least one metric: raysweep.report(accuracy=0.9)")
    if step is not None:
        values |= checked({"step": step})
    _line().send(values)


class _Line:
    """A process's connection to its trial's endpoint, kept from one report to the next."""

    def __init__(self, address: str, token: str) -> None:
        self.made_for = (os.getpid(), address, token)
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._turn = threading.Lock()

    def send(self, values: Mapping[str, float]) -> None:
        """Send one report, and wait for the answer."""
        said = [{"key": name, "value": value} for name, value in values.items()]
        body = json.dumps({"mark": secrets.token_hex(16), "metrics": said}).encode()
        with self._turn:
            status, answer = self._ask(body)
        if status == OK:
            return
        message = _message(answer)
        if status == UNAUTHORIZED or status >= SERVER_ERROR:
            raise ClusterError(f"the trial's endpoint answered with {status}: {message}")
        raise MetricError(message)

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        """Ask, and once more on a new connection if the old one breaks: the mark tells the two apart."""
        try:
            return self._asked(body)
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
        try:
            return self._asked(body)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise ClusterError(
                f"the process that watches this trial does not answer at"
                f" {self._connection.host}:{self._connection.port}: {error}"
            ) from error

    def _asked(self, body: bytes) -> tuple[int, bytes]:
        self._connection.request("POST", PATH, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


_lines: list[_Line] = []  # none, or the one of this process
_finding = threading.Lock()


def _line() -> _Line:
    """This process's line; a fork of one that has a line gets its own."""
    address = os.environ.get("RAYSWEEP_TRACKING_URI", "")
    token = os.environ.get("RAYSWEEP_TRACKING_TOKEN", "")
    if not (address and token):
        raise NotInTrialError(
            "raysweep.report is for scripts that a sweep's command runs, and this is none:"
            " RAYSWEEP_TRACKING_URI is not set; a training function uses trial.report"
        )
    with _finding:
        if not _lines or _lines[0].made_for != (os.getpid(), address, token):
            _lines[:] = [_Line(address, token)]
        return _lines[0]


def _message(answer: bytes) -> str:
    """What an error's answer says."""
    try:
        said: Any = json.loads(answer)
        return str(said["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
