"""Mirrors: what a machine and a bucket have of a sweep, and which of the two is later."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from s3_server import BUCKET, environment
from writers import SPEC

from raysweep.errors import StorageUnusableError, SweepExistsError
from raysweep.storage.folder import SweepFolder, find_sweep, made, sweeps
from raysweep.storage.mirror import Mirror


@pytest.fixture
def storage(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage in its bucket that no other test uses."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "here"))
    return f"s3://{BUCKET}/{tmp_path.name}"


def fill(storage: str, name: str, code: bytes) -> SweepFolder:
    """Make a sweep."""
    with made(storage, name) as folder:
        folder.create(SPEC, origin={}, files={folder.code: code})
    return find_sweep(storage, name)


def test_a_sweep_is_there_for_another_machine(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what trials need once it has taken the sweep up."""
    fill(storage, "s", b"code")
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "there"))
    folder = find_sweep(storage, "s")
    assert SPEC == folder.read_spec()
    assert not folder.code.exists()
    folder.take_up()
    assert b"code" == folder.code.read_bytes()
    assert ["s"] == [found.name for found in sweeps(storage)]


def test_of_two_who_make_one_sweep_at_once_one_is_refused(storage: str) -> None:
    """And what is there is wholly the other's."""
    refused: list[bytes] = []
    begin = threading.Barrier(2)

    def make(code: bytes) -> None:
        try:
            with made(storage, "s") as folder:
                folder.create(SPEC, origin={}, files={folder.code: code})
                begin.wait()
        except SweepExistsError:
            refused.append(code)

    threads = [threading.Thread(target=make, args=(code,)) for code in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (loser,) = refused
    folder = find_sweep(storage, "s")
    folder.take_up()
    assert {b"one", b"two"} == {loser, folder.code.read_bytes()}


def test_what_somebody_left_is_not_taken_for_a_part_of_a_sweep(storage: str) -> None:
    """It is in the way, and the message says what to do."""
    mirror = SweepFolder.at(f"{storage}/s").mirror
    assert mirror is not None
    mirror.bucket.write("code/command.json", b"{}")
    with pytest.raises(SweepExistsError, match="remove it, or choose another name"):
        fill(storage, "s", b"code")


def test_a_sweep_that_could_not_be_sent_leaves_nothing(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is free again."""

    def fail(_: Mirror, paths: object) -> None:
        del paths
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "send", fail)
        with pytest.raises(StorageUnusableError, match="the store is away"):
            fill(storage, "s", b"code")
    assert b"code" == fill(storage, "s", b"code").code.read_bytes()


def test_whoever_looks_does_not_disturb_one_who_makes(storage: str) -> None:
    """`list` while a sweep is sent sees it before or after, and changes nothing."""
    with made(storage, "s") as folder:
        folder.create(SPEC, origin={}, files={folder.code: b"code"})
        SweepFolder.at(f"{storage}/s").look()
        assert [] == list(sweeps(storage))
    assert b"code" == find_sweep(storage, "s").code.read_bytes()


def test_what_is_later_here_stays(storage: str) -> None:
    """A log that is being written is not replaced by what was sent of it before."""
    folder = fill(storage, "s", b"code")
    log = folder.log(0)
    log.parent.mkdir(exist_ok=True)
    log.write_text("attempt 1")
    folder.send(log)
    log.write_text("attempt 1, attempt 2")
    folder.fetch_all(log.parent)
    assert "attempt 1, attempt 2" == log.read_text()


def test_what_is_later_there_comes(storage: str) -> None:
    """Also when it is as long as what is here."""
    folder = fill(storage, "s", b"code")
    output = folder.output(0, "model")
    output.parent.mkdir(parents=True)
    output.write_text("AAAA")
    folder.send(output)
    os.utime(output, (0, 0))  # long ago
    assert folder.mirror is not None
    folder.mirror.bucket.write("outputs/trial-00000/model", b"BBBB")
    folder.fetch_all(output.parent)
    assert "BBBB" == output.read_text()


def test_a_file_that_no_object_can_be_named_after_stays(storage: str) -> None:
    """The others are sent."""
    folder = fill(storage, "s", b"code")
    place = folder.artifacts(0)
    place.mkdir(parents=True)
    for name in ("a\nb", "good"):
        (place / name).write_text("x")
    folder.send(place)
    assert folder.mirror is not None
    assert ["artifacts/trial-00000/good"] == [*folder.mirror.bucket.entries("artifacts")]


def test_mirrors_are_this_users_alone(storage: str, tmp_path: Path) -> None:
    """What lies in them is run."""
    folder = fill(storage, "s", b"code")
    root = folder.path.parent.parent.parent
    assert root.is_relative_to(tmp_path)
    assert 0o700 == root.stat().st_mode & 0o777


def test_what_an_attempt_has_left_comes_to_the_machine_of_the_next(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is a file and its outputs are a folder: both are added to, not replaced."""
    folder = fill(storage, "s", b"code")
    for path, text in ((folder.log(0), "attempt 1"), (folder.output(0, "model/weights"), "w")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder.send(*folder.left_by(0, 1))
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "there"))
    next_one = find_sweep(storage, "s")
    next_one.fetch_all(*next_one.left_by(0, 2))
    assert "attempt 1" == next_one.log(0).read_text()
    assert "w" == next_one.output(0, "model/weights").read_text()
