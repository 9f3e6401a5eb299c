"""What a job's parts become, where azure-ai-ml has nothing to compare with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import reading
import yaml

from raysweep.azureml import Job, JobFileError, read_job
from raysweep.core.policies import TruncationSelection
from raysweep.core.samplers import Bayesian, Optuna, Random, Sobol
from raysweep.core.space import Choice, LogUniform, QLogUniform
from raysweep.core.spec import NAME

BASE: dict[str, Any] = yaml.safe_load((reading.JOBS / "valid" / "least.yml").read_text())


def job(**parts: object) -> Job:
    """The least job with these parts."""
    return read_job({**BASE, **parts})


def test_bounds_of_loguniform_are_exponents() -> None:
    """Azure ML's bounds are powers of e; ours are the values themselves."""
    space = {
        "lr": {"type": "loguniform", "min_value": -3, "max_value": "0.5"},
        "n": {"type": "qloguniform", "min_value": 0, "max_value": math.log(1000), "q": 10},
    }
    found = job(search_space=space).spec.space.parameters
    assert LogUniform(low=math.exp(-3), high=math.exp(0.5)) == found["lr"]
    assert QLogUniform(low=1, high=1000, q=10) == found["n"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sampler_sobol", Sobol(seed=7)), ("sampler_seeded", Random(seed=11))],
)
def test_the_seed_of_the_sampler_is_the_sweeps(name: str, expected: object) -> None:
    """Everything random derives from the seed that the job gives."""
    spec = read_job(reading.JOBS / "valid" / f"{name}.yml").spec
    assert expected == spec.sampler
    assert spec.sampler.seed == spec.seed


def test_without_a_seed_one_is_drawn() -> None:
    """Two readings are two sweeps."""
    assert job().spec.seed != job().spec.seed


def test_timeouts_are_as_they_are_written() -> None:
    """Azure ML raises them to a minute; here five seconds are five seconds."""
    limits = read_job(reading.JOBS / "valid" / "short_timeouts.yml").spec.limits
    assert (30, 5) == (limits.timeout, limits.trial_timeout)


def test_a_name_is_generated_from_the_file_or_the_display_name() -> None:
    """It says which job and when, and no other sweep has it."""
    first, second = (read_job(reading.JOBS / "valid" / "least.yml").spec.name for _ in range(2))
    assert first != second
    assert first.startswith("least-")
    assert job(display_name="My läst sweep!").spec.name.startswith("My-l-st-sweep-")
    assert job(display_name="x" * 300).spec.name.startswith("x" * 100 + "-")
    assert NAME.fullmatch(job(display_name="...").spec.name)


def test_the_experiment_is_the_jobs_or_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure ML takes the name of the folder that the job is submitted from."""
    folder = tmp_path / "my project.v2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert "myproject" == job().command.experiment
    assert "digits" == job(experiment_name="digits").command.experiment


def test_the_block_of_our_own() -> None:
    """What Azure ML has no key for reaches the spec."""
    found = read_job(reading.JOBS / "extended" / "raysweep.yml")
    resources = found.spec.resources
    assert (2, 0.5, {"licence": 1}) == (resources.cpus, resources.gpus, resources.custom)
    assert (3, True, 5, 120, 2) == (
        found.spec.max_attempts,
        found.spec.sync_decisions,
        found.spec.grace,
        found.spec.lease,
        found.spec.keep_checkpoints,
    )
    assert ("/shared/sweeps", ("scikit-learn",)) == (
        found.storage,
        found.command.environment.pip,
    )


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"resources": {"gpus": 1.5}}, "raysweep.resources: resources.gpus above 1 must be whole"),
        ({"max_attempts": 0}, "raysweep: max_attempts must be at least 1, but got 0"),
        ({"keep_checkpoints": 0}, "raysweep: keep_checkpoints must be at least 1, but got 0"),
        ({"grase": 1}, "raysweep.grase: is not a known key; did you mean 'grace'?"),
        ({"environment": "mine"}, "raysweep.environment: must be cluster, {python: PATH}, "),
    ],
)
def test_the_block_of_our_own_is_checked(block: dict[str, Any], expected: str) -> None:
    """What core refuses of it is told where it stands."""
    with pytest.raises(JobFileError) as caught:
        job(raysweep=block)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    "expression",
    [
        {"type": "uniform", "min_value": 0, "max_value": 10**400},
        {"type": "uniform", "min_value": -1.7e308, "max_value": 1.7e308},
        {"type": "choice", "values": [{"a": -(2**70)}]},
        {"type": "randint", "upper": 10**400},
        {"type": "quniform", "min_value": 2**70, "max_value": 2**70, "q": 1},
        {"type": "normal", "mu": 10**400, "sigma": 1},
    ],
)
def test_numbers_beyond_all_measure_are_refused(expression: dict[str, Any]) -> None:
    """Azure ML's loader takes them; nothing can run with them."""
    with pytest.raises(JobFileError):
        job(search_space={"lr": expression})


def test_finished_trials_may_be_left_out_of_a_truncation() -> None:
    """The key is the REST interface's; its loader does not know it."""
    policy = read_job(reading.JOBS / "extended" / "exclude_finished_jobs.yml").spec.policy
    assert TruncationSelection(truncation_percentage=20, exclude_finished_jobs=True) == policy


def test_a_choice_may_hold_booleans_and_null() -> None:
    """They stay what they are, inside of mappings, too."""
    lr = read_job(reading.JOBS / "extended" / "scalars.yml").spec.space.parameters["lr"]
    assert Choice(values=(True, False, None, {"a": True, "b": None})) == lr


def test_a_grid_names_every_parameter_that_it_cannot_count() -> None:
    """However deep it stands."""
    inner = {
        "type": "choice",
        "values": [{"a": {"type": "uniform", "min_value": 0, "max_value": 1}}],
    }
    with pytest.raises(JobFileError) as caught:
        job(
            sampling_algorithm="grid",
            search_space={"lr": {"type": "normal", "mu": 0, "sigma": 1}, "m": inner},
        )
    assert [
        "search_space.lr: grid sampling needs values to count, but lr is normal",
        "search_space.m: grid sampling needs values to count, but m[0].a is uniform",
    ] == [str(each).partition(";")[0] for each in caught.value.problems]


def test_references_are_found_whatever_their_blanks() -> None:
    """A reference to what another root has says so."""
    trial = {"command": "a ${{ inputs.lr }} ${{outputs.x}}", "environment": "azureml:x:1"}
    with pytest.raises(JobFileError) as caught:
        job(trial=trial)
    first, second = (each.message for each in caught.value.problems)
    assert "refers to ${{inputs.lr}}, which is not defined" in first
    assert first.endswith("did you mean 'search_space.lr'?")
    assert "${{outputs.x}}, which is not defined" in second


def test_optional_fragments_stand_or_go() -> None:
    """`$[[...]]` goes when something that it refers to is not there."""
    command = "a ${{search_space.lr}} $[[--n ${{inputs.n}}]] $[[--m ${{inputs.m}}]]"
    found = job(trial={"command": command, "environment": "azureml:x:1"}, inputs={"n": 1})
    assert "a ${{search_space.lr}} --n ${{inputs.n}} " == found.command.text


def test_an_url_is_taken_if_a_package_can_open_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which protocols are at hand is fsspec's to say."""
    import fsspec

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: protocol)
    found = job(inputs={"d": {"type": "uri_folder", "path": "abfss://c@a.example/x"}})
    assert found.command.inputs["d"].remote


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sobol", Sobol(seed=11)),
        ("bayesian", Bayesian(seed=11)),
        ("optuna:GPSampler", Optuna("GPSampler", seed=11)),
        (
            {"type": "optuna", "options": {"multivariate": True}, "seed": 3},
            Optuna(options={"multivariate": True}, seed=3),
        ),
    ],
)
def test_a_sampler_of_raysweeps_own_goes_before_azures(given: object, expected: object) -> None:
    """With the seed of Azure ML's key, unless it has one of its own."""
    found = job(
        sampling_algorithm={"type": "random", "seed": 11},
        raysweep={"sampler": given},
    )
    assert expected == found.spec.sampler
    assert found.spec.sampler.seed == found.spec.seed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sobel", "raysweep.sampler: sampler must be one of grid, random, sobol, bayesian, "),
        ("sobel", "; did you mean 'sobol'?"),
        ("sobol:x", "sampler sobol takes nothing after a colon, but got 'sobol:x'"),
        ("optuna:", "optuna sampler must not be empty"),
        ("optuna:my sampler", "such as TPESampler, but got 'my sampler'"),
        ({"type": "sobol", "sed": 1}, "sampler has no key 'sed'; did you mean 'seed'?"),
        (7, "raysweep.sampler: must be a sampler's name, or a mapping with its type, but got 7"),
    ],
)
def test_a_sampler_that_is_none_is_refused(given: object, message: str) -> None:
    """With what is near, in its place."""
    with pytest.raises(JobFileError) as caught:
        job(raysweep={"sampler": given})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tpe", "as `raysweep: {sampler: tpe}`"),
        ({"type": "auto"}, "as `raysweep: {sampler: tpe}`"),
        ({"type": "bayesian", "seed": 7}, "`raysweep: {sampler: {type: bayesian, seed: 7}}`"),
    ],
)
def test_what_azure_has_no_word_for_is_told_its_place(given: object, message: str) -> None:
    """The block that is raysweep's own."""
    with pytest.raises(JobFileError) as caught:
        job(sampling_algorithm=given)
    assert message in str(caught.value)


def test_grid_may_be_given_up_for_what_samples_anything() -> None:
    """What a grid could not count is no mistake where another sampler goes before it."""
    space = {"lr": {"type": "uniform", "min_value": 0, "max_value": 1}}
    found = job(search_space=space, sampling_algorithm="grid", raysweep={"sampler": "sobol"})
    assert Sobol() == found.spec.sampler


def test_points_to_try_first() -> None:
    """In natural values; 1e-4, a string in YAML 1.1, is the number that the parameter wants."""
    space = {"lr": {"type": "loguniform", "min_value": -10, "max_value": 0}}
    found = job(search_space=space, raysweep={"try_first": [{"lr": "1e-4"}, {"lr": 1}]})
    assert ({"lr": 1e-4}, {"lr": 1.0}) == found.spec.try_first


def test_a_point_that_cannot_be_tried_is_refused() -> None:
    """By its place in the list."""
    space = {"lr": {"type": "uniform", "min_value": 0, "max_value": 1}}
    with pytest.raises(
        JobFileError, match=r"try_first\[0\]: lr: uniform value must be from 0 to 1"
    ):
        job(search_space=space, raysweep={"try_first": [{"lr": 2}]})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("earlier", "earlier"),
        ("runs/earlier", str(Path.cwd() / "runs" / "earlier")),
        ("s3://bucket/runs/earlier", "s3://bucket/runs/earlier"),
    ],
)
def test_an_earlier_sweep_is_named_with_its_storage_or_without(given: str, expected: str) -> None:
    """A relative storage is relative to the file, as every path is; of a mapping, to where one is."""
    assert expected == job(raysweep={"warm_start": given}).warm_start


@pytest.mark.parametrize(("own", "kind"), [({}, "grid"), ({"warm_start": "earlier"}, "bayesian")])
def test_auto_learns_where_there_are_results_to_begin_with(own: dict[str, str], kind: str) -> None:
    """A grid would have no use for them."""
    space = {"lr": {"type": "choice", "values": [1, 2, 3]}}
    found = job(search_space=space, raysweep={"sampler": "auto", **own})
    assert kind == found.spec.sampler.kind


@pytest.mark.parametrize(
    ("low", "high", "told"), [(1e-5, 0.1, True), (-6, -1, False), (0, 1, False), (1, 3, False)]
)
def test_bounds_that_look_like_values_are_told(low: float, high: float, told: bool) -> None:
    """Exponents from 0.00001 to 0.1 are nobody's learning rates: what to write is said."""
    bounds = {"type": "loguniform", "min_value": low, "max_value": high}
    found = [each for each in job(search_space={"lr": bounds}).notices if "exponents" in each]
    assert told == bool(found)
    assert all("for 1e-05 to 0.1 write -11.51 and -2.303" in each for each in found)
