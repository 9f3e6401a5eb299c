"""The environment of a command: which Python and which packages it finds.

One rule: an environment is built once for all trials that ask for the same, and kept by its content
when the sweep is over; what a build was killed in the midst of is built anew. Where nothing is asked
for, a command runs in what the cluster has. An image is for `containers`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.core.command import Environment
from raysweep.errors import EnvironmentBuildError, UserError
from raysweep.runtime.command.cache import once, user_cache
from raysweep.runtime.process_tree import ending_with_parent

CONDAS = ("micromamba", "mamba", "conda")  # the first that is on PATH builds
PLAIN = (
    "python",
    "pip",
    "setuptools",
    "wheel",
)  # conda packages that a virtual environment has, too
REASON = 200  # characters of the line that says why a build failed
LAST = 15  # lines of a failed build's output that are told
PATIENCE = 60.0  # seconds for an interpreter to say its version
CLUSTERS = "run in the cluster's own with `--set raysweep.environment=cluster`"
REMEDY = f"map the environment to one that can be built in the mapping file, or {CLUSTERS}"

# Variables that would mix another Python's packages in; empty is unset to Python.
APART = {"PYTHONPATH": "", "PYTHONHOME": ""}

CONDA_PACKAGE = re.compile(r"(?:\S+::)?([\w.-]+)")  # conda-forge::numpy=1.26: the channel goes
CONDA_PYTHON = re.compile(r"(?:\S+::)?python\s*=+\s*(\d+\.\d+)")
# As Python says it, in a traceback or of `python -m`.
MISSING = re.compile(r"(?:Error|python[\d.]*): No module named ['\"]?([\w.]+)")
INSTALLED_AS = {  # the package that brings a module, where its name is another
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An environment that is there: how a command is started in it."""

    path_entries: tuple[str, ...]  # what PATH begins with
    variables: Mapping[str, str]  # set for the command, unless the job sets them
    what: str  # for messages: the cluster's own environment (Python 3.11.7)


def ready(environment: Environment, cache: Path, log: Log) -> Prepared:
    """See that an environment is there on this node, and build it if it is not.

    Args:
        environment: What the job asks for.
        cache: A folder of this node, for what lasts as long as the sweep. What is built is kept
            in the user's own cache beyond it.
        log: Takes a line about what is going on.

    Raises:
        UserError: It cannot be built here.
    """
    if environment.python:
        return _existing(environment.python, cache)
    if environment.pip:
        return _virtual(environment.pip, sys.executable, log)
    if environment.conda is not None:
        return _conda(environment.conda, log)
    return Prepared(
        path_entries=_entries(sys.executable, cache),
        variables={},
        what=f"the cluster's own environment (Python {platform.python_version()})",
    )


def advice(last_lines: str, environment: Environment, prepared: Prepared) -> str:
    """What to do about a module that a failed command did not find; "" if it did not lack any."""
    missing = MISSING.findall(last_lines)
    if not missing:
        return ""
    module = missing[-1].partition(".")[0]
    package = INSTALLED_AS.get(module, module)
    instead = f", which the trial ran in for {environment.name}" if environment.name else ""
    return (
        f"module {module!r} is missing in {prepared.what}{instead};"
        f" {_mending(environment, package)}; if it is your own, see that the code folder holds it"
        f" and its .amlignore or .gitignore does not leave it out"
    )


def _mending(environment: Environment, package: str) -> str:
    if environment.pip or environment.conda is not None:
        return f"add {package} to its requirements"
    if environment.python:
        return f"install {package} there, on every node"
    return (
        f"install {package} on every node, or give the environment's requirements in the mapping"
        f" file"
    )


# What is there already


def _existing(python: str, cache: Path) -> Prepared:
    """An interpreter that somebody else has installed on this node."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    try:
        told = subprocess.run(  # noqa: S603  (what the user asked for)
            command, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"environment's python {python} does not run on {socket.gethostname()}: {error};"
            f" install it on every node, or {CLUSTERS}"
        ) from error
    return Prepared(
        path_entries=_entries(python, cache),
        variables={},
        what=f"the environment of {python} (Python {told.stdout.strip()})",
    )


def _entries(python: str, cache: Path) -> tuple[str, ...]:
    """What PATH begins with so that `python` is this interpreter, and its scripts are found."""
    folder = Path(python).parent
    named = folder / "python"
    if named.exists() and named.resolve() == Path(python).resolve():
        return (str(folder),)
    return (str(_stand_in(python, cache)), str(folder))


def _stand_in(python: str, cache: Path) -> Path:
    """A folder whose `python` is an interpreter that has another name where it lies.

    A script and not a link: Python finds its packages from where it is started.
    """
    key = hashlib.sha256(python.encode()).hexdigest()[:24]

    def make(folder: Path, _: int) -> None:
        script = folder / "python"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)

    return once(cache / "pythons" / key, make)


# What is built


def _virtual(requirements: Sequence[str], python: str, log: Log) -> Prepared:
    """A virtual environment with what pip finds for these requirements."""
    text = "".join(f"{line}\n" for line in requirements)

    def make(folder: Path, lock: int) -> None:
        wanted = folder / "requirements.txt"
        wanted.write_text(text, encoding="utf-8")
        _build([python, "-m", "venv", str(folder / "env")], lock)
        pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        _build([*pip, "--disable-pip-version-check", "-r", str(wanted)], lock)

    what = f"virtual environment of {len(requirements)} requirements"
    env = _kept("pip", [text, _identity(python)], make, what, log) / "env"
    return Prepared(
        path_entries=(str(env / "bin"),),
        variables={**APART, "VIRTUAL_ENV": str(env)},
        what=f"the {what} ({env})",
    )


def _conda(document: Mapping[str, Any], log: Log) -> Prepared:
    """A conda environment; a virtual one where nothing in it needs conda, or where there is none."""
    tool = next(filter(None, map(shutil.which, CONDAS)), None)
    listed = document.get("dependencies") or []
    packages = [each for each in listed if isinstance(each, str)]
    pin = _pinned(packages)
    python = _python(pin)
    if all(map(_plain, packages)) and (python is not None or tool is None):
        if python is None:
            running = platform.python_version()
            log(f"the environment asks for Python {pin}, and gets this node's {running}")
        return _virtual(_requirements(listed), python or sys.executable, log)
    if tool is None:
        in_the_way = ", ".join(each for each in packages if not _plain(each))
        raise EnvironmentBuildError(
            f"the environment needs {in_the_way} from conda, and {socket.gethostname()} has none of"
            f" {', '.join(CONDAS)}; install micromamba on every node, {REMEDY}"
        )
    portable = {key: value for key, value in document.items() if key != "prefix"}
    text = json.dumps(portable, default=str)  # which is YAML, too

    def make(folder: Path, lock: int) -> None:
        wanted = folder / "environment.yml"
        wanted.write_text(text, encoding="utf-8")
        create = ["create"] if Path(tool).name == "micromamba" else ["env", "create"]
        _build([tool, *create, "-p", str(folder / "env"), "-f", str(wanted)], lock)

    what = f"conda environment {document.get('name', '')}".rstrip()
    env = _kept("conda", [text, sysconfig.get_platform()], make, what, log) / "env"
    return Prepared(
        path_entries=(str(env / "bin"),),
        variables={**APART, "PYTHONNOUSERSITE": "1", "CONDA_PREFIX": str(env)},
        what=f"the {what} ({env})",
    )


def _requirements(listed: Sequence[Any]) -> list[str]:
    """What pip is to install of a conda file's dependencies."""
    sections = [each.get("pip") or [] for each in listed if isinstance(each, Mapping)]
    return [str(line) for section in sections for line in section]


def _plain(package: str) -> bool:
    found = CONDA_PACKAGE.match(package)
    return found is not None and found[1] in PLAIN


def _pinned(packages: Sequence[str]) -> str:
    """The Python that a conda file asks for, as `3.11`; "" if any will do."""
    return next((found[1] for found in map(CONDA_PYTHON.match, packages) if found), "")


def _python(version: str) -> str | None:
    """An interpreter of this version; None if this node has none."""
    if not version or platform.python_version().startswith(f"{version}."):
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        return None
    command = [found, "-c", "import venv"]  # a shim on the path may lead nowhere
    runs = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)  # noqa: S603
    return found if runs.returncode == 0 else None


def _identity(python: str) -> str:
    """What tells an interpreter from others, for an environment that is built upon it."""
    place = str(Path(python).resolve())
    version = sys.version if python == sys.executable else ""
    return f"{place} {version} {sysconfig.get_platform()} {platform.libc_ver()}"


def _kept(
    kind: str, content: Sequence[str], make: Callable[[Path, int], None], what: str, log: Log
) -> Path:
    """The folder of an environment, which is built if it is not there."""
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]

    def timed(folder: Path, lock: int) -> None:
        began = time.monotonic()
        log(f"building the {what} in {folder}")
        make(folder, lock)
        log(f"built the {what} in {time.monotonic() - began:.0f} s")

    folder = user_cache() / "environments" / f"{kind}-{key}"
    return once(folder, timed, wait=lambda: log(f"waiting for the {what}: another trial builds it"))


def _build(command: Sequence[str], lock: int) -> None:
    """Run a step of a build, in our process group: whoever kills us kills it.

    Should it outlive us all the same, it holds the lock, and no other build begins meanwhile.
    """
    variables = {name: value for name, value in os.environ.items() if name not in APART}
    variables |= {"CONDA_ALWAYS_YES": "true", "MAMBA_ALWAYS_YES": "true"}
    try:
        with subprocess.Popen(  # noqa: S603  (the tools of this node)
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            pass_fds=[lock],
            preexec_fn=ending_with_parent(),  # noqa: PLW1509  (this process has one thread)
        ) as process:
            last = _last_lines(process)
    except OSError as error:
        raise EnvironmentBuildError(f"{command[0]} cannot be started: {error}; {REMEDY}") from error
    if process.returncode:
        raise EnvironmentBuildError(
            f"the environment cannot be built on {socket.gethostname()}: {_reason(last)}; {REMEDY}",
            output=f"{shlex.join(command)}\n{last}",
        )


def _reason(output: str) -> str:
    """The line that says why a tool gave up: the last that speaks of an error, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    spoken = [line for line in lines if "error" in line.lower()]
    return (spoken or lines or ["it says nothing"])[-1][:REASON]


def _last_lines(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    try:
        return "".join(deque(process.stdout, LAST)).strip()
    except BaseException:
        process.kill()
        raise
