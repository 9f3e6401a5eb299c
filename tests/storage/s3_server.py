"""An S3 that is really there: moto's server on loopback, and a proxy before it that makes trouble.

One rule: trouble is made only by the proxy, and only where a test asks for it. The server answers one
request after the other, so that its conditional creation is as atomic as that of S3.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

# Says its port, and ends when whoever started it does.
SERVER = """
import logging, os, sys, threading
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication, MotoRequestHandler, create_backend_app
)
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server = make_server(
    "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), request_handler=MotoRequestHandler
)
print(server.port, flush=True)
server.serve_forever()
"""
BUCKET = "sweeps"
OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """A server with one empty bucket; yields its endpoint."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        made = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(made):
            yield endpoint
    finally:
        server.kill()
        server.communicate()


def environment(endpoint: str) -> dict[str, str]:
    """What a client of this server needs in its environment."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


def point_at(proxy: Proxy, mirrors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process's clients go there, and its mirrors lie in a folder of their own."""
    for name, value in environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAYSWEEP_CACHE", str(mirrors))


def unfinished(server: str, uri: str) -> list[str]:
    """What was begun to be sent beneath a folder, and neither finished nor ended: its keys."""
    folder = uri.removeprefix(f"s3://{BUCKET}/") + "/"
    asked = f"{server}/{BUCKET}?uploads&{urllib.parse.urlencode({'prefix': folder})}"
    with urllib.request.urlopen(asked) as answer:
        keys = re.findall("<Key>([^<]*)</Key>", answer.read().decode())
    return [key.removeprefix(folder) for key in keys]


class Fault(enum.Enum):
    """What can happen to a request."""

    DROP = enum.auto()  # the connection closes before the server has heard of it
    LOSE = enum.auto()  # the server does what was asked, and the answer is lost
    SLOW_DOWN = enum.auto()  # the answer is 503
    FORBIDDEN = enum.auto()  # the answer is 403
    HOLD = enum.auto()  # the connection closes, and the server hears of it when it is let go
    CUT_REQUEST = enum.auto()  # the connection closes in the middle of what is sent
    CUT_ANSWER = (
        enum.auto()
    )  # the server does what was asked, and the answer breaks off in the middle
    UNCONDITIONAL = enum.auto()  # the server does not hear of the condition


CLOSING = {Fault.DROP, Fault.LOSE, Fault.HOLD, Fault.CUT_REQUEST, Fault.CUT_ANSWER}
REFUSALS = {
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.FORBIDDEN: (403, "AccessDenied", "Access Denied"),
}


class Request(NamedTuple):
    """A request as it came to the proxy."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""  # none yet when a fault is chosen


@dataclass(kw_only=True)
class Proxy:
    """What happens between client and server; a test sets it while requests go through."""

    server: str
    endpoint: str
    delay: float = 0.0  # seconds before each request goes on
    fault: Callable[[Request], Fault | None] = lambda _: None
    came: list[Request] = field(default_factory=list)  # all of them
    held: list[Request] = field(default_factory=list)
    waiting: int = 0  # requests, during the delay
    most: int = 0  # of these at once, ever
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def every(self, n: int, *faults: Fault) -> None:
        """Let these happen in turn, one to each n-th request from now on."""

        def chosen(_: Request) -> Fault | None:
            turn, rest = divmod(len(self.came), n)
            return None if rest else faults[turn % len(faults)]

        self.fault = chosen

    def once(self, method: str, path: str, fault: Fault) -> None:
        """Let this happen to the next request of this method whose path has this pattern."""
        done = threading.Event()

        def chosen(request: Request) -> Fault | None:
            if done.is_set() or request.method != method or not re.search(path, request.path):
                return None
            done.set()
            return fault

        self.fault = chosen

    def mend(self) -> None:
        """Let nothing happen any more."""
        self.delay, self.fault = 0.0, lambda _: None

    def let_go(self) -> None:
        """Have the server do what was held back."""
        while self.held:
            self.forward(self.held.pop(0))

    def met(self, request: Request) -> Fault | None:
        """What is to happen to a request that comes now."""
        with self._lock:
            self.came.append(request)
            fault = self.fault(request)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        time.sleep(self.delay)
        with self._lock:
            self.waiting -= 1
        return fault

    def forward(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the server; returns its status, headers and body."""
        connection = http.client.HTTPConnection(self.server.removeprefix("http://"))
        with contextlib.closing(connection):
            connection.request(request.method, request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


class Listener(ThreadingHTTPServer):
    """What takes the connections of a proxy's clients."""

    daemon_threads = True
    proxy: Proxy


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def answer(self) -> None:
        """Let happen to a request what is to happen."""
        request = Request(self.command, self.path, dict(self.headers.items()))
        proxy = self.server.proxy
        fault = proxy.met(request)
        sent = int(self.headers.get("Content-Length", 0))
        wanted = sent // 2 if fault is Fault.CUT_REQUEST else sent
        request = request._replace(body=self.rfile.read(wanted))
        if len(request.body) < sent:  # by the fault, or because the client has gone
            fault = Fault.CUT_REQUEST
        if fault is Fault.UNCONDITIONAL:
            kept = {k: v for k, v in request.headers.items() if k.lower() != "if-none-match"}
            request = request._replace(headers=kept)
        if fault is Fault.LOSE:
            proxy.forward(request)
        if fault is Fault.HOLD:
            proxy.held.append(request)
        if fault is Fault.CUT_ANSWER:
            status, headers, body = proxy.forward(request)
            self.send(status, headers, body[: len(body) // 2])
        if fault in CLOSING:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif fault in REFUSALS:
            self.refuse(*REFUSALS[fault])
        else:
            self.send(*proxy.forward(request))

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer as S3 does when it refuses."""
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send(status, [("Content-Length", str(len(body)))], body)

    def send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep silent."""

    def handle(self) -> None:
        """Answer one after the other until the client closes, however it does."""
        with contextlib.suppress(ConnectionError):
            super().handle()


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(Handler, f"do_{_method}", Handler.answer)


@contextlib.contextmanager
def proxy_of(server: str) -> Iterator[Proxy]:
    """A proxy before a server."""
    listener = Listener(("127.0.0.1", 0), Handler)
    endpoint = f"http://127.0.0.1:{listener.server_port}"
    listener.proxy = Proxy(server=server, endpoint=endpoint)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield listener.proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
