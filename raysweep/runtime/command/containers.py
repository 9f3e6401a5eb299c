"""A command in a container: how podman is asked to run it.

One rule: only the user's command runs in the image. What supervises it stays outside, so that an
image needs neither Ray nor raysweep; the container sees the folders that the command is told of,
under the same names, and the node's network, where the tracking endpoint is.

The container's processes are children of the trial's: they end with it as others do.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from raysweep.core.command import Environment
from raysweep.runtime.process_tree import MARK

SHELL = "bash"
ENGINE = "podman"
LABEL = "raysweep.trials="
REMOVED_WITHIN = 20.0  # seconds
GPUS = "CUDA_VISIBLE_DEVICES"
# Variables that hold in a container, too.
NODES_OWN = (
    GPUS,
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONUNBUFFERED",
    MARK,
)

# The first process of a container gets no signal that it has no handler for, and its end is the
# container's: this one passes SIGTERM on to all the others and ends as the command does.
FIRST = (
    'bash -c "$0" & child=$!; trap "kill -TERM -1" TERM;'
    " while :; do wait $child; code=$?; kill -0 $child 2>/dev/null || exit $code; done"
)


@dataclass(frozen=True, kw_only=True)
class Container:
    """One command's container."""

    image: str
    name: str  # unique on the node, but for a rank
    crew: str  # what `forget` knows it by
    work: Path  # the working directory
    written: tuple[Path, ...]  # folders that the command writes; that one lies in one of them
    read: tuple[Path, ...]  # files and folders that it reads

    def command(self, script: str, variables: Mapping[str, str]) -> list[str]:
        """What runs a script for bash in the container, with these variables of its environment.

        They are named, not written out: anybody on the node can read a process's arguments.
        """
        names = [*variables, *(name for name in NODES_OWN if name not in variables)]
        name = f"raysweep-{self.name}-{variables.get('RANK', 0)}"
        return [
            *(ENGINE, "run", "--rm", "--replace", "--name", name, "--label", LABEL + self.crew),
            *("--network=host", "--ipc=host", "--workdir", str(self.work)),
            *_options("--mount", map(_bound, self.written)),
            *_options("--mount", (f"{_bound(path)},readonly" for path in self.read)),
            *_options("--env", names),
            *(("--device", "nvidia.com/gpu=all") if variables.get(GPUS) else ()),
            *("--entrypoint", SHELL, self.image, "-c", FIRST, script),
        ]


def suits(environment: Environment, log: Callable[[str], None]) -> bool:
    """Whether an environment's image is to be used here: where podman is, and nothing else is said.

    An image with a conda file beside it is Azure's base for that file, which is built without it.
    """
    if environment.conda is not None or environment.pip or environment.python:
        return False
    if shutil.which(ENGINE) is not None:
        return True
    log(f"{ENGINE} is not on this node: the command runs without {environment.image}")
    return False


def _bound(path: Path) -> str:
    """A path of the node under its own name, as podman reads its options: in CSV."""
    fields = ("type=bind", f"source={path}", f"target={path}")
    return ",".join(f'"{field}"' if "," in field else field for field in fields)


def forget(crew: str) -> None:
    """Let the engine forget the containers of trials that were killed: none of them runs any more."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603  (podman's own name, and ours)
            [ENGINE, "rm", "--force", "--filter", f"label={LABEL}{crew}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=REMOVED_WITHIN,
            check=False,
        )


def _options(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (name, value)]
