"""Settings from the command line, put into a job's document."""

from __future__ import annotations

from pathlib import Path

import pytest
import reading

from raysweep.azureml import Job, JobFileError, read_job
from raysweep.core.space import Choice, Uniform

FILE = reading.JOBS / "valid" / "about.yml"


def with_settings(**settings: str) -> Job:
    """The job of a file with some values set; `__` stands for the dot."""
    return read_job(FILE, {path.replace("__", "."): text for path, text in settings.items()})


def refused(path: str, text: str) -> str:
    """What is said against a setting."""
    with pytest.raises(JobFileError) as caught:
        read_job(FILE, {path: text})
    return str(caught.value)


def test_a_value_is_set_by_its_path() -> None:
    """Azure ML's keys, dotted; what is missing on the way is made."""
    job = with_settings(limits__max_total_trials="3", inputs__x__value="abc", name="mine")
    assert (3, {"x": "abc"}, "mine") == (
        job.spec.limits.max_total_trials,
        job.command.literals,
        job.spec.name,
    )


def test_a_whole_part_is_set() -> None:
    """JSON and YAML do for mappings and lists."""
    job = with_settings(
        search_space__lr='{"type": "choice", "values": [1e-4, 1]}',
        search_space__b="{type: uniform, min_value: 0, max_value: 1e-1}",  # no JSON: YAML
    )
    assert Choice(values=(0.0001, 1)) == job.spec.space.parameters["lr"]
    assert Uniform(low=0, high=0.1) == job.spec.space.parameters["b"]


def test_words_are_yaml_1_1() -> None:
    """`on` is true and `1e-4` a string, as in a file; quotes make anything a string."""
    job = with_settings(inputs__a="on", inputs__b="1e-4", inputs__c="NaN", inputs__d='"5"')
    assert {"a": True, "b": "1e-4", "c": "NaN", "d": "5"} == job.command.literals


def test_a_list_is_entered_by_index() -> None:
    """An index from 0 names one of a list."""
    path = reading.JOBS / "valid" / "choices.yml"
    job = read_job(path, {"search_space.lr.values.9": "7"})
    lr = job.spec.space.parameters["lr"]
    assert isinstance(lr, Choice)
    assert 7 == lr.values[9]


def test_a_path_is_relative_to_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path from the command line is where the user stands, not where the file is."""
    (tmp_path / "here.csv").write_text("a")
    monkeypatch.chdir(tmp_path)
    job = with_settings(inputs__data__path="./here.csv", inputs__data__type="uri_file")
    assert str(tmp_path / "here.csv") == job.command.inputs["data"].path


def test_a_setting_mends_what_is_refused() -> None:
    """The remedy that a message names works."""
    path = reading.JOBS / "refused" / "registered_data.yml"
    data = str(reading.JOBS / "data")
    assert data == read_job(path, {"inputs.data.path": data}).command.inputs["data"].path


def test_problems_name_the_setting() -> None:
    """A value from the command line has no line: its setting is named."""
    assert (
        refused("limits.timeout", "soon")
        == "--set limits.timeout: must be a whole number, but got 'soon' (str)"
    )
    assert refused("limits", "{max_total_trials: 1, timeuot: 2}").startswith(
        "--set limits: limits.timeuot: is not a known key; did you mean 'timeout'?"
    )


def test_a_path_through_a_scalar_is_refused() -> None:
    """What has nothing inside is set as a whole."""
    assert refused("trial.command.x", "1").startswith(
        "--set trial.command.x: trial.command is 'python train.py"
    )


def test_an_index_beyond_the_list_is_refused() -> None:
    """A list does not grow by a setting."""
    path = reading.JOBS / "valid" / "choices.yml"
    with pytest.raises(JobFileError, match="is a list of 10; name one of it by its index from 0"):
        read_job(path, {"search_space.lr.values.10": "7"})


def test_text_that_is_no_yaml_is_refused() -> None:
    """Syntax errors in a value are told with the setting."""
    assert refused("limits", "{a: ").startswith("--set limits:1:5: is not YAML 1.1")


def test_the_block_of_our_own_is_set_alike(tmp_path: Path) -> None:
    """`raysweep.` begins what Azure ML has no key for."""
    job = with_settings(
        raysweep__resources__gpus="0.5", raysweep__storage=str(tmp_path), raysweep__lease="60"
    )
    assert (0.5, str(tmp_path), 60) == (job.spec.resources.gpus, job.storage, job.spec.lease)
