"""A trial that is a shell command: what it runs, reads, writes and needs.

One rule: it is data. Whatever wrote it down (a job file, an SDK object) has resolved every path to
an absolute one and refused what cannot be run; `runtime/command/` carries it out.

In the text of a command `${{search_space.lr}}`, `${{inputs.data}}` and `${{outputs.model}}` stand
for a trial's values; `references_in` finds them.

>>> [str(reference) for reference in references_in("python a.py --lr ${{ search_space.lr }}")]
['search_space.lr']
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

REFERENCE = re.compile(r"\$\{\{\s*([A-Za-z_]+)\.([^\s{}]+?)\s*\}\}")
ROOTS = ("search_space", "inputs", "outputs")  # what a reference may begin with

FOLDERS = ("uri_folder", "mltable", "mlflow_model", "triton_model")  # types that no one file can be
DIRECT = "direct"  # the mode in which a command is handed an address as it is

Literal = bool | int | float | str


@dataclass(frozen=True)
class Reference:
    """A place in a command's text that stands for a value: `${{inputs.data}}`."""

    root: str  # one of ROOTS, or what was written in its place
    name: str
    start: int  # characters from the beginning of the text
    end: int

    def __str__(self) -> str:
        """As it is written between the braces."""
        return f"{self.root}.{self.name}"


def references_in(text: str) -> Iterator[Reference]:
    """Every reference in a command's text, in order."""
    for found in REFERENCE.finditer(text):
        yield Reference(found[1], found[2], *found.span())


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file or a folder that the command reads."""

    type: str  # uri_file, uri_folder, mltable, custom_model, mlflow_model, triton_model
    path: str  # absolute on this machine, or a URI: https://..., s3://...
    mode: str = "ro_mount"  # ro_mount, download, direct, eval_mount, eval_download

    @property
    def remote(self) -> bool:
        """Whether it lies elsewhere than on this machine."""
        return "://" in self.path

    @property
    def shown(self) -> str:
        """The path for people: of an address without what may be secret, credentials and query."""
        if not self.remote:
            return self.path
        scheme, _, rest = self.path.partition("://")
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        secret = scheme.startswith("http") or ":" in host.rpartition("@")[0]
        return f"{scheme}://{host.rpartition('@')[2] if secret else host}{slash}{path}"


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file or a folder that the command writes, kept with the sweep."""

    type: str = "uri_folder"  # or uri_file, custom_model, mlflow_model, mltable, triton_model


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What is installed where the command runs; all empty: what the cluster has.

    At most one of `python`, `pip` and `conda` is given.
    """

    name: str = ""  # as the job calls it, for messages: azureml:AzureML-sklearn-1.5@latest
    python: str = ""  # an interpreter that is there already, absolute
    pip: tuple[str, ...] = ()  # requirements, a line each
    conda: Mapping[str, Any] | None = None  # a conda environment file's content
    image: str = ""  # of a container


@dataclass(frozen=True, kw_only=True)
class Command:
    """A trial that is a shell command."""

    text: str  # for bash, with references
    code: str = ""  # absolute path of the folder that is the working directory; "": an empty one
    literals: Mapping[str, Literal] = field(default_factory=dict)  # inputs that are plain values
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables
    environment: Environment = field(default_factory=Environment)
    processes: int | None = None  # of one PyTorch job, all on the trial's node; None: it is none
    experiment: str = ""  # the name of the MLflow experiment that the script sees

    def to_dict(self) -> dict[str, Any]:
        """The command as JSON's builtins."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The command that `to_dict` described."""
        given = dict(plain)
        given["inputs"] = {name: Input(**each) for name, each in given["inputs"].items()}
        given["outputs"] = {name: Output(**each) for name, each in given["outputs"].items()}
        environment = given["environment"]
        given["environment"] = Environment(**environment | {"pip": tuple(environment["pip"])})
        return cls(**given)
