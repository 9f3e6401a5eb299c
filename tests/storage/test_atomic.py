"""Atomic files: whole or absent, durable, and nothing left beside them."""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raysweep.storage import atomic


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def test_bytes_become_the_whole_content(tmp_path: Path) -> None:
    """What is written replaces all that was there."""
    path = tmp_path / "file"
    atomic.write_bytes(path, b"a long first content")
    atomic.write_bytes(path, b"short")
    assert path.read_bytes() == b"short"
    assert names(tmp_path) == ["file"]


def test_the_former_content_stays_until_the_block_ends(tmp_path: Path) -> None:
    """A reader never sees a file that is being written."""
    path = tmp_path / "file"
    atomic.write_bytes(path, b"former")
    with atomic.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"former"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_raises_leaves_everything_as_it_was(
    tmp_path: Path, error: BaseException
) -> None:
    """A failure, or an interrupt, keeps the former file and leaves no other."""

    def interrupted() -> None:
        with atomic.replacing(path) as file:
            file.write(b"half")
            raise error

    path = tmp_path / "file"
    atomic.write_bytes(path, b"former")
    with pytest.raises(type(error)):
        interrupted()
    assert path.read_bytes() == b"former"
    assert names(tmp_path) == ["file"]


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The new file goes when it cannot take the final name."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic.write_bytes(tmp_path / "folder", b"content")
    assert names(tmp_path) == ["folder"]


def test_a_missing_folder_is_told_as_it_is(tmp_path: Path) -> None:
    """The system's own error reaches the caller."""
    with pytest.raises(FileNotFoundError):
        atomic.write_bytes(tmp_path / "missing" / "file", b"content")


def test_flushing_brackets_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before the name changes, the folder's entry after it."""
    seen = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    atomic.write_bytes(tmp_path / "file", b"content")
    assert seen == [("file", False), ("folder", True)]
    seen.clear()
    (tmp_path / "file").unlink()
    atomic.create_exclusive(tmp_path / "file", b"content")
    assert seen == [("file", False), ("folder", True)]


def test_json_is_readable_by_any_reader(tmp_path: Path) -> None:
    """JSON is written as UTF-8 text that ends with a line break."""
    path = tmp_path / "file.json"
    atomic.write_json(path, {"name": "Müller", "values": [1, None, 0.5]})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Müller", "values": [1, None, 0.5]}
    assert "Müller" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), (object(), TypeError)])
def test_what_is_no_json_is_refused(tmp_path: Path, value: object, error: type[Exception]) -> None:
    """A value without a form in JSON raises before any file is made."""
    with pytest.raises(error):
        atomic.write_json(tmp_path / "file.json", value)
    assert names(tmp_path) == []


def test_creation_succeeds_once(tmp_path: Path) -> None:
    """A file that is there already is left alone."""
    path = tmp_path / "epoch"
    assert atomic.create_exclusive(path, b"first")
    assert not atomic.create_exclusive(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["epoch"]


def test_of_many_creators_one_wins(tmp_path: Path) -> None:
    """Creators that start together agree on one of them, and its content is whole."""
    path = tmp_path / "epoch"
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return atomic.create_exclusive(path, bytes([number]) * 100_000)

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(create, range(8)))
    assert created.count(True) == 1
    assert path.read_bytes() == bytes([created.index(True)]) * 100_000
    assert names(tmp_path) == ["epoch"]
