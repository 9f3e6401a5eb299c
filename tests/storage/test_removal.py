"""What is removed from among a sweep's checkpoints, on a file system and in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import BUCKET, environment
from writers import SPEC

from raysweep.storage.folder import SweepFolder, find_sweep, made


@pytest.fixture(params=["file system", "bucket"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SweepFolder:
    """A sweep with three checkpoints."""
    storage = str(tmp_path / "storage")
    if request.param == "bucket":
        for name, value in environment(request.getfixturevalue("server")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "here"))
        storage = f"s3://{BUCKET}/{tmp_path.name}"
    with made(storage, "s") as new:
        new.create(SPEC, origin={}, files={})
    folder = find_sweep(storage, "s")
    for report in (1, 2, 3):
        path = folder.checkpoint(0, 1, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"state")
        folder.send(path)
    return folder


def name(report: int) -> str:
    """A checkpoint's, as the journal has it."""
    return f"checkpoints/trial-00000/1-{report:06d}.arrow"


def test_what_is_named_is_removed_and_nothing_else(folder: SweepFolder) -> None:
    """One that is gone already is no error."""
    folder.remove([name(1), name(2)])
    folder.remove([name(2), "checkpoints/trial-00007/1-000001.arrow"])
    folder.remove([])
    assert [name(3)] == folder.unnamed([])


def test_what_is_not_named_is_collected(folder: SweepFolder) -> None:
    """It says what that was."""
    assert [name(1), name(3)] == sorted(folder.collect([name(2)]))
    assert [name(2)] == folder.unnamed([])


@pytest.mark.parametrize(
    "path",
    ["spec.json", "checkpoints", "checkpoints/../spec.json", "../s/spec.json", "/etc/hostname", ""],
)
def test_what_is_no_checkpoint_is_not_removed(folder: SweepFolder, path: str) -> None:
    """Nor is anything that was to be removed with it."""
    with pytest.raises(PermissionError, match="only checkpoints are removed"):
        folder.remove([name(1), path])
    assert folder.spec_file.exists()
    assert [name(1), name(2), name(3)] == sorted(folder.unnamed([]))
