"""A node's cache: private, and everything in it made once and whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.errors import SpecError, StorageUnusableError
from raysweep.runtime.command.cache import node_cache, once, user_cache
from raysweep.storage.private import private


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that RAYSWEEP_CACHE names."""
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "caches"))
    return tmp_path / "caches"


def test_each_sweep_has_a_private_folder(place: Path) -> None:
    """It is named after the user and the sweep, and nobody else may open it."""
    found = node_cache("4f1a")
    assert place / f"raysweep-{os.getuid()}" / "sweeps" / "4f1a" == found
    assert 0o700 == found.stat().st_mode & 0o777 == found.parent.stat().st_mode & 0o777
    assert found == node_cache("4f1a")


def test_what_outlives_a_sweep_lies_beside_or_at_home(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Environments go where RAYSWEEP_CACHE says, or else below the user's home."""
    assert place / f"raysweep-{os.getuid()}" == user_cache()
    monkeypatch.delenv("RAYSWEEP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".cache" / "raysweep" == user_cache()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("identity", ["", "..", "a/b", "/"])
def test_an_identity_that_leads_elsewhere_is_refused(identity: str) -> None:
    """A sweep's id is one folder's name."""
    with pytest.raises(SpecError, match="must be usable as a folder's name"):
        node_cache(identity)


def test_a_folder_that_is_open_is_closed(tmp_path: Path) -> None:
    """A folder of one's own that others could read is made private."""
    (tmp_path / "own").mkdir(mode=0o777)
    assert 0o700 == private(tmp_path / "own").stat().st_mode & 0o777


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    """Somebody who was there first cannot lead us elsewhere."""
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(StorageUnusableError, match="must be a folder of your own"):
            private(tmp_path / name)


def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that belongs to another user is not used."""
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(StorageUnusableError, match=r"another user's.*RAYSWEEP_CACHE"):
        private(tmp_path / "theirs")


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The system's own words are in the message."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnusableError, match=r"cannot be made on .*RAYSWEEP_CACHE"):
        private(tmp_path / "file" / "below")


def test_a_thing_is_made_once(tmp_path: Path) -> None:
    """The second who asks gets what the first has made."""
    made = []

    def make(folder: Path, _: int) -> None:
        made.append(folder)
        (folder / "thing").touch()

    assert [tmp_path / "x"] * 2 == [once(tmp_path / "x", make) for _ in range(2)]
    assert [tmp_path / "x"] == made


def test_a_thing_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """A stamp without its folder counts for nothing."""
    once(tmp_path / "x", lambda _, __: None)
    (tmp_path / "x").rmdir()
    once(tmp_path / "x", lambda folder, _: (folder / "again").touch())
    assert (tmp_path / "x" / "again").exists()


def test_a_maker_that_raises_leaves_nothing(tmp_path: Path) -> None:
    """The error comes through, and the next maker begins with an empty folder."""

    def fail(folder: Path, _: int) -> None:
        (folder / "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        once(tmp_path / "x", fail)
    seen: list[list[Path]] = []
    once(tmp_path / "x", lambda folder, _: seen.append(list(folder.iterdir())))
    assert [[]] == seen


SLOW_MAKER = """
import sys, time
from pathlib import Path
from raysweep.runtime.command.cache import once

def make(folder, lock):
    (folder / "half").touch()
    print("making", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "half").rename(folder / "whole")

once(Path(sys.argv[1]), make)
"""


def slow_maker(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that has begun to make a folder, and takes its time."""
    command = [sys.executable, "-c", SLOW_MAKER, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "making\n" == process.stdout.readline()
    return process


def test_the_others_wait(tmp_path: Path) -> None:
    """Who comes while another process makes it is told so, waits, and gets what was made."""
    waits: list[str] = []
    with slow_maker(tmp_path / "x", 0.3):
        once(tmp_path / "x", lambda *_: waits.append("made"), wait=lambda: waits.append("waited"))
    assert ["waited"] == waits
    assert (tmp_path / "x" / "whole").exists()


def test_a_maker_that_is_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """The lock goes with the process; the next maker begins anew."""
    with slow_maker(tmp_path / "x", 60) as process:
        process.send_signal(signal.SIGKILL)
    seen: list[list[Path]] = []
    once(tmp_path / "x", lambda folder, _: seen.append(list(folder.iterdir())))
    assert [[]] == seen
