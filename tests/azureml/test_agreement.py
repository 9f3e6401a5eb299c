"""Job files, one a feature, through azure-ai-ml's loader and through ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import oracle
import pytest
import reading

from raysweep.azureml import EXTENSIONS, REFUSALS, JobFileError, read_job


@pytest.mark.parametrize("path", reading.files("valid"), ids=reading.named)
def test_means_the_same(path: Path) -> None:
    """What azure-ai-ml accepts, we accept, and every part means the same."""
    theirs = oracle.load(path)
    assert theirs is not None
    expected, actual = oracle.plain(theirs), reading.plain(read_job(path))
    if expected["name"] is None:
        del expected["name"], actual["name"]
    del actual["environment"], expected["environment"]  # compared on its own, below
    actual["policy"].pop("evaluation_interval", None)  # 1 and nothing are one to both ...
    expected["policy"].pop("evaluation_interval", None)  # ... and have tests of their own
    assert canonical(expected) == canonical(actual)


@pytest.mark.parametrize("path", reading.files("valid"), ids=reading.named)
def test_environments_are_the_same(path: Path) -> None:
    """A registered environment keeps its name; what is written out keeps its image and packages."""
    theirs = oracle.load(path)
    assert theirs is not None
    name, image, conda = oracle.environment(theirs.trial.environment)
    ours = read_job(path).command.environment
    assert image == ours.image
    if conda is None:
        assert (name or ours.name) == ours.name
        assert ((), None) == (ours.pip, ours.conda)
    elif ours.conda is not None:
        assert conda == ours.conda
    else:
        assert conda["dependencies"][-1]["pip"] == list(ours.pip)


@pytest.mark.parametrize("path", reading.files("invalid"), ids=reading.named)
def test_refuses_the_same(path: Path) -> None:
    """What azure-ai-ml refuses, we refuse, and say where."""
    assert oracle.load(path) is None
    with pytest.raises(JobFileError) as caught:
        read_job(path)
    assert [str(path)] * len(caught.value.problems) == [each.file for each in caught.value.problems]


@pytest.mark.parametrize("row", REFUSALS)
def test_every_refusal_is_one_that_azure_accepts(row: str) -> None:
    """A row of the table names a job that azure-ai-ml accepts and we refuse, with the remedy."""
    path = reading.JOBS / "refused" / f"{row}.yml"
    assert oracle.load(path) is not None
    with pytest.raises(JobFileError) as caught:
        read_job(path)
    (problem,) = caught.value.problems
    assert problem.message.endswith(REFUSALS[row].remedy.partition("{")[0]) or (
        REFUSALS[row].remedy.format(path=problem.path.removesuffix(".path")) in problem.message
    )
    assert problem.line is not None


@pytest.mark.parametrize("row", EXTENSIONS)
def test_every_extension_is_one_that_azure_refuses(row: str) -> None:
    """A row of the table names a job that we accept and azure-ai-ml refuses."""
    path = reading.JOBS / "extended" / f"{row}.yml"
    assert oracle.load(path) is None
    assert read_job(path).spec.name.startswith(row)


def test_every_file_has_its_row() -> None:
    """No file of a table's folder is without a row."""
    assert set(REFUSALS) == {path.stem for path in reading.files("refused")}
    assert set(EXTENSIONS) == {path.stem for path in reading.files("extended")}


def test_a_mapping_means_the_same_as_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping is read like a file, its paths from the current directory."""
    import yaml

    path = reading.JOBS / "valid" / "inputs_files.yml"
    monkeypatch.chdir(path.parent)
    file, mapping = (
        reading.plain(read_job(source)) for source in (path, yaml.safe_load(path.read_text()))
    )
    assert file | {"name": ""} == mapping | {"name": ""}


def test_spec_and_command_can_be_stored(tmp_path: Path) -> None:
    """What comes out is JSON's builtins and can be read back."""
    from raysweep.core.command import Command
    from raysweep.core.spec import SweepSpec

    shutil.copytree(reading.JOBS, tmp_path / "jobs")
    for path in sorted((tmp_path / "jobs" / "valid").glob("*.yml")):
        job = read_job(path)
        spec, command = (json.loads(json.dumps(each.to_dict())) for each in (job.spec, job.command))
        assert job.spec == SweepSpec.from_dict(spec)
        assert job.command == Command.from_dict(command)


def canonical(value: Any) -> str:  # noqa: ANN401  (whatever is compared)
    """Text that tells 1, 1.0 and true apart; the last digits of exp and log do not count."""
    return json.dumps(rounded(value), sort_keys=True, indent=1)


def rounded(value: Any) -> Any:  # noqa: ANN401  (the same)
    """Floats of 12 digits."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return value
