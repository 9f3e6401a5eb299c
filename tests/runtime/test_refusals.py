"""What cannot be run is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import objectives
import pytest
from sweeps import sweep

import raysweep as rs
from raysweep.errors import ResourcesError, SpecError, StorageUnusableError, SweepExistsError
from raysweep.runtime.session import resume


def test_refuses_a_function_with_other_arguments(tmp_path: Path) -> None:
    """A training function takes the trial and nothing else."""
    with pytest.raises(SpecError, match=r"must take one argument, the trial, but two\(trial"):
        sweep(objectives.two, tmp_path)


def test_refuses_a_storage_that_cannot_be_written(tmp_path: Path) -> None:
    """The storage is tried before Ray is started."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnusableError, match="cannot be written: Not a directory"):
        sweep(objectives.once, tmp_path / "file" / "below").run(screen="none")


def test_refuses_a_function_that_cannot_be_sent(tmp_path: Path) -> None:
    """What a process cannot hand to another is named."""
    import threading

    lock = threading.Lock()

    def train(trial: rs.Trial) -> None:
        with lock:
            trial.report(score=1.0)

    with pytest.raises(SpecError, match="cannot be sent to the trials: cannot pickle"):
        sweep(train, tmp_path).create()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_refuses_resources_that_no_node_has(tmp_path: Path) -> None:
    """What was asked for and what there is are both named, and no folder is made."""
    made = sweep(objectives.once, tmp_path, resources=rs.Resources(cpus=64, gpus=8))
    with pytest.raises(ResourcesError, match=r"asks for 64 CPU, 8 GPU, but no node.*4 CPU, 0 GPU"):
        made.run(screen="none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_refuses_a_second_sweep_of_the_same_name(tmp_path: Path) -> None:
    """A name is taken for good."""
    sweep(objectives.once, tmp_path).run(screen="none")
    with pytest.raises(SweepExistsError, match="`raysweep resume t`"):
        sweep(objectives.once, tmp_path).run(screen="none")


@pytest.mark.usefixtures("local_ray")
def test_refuses_to_take_up_what_another_process_runs(tmp_path: Path) -> None:
    """Also when that has a Ray of its own; once it is gone, whatever became of it, nothing is in the way."""
    folder = sweep(objectives.once, tmp_path).create()
    hold = (
        "import sys, time; from pathlib import Path; from raysweep.storage.folder import SweepFolder;"
        "from raysweep.storage.following import following\n"
        "with following(SweepFolder(Path(sys.argv[1])), owns_ray=True):"
        " print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", hold, str(folder.path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    with other.stdout:
        assert b"held" in other.stdout.readline()
        with pytest.raises(
            rs.SweepExistsError, match=f"run by process {other.pid} of this machine"
        ):
            resume(folder, screen="none")
        other.kill()
        other.wait()
    assert "completed" == resume(folder, screen="none").phase
