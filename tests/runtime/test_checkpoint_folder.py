from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysweep.runtime.command.checkpoint_folder import CheckpointFolder
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Files


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    """Through a checkpoint's file and out again, in folders and empty ones included."""
    one, other = CheckpointFolder(tmp_path / "one"), CheckpointFolder(tmp_path / "other")
    one.restore(None)
    (one.path / "deep").mkdir()
    (one.path / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    (one.path / "empty").touch()
    taken = one.changed()
    assert taken is not None
    checkpoints.save(tmp_path / "c.arrow", taken.files)
    other.restore(checkpoints.load(tmp_path / "c.arrow", mmap=False))
    assert bytes(range(256)) == (other.path / "deep" / "weights.bin").read_bytes()
    assert b"" == (other.path / "empty").read_bytes()


def test_only_what_has_changed_is_taken(tmp_path: Path) -> None:
    """A report without new files has no checkpoint; what was restored is not taken at once."""
    folder = CheckpointFolder(tmp_path / "c")
    folder.restore(Files({"a": b"1"}))
    assert folder.changed() is None
    (folder.path / "a").write_bytes(b"22")
    taken = folder.changed()
    assert taken is not None
    assert {"a": b"22"} == dict(taken.files)
    assert taken.written == pytest.approx((folder.path / "a").stat().st_ctime)
    assert folder.changed() is None
    (folder.path / "a").unlink()
    assert folder.changed() is None, "a folder without files is no checkpoint"


def test_a_checkpoint_does_not_leave_its_folder(tmp_path: Path) -> None:
    """A hostile name is refused before anything is written there."""
    folder = CheckpointFolder(tmp_path / "c")
    with pytest.raises(ValueError, match=r"'\.\./out' is no name of a file in a folder"):
        folder.restore(Files({"../out": b"x"}))
    assert not (tmp_path / "out").exists()


def test_a_file_in_work_is_left_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that grows, or goes, while it is read: nothing is taken, and nothing is lost."""
    folder = CheckpointFolder(tmp_path / "c")
    folder.restore(None)
    growing = folder.path / "growing"
    growing.write_bytes(b"1")
    read = Path.read_bytes

    def meanwhile(path: Path) -> bytes:
        content = read(path)
        path.write_bytes(content + b"more")
        return content

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    assert folder.changed() is None
    monkeypatch.setattr(Path, "read_bytes", lambda path: path.unlink())
    assert folder.changed() is None
    monkeypatch.undo()
    growing.write_bytes(b"whole")
    taken = folder.changed()
    assert taken is not None
    assert {"growing": b"whole"} == dict(taken.files)


def test_only_files_are_taken(tmp_path: Path) -> None:
    """No links, sockets, pipes: a link could lead anywhere."""
    folder = CheckpointFolder(tmp_path / "c")
    folder.restore(None)
    (tmp_path / "secret").write_text("x")
    (folder.path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder.path / "pipe")
    assert folder.changed() is None
