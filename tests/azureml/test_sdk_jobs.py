"""The azure-ai-ml SDK's own objects, each of which equals a job file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import oracle
import pytest
import reading
from test_agreement import canonical

from raysweep.azureml import JobFileError, read_job
from raysweep.core.policies import Bandit
from raysweep.core.samplers import Sobol

with warnings.catch_warnings():  # the SDK's own, as the oracle says
    warnings.simplefilter("ignore")
    from azure.ai.ml import Input, Output, PyTorchDistribution, command, load_component
    from azure.ai.ml.entities import CommandComponent, CommandJob, Environment
    from azure.ai.ml.sweep import (
        BanditPolicy,
        Choice,
        LogUniform,
        MedianStoppingPolicy,
        Objective,
        RandomSamplingAlgorithm,
        SweepJob,
        SweepJobLimits,
        TruncationSelectionPolicy,
        Uniform,
    )

UNIT = "{type: uniform, min_value: 0, max_value: 1}"
FILE = """\
type: sweep
trial:
  command: python train.py --lr ${{search_space.lr}} --n ${{search_space.n}} --d ${{inputs.data}}
  code: ./src
  environment: {image: i, conda_file: conda.yml}
  environment_variables: {A: 1}
  distribution: {type: pytorch, process_count_per_instance: 2}
inputs:
  data: {type: uri_folder, path: ./data, mode: download}
outputs:
  model: {type: mlflow_model}
search_space:
  lr: {type: loguniform, min_value: -6, max_value: -1}
  n: {type: choice, values: [16, '32', {a: {type: uniform, min_value: 0, max_value: 1}, b: 2}]}
sampling_algorithm: {type: random, seed: 7, rule: sobol, logbase: e}
objective: {goal: maximize, primary_metric: accuracy}
early_termination: {type: bandit, slack_factor: 0.1, evaluation_interval: 2}
limits: {max_total_trials: 8, max_concurrent_trials: 2, timeout: 100}
compute: cpu
resources: {shm_size: 2g}
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the job files, as the current one."""
    monkeypatch.chdir(reading.JOBS)
    return reading.JOBS


def same(job: Any, text: str = FILE) -> None:  # noqa: ANN401  (an SDK object)
    """The object is the job that the text says, written into the current folder."""
    import yaml

    expected, actual = (reading.plain(read_job(each)) for each in (yaml.safe_load(text), job))
    del expected["name"], actual["name"]
    assert canonical(expected) == canonical(actual)


def built(**options: Any) -> Any:  # noqa: ANN401  (the same)
    """The file's trial from the SDK's builder."""
    text = "python train.py --lr ${{inputs.lr}} --n ${{inputs.n}} --d ${{inputs.data}}"
    with oracle.quiet():
        return command(
            command=text,
            code="./src",
            environment=Environment(image="i", conda_file="conda.yml"),
            environment_variables={"A": 1},
            distribution=PyTorchDistribution(process_count_per_instance=2),
            inputs={
                "lr": 0.1,
                "n": 5,
                "data": Input(type="uri_folder", path="./data", mode="download"),
            },
            outputs={"model": Output(type="mlflow_model")},
            **options,
        )


def searched(trial: Any, **options: Any) -> Any:  # noqa: ANN401  (the same)
    """The file's sweep over a trial, its parts set one after another."""
    with oracle.quiet():
        node = trial(
            lr=LogUniform(min_value=-6, max_value=-1),
            n=Choice([16, "32", {"a": Uniform(0, 1), "b": 2}]),
        )
        sweep = node.sweep(
            compute="cpu",
            primary_metric="accuracy",
            goal="Maximize",
            sampling_algorithm=RandomSamplingAlgorithm(seed=7, rule="sobol", logbase="e"),
            **options,
        )
        sweep.set_limits(max_total_trials=8, max_concurrent_trials=2, timeout=100)
        sweep.early_termination = BanditPolicy(slack_factor=0.1, evaluation_interval=2)
        sweep.set_resources(shm_size="2g")
    return sweep


@pytest.mark.usefixtures("folder")
def test_a_builder_is_its_file() -> None:
    """`command(...)(lr=...).sweep(...)` is the job that a file would say."""
    same(searched(built()))


@pytest.mark.usefixtures("folder")
def test_a_builder_that_became_a_job_is_its_file() -> None:
    """`_to_job()` is what the SDK submits; reading before it changes nothing."""
    sweep = searched(built())
    read_job(sweep)
    with oracle.quiet():
        same(sweep._to_job())


@pytest.mark.usefixtures("folder")
def test_what_is_set_later_counts() -> None:
    """`set_objective`, `set_limits` and a sampler by its name change the job."""
    sweep = searched(built())
    with oracle.quiet():
        sweep.set_objective(goal="minimize", primary_metric="loss")
        sweep.set_limits(trial_timeout=77)
        sweep.sampling_algorithm = "random"
        sweep.search_space = {"lr": Uniform(0, 1), "n": Choice([1, 2])}
        sweep.early_termination = MedianStoppingPolicy(delay_evaluation=3, evaluation_interval=2)
    same(
        sweep,
        FILE.replace("maximize, primary_metric: accuracy", "minimize, primary_metric: loss")
        .replace("timeout: 100", "timeout: 100, trial_timeout: 77")
        .replace("{type: random, seed: 7, rule: sobol, logbase: e}", "random")
        .replace("{type: loguniform, min_value: -6, max_value: -1}", UNIT)
        .replace("[16, '32', {a: {type: uniform, min_value: 0, max_value: 1}, b: 2}]", "[1, 2]")
        .replace(
            "{type: bandit, slack_factor: 0.1,", "{type: median_stopping, delay_evaluation: 3,"
        ),
    )


@pytest.mark.parametrize("path", reading.files("valid"), ids=reading.named)
def test_a_loaded_job_is_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_job` and we read the same file; its object is read as the file is."""
    monkeypatch.chdir(path.parent)
    loaded = oracle.load(path)
    assert loaded is not None
    expected, actual = (reading.plain(read_job(each)) for each in (path, loaded))
    for each in (expected, actual):
        del each["name"]
        _, *each["environment"] = each["environment"]  # the SDK drops the name of what is inline
    assert canonical(expected) == canonical(actual)


@pytest.mark.usefixtures("folder")
def test_a_job_made_by_hand_is_its_file() -> None:
    """`SweepJob(...)` with a `CommandJob` for its trial, which lends its inputs and timeout."""
    trial = built()
    with oracle.quiet():
        job = SweepJob(
            trial=CommandJob(
                command=FILE.splitlines()[2].partition(": ")[2],
                code="./src",
                environment=Environment(image="i", conda_file="conda.yml"),
                environment_variables={"A": 1},
                distribution={"type": "pytorch", "process_count_per_instance": 2},
                inputs={"data": trial.inputs["data"]._data},
                outputs={"model": Output(type="mlflow_model")},
            ),
            search_space={
                "lr": LogUniform(min_value=-6, max_value=-1),
                "n": Choice([16, "32", {"a": Uniform(0, 1), "b": 2}]),
            },
            sampling_algorithm=RandomSamplingAlgorithm(seed=7, rule="sobol"),
            objective=Objective(goal="maximize", primary_metric="accuracy"),
            early_termination=BanditPolicy(slack_factor=0.1, evaluation_interval=2),
            limits=SweepJobLimits(max_total_trials=8, max_concurrent_trials=2, timeout=100),
        )
    same(job)


@pytest.mark.usefixtures("folder")
def test_a_component_from_a_file_is_a_trial() -> None:
    """Its defaults and optional inputs are as in a job that names the file."""
    with oracle.quiet():
        component = load_component("component.yml")
        assert isinstance(component, CommandComponent)
        sweep = component(lr=Uniform(0.001, 0.1), data=Input(type="uri_folder", path="data")).sweep(
            primary_metric="accuracy", goal="maximize"
        )
        sweep.set_limits(max_total_trials=8)
    expected = reading.plain(read_job(reading.JOBS / "extended" / "component.yml"))
    actual = reading.plain(read_job(sweep))
    for each in (expected, actual):
        del each["name"], each["about"]
    assert canonical(expected) == canonical(actual)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (BanditPolicy(slack_amount=0.2), {"type": "bandit", "slack_amount": 0.2}),
        (
            TruncationSelectionPolicy(truncation_percentage=20, delay_evaluation=5),
            {"type": "truncation_selection", "truncation_percentage": 20, "delay_evaluation": 5},
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_policies_come_over(policy: Any, expected: dict[str, Any]) -> None:  # noqa: ANN401  (an SDK object)
    """A policy's 0 for "not given" is not given."""
    sweep = searched(built())
    with oracle.quiet():
        sweep.early_termination = policy
    found = reading.policy(read_job(sweep).spec.policy)
    found = {k: v for k, v in found.items() if (k, v) != ("evaluation_interval", 1)}
    assert expected == found


@pytest.mark.usefixtures("folder")
def test_registered_things_keep_their_names() -> None:
    """The SDK takes `azureml:` off; it is put back."""
    sweep = searched(built())
    with oracle.quiet():
        sweep._component.environment = "my-env:3"
        sweep._job_inputs["data"] = Input(type="uri_folder", path="azureml:iris:1")
    with pytest.raises(JobFileError, match="is known to Azure ML only: azureml:iris:1"):
        read_job(sweep)
    data = {"inputs.data.path": str(reading.JOBS / "data")}
    assert "azureml:my-env:3" == read_job(sweep, data).command.environment.name


@pytest.mark.usefixtures("folder")
def test_settings_change_an_object_alike() -> None:
    """And leave the object as it was."""
    sweep = searched(built())
    job = read_job(sweep, {"limits.max_total_trials": "3", "early_termination.slack_factor": "0.5"})
    assert 3 == job.spec.limits.max_total_trials
    assert isinstance(job.spec.policy, Bandit)
    assert 0.5 == job.spec.policy.slack_factor
    assert Sobol(seed=7) == job.spec.sampler
    assert 8 == sweep.limits.max_total_trials


@pytest.mark.usefixtures("folder")
def test_other_objects_are_refused_by_name() -> None:
    """The message says what to hand over."""
    with pytest.raises(JobFileError, match=r"must be a sweep, but got a Command; add the search"):
        read_job(built())
    with pytest.raises(JobFileError, match=r"must be a path, a mapping or a SweepJob, but got 5"):
        read_job(5)


def test_an_unfinished_builder_says_what_is_missing(folder: Path) -> None:
    """Without limits there is no end."""
    del folder
    with oracle.quiet():
        sweep = built()(lr=Uniform(0, 1)).sweep(primary_metric="a", goal="maximize")
    with pytest.raises(JobFileError, match="must have the key 'max_total_trials'"):
        read_job(sweep)
