"""The inputs of a command, laid out on the node that it runs on.

One rule: a command is handed a local path, or, with mode `direct`, what the job says. What is
remote is fetched once for all trials of a sweep on a node, and is theirs to read, not to write.
Messages name an address without its credentials: neither `user:password@` nor what follows a `?`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib
import os
import re
import socket
import ssl
import stat
import sys
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from raysweep.core.command import DIRECT, FOLDERS, Input
from raysweep.errors import ClusterError, StorageUnusableError, UserError
from raysweep.runtime.command.cache import once

TRIES = 3
PAUSE = 1.0  # seconds before the second try; doubled before each further one
PATIENCE = 60.0  # seconds without a byte
BLOCK = 2**20  # bytes
PROGRESS = 5.0  # seconds between two lines about a download
LONGEST = 250  # bytes of a file's name, its end first: what systems take
IN_A_PATH = "/%:@!$&'()*+,;=~"  # what need not be quoted, or is already
PASSING = (408, 429)  # statuses below 500 that another try may change
WEB = ("http", "https")
HELD = "put it on storage that every node reaches"


def fetch(wanted: Input, cache: Path) -> str:
    """The local path of an input; with mode `direct` its path or URI as it is.

    Several processes that share a `cache` download a thing once; the others wait.

    Raises:
        StorageUnusableError: A local path is not on this node.
        UserError: It cannot be fetched, and another try would not help.
        ClusterError: It could not be fetched; another try may help.
    """
    if wanted.mode == DIRECT:
        return wanted.path
    if not wanted.remote:
        return _local(wanted.path)
    address = _blob(urlsplit(wanted.path), wanted.type)
    if address.scheme == "file":
        return _local(_file_path(address))
    if address.scheme in WEB and wanted.type in FOLDERS:
        raise UserError(
            f"input {_shown(address)} must be one file, but its type is {wanted.type}: what lies"
            f" below a web address cannot be listed; {HELD}"
        )
    return str(_fetched(address, cache))


def _fetched(address: SplitResult, cache: Path) -> Path:
    """What an address holds, in the node's cache."""
    key = hashlib.sha256(address.geturl().encode()).hexdigest()[:24]
    get = _download if address.scheme in WEB else _copy
    folder = once(
        cache / "inputs" / key,
        lambda folder, _: get(address, folder),
        wait=lambda: _tell(f"waiting for {_shown(address)}: another trial fetches it"),
    )
    (found,) = folder.iterdir()
    return found


def _local(path: str) -> str:
    if not os.path.exists(path):  # noqa: PTH110  (the path goes back as it was written)
        raise StorageUnusableError(
            f"input {path} is not on this node, {socket.gethostname()}; {HELD}"
        )
    return path


def _file_path(address: SplitResult) -> str:
    if address.netloc not in ("", "localhost"):
        raise UserError(
            f"input {_shown(address)} names a file of the machine {address.netloc!r};"
            f" {HELD}, and write file:///path"
        )
    return unquote(address.path)


def _blob(address: SplitResult, kind: str) -> SplitResult:
    """Azure's old scheme for blobs in today's words: https for a file, abfs for a folder."""
    if address.scheme not in ("wasb", "wasbs") or not address.username:
        return address
    if kind in FOLDERS:
        return address._replace(scheme="abfs")
    path = f"/{address.username}{address.path}"
    return address._replace(scheme="https", netloc=str(address.hostname), path=path)


def _shown(address: SplitResult) -> str:
    """An address without what is secret in it, for messages."""
    shown = address._replace(query="", fragment="")
    if address.scheme in WEB or address.password is not None:  # abfs://container@... has no secret
        shown = shown._replace(netloc=address.netloc.rpartition("@")[2])
    return shown.geturl()


# A web address


class _Answer(NamedTuple):
    """How a server answered what could not be fetched."""

    error: str
    passing: bool  # whether another try may help


def _download(address: SplitResult, folder: Path) -> None:
    """Download one file into a folder, in as many tries as it takes and is allowed."""
    pause = PAUSE
    for left in reversed(range(TRIES)):
        answer = _try(address, folder)
        if answer is None:
            return
        if not answer.passing:
            raise UserError(
                f"input {_shown(address)} cannot be fetched: {answer.error};"
                f" check the address, and whether its access has run out"
            )
        if left:
            _tell(f"{_shown(address)}: {answer.error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
    raise ClusterError(
        f"input {_shown(address)} could not be fetched on {socket.gethostname()} in {TRIES} tries:"
        f" {answer.error if answer else ''}; see whether this node reaches it, or {HELD}"
    )


def _try(address: SplitResult, folder: Path) -> _Answer | None:
    """Download once; None when the file is whole."""
    try:
        with urllib.request.urlopen(_request(address), timeout=PATIENCE) as response:  # noqa: S310  (http and https alone come here)
            part, whole = folder / "part", _announced(response)
            received = _save(response, part, _shown(address))
            name = _name(response.headers, address)
    except urllib.error.HTTPError as error:
        with error:
            passing = error.code >= http.client.INTERNAL_SERVER_ERROR or error.code in PASSING
            return _Answer(f"the server answered {error.code} {error.reason}", passing)
    except urllib.error.URLError as error:
        return _Answer(f"{error.reason}", passing=True)
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        return _Answer(f"the connection broke: {error}", passing=True)
    if whole is not None and received != whole:
        return _Answer(f"it ended after {received} of {whole} bytes", passing=True)
    part.chmod(stat.S_IRUSR)  # a trial that writes into it would change it for all
    part.rename(folder / name)
    return None


def _request(address: SplitResult) -> urllib.request.Request:
    credentials, found, netloc = address.netloc.rpartition("@")
    path = quote(address.path, safe=IN_A_PATH)
    clean = address._replace(netloc=netloc, path=path, fragment="")
    request = urllib.request.Request(clean.geturl(), headers={"User-Agent": "raysweep"})  # noqa: S310  (as above)
    if found:  # not for another machine that the server may point to
        token = base64.b64encode(unquote(credentials).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _name(headers: Message, address: SplitResult) -> str:
    """What the server calls the file, or else the address; never a path."""
    for name in (headers.get_filename(), unquote(address.path).rstrip("/")):
        last = re.split(r"[/\\]", name or "")[-1].replace("\0", "")
        if last not in ("", ".", ".."):
            return last.encode()[-LONGEST:].decode(errors="ignore")
    return "download"


def _save(response: http.client.HTTPResponse, file: Path, shown: str) -> int:
    """Write a body to a file, telling of it when it takes long; the number of its bytes."""
    received, told, whole = 0, time.monotonic(), _announced(response)
    of = "" if whole is None else f" of {whole / 2**20:.0f}"
    with file.open("wb") as out:
        while block := response.read(BLOCK):
            out.write(block)
            received += len(block)
            if time.monotonic() - told > PROGRESS:
                _tell(f"fetching {shown}: {received / 2**20:.0f}{of} MiB")
                told = time.monotonic()
    return received


def _announced(response: http.client.HTTPResponse) -> int | None:
    """How many bytes the server says that it sends."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _tell(line: str) -> None:
    sys.stderr.write(f"raysweep: {line}\n")
    sys.stderr.flush()


# Any other storage


def _copy(address: SplitResult, folder: Path) -> None:
    """Copy a file, or a folder with all that is in it, from a storage that fsspec knows."""
    try:
        core: Any = importlib.import_module("fsspec.core")
        files, path = core.url_to_fs(address.geturl())
    except (ImportError, ValueError) as error:
        raise UserError(
            f"input {_shown(address)} cannot be fetched: {error}; install fsspec and its package"
            f" for {address.scheme}:// on every node, or {HELD}"
        ) from error
    target = folder / (path.rstrip("/").rpartition("/")[2] or "data")
    try:
        if not files.isdir(path):
            files.get_file(path, str(target))
        else:
            target.mkdir()
            files.get(f"{path.rstrip('/')}/", f"{target}/", recursive=True)
    except FileNotFoundError as error:
        raise UserError(
            f"input {_shown(address)} is not there; check its path, and whether you may read it"
        ) from error
    except Exception as error:  # (each storage's package raises what it likes)
        raise ClusterError(
            f"input {_shown(address)} could not be fetched on {socket.gethostname()}: {error};"
            f" see whether this node may read it, or {HELD}"
        ) from error
