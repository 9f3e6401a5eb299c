"""What a sweep of a job puts into its folder, and what it says before it runs."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from jobs import job

from raysweep.errors import SpecError, SweepExistsError
from raysweep.runtime import cluster


def inputs(tmp_path: Path) -> dict[str, Any]:
    """A file and a folder that a command reads."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1")
    (tmp_path / "b.csv").write_text("2")
    return {
        "folder": {"type": "uri_folder", "path": str(tmp_path / "data")},
        "file": {"type": "uri_file", "path": str(tmp_path / "b.csv")},
        "web": {"type": "uri_file", "path": "https://example.org/c.csv"},
    }


def test_inputs_are_read_where_they_lie(tmp_path: Path) -> None:
    """On one machine nothing is copied."""
    sweep = job(tmp_path, "", inputs=inputs(tmp_path))
    command = sweep.create().read_command()
    assert str(tmp_path / "data") == command.inputs["folder"].path
    assert not list((tmp_path / "sweeps").rglob("a.csv"))


def test_inputs_that_a_node_lacks_go_to_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their own names; what each node fetches for itself stays an address."""
    monkeypatch.setattr(cluster, "alike_everywhere", lambda _: set())
    folder = job(tmp_path, "", inputs=inputs(tmp_path)).create()
    read = folder.read_command().inputs
    assert "1" == (Path(read["folder"].path) / "a.csv").read_text()
    assert "2" == Path(read["file"].path).read_text()
    assert folder.path in Path(read["file"].path).parents
    assert "b.csv" == Path(read["file"].path).name
    assert "https://example.org/c.csv" == read["web"].path


def test_a_command_survives_its_file(tmp_path: Path) -> None:
    """What a slot reads is what the job said."""
    sweep = job(
        tmp_path,
        "",
        inputs=inputs(tmp_path) | {"whole": 3, "real": 0.5, "text": "1e-4", "flag": True},
        outputs={"model": {"type": "uri_folder"}},
        trial={"environment_variables": {"A": "b"}},
    )
    assert sweep.job.command == sweep.create().read_command()


def test_a_job_in_the_folder_of_its_sweeps_does_not_pack_them(tmp_path: Path) -> None:
    """`code: .` with the storage inside: earlier sweeps stay out of the snapshot."""
    for name in ("one", "two"):
        sweep = job(tmp_path, "", name=name, trial={"code": str(tmp_path)})
        snapshot = sweep.create().snapshot
    with tarfile.open(snapshot) as packed:
        names = packed.getnames()
    assert "code/train.py" in names
    assert not [each for each in names if each.startswith("sweeps")]


def test_how_paths_look_tells_them_apart(tmp_path: Path) -> None:
    """A file that was changed, a folder that has one more, one that is not there."""
    inputs(tmp_path)
    paths = [str(tmp_path / "data"), str(tmp_path / "b.csv"), str(tmp_path / "none")]
    before = cluster._looks(paths)
    assert before[2] is None
    (tmp_path / "data" / "more").touch()
    (tmp_path / "b.csv").write_text("22")
    after = cluster._looks(paths)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_second_sweep_of_one_name_is_refused(tmp_path: Path) -> None:
    """The first one's folder is untouched."""
    job(tmp_path, "").create()
    with pytest.raises(SweepExistsError, match="choose another name"):
        job(tmp_path, "").create()


def test_an_empty_code_folder_is_refused_before_the_sweep_exists(tmp_path: Path) -> None:
    """Everything in it is ignored: nothing could run."""
    sweep = job(tmp_path, "")
    (tmp_path / "code" / ".amlignore").write_text("*\n")
    with pytest.raises(SpecError, match="has no file to send"):
        sweep.create()
    assert not list((tmp_path / "sweeps").iterdir())


def test_unused_gpus_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that says nothing of GPUs gets none: who has some should know."""
    monkeypatch.setattr(cluster, "nodes", lambda: [{"Resources": {"CPU": 4, "GPU": 8}}])
    assert "the cluster has 8 GPUs, and a trial asks for none" in cluster.unused({"CPU": 1})
    assert "" == cluster.unused({"CPU": 1, "GPU": 0.5})
    monkeypatch.setattr(cluster, "nodes", lambda: [{"Resources": {"CPU": 4}}])
    assert "" == cluster.unused({"CPU": 1})
