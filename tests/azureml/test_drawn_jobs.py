"""Jobs that nobody wrote: drawn at random, right and wrong, and read by both sides."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import oracle
import pytest
import reading
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_agreement import canonical

from raysweep.azureml import REFUSALS, Job, JobFileError, Problem, read_job

# A value that may stand anywhere, and mostly should not.
NUMBERS = st.one_of(
    st.integers(-3, 120),
    st.floats(-20, 20).map(lambda value: round(value, 3)),
    st.sampled_from([0, 1, -1, 0.0, 5.0, 4.7, 0.25, 2**70, 1e300, float("nan")]),
)
STRINGS = st.sampled_from(
    ["5", "1e-4", "-3", " 7 ", "1_0", "4.7", "nan", "inf", "", "x", "yes", "0x10", ".5", "random"]
)
ODD = st.sampled_from([True, False, None, [], {}, [1], {"a": 1}, dt.date(2020, 1, 2)])
ANYTHING = st.one_of(NUMBERS, STRINGS, ODD)


def cased(*words: str) -> st.SearchStrategy[Any]:
    """A word in one of the cases that people write it in."""
    forms = [form for word in words for form in (word, word.upper(), word.title(), pascal(word))]
    return mostly(st.one_of(st.sampled_from(words), st.sampled_from(forms)))


def pascal(word: str) -> str:
    """`median_stopping` as `MedianStopping`."""
    return word.title().replace("_", "")


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What should stand there, and one time in twenty anything else."""
    return st.integers(0, 19).flatmap(lambda chance: ANYTHING if chance == 0 else strategy)


def mapping(
    needed: Mapping[str, st.SearchStrategy[Any]],
    optional: Mapping[str, st.SearchStrategy[Any]] | None = None,
) -> st.SearchStrategy[Any]:
    """A mapping of these keys; one time in twenty one lacks, or there is one too many."""
    whole = st.fixed_dictionaries(dict(needed), optional=dict(optional or {}))
    loose = st.fixed_dictionaries({}, optional={**needed, **(optional or {}), "extra": ANYTHING})
    return st.integers(0, 19).flatmap(lambda chance: loose if chance == 0 else whole)


NUMBER = mostly(st.one_of(NUMBERS, NUMBERS, st.sampled_from(["1e-4", "5", "-.5", " 7 "])))
COUNT = mostly(st.integers(1, 50))
FAMILIES = {
    ("uniform", "loguniform"): {"min_value": NUMBER, "max_value": NUMBER},
    ("quniform", "qloguniform"): {"min_value": NUMBER, "max_value": NUMBER, "q": NUMBER},
    ("normal", "lognormal"): {"mu": NUMBER, "sigma": NUMBER},
    ("qnormal", "qlognormal"): {"mu": NUMBER, "sigma": NUMBER, "q": NUMBER},
    ("randint",): {"upper": COUNT},
}
NUMERIC = st.one_of(
    [mapping({"type": cased(*kinds), **fields}) for kinds, fields in FAMILIES.items()]
)
SCALARS = mostly(st.one_of(NUMBERS, STRINGS))
FLAT = mapping({"type": cased("choice")}, {"values": st.lists(SCALARS, max_size=4)})
OPTIONS = st.dictionaries(
    st.sampled_from(["a", "b", "type"]), st.one_of(SCALARS, NUMERIC, FLAT), max_size=3
)
DEEP = mapping(
    {"type": cased("choice"), "values": st.lists(st.one_of(SCALARS, OPTIONS), max_size=4)}
)
EXPRESSIONS = st.one_of(NUMERIC, FLAT, DEEP)

SCHEDULE = {"evaluation_interval": COUNT, "delay_evaluation": COUNT}
POLICIES = st.one_of(
    mapping(
        {"type": cased("bandit")}, {"slack_factor": NUMBER, "slack_amount": NUMBER, **SCHEDULE}
    ),
    mapping({"type": cased("median_stopping")}, SCHEDULE),
    mapping({"type": cased("truncation_selection"), "truncation_percentage": NUMBER}, SCHEDULE),
)
SAMPLERS = st.one_of(
    cased("random", "grid", "bayesian"),
    mapping(
        {"type": cased("random")},
        {"seed": NUMBER, "rule": cased("random", "sobol"), "logbase": ANYTHING},
    ),
    mapping({"type": cased("grid", "bayesian")}),
)
LIMITS = mapping(
    {"max_total_trials": COUNT},
    {"max_concurrent_trials": COUNT, "timeout": NUMBER, "trial_timeout": NUMBER},
)
PATHS = st.sampled_from(
    ["../data", "../data/iris.csv", "nowhere", "azureml:d:1", "https://x.org/d"]
)
INPUTS = st.one_of(
    ANYTHING,
    mapping({"value": ANYTHING}),
    mapping(
        {"path": mostly(PATHS)},
        {
            "type": cased("uri_file", "uri_folder", "mltable", "custom_model"),
            "mode": cased("download", "ro_mount", "direct", "eval_mount", "rw_mount"),
        },
    ),
)
OUTPUTS = mapping(
    {},
    {
        "type": cased("uri_file", "uri_folder", "mltable", "mlflow_model"),
        "mode": cased("upload", "rw_mount", "mount", "direct", "ro_mount"),
        "name": STRINGS,
        "version": ANYTHING,
    },
)
ENVIRONMENTS = st.one_of(
    st.sampled_from(["azureml:x:1", "azureml:x@latest", "azureml:x", "azureml:/x", "azureml://x"]),
    st.sampled_from(["azureml://registries/r/environments/x", "x", "azureml:", "azureml:a/b"]),
    mapping(
        {"image": mostly(STRINGS)},
        {
            "conda_file": st.sampled_from(
                ["../conda.yml", "x.yml", {"dependencies": ["a"]}, 5, ""]
            ),
            "os_type": cased("linux", "windows"),
            "name": ANYTHING,
            "version": ANYTHING,
            "tags": ANYTHING,
        },
    ),
    ANYTHING,
)
RESOURCES = mapping(
    {},
    {"instance_count": COUNT, "instance_type": ANYTHING, "shm_size": STRINGS, "docker_args": ODD},
)
DISTRIBUTIONS = st.one_of(
    mapping({"type": cased("pytorch", "mpi")}, {"process_count_per_instance": COUNT}),
    mapping(
        {"type": cased("tensorflow")}, {"worker_count": COUNT, "parameter_server_count": COUNT}
    ),
    mapping({"type": cased("ray")}, {"port": COUNT, "include_dashboard": ANYTHING}),
)
# What may be put where, into a job that is right.
CHANGES: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("search_space", "lr"): EXPRESSIONS,
    ("search_space", "other"): EXPRESSIONS,
    ("early_termination",): POLICIES,
    ("sampling_algorithm",): SAMPLERS,
    ("limits",): LIMITS,
    ("objective",): mapping(
        {"goal": cased("maximize", "minimize"), "primary_metric": mostly(STRINGS)}
    ),
    ("inputs", "x"): INPUTS,
    ("outputs", "y"): OUTPUTS,
    ("trial", "environment"): ENVIRONMENTS,
    ("trial", "environment_variables"): st.one_of(ANYTHING, st.dictionaries(STRINGS, ANYTHING)),
    ("trial", "resources"): RESOURCES,
    ("trial", "distribution"): DISTRIBUTIONS,
    ("trial", "code"): mostly(st.sampled_from(["../src", "src", "git+x", "azureml:c:1"])),
    ("resources",): RESOURCES,
    ("queue_settings",): mapping(
        {}, {"job_tier": cased("spot", "basic"), "priority": cased("low")}
    ),
    ("identity",): mapping({"type": cased("managed", "aml_token", "user_identity")}),
    ("compute",): ANYTHING,
    ("tags",): st.one_of(ANYTHING, st.dictionaries(STRINGS, ANYTHING, max_size=2)),
    ("display_name",): ANYTHING,
    ("name",): ANYTHING,
    ("services", "s"): mapping(
        {}, {"type": cased("ssh", "tensor_board"), "port": COUNT, "log_dir": STRINGS}
    ),
    ("status",): ANYTHING,
    ("typo",): ANYTHING,
}
RIGHT: dict[str, Any] = {
    "type": "sweep",
    "trial": {"command": "echo ${{search_space.lr}}", "environment": "azureml:x:1"},
    "search_space": {"lr": {"type": "uniform", "min_value": 0, "max_value": 1}},
    "objective": {"goal": "maximize", "primary_metric": "a"},
    "limits": {"max_total_trials": 4},
}


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A job that is right, with one or two changes."""
    job = copy.deepcopy(RIGHT)
    places = st.lists(st.sampled_from(list(CHANGES)), min_size=1, max_size=2, unique=True)
    for *way, last in draw(places):
        inside = job
        for key in way:
            inside = inside.setdefault(key, {})
        inside[last] = draw(CHANGES[*way, last])
    return job


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to write jobs into, one after another."""
    folder = tmp_path_factory.mktemp("drawn") / "jobs"
    folder.mkdir()
    for name in ("src", "data", "conda.yml"):
        (folder.parent / name).symlink_to(reading.JOBS / name)
    return folder / "job.yml"


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(job=jobs())
def test_drawn_jobs_are_read_alike(drawn: Path, job: dict[str, Any]) -> None:
    """Both accept a job, and it means the same; or both refuse it; or a table says why not."""
    drawn.write_text(yaml.safe_dump(job, sort_keys=False))
    theirs = oracle.load(drawn)
    ours, problems = attempt(drawn)
    if ours is None:
        assert theirs is None or all(map(has_row, problems)), problems
        return
    if theirs is None:
        assert uses_extension(yaml.safe_load(drawn.read_text())), "azure-ai-ml refuses it"
        return
    expected, actual = oracle.plain(theirs), reading.plain(ours)
    for part in ("environment", "name", "about"):
        del expected[part], actual[part]
    for policy in (expected["policy"], actual["policy"]):
        if policy.get("evaluation_interval") == 1:
            del policy["evaluation_interval"]
    assert canonical(expected) == canonical(actual)


def attempt(path: Path) -> tuple[Job | None, tuple[Problem, ...]]:
    """Our job, or what is wrong with it."""
    try:
        return read_job(path), ()
    except JobFileError as error:
        return None, error.problems


def has_row(problem: Problem) -> bool:
    """Whether the table of refusals has the row that this problem comes from."""
    remedies = (row.remedy.partition("{")[0] for row in REFUSALS.values())
    return any(remedy in problem.message for remedy in remedies)


def uses_extension(job: Mapping[str, Any]) -> bool:
    """Whether a value of a choice is a boolean or null, at whatever depth."""
    return any(has_flag(each) for each in job["search_space"].values())


def has_flag(plain: Any) -> bool:  # noqa: ANN401  (whatever stands there)
    """The same, of one expression."""
    if isinstance(plain, dict):
        return any(has_flag(each) for each in plain.values())
    if isinstance(plain, list):
        return any(has_flag(each) for each in plain)
    return plain is None or isinstance(plain, bool)
