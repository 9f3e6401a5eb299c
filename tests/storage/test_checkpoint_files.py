"""Folders of files as checkpoints: packed into one file, unpacked on request."""

from __future__ import annotations

import array
import os
import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysweep.errors import UnstorableError
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints import Files

NAMES = st.lists(st.text("ab.ü \\", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a library may save it."""
    files = {"config.json": b"{}", "deep/er/weights.bin": bytes(range(256)) * 1000, "empty": b""}
    return lay_out(tmp_path / "saved", files)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_folder_comes_back(tmp_path: Path, folder: Path, lazy: bool) -> None:
    """Its files, wherever it stands in the tree, as bytes and as files again."""
    path = tmp_path / "c.arrow"
    checkpoints.save(path, {"hf": folder, "epoch": 3})
    loaded = checkpoints.load(path, lazy=lazy)
    assert ["config.json", "deep/er/weights.bin", "empty"] == list(loaded["hf"])
    assert b"{}" == loaded["hf"]["config.json"]
    out = loaded["hf"].unpack(tmp_path / "deep" / "out")
    assert tmp_path / "deep" / "out" == out
    assert b"" == (out / "empty").read_bytes()
    assert bytes(range(256)) * 1000 == (out / "deep/er/weights.bin").read_bytes()
    assert ["hf/config.json", "hf/deep/er/weights.bin", "hf/empty", "epoch"] == (
        checkpoints.leaves(path).to_pydict()["path"]
    )


def test_a_folder_may_be_the_whole_checkpoint(tmp_path: Path, folder: Path) -> None:
    """What was loaded can be saved again; an empty folder has no files."""
    checkpoints.save(tmp_path / "a.arrow", folder)
    checkpoints.save(tmp_path / "b.arrow", checkpoints.load(tmp_path / "a.arrow"))
    again = checkpoints.load(tmp_path / "b.arrow")
    assert (b"{}", 3) == (again["config.json"], len(again))
    (tmp_path / "none").mkdir()
    checkpoints.save(tmp_path / "c.arrow", tmp_path / "none")
    assert {} == dict(checkpoints.load(tmp_path / "c.arrow"))
    assert checkpoints.load(tmp_path / "c.arrow").unpack(tmp_path / "out").is_dir()


def test_what_joblib_wrote_comes_back(tmp_path: Path) -> None:
    """Files are bytes: whoever unpacks them knows what reads them."""
    (tmp_path / "model").mkdir()
    joblib.dump(np.arange(3), tmp_path / "model" / "a.joblib")
    checkpoints.save(tmp_path / "c.arrow", tmp_path / "model")
    out = checkpoints.load(tmp_path / "c.arrow").unpack(tmp_path / "out")
    assert [0, 1, 2] == joblib.load(out / "a.joblib").tolist()


@settings(max_examples=50, suppress_health_check=list(HealthCheck), deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=9), max_size=4))
def test_any_names_that_a_folder_can_have_come_back(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    """And those that it cannot have are refused."""
    try:
        held = Files(files)
    except ValueError:
        bad = {"", ".", ".."}
        above = any(one != two and two.startswith(f"{one}/") for one in files for two in files)
        assert above or any(bad & set(name.split("/")) for name in files)
        return
    checkpoints.save(tmp_path / "c.arrow", held)
    place = tmp_path / os.urandom(8).hex()
    checkpoints.load(tmp_path / "c.arrow").unpack(place)
    found = {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert files == found


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a//b", "a\0b", "./a"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="is no name of a file in a folder"):
        Files({name: b""})


def test_only_bytes_are_files(tmp_path: Path) -> None:
    """What could change is copied, and counted in bytes."""
    mutable, numbers = bytearray(b"12"), memoryview(array.array("i", [1, 2, 3]))
    files = Files({"a": mutable, "b": numbers, "c": memoryview(b"123456")[::2]})
    mutable[:] = b"xx"
    checkpoints.save(tmp_path / "c.arrow", files)
    loaded = checkpoints.load(tmp_path / "c.arrow")
    assert [b"12", numbers.tobytes(), b"135"] == [bytes(each) for each in loaded.values()]
    for wrong in ({"a": "text"}, {"a": None}):
        with pytest.raises(ValueError, match=r"the file 'a' is of type .*: give its bytes"):
            Files(wrong)  # type: ignore[arg-type]  # the mistake


def test_files_are_unpacked_all_or_none(tmp_path: Path) -> None:
    """Not over what is there, and without a rest where it fails."""
    files = Files({"a": b"1", "b" * 300: b"2"})
    with pytest.raises(OSError, match="File name too long"):
        files.unpack(tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(FileExistsError, match=r"full: Directory not empty"):
        Files({"a": b"1"}).unpack(tmp_path / "full")
    with pytest.raises(FileExistsError, match=r"mine: Not a directory"):
        Files({"a": b"1"}).unpack(tmp_path / "full" / "mine")
    (tmp_path / "own").mkdir(mode=0o700)
    assert 0o40700 == Files({"a": b"1"}).unpack(tmp_path / "own").stat().st_mode
    shutil.rmtree(tmp_path / "own")
    assert ["full"] == [path.name for path in tmp_path.iterdir()]


def test_links_to_files_count_as_files_and_nothing_else_does(tmp_path: Path, folder: Path) -> None:
    """A link to a folder could lead in circles; a pipe has no end."""
    (folder / "link").symlink_to(folder / "config.json")
    assert b"{}" == bytes(Files.of(folder)["link"])
    (folder / "deep" / "circle").symlink_to(folder)
    for problem in ("circle", "pipe"):
        message = rf"hf holds .*{problem}, which is neither a file nor a folder"
        with pytest.raises(UnstorableError, match=message):
            checkpoints.save(tmp_path / "c.arrow", {"hf": folder})
        (folder / "deep" / problem).unlink()
        os.mkfifo(folder / "deep" / "pipe")
    with pytest.raises(UnstorableError, match=r"hf is .*config.json, which is no folder"):
        checkpoints.save(tmp_path / "c.arrow", {"hf": folder / "config.json"})


def test_a_file_that_changes_while_it_is_saved_is_no_part_of_a_checkpoint(folder: Path) -> None:
    """Half of one state and half of the next would be none."""
    files, path = Files.of(folder), folder / "config.json"
    for content in (b"{...}", b"{"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"config.json was written to while it was saved"):
            bytes(files["config.json"])
