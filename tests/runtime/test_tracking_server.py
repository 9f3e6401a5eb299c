"""The tracking endpoint under clients that mean it ill, or speak HTTP badly."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tracked import API, RUN, Json, Trial, tracked

from raysweep.runtime.tracking import server


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A trial whose reports are kept."""
    with tracked(tmp_path) as trial:
        yield trial


# What is refused


def test_a_request_needs_the_trial_s_token(trial: Trial) -> None:
    """A bearer's token or the same as a password; anything else is a stranger."""
    path = f"{API}/runs/get?run_id={RUN}"
    environment = trial.tracking.environment
    user, password = (environment[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD"))
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert 200 == trial.ask("GET", path, signed=f"Basic {basic}")[0]
    for signed in ("", "Bearer", "Bearer wrong", f"{trial.bearer}x", "Basic \xff"):
        status, answer = trial.ask("GET", path, signed=signed)
        assert (401, "UNAUTHENTICATED") == (status, answer["error_code"])


@pytest.mark.parametrize(
    "path", [f"{API}/scorers/list", "/", "/static/x.js", "/[", "/api/2.0/mlflow/"]
)
def test_what_is_not_here_is_named_and_noted(trial: Trial, path: str) -> None:
    """MLflow's word for it with the path, and a line in the record."""
    status, answer = trial.ask("GET", path)
    assert (404, "ENDPOINT_NOT_FOUND") == (status, answer["error_code"])
    assert f"GET {path}" in answer["message"]
    trial.tracking._write_record()
    assert [f"GET {path}"] == trial.record()["refused"]


@pytest.mark.parametrize("path", ["registered-models/rename", "model-versions/search", "traces"])
def test_what_a_trial_cannot_have_says_what_to_do(trial: Trial, path: str) -> None:
    """A registry and traces are refused with a reason."""
    assert (400, "FEATURE_DISABLED") == trial.refused(path, name="x")[:2]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"7", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_body_that_is_no_json_object_is_refused(trial: Trial, body: bytes) -> None:
    """As malformed, whatever it is."""
    status, answer = trial.ask("POST", f"{API}/runs/log-metric", body)
    assert (400, "MALFORMED_REQUEST") == (status, answer["error_code"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": None},
        {"key": 3},
        {"key": "\ud800"},
        {"value": None},
        {"value": "many"},
        {"value": True},
        {"value": 10**400},
        {"step": "x"},
        {"step": True},
        {"step": 1e300},
        {"timestamp": 2**63},
        {"model_id": ["m"]},
        {"run_id": {}},
    ],
)
def test_a_metric_that_is_none_is_refused(trial: Trial, wrong: Json) -> None:
    """The message names the field and what was found."""
    right = {"run_id": RUN, "key": "a", "value": 1.0, "timestamp": 1, "step": 0}
    status, code, message = trial.refused("runs/log-metric", **right | wrong)
    assert (400, "INVALID_PARAMETER_VALUE") == (status, code)
    assert next(iter(wrong)) in message
    assert [] == trial.reports


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("runs/log-batch", {"metrics": "a"}),
        ("runs/log-batch", {"metrics": [3]}),
        ("runs/log-batch", {"params": [{"value": "no key"}]}),
        ("runs/log-inputs", {"datasets": [{"dataset": "a"}]}),
        ("runs/update", {"status": "ASLEEP"}),
        ("runs/search", {"page_token": "x"}),
        ("runs/search", {"order_by": [3]}),
        ("runs/search", {"order_by": {"a": "b"}}),
        ("experiments/delete", {"experiment_id": "1"}),
    ],
)
def test_a_request_that_says_nothing_sensible_is_refused(
    trial: Trial, path: str, fields: Json
) -> None:
    """As the user's mistake, never as ours."""
    assert 400 == trial.refused(path, run_id=RUN, **fields)[0]


# HTTP


def head(line: str, *lines: str) -> bytes:
    """A request's head."""
    return "\r\n".join([line, "Host: x", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head("POST /x HTTP/1.1"), 401),
        (head("POST /x HTTP/1.1", "Content-Length: -5"), 400),
        (head("POST /x HTTP/1.1", "Content-Length: many"), 400),
        (head("POST /x HTTP/1.1", f"Content-Length: {'9' * 5000}"), 400),
        (head("POST /x HTTP/1.1", "Content-Length: 2000") + b"a" * 2000, 413),
        (head("POST /x HTTP/1.1", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 411),
        (head("OPTIONS * HTTP/1.1"), 401),
        (head("BREW /pot HTTP/1.1"), 501),
        (head("GET / HTTP/9.9"), 505),
        (head("GET / HTTP/1.1", *(f"X{i}: y" for i in range(200))), 431),
        (b"no request\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)  # fmt: skip
def test_http_that_is_none_is_answered(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int
) -> None:
    """With an error in MLflow's form, and the endpoint goes on."""
    monkeypatch.setattr(server, "BODY", 1000)
    answer = trial.raw(sent)
    answer_head, _, body = answer.rpartition(b"\r\n\r\n")
    if answer_head:  # what is no request at all is answered without a head, as HTTP/0.9
        assert f"HTTP/1.1 {status} ".encode() in answer_head
    assert {"error_code", "message"} == set(json.loads(body))
    trial.metric("still", 1.0)
    assert [{"still": 1.0}] == trial.reports


def test_a_client_that_leaves_in_the_middle_says_nothing(trial: Trial) -> None:
    """Half a request is none."""
    assert b"" == trial.raw(
        head(f"POST {API}/runs/log-metric HTTP/1.1", "Content-Length: 99") + b"{"
    )
    assert [] == trial.reports


def test_head_has_no_body(trial: Trial) -> None:
    """The answer's length is told, and its body is not sent."""
    answer = trial.raw(head("HEAD / HTTP/1.1"))
    assert answer.endswith(b"\r\n\r\n")
    assert b"HTTP/1.1 401 " in answer


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(trial: Trial) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body."""
    body = json.dumps({"run_id": RUN, "key": "a", "value": 1, "timestamp": 1}).encode()
    lines = (f"Authorization: {trial.bearer}", f"Content-Length: {len(body)}")
    with socket.create_connection(trial.address, timeout=60) as connection:
        expecting = head(f"POST {API}/runs/log-metric HTTP/1.1", *lines, "Expect: 100-continue")
        connection.sendall(expecting)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_answer_is_one_packet_of_a_kept_connection(trial: Trial) -> None:
    """Head and body arrive together, and the next request takes the same connection."""
    asking = head(f"GET {API}/runs/get?run_id={RUN} HTTP/1.1", f"Authorization: {trial.bearer}")
    with socket.create_connection(trial.address, timeout=60) as connection:
        for _ in range(3):
            connection.sendall(asking)
            answer_head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert b"HTTP/1.1 200 OK" in answer_head
            assert RUN == json.loads(body)["run"]["info"]["run_id"]


def test_nothing_is_answered_afterwards(tmp_path: Path) -> None:
    """At the end the port is closed, and so are the connections that were open."""
    trial = Trial(tmp_path)
    with trial.tracking:
        address = trial.address
        kept = socket.create_connection(address, timeout=60)
        kept.sendall(head("GET /health HTTP/1.1"))
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
    with kept:
        assert b"" == kept.recv(65536)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=60)


def test_the_end_does_not_wait_for_a_client_that_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script that was frozen, with answers under way that fill every buffer."""
    monkeypatch.setattr(server, "FAREWELL", 0.01)
    with tracked(tmp_path) as trial:
        trial.post("runs/set-tag", run_id=RUN, key="large", value="x" * 4_000_000)
        asking = head(f"GET {API}/runs/get?run_id={RUN} HTTP/1.1", f"Authorization: {trial.bearer}")
        frozen = socket.create_connection(trial.address, timeout=60)
        frozen.sendall(asking * 3)
        trial.metric("still", 1.0)
    frozen.close()
    assert [{"still": 1.0}] == trial.reports


def test_the_end_waits_for_the_report_under_way(tmp_path: Path) -> None:
    """What a script has said is reported before its trial's end is told."""
    told: list[str] = []
    entered, released = threading.Event(), threading.Event()

    def slow(_: Mapping[str, float]) -> None:
        entered.set()
        released.wait()
        told.append("reported")

    trial = Trial(tmp_path, slow)
    trial.tracking.__enter__()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(trial.metric, "a", 1.0)
        entered.wait()
        ending = pool.submit(trial.tracking.__exit__, None, None, None)
        ending.add_done_callback(lambda _: told.append("over"))
        released.set()
        ending.result()
        answer.result()
    assert ["reported", "over"] == told
