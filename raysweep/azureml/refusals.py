"""What Azure ML's loader accepts and raysweep refuses, and what raysweep accepts beyond it.

One rule: these two tables are the whole difference. Every refusal is raised by its name, so that a
row that nothing raises, or an error without a row, cannot come about unseen; `docs/azure.md`
shows the same tables, and the tests hold a job file for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysweep.azureml.documents import Place
from raysweep.errors import JobFileError


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A job that Azure ML's loader accepts and raysweep does not run."""

    what: str
    why: str
    remedy: str  # the end of the message


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A job that raysweep runs and Azure ML's loader refuses."""

    what: str
    why: str


_SERVICE = "Azure ML refuses it, too, when the job is submitted"
_EMPTY = "it means nothing, and Azure ML's service refuses it"
_ONE_NODE = "a trial runs on one node"

REFUSALS: Mapping[str, Refusal] = {
    # The search space
    "empty_space": Refusal(
        what="a search space without a parameter, or none at all",
        why="there is nothing to search",
        remedy="give search_space at least one parameter",
    ),
    "name": Refusal(
        what="a parameter, input or output whose name is no identifier (`learning-rate`)",
        why=_SERVICE,
        remedy="use letters, digits and underscores, and begin with no digit",
    ),
    "empty_choice": Refusal(
        what="a choice without values",
        why=_EMPTY,
        remedy="give values: [...] at least one",
    ),
    "bounds": Refusal(
        what="min_value above max_value",
        why=_EMPTY,
        remedy="swap them",
    ),
    "quantum": Refusal(
        what="q of 0 or below",
        why=_EMPTY,
        remedy="give q above 0, or use the type without q",
    ),
    "no_multiple": Refusal(
        what="bounds between which no multiple of q lies",
        why="values are the multiples of q within the bounds",
        remedy="use a smaller q or wider bounds",
    ),
    "steps": Refusal(
        what="more than 2**40 values: a tiny q, a huge randint",
        why="floats cannot tell such steps apart",
        remedy="use a larger q, or the continuous type",
    ),
    "sigma": Refusal(
        what="sigma of 0 or below",
        why=_EMPTY,
        remedy="give sigma above 0",
    ),
    "randint": Refusal(
        what="randint with upper below 1",
        why="values run from 0 to upper - 1",
        remedy="give upper of at least 1",
    ),
    "exponent": Refusal(
        what="exponents whose power of e is no float: below -744 or above 709",
        why="loguniform's bounds are exponents: values run from exp(min_value) to exp(max_value)",
        remedy="give exponents of e: -6.9 for 0.001",
    ),
    "size": Refusal(
        what="numbers beyond floats, whole numbers of more than 64 bits",
        why="no journal can hold them",
        remedy="use a smaller number",
    ),
    # What searches, and when it ends
    "grid": Refusal(
        what="grid sampling over a continuous parameter",
        why="its values cannot be counted",
        remedy="use choice, randint or quniform for it, or --set sampling_algorithm=random",
    ),
    "seed": Refusal(
        what="a negative seed",
        why="no generator takes one",
        remedy="give a whole number of at least 0",
    ),
    "no_slack": Refusal(
        what="a bandit policy with neither slack_factor nor slack_amount, or with 0 for both",
        why="Azure ML's documentation asks for one",
        remedy="give slack_factor or slack_amount",
    ),
    "two_slacks": Refusal(
        what="a bandit policy with slack_factor and slack_amount, neither of them 0",
        why="Azure ML's documentation asks for one",
        remedy="leave one of them out",
    ),
    "slack": Refusal(
        what="a negative slack",
        why="the best trial would stop itself",
        remedy="give at least 0",
    ),
    "schedule": Refusal(
        what="a negative evaluation_interval or delay_evaluation",
        why=_EMPTY,
        remedy="give at least 0",
    ),
    "truncation": Refusal(
        what="truncation_percentage outside of 1 to 99",
        why="none, or all, would be stopped",
        remedy="give a whole number from 1 to 99",
    ),
    "limit": Refusal(
        what="a number of trials or a timeout of 0 or below",
        why="nothing would run; no limit is a key that is left out",
        remedy="give a whole number above 0, or leave the key out",
    ),
    "metric": Refusal(
        what="an empty primary_metric",
        why="no report can name it",
        remedy="name the metric that the script logs",
    ),
    # The trial
    "command": Refusal(
        what="an empty command",
        why="nothing would run",
        remedy="say what a trial runs",
    ),
    "text": Refusal(
        what="a variable whose name is empty or holds =; a NUL, or half of a character, in a command"
        " or a variable",
        why="no process can be handed it",
        remedy="leave it out",
    ),
    "reference": Refusal(
        what="a reference to an input, output or parameter that is not there",
        why=_SERVICE,
        remedy="define it, or mend the reference",
    ),
    "remote_code": Refusal(
        what="code from git, a URL or Azure ML",
        why="trials run the files of this machine",
        remedy="check it out and name the folder: --set trial.code=./src",
    ),
    "registered_data": Refusal(
        what="an input that only Azure ML can resolve: azureml:NAME:VERSION",
        why="its workspace knows where the data is, this machine does not",
        remedy="name a path or a URL: --set {path}.path=./data",
    ),
    "backend": Refusal(
        what="an input at a URL (azureml://, abfss://, s3://, ...) that no installed package of"
        " fsspec can open",
        why="no node could read it",
        remedy="install fsspec's package for it, or name a copy: --set {path}.path=./data",
    ),
    "web_folder": Refusal(
        what="a folder at a web address; uri_folder is what Azure ML takes an input for that has no"
        " type",
        why="what lies below a web address cannot be listed",
        remedy="name one file: --set {path}.type=uri_file",
    ),
    "missing_path": Refusal(
        what="an input at a path that does not exist on this machine",
        why="trials read the files of this machine",
        remedy="mend the path: --set {path}.path=./data",
    ),
    "no_path": Refusal(
        what="an input without a path",
        why="there is nothing to read",
        remedy="give it one: --set {path}.path=./data",
    ),
    "build": Refusal(
        what="an environment that is built from a Dockerfile",
        why="trials run in the cluster's own containers, or none",
        remedy="use --set raysweep.environment=cluster for what the cluster has installed, or"
        " conda_file",
    ),
    "conda": Refusal(
        what="a conda_file that holds no mapping",
        why="it is no conda environment",
        remedy="give a file with `dependencies:`, or the same inline",
    ),
    "nodes": Refusal(
        what="instance_count other than 1",
        why=_ONE_NODE,
        remedy="use instance_count: 1",
    ),
    "distribution": Refusal(
        what="a distribution over several nodes or of several MPI processes: ray, tensorflow with"
        " more than one worker or with parameter servers, mpi with more than one process",
        why=_ONE_NODE + ", and only PyTorch's processes are started there",
        remedy="leave distribution out, or use pytorch",
    ),
    "processes": Refusal(
        what="process_count_per_instance below 1",
        why="nothing would run",
        remedy="give at least 1",
    ),
    # The job
    "job_name": Refusal(
        what="a name with other characters, or of more than 128",
        why="it becomes a folder's name",
        remedy="use letters, digits, '.', '_' and '-', at most 128, beginning with a letter or"
        " digit, or leave it out for a generated one",
    ),
}

EXTENSIONS: Mapping[str, Extension] = {
    "exclude_finished_jobs": Extension(
        what="exclude_finished_jobs in truncation_selection",
        why="Azure ML's REST interface documents it, its loader does not know it",
    ),
    "scalars": Extension(
        what="true, false and null among the values of a choice",
        why="there is no reason against them",
    ),
    "component": Extension(
        what="trial: file:./component.yml or ./component.yml",
        why="Azure ML takes components for trials in its SDK and in pipelines only",
    ),
    "raysweep": Extension(
        what="the block raysweep: resources, storage, max_attempts, sync_decisions, grace, lease,"
        " keep_checkpoints, environment, sampler, try_first, warm_start",
        why="Azure ML has no keys for them",
    ),
}


def refuse(
    row: str, place: Place, found: str, *, near: str = "", key: bool = False
) -> JobFileError:
    """The error of a row of the table: what was found there, the remedy, and what may be meant."""
    remedy = REFUSALS[row].remedy.format(path=place.path.removesuffix(".path"))
    return JobFileError([place.problem(f"{found}; {remedy}{near}", key=key)])
