"""Snapshots: the files that Azure would take, the same bytes for the same content, laid out safely."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.errors import ClusterError, SpecError
from raysweep.storage import snapshot
from raysweep.storage.snapshot import pack, unpack


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A code folder, empty as yet."""
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the snapshot goes."""
    return place_for(tmp_path)


def place_for(folder: Path) -> Path:
    """A snapshot's place in the folder of a sweep."""
    (folder / "sweep").mkdir()
    return folder / "sweep" / "code.tar"


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files, by their path in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def packed(code: Path, target: Path) -> list[str]:
    """The names in a code folder's snapshot."""
    with tarfile.open(pack(code, target).path) as tar:
        return tar.getnames()


# Which files go


def test_the_folder_goes_as_it_stands(code: Path, target: Path) -> None:
    """Every file goes, hidden ones and git's own too, as from Azure; empty folders do not."""
    write(code, {"train.py": "", ".hidden/x": "", ".git/config": "", "pkg/__init__.py": ""})
    (code / "empty").mkdir()
    expected = [".git/config", ".hidden/x", "pkg/__init__.py", "train.py"]
    assert expected == packed(code, target)


def test_compiled_python_stays(code: Path, target: Path) -> None:
    """No `__pycache__` goes, whatever an ignore file brings back."""
    write(code, {".amlignore": "!__pycache__", "a.py": "", "pkg/__pycache__/a.pyc": ""})
    assert [".amlignore", "a.py"] == packed(code, target)


def test_amlignore_comes_before_gitignore(code: Path, target: Path) -> None:
    """With an `.amlignore` in the root, the `.gitignore` beside it counts for nothing."""
    write(code, {".amlignore": "a\n", ".gitignore": "b\n", "a": "", "b": ""})
    assert [".amlignore", ".gitignore", "b"] == packed(code, target)


def test_gitignore_counts_alone(code: Path, target: Path) -> None:
    """Without an `.amlignore` the root's `.gitignore` counts, and none further down."""
    write(code, {".gitignore": "b\n", "b": "", "c/.gitignore": "d\n", "c/d": "", "c/b": ""})
    assert [".gitignore", "c/.gitignore", "c/d"] == packed(code, target)


def test_a_file_comes_back_from_a_folder_that_is_left_out(code: Path, target: Path) -> None:
    """Azure asks about files alone, so that a `!` pattern works where git's would not."""
    write(code, {".amlignore": "data/\n!data/small.csv\n", "data/big": "", "data/small.csv": ""})
    assert [".amlignore", "data/small.csv"] == packed(code, target)


TREE = (
    "a", "b.py", "a.d/a", "data/a", "data/b.csv", "data/deep/a", "data/deep/b.py", "x/data/c.csv",
    "x/__pycache__/b.pyc", "x/y/z/a", ".env", "x y", "#note", "!bang",
)  # fmt: skip
PATTERNS = st.sampled_from([
    "a", "/a", "a/", "*.py", "data", "data/", "/data/*", "data/**", "**/deep", "**/", "x/**/a", "x/",
    "!a", "!data/b.csv", "!*.py", "!x/y/", "*", "/*", "*/", "?", "[ab]", "[!a]", "data/[!b]*",
    "  a", "a  ", "# data", "\\#note", "\\!bang", "x y", ".*", "", "/", "deep/a", "/x/*/z", "**",
])  # fmt: skip


@given(lines=st.lists(PATTERNS, max_size=5), name=st.sampled_from([".amlignore", ".gitignore"]))
def test_takes_what_azure_takes(lines: list[str], name: str) -> None:
    """For any patterns, the files are those that the Azure ML SDK uploads."""
    with tempfile.TemporaryDirectory() as place:
        code, target = Path(place) / "code", place_for(Path(place))
        write(code, {**dict.fromkeys(TREE, "x"), name: "\n".join(lines)})
        expected = azures_choice(code)
        assert expected == (packed(code, target) if expected else [])


def azures_choice(code: Path) -> list[str]:
    """The files that azure-ai-ml would upload."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml._utils._asset_utils import get_upload_files_from_folder
        from azure.ai.ml.entities._component.code import ComponentIgnoreFile
    found = get_upload_files_from_folder(code, ignore_file=ComponentIgnoreFile(code))
    return sorted(pair[1] for pair in found)  # of what is there and the name it gets


def test_a_single_file_is_the_code(code: Path, target: Path) -> None:
    """Code that is a file goes alone, under its name."""
    write(code, {"train.py": "x", "other.py": "", ".amlignore": "*"})
    assert ["train.py"] == packed(code / "train.py", target)


def test_the_storage_is_no_code(code: Path) -> None:
    """A storage within the code folder, with its earlier sweeps, does not go into the next one."""
    write(code, {"train.py": "", "runs/one/code.tar": "", "runs/two/spec.json": ""})
    made = pack(code, code / "runs" / "two" / "code.tar", apart=code / "runs")
    assert 1 == made.files


# Links and what is no file


def test_links_go_as_what_they_lead_to(code: Path, target: Path, tmp_path: Path) -> None:
    """A link to a file or a folder, even outside, goes as a copy."""
    write(tmp_path, {"outside/lib.py": "lib"})
    write(code, {"a.py": "a"})
    (code / "file.py").symlink_to("a.py")
    (code / "lib").symlink_to(tmp_path / "outside")
    assert ["a.py", "file.py", "lib/lib.py"] == packed(code, target)
    with tarfile.open(target) as tar:
        assert all(member.isreg() for member in tar)


def test_a_loop_of_links_ends(code: Path, target: Path) -> None:
    """A link back to a folder that led to it is passed over."""
    write(code, {"a.py": "", "deep/er/b.py": ""})
    (code / "loop").symlink_to(code)
    (code / "deep" / "er" / "up").symlink_to("..")
    assert ["a.py", "deep/er/b.py"] == packed(code, target)


def test_what_is_no_file_is_passed_over(code: Path, target: Path) -> None:
    """Pipes and sockets stay, and nobody waits for them."""
    write(code, {"a.py": ""})
    os.mkfifo(code / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        before = Path.cwd()
        os.chdir(code)  # a socket's path must be short
        try:
            bound.bind("socket")
        finally:
            os.chdir(before)
        assert ["a.py"] == packed(code, target)


def test_a_link_to_nothing_is_named(code: Path, target: Path) -> None:
    """The message names the link and where it leads; naming it in `.amlignore` mends it."""
    write(code, {"a.py": ""})
    (code / ".#a.py").symlink_to("nowhere")
    with pytest.raises(SpecError, match=r"\.#a\.py.*it is a link to nowhere.*\.amlignore"):
        pack(code, target)
    write(code, {".amlignore": ".#*"})
    assert [".amlignore", "a.py"] == packed(code, target)


def test_a_file_that_vanishes_is_named(
    code: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there when the walk passed and is gone when it is read is named; no tar is left."""
    write(code, {"a.py": "", "b.py": ""})
    chosen = snapshot._write

    def late(files: list[snapshot._File], out: io.BufferedWriter) -> None:
        (code / "b.py").unlink()
        chosen(files, out)

    monkeypatch.setattr(snapshot, "_write", late)
    with pytest.raises(SpecError, match=r"b\.py of the code cannot be read: No such file"):
        pack(code, target)
    assert [] == list(target.parent.iterdir())


def test_a_file_that_shrinks_is_named(
    code: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is cut short while it is read does not go half."""
    write(code, {"log.txt": "long"})
    chosen = snapshot._write

    def late(files: list[snapshot._File], out: io.BufferedWriter) -> None:
        write(code, {"log.txt": ""})
        chosen(files, out)

    monkeypatch.setattr(snapshot, "_write", late)
    with pytest.raises(SpecError, match=r"log\.txt became shorter while it was read"):
        pack(code, target)


# Refusals


def test_a_missing_folder_is_named(tmp_path: Path, target: Path) -> None:
    """Code that is not there is refused."""
    with pytest.raises(SpecError, match=r"code .*absent is no folder and no file"):
        pack(tmp_path / "absent", target)


def test_code_without_a_file_is_refused(code: Path, target: Path) -> None:
    """As Azure does, a folder of which nothing is left is refused."""
    write(code, {".gitignore": "*"})
    with pytest.raises(SpecError, match="has no file to send"):
        pack(code, target)


def test_a_pattern_that_makes_no_sense_is_named(code: Path, target: Path) -> None:
    """The message has the line, the file and the pattern."""
    write(code, {"a.py": "", ".amlignore": "b\nfoo\\"})
    with pytest.raises(SpecError, match=r"line 2 of .*\.amlignore is no pattern"):
        pack(code, target)


def test_a_folder_that_is_too_large_names_what_is_big(code: Path, target: Path) -> None:
    """The biggest entries are named first, and the file that would leave them out."""
    write(code, {"train.py": "x"})
    for name, size in {
        ".venv/torch.so": 1.5,
        "data/train.bin": 0.75,
        "data/test.bin": 0.25,
    }.items():
        write(code, {name: ""})
        os.truncate(code / name, int(size * 2**30))  # holes: no disk is needed
    named = r"\.venv \(1\.5 GiB\), data \(1\.0 GiB\), train\.py \(0\.0 GiB\)"
    with pytest.raises(SpecError, match=rf"holds 2\.5 GiB.*at most 2\.0 GiB.*{named}.*\.amlignore"):
        pack(code, target)
    write(code, {".amlignore": ".venv/\ndata"})
    assert [".amlignore", "train.py"] == packed(code, target)


# The same bytes


def test_the_same_content_has_the_same_bytes(tmp_path: Path, target: Path) -> None:
    """Neither times nor the order of writing nor the place count."""
    write(tmp_path / "one", {"a.py": "a", "b/c.py": "c"})
    write(tmp_path / "two", {"b/c.py": "c", "a.py": "a"})
    os.utime(tmp_path / "two" / "a.py", (1, 1))
    (tmp_path / "two" / "a.py").chmod(0o600)
    assert pack(tmp_path / "one", target).sha256 == pack(tmp_path / "two", target).sha256


@pytest.mark.parametrize("change", ["content", "name", "executable"])
def test_other_content_has_other_bytes(code: Path, target: Path, change: str) -> None:
    """A content, a name and an executable bit each count."""
    write(code, {"a.py": "a"})
    before = pack(code, target)
    if change == "content":
        write(code, {"a.py": "b"})
    elif change == "name":
        (code / "a.py").rename(code / "b.py")
    else:
        (code / "a.py").chmod(0o755)
    assert before.sha256 != pack(code, target).sha256


# Laying it out


def test_what_is_packed_is_laid_out(code: Path, target: Path, tmp_path: Path) -> None:
    """Contents, executable bits and any name a file can have come back; all can be written to."""
    odd = os.fsdecode(b"not utf-8 \xff")
    write(code, {"run.sh": "echo", "data/ä.txt": "ä", odd: "odd", f"{'long/' * 60}end": "x"})
    (code / "run.sh").chmod(0o555)
    unpack(pack(code, target).path, tmp_path / "work")
    assert "ä" == (tmp_path / "work/data/ä.txt").read_text(encoding="utf-8")
    assert "odd" == (tmp_path / "work" / odd).read_text(encoding="utf-8")
    assert "x" == (tmp_path / "work" / ("long/" * 60) / "end").read_text(encoding="utf-8")
    modes = {name: (tmp_path / "work" / name).stat().st_mode & 0o777 for name in ("run.sh", odd)}
    assert {"run.sh": 0o755, odd: 0o644} == modes


def test_each_copy_is_its_own(code: Path, target: Path, tmp_path: Path) -> None:
    """What an attempt writes into its copy is in no other; a folder that is there is refused."""
    write(code, {"a.py": "a"})
    made = pack(code, target).path
    for name in ("one", "two"):
        unpack(made, tmp_path / name)
    write(tmp_path / "one", {"a.py": "changed"})
    assert "a" == (tmp_path / "two" / "a.py").read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        unpack(made, tmp_path / "one")


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    """A snapshot that somebody has made to reach outside of the folder does not."""
    with tarfile.open(tmp_path / "code.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    (tmp_path / "in").mkdir()
    if name.startswith("/"):  # loses its slash and stays inside
        unpack(tmp_path / "code.tar", tmp_path / "in" / "work")
        assert (tmp_path / "in" / "work" / "evil").exists()
    else:
        with pytest.raises(ClusterError, match="cannot be laid out"):
            unpack(tmp_path / "code.tar", tmp_path / "in" / "work")
    assert ["code.tar", "in"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    """What is no tar file is told to be the storage's loss."""
    (tmp_path / "code.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(ClusterError, match=r"code\.tar cannot be laid out"):
        unpack(tmp_path / "code.tar", tmp_path / "work")
