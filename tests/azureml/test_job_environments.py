"""A job's environment, and the file that maps what only Azure ML knows."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from raysweep.azureml import Job, JobFileError, read_job
from raysweep.core.command import Environment

MAPPING = """\
my-env:3: {pip: [scikit-learn==1.5]}
my-env: {python: ./venv/bin/python}
sklearn@latest: {conda_file: conda.yml}
AzureML-*: cluster
"""


def job(environment: object, **options: Any) -> Job:  # noqa: ANN401  (read_job's own)
    """The least job with this environment."""
    return read_job(
        {
            "type": "sweep",
            "trial": {"command": "echo", "environment": environment},
            "search_space": {"lr": {"type": "randint", "upper": 3}},
            "objective": {"goal": "maximize", "primary_metric": "a"},
            "limits": {"max_total_trials": 1},
        },
        **options,
    )


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    """A mapping file, with a conda file beside it."""
    (tmp_path / "conda.yml").write_text("dependencies: [numpy]\n")
    path = tmp_path / "raysweep-environments.yml"
    path.write_text(MAPPING)
    return path


def test_what_is_not_mapped_is_the_clusters_own() -> None:
    """One notice says so, and how to choose."""
    found = job("azureml:AzureML-sklearn-1.5@latest")
    assert Environment(name="azureml:AzureML-sklearn-1.5@latest") == found.command.environment
    (notice,) = found.notices
    assert "write `AzureML-sklearn-1.5: {pip: [...]}` into raysweep-environments.yml" in notice


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azureml:my-env:3", {"pip": ("scikit-learn==1.5",)}),
        ("azureml:my-env:4", {"python": "venv/bin/python"}),
        ("azureml:my-env@latest", {"python": "venv/bin/python"}),
        ("azureml:AzureML-pytorch:1", {}),
        (
            "azureml://registries/azureml/environments/sklearn/labels/latest",
            {"conda": {"dependencies": ["numpy"]}},
        ),
    ],
)
def test_the_mapping_file_chooses(mapping: Path, name: str, expected: dict[str, Any]) -> None:
    """The exact name first, then the name without its version, then patterns."""
    if "python" in expected:
        expected = {"python": str(mapping.parent / expected["python"])}
    found = job(name, environments=mapping)
    assert Environment(name=name, **expected) == found.command.environment
    assert () == found.notices


def test_the_mapping_file_is_found_beside_the_job_or_by_the_variable(
    mapping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an argument, the folder and then the environment variable say where."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ("scikit-learn==1.5",) == job("azureml:my-env:3").command.environment.pip
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert () == job("azureml:my-env:3").command.environment.pip
    monkeypatch.setenv("RAYSWEEP_ENVIRONMENTS", str(mapping))
    assert ("scikit-learn==1.5",) == job("azureml:my-env:3").command.environment.pip


def test_problems_of_the_mapping_file_are_told_in_it(mapping: Path) -> None:
    """With its own lines."""
    mapping.write_text("my-env: {pipp: [x]}\n")
    with pytest.raises(JobFileError) as caught:
        job("azureml:my-env:3", environments=mapping)
    assert str(caught.value).startswith(f"{mapping}:1:9: my-env: must be cluster, {{python: PATH}}")


@pytest.mark.parametrize(
    "dependencies",
    [["pip", {"pip": ["a", "b==1"]}], ["python=3.7", "numpy", {"pip": ["a"]}], [], ["pip-tools"]],
)
def test_a_conda_file_is_handed_over_whole(dependencies: list[Any]) -> None:
    """Each node sees for itself whether pip can do it alone."""
    document = {"name": "mine", "dependencies": dependencies}
    found = job({"image": "i", "conda_file": document}).command.environment
    assert Environment(image="i", conda=document) == found


def test_a_conda_file_is_what_json_can_hold() -> None:
    """YAML makes a date of a version that looks like one."""
    document = {"name": date(2024, 5, 1), "dependencies": ["numpy"]}
    found = job({"image": "i", "conda_file": document}).command.environment
    assert {"name": "2024-05-01", "dependencies": ["numpy"]} == found.conda


def test_requirements_files_are_read_into_it(tmp_path: Path) -> None:
    """`-r requirements.txt` is relative to the conda file, which no node has."""
    (tmp_path / "requirements.txt").write_text("# ours\nmlflow==3.17.2  # exact\n\nnumpy\n")
    file = tmp_path / "conda.yml"
    file.write_text("dependencies: [{pip: [-r requirements.txt, pandas]}]")
    found = job({"conda_file": str(file)}).command.environment.conda
    assert {"dependencies": [{"pip": ["mlflow==3.17.2", "numpy", "pandas"]}]} == found
    file.write_text("dependencies: [{pip: [-r none.txt]}]")
    with pytest.raises(JobFileError, match=r"must name a file that exists, but got '-r none\.txt'"):
        job({"conda_file": str(file)})


def test_a_name_of_its_own_stays() -> None:
    """An environment that is written out keeps its name for messages."""
    found = job({"image": "i", "name": "mine", "version": 2}).command.environment
    assert Environment(name="mine:2", image="i") == found


def test_the_block_of_our_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`raysweep.environment` is chosen over what the trial names."""
    monkeypatch.chdir(tmp_path)
    found = job("azureml:x:1", settings={"raysweep.environment": '{"python": "venv/bin/python"}'})
    assert Environment(python=str(tmp_path / "venv/bin/python")) == found.command.environment


@pytest.mark.parametrize("environment", ["azureml:x:1", {"build": {"path": "."}}])
def test_what_is_overruled_is_not_judged(environment: object) -> None:
    """The remedy for what cannot be built works, and nothing is said about what is not used."""
    found = job(environment, settings={"raysweep.environment": "cluster"})
    assert Environment() == found.command.environment
    assert () == found.notices
