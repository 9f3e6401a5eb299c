"""A command component as the trial of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import reading
import yaml

from raysweep.azureml import JobFileError, read_job

FILE = reading.JOBS / "extended" / "component.yml"


def problems(path: Path, settings: dict[str, str] | None = None) -> list[str]:
    """What is wrong, without the folders."""
    with pytest.raises(JobFileError) as caught:
        read_job(path, settings)
    return [str(each).replace(f"{reading.JOBS}/", "") for each in caught.value.problems]


def test_inputs_come_from_the_space_the_job_or_by_default() -> None:
    """What the search space has comes first, and an optional input without a value goes."""
    command = read_job(FILE).command
    assert (
        "python train.py --lr ${{search_space.lr}} --depth ${{inputs.depth}} --data"
        " ${{inputs.data}}  --model ${{outputs.model}}"
    ) == command.text.strip()
    assert {"depth": 3} == command.literals
    assert str(reading.JOBS / "data") == command.inputs["data"].path
    assert "mlflow_model" == command.outputs["model"].type


def test_an_optional_input_with_a_value_is_rendered() -> None:
    """The job's value has the type that the component declares."""
    command = read_job(FILE, {"inputs.note": "12", "inputs.depth": "'7'"}).command
    assert "--note ${{inputs.note}} --model" in command.text
    assert {"note": "12", "depth": 7} == command.literals


def test_paths_of_a_component_are_relative_to_its_file() -> None:
    """It may lie in another folder than the job."""
    assert str(reading.JOBS / "src") == read_job(FILE).command.code


def test_a_required_input_must_have_a_value(tmp_path: Path) -> None:
    """A default, a parameter or the job gives it."""
    text = yaml.safe_load(FILE.read_text())
    del text["inputs"]
    text["trial"] = f"file:{reading.JOBS}/component.yml"
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump(text))
    (told,) = problems(path)
    assert "inputs: must have 'data', which the component needs" in told


def test_an_input_that_the_component_has_not_is_refused() -> None:
    """A typo is no silent extra."""
    assert problems(FILE, {"inputs.dpeth": "7"}) == [
        "--set inputs.dpeth: is no input of the component (known: lr, depth, data, note)"
    ]


def test_problems_of_a_component_are_told_in_its_file(tmp_path: Path) -> None:
    """Each file has its own lines."""
    component = tmp_path / "component.yml"
    component.write_text("command: echo\nenvironment: azureml:x:1\ninptus: {}\n")
    (told,) = problems(FILE, {"trial": str(component)})
    assert told.startswith(f"{component}:3:1: inptus: is not a known key; did you mean 'inputs'?")


def test_a_registered_component_is_refused_with_the_remedy() -> None:
    """Only Azure ML has it."""
    (told,) = problems(reading.JOBS / "invalid" / "registered_component.yml")
    assert "--set trial=file:./component.yml" in told
