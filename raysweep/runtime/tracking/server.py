"""HTTP on loopback, for one script and its children.

One rule: an answer leaves whole, in one packet. Head and body apart, with Nagle's algorithm on,
meet the client's delayed acknowledgement, and every call then takes 40 ms.

A connection has a thread and stays open; nothing a client sends ends more than its connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

BODY = 64 * 1024 * 1024  # bytes of a request's body, at most
PACKET = 64 * 1024  # bytes that are gathered before they are sent
DIGITS = 18  # of a Content-Length; more is no length
BACKLOG = 128  # connections that wait to be taken
FAREWELL = 1.0  # seconds in which a client may read its last answer
RESPITE = 0.05  # seconds after the machine had no file descriptor left for a connection

# MLflow's name for what an error of HTTP itself is.
CODES = {
    HTTPStatus.NOT_FOUND: "ENDPOINT_NOT_FOUND",
    HTTPStatus.NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "REQUEST_LIMIT_EXCEEDED",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asks for."""

    method: str
    target: str  # the path with its query
    authorization: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What it is told."""

    body: bytes
    status: int = 200
    type: str = "application/json"

    @classmethod
    def of(cls, value: object) -> Answer:
        """A value as JSON."""
        return cls(body=json.dumps(value, allow_nan=False).encode())

    @classmethod
    def error(cls, status: int, code: str, message: str) -> Answer:
        """An error in the form that MLflow's clients read."""
        body = json.dumps({"error_code": code, "message": message}).encode()
        return cls(status=status, body=body)


class _UnreadableError(Exception):
    """A request whose body cannot be read."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Connection(BaseHTTPRequestHandler):
    """One client's connection, until it closes it."""

    protocol_version = "HTTP/1.1"  # which keeps the connection
    disable_nagle_algorithm = True
    wbufsize = PACKET  # head and body are gathered here, and flushed once

    server: Any  # our own Server, not one of socketserver's

    def _serve(self) -> None:
        try:
            body = self._body()
        except _UnreadableError as error:
            self.send_error(error.status, error.message)
            return
        request = Request(
            method=self.command,
            target=self.path,
            authorization=self.headers.get("Authorization", ""),
            body=body,
        )
        answer = self.server.respond(request)
        self.close_connection |= self.server.stopping
        self._send(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815  (the names that http.server looks for)

    def _body(self) -> bytes:
        """The request's body, whole."""
        if "Transfer-Encoding" in self.headers:
            raise _UnreadableError(
                HTTPStatus.LENGTH_REQUIRED,
                "a body needs a Content-Length; it cannot come in chunks",
            )
        told = self.headers.get("Content-Length", "0").strip()
        if not (told.isascii() and told.isdigit() and len(told) <= DIGITS):
            raise _UnreadableError(HTTPStatus.BAD_REQUEST, f"no length of a body: {told[:40]!r}")
        length = int(told)
        if length > BODY:
            self._discard(length)
            raise _UnreadableError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a request may have {BODY:,} bytes, and this one has {length:,}; log less at once",
            )
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionResetError
        return body

    def _discard(self, length: int) -> None:
        """Read what is not wanted: a client that is still sending would not hear the answer."""
        while length > 0 and (read := self.rfile.read(min(length, PACKET))):
            length -= len(read)

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no readable request, and close: where the next one begins is not known."""
        self.close_connection = True
        text = message or explain or HTTPStatus(code).phrase
        self._send(Answer.error(code, CODES.get(HTTPStatus(code), "BAD_REQUEST"), text))

    def handle_expect_100(self) -> bool:
        """Say at once that the body may come."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, *_: object) -> None:
        """Say nothing: the output is the trial's."""


class Server:
    """Listens on a free port of 127.0.0.1.

    Args:
        respond: called for each request, from many threads at once; raises nothing.
    """

    def __init__(self, respond: Callable[[Request], Answer]) -> None:
        self.respond = respond
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.address = "http://{}:{}".format(*self._listener.getsockname())
        self.stopping = False
        self._open: dict[threading.Thread, socket.socket] = {}
        self._accepting = threading.Thread(target=self._accept, name="tracking")
        self._accepting.start()

    def stop(self) -> None:
        """Take no more requests; returns when those that were being answered are answered."""
        self.stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._accepting.join()
        self._listener.close()
        for thread, connection in list(self._open.items()):
            _shut(connection, socket.SHUT_RD)
            thread.join(FAREWELL)
            if thread.is_alive():  # it waits for its report, or for a client that does not read
                _shut(connection, socket.SHUT_RDWR)
                thread.join()

    def _accept(self) -> None:
        while not self.stopping:
            try:
                connection, client = self._listener.accept()
            except OSError:  # stopping, a client that has gone already, or no descriptor left
                time.sleep(0 if self.stopping else RESPITE)
                continue
            thread = threading.Thread(
                target=self._converse, args=(connection, client), name="tracking"
            )
            self._open[thread] = connection
            thread.start()

    def _converse(self, connection: socket.socket, client: tuple[str, int]) -> None:
        """Answer one client until it leaves."""
        with connection, contextlib.suppress(ConnectionError):
            _Connection(connection, client, cast("Any", self))
        self._open.pop(threading.current_thread(), None)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # the client has left, or the thread has closed it
        connection.shutdown(how)
