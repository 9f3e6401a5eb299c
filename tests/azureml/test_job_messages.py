"""What a user is told about a job that cannot be read."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path

import pytest
import reading

from raysweep.azureml import JobFileError, read_job
from raysweep.errors import SpecError

WRONG = """\
type: sweep
trial:
  command: python train.py ${{search_space.larning_rate}}
  environment: azureml:x:1
  resources: {instance_count: 4}
search_space:
  learning_rate: {type: unifrom, min_value: 0, max_value: 1}
  width:
    type: choice
    values: [16, [32], {depth: {type: randint, upper: 0}}]
objective:
  goal: maximise
  primary_metric: accuracy
limits:
  max_total_trials: 0
  max_concurent_trials: 2
"""

# One line for each problem, as a user sees them.
EXPECTED = """\
sweep.yml:3:12: trial.command: refers to ${{search_space.larning_rate}}, which is not defined; \
define it, or mend the reference; did you mean 'search_space.learning_rate'?
sweep.yml:5:31: trial.resources.instance_count: must be 1, but got 4; use instance_count: 1
sweep.yml:7:25: search_space.learning_rate.type: must be one of choice, randint, uniform, \
loguniform, quniform, qloguniform, normal, lognormal, qnormal, qlognormal, but got 'unifrom' \
(str); did you mean 'uniform'?
sweep.yml:10:18: search_space.width.values[1]: must be a number, a string, a boolean, null or \
a mapping, but got [32] (list)
sweep.yml:12:9: objective.goal: must be one of minimize, maximize, but got 'maximise' (str); \
did you mean 'maximize'?
sweep.yml:15:21: limits.max_total_trials: must be above 0, but got 0; give a whole number above \
0, or leave the key out
sweep.yml:16:3: limits.max_concurent_trials: is not a known key; did you mean \
'max_concurrent_trials'?
"""


def problems(path: Path) -> list[str]:
    """What is wrong, without the folder that the file is in."""
    with pytest.raises(JobFileError) as caught:
        read_job(path)
    return [str(each).replace(f"{path.parent}/", "") for each in caught.value.problems]


def written(tmp_path: Path, text: str) -> Path:
    """A job file of this text."""
    path = tmp_path / "sweep.yml"
    path.write_text(textwrap.dedent(text))
    return path


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    """All problems come together, in the order of the file, each with its line and column."""
    assert EXPECTED.splitlines() == problems(written(tmp_path, WRONG))


def test_the_error_is_a_spec_error_that_can_travel(tmp_path: Path) -> None:
    """It says a line for each problem, and keeps them when it is pickled."""
    path = written(tmp_path, WRONG)
    with pytest.raises(SpecError) as caught:
        read_job(path)
    error = caught.value
    assert isinstance(error, JobFileError)
    assert 7 == len(str(error).splitlines())
    assert error.problems == pickle.loads(pickle.dumps(error)).problems


def test_what_is_missing_points_at_what_should_hold_it(tmp_path: Path) -> None:
    """A key that is not there is told at its mapping; one of the job, at the top."""
    path = written(
        tmp_path,
        """\
        type: sweep
        search_space:
          lr:
            type: uniform
            min_value: 0
        objective: {goal: maximize, primary_metric: a}
        limits: {max_total_trials: 1}
        """,
    )
    assert problems(path) == [
        "sweep.yml:1:1: must have the key 'trial', but it is missing",
        "sweep.yml:3:3: search_space.lr: must have the key 'max_value', but it is missing",
    ]


def test_a_mapping_has_paths_alone() -> None:
    """What has no lines is told by its keys."""
    with pytest.raises(JobFileError) as caught:
        read_job({"type": "sweep", "trial": {}, "objective": {}, "limits": {}})
    assert "trial: must have the key 'command', but it is missing" in str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "sweep.yml: must be a mapping of keys to values, but got nothing"),
        (b"- 1", "sweep.yml:1:1: must be a mapping of keys to values, but got [1] (list)"),
        (b"a: [", "sweep.yml:1:5: is not YAML 1.1: while parsing a flow node: expected the node"),
        (b"a:\n\tb: 1", "sweep.yml:2:1: is not YAML 1.1: while scanning for the next token: found"),
        (b"a: 1\n---\nb: 1", "sweep.yml:2:1: is not YAML 1.1: expected a single document in the"),
        (b"a: \xff", "sweep.yml:1:4: must be UTF-8 text, but has the byte 0xff here"),
        (b"a: 1\nb: 2020-13-45", "sweep.yml:2:4: cannot be read as timestamp: month must be in"),
        (b"a: \x00", "sweep.yml: is not YAML"),
        (b"a: !!python/name:os.system x", "sweep.yml:1:4: is not YAML 1.1: could not determine"),
        (b"a: &a [*a]", "sweep.yml:1:4: is nested more than 64 levels deep, or into itself"),
        (b"[" * 100_000, "sweep.yml: is nested too deeply to be read"),
        (b"a: " + b"[" * 80 + b"]" * 80, "sweep.yml:1:68: is nested more than 64 levels deep"),
    ],
)
def test_what_is_no_job_file_at_all(tmp_path: Path, data: bytes, expected: str) -> None:
    """What cannot even be parsed is named, and where."""
    path = tmp_path / "sweep.yml"
    path.write_bytes(data)
    (told,) = problems(path)
    assert told.startswith(expected)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A path to nothing is a problem of the file."""
    assert problems(tmp_path / "nowhere.yml") == [
        "nowhere.yml: cannot be read: No such file or directory"
    ]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    """Windows' editors put one in front."""
    path = tmp_path / "sweep.yml"
    path.write_bytes(b"\xef\xbb\xbf" + (reading.JOBS / "valid" / "least.yml").read_bytes())
    assert "accuracy" == read_job(path).spec.objective.metric


@pytest.mark.parametrize("merge", ["*{0}, *{0}", "{{<<: [*{0}, *{0}]}}"])
def test_a_bomb_of_aliases_is_defused(tmp_path: Path, merge: str) -> None:
    """Aliases that unfold to more than any job has are refused before they unfold."""
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for level in range(60):
        inside = merge.format(f"a{level}")
        lines.append(f"a{level + 1}: &a{level + 1} {inside if '<<' in inside else f'[{inside}]'}")
    (told,) = problems(written(tmp_path, "\n".join(lines)))
    assert "more than 100000 values once its aliases unfold" in told


def test_keys_that_are_written_twice_are_noticed() -> None:
    """The last one counts, as in any YAML 1.1, and the user hears of it."""
    path = reading.JOBS / "valid" / "keys_twice.yml"
    job = read_job(path)
    assert [f"{path}:9:51: max_value is written twice; the last one counts"] == [
        each for each in job.notices if "max_value" in each
    ]
    assert 9 == job.spec.limits.max_total_trials


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("twins", "search_space.lr.values[2]: is a value of this choice already; it counts once"),
        ("single_braces", "trial.command: uses {...} for references, read as ${{...}}"),
        ("inputs_literal", "inputs.wrapped_half: {value: 2.5} is 2 to Azure ML, and so it is here"),
        (
            "resources",
            "not used here: compute, identity, queue_settings, trial.queue_settings, resources.",
        ),
    ],
)
def test_what_else_a_user_should_know_is_noticed(name: str, expected: str) -> None:
    """What is read otherwise than it looks, or not used, is one line each."""
    job = read_job(reading.JOBS / "valid" / f"{name}.yml")
    assert 1 == len([each for each in job.notices if expected in each])
