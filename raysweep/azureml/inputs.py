"""A job's inputs and outputs: literals, files and folders.

One rule: what comes out of here can be read from this machine or fetched by every node; a path in a
file is relative to the file, one in a setting is relative to the current directory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from raysweep.azureml import schema
from raysweep.azureml.documents import Place
from raysweep.azureml.refusals import refuse
from raysweep.azureml.spaces import check_name
from raysweep.core import checks
from raysweep.core.command import DIRECT, FOLDERS, Input, Literal, Output
from raysweep.errors import SpecError

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FETCHED = ("http", "https")  # by every node, without any package
_BLOBS = ("wasb", "wasbs")  # Azure's old scheme


def input_(notices: list[str], value: Any, place: Place) -> Literal | Input:  # noqa: ANN401  (a reader)
    """An input: a literal as it will be shown, or where a file or a folder is."""
    check_name(place)
    plain = schema.input_(value, place)
    if isinstance(plain, dict):
        kind, mode = plain.get("type", "uri_folder"), plain.get("mode", "ro_mount")
        path = _located(plain.get("path"), kind, mode, place.at("path"))
        return Input(type=kind, path=path, mode=mode)
    return literal(notices, plain, value["value"] if isinstance(value, dict) else plain, place)


def literal(notices: list[str], value: Any, written: Any, place: Place) -> Literal:  # noqa: ANN401  (a scalar)
    """A literal that a journal can hold; told when it is not what was written."""
    try:
        checks.storable("value", value)
    except SpecError as error:
        raise refuse("size", place, str(error)) from None
    if (type(value), value) != (type(written), written):
        notices.append(
            place.notice(
                f"{{value: {written}}} is {value} to Azure ML, and so it is here; write {written}"
                " without {value: ...} to keep it"
            )
        )
    found: Literal = value
    return found


def output(value: Any, place: Place) -> Output:  # noqa: ANN401  (a reader)
    """An output."""
    check_name(place)
    return Output(type=schema.output(value, place).get("type", "uri_folder"))


def _located(path: str | None, kind: str, mode: str, place: Place) -> str:
    """An absolute path that exists, or a URL that can be fetched."""
    if not path:
        raise refuse("no_path", place, "must say where the data is, but has no path")
    if found := _PROTOCOL.match(path):
        protocol = found[1].lower()
        if protocol != "file":
            return path if mode == DIRECT else _reachable(path, protocol, kind, place)
        path = re.sub(r"^file://(localhost)?(?=/)", "", path)
    elif path.startswith("azureml:"):
        raise refuse("registered_data", place, f"is known to Azure ML only: {path}")
    return _existing(path.removeprefix("file:"), place)


def _reachable(url: str, protocol: str, kind: str, place: Place) -> str:
    """A URL, if something can open it."""
    folder = kind in FOLDERS
    if protocol in _BLOBS:  # of which a file has a web address, and a folder another protocol
        protocol = "abfs" if folder else "https"
    if protocol in _FETCHED and folder:
        raise refuse("web_folder", place, f"must be one file, but type is {kind}: {url}")
    if protocol not in _FETCHED and not _has_backend(protocol):
        raise refuse("backend", place, f"cannot be opened: no package for {protocol}:// ({url})")
    return url


def _has_backend(protocol: str) -> bool:
    """Whether a package is installed through which fsspec opens this protocol."""
    try:
        import fsspec  # noqa: PLC0415  (slow, and only a URL needs it)

        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError):
        return False
    return True


def _existing(path: str, place: Place) -> str:
    absolute = os.path.normpath(place.folder / Path(path).expanduser())
    if not Path(absolute).exists():
        raise refuse("missing_path", place, f"does not exist: {absolute}")
    return absolute
