"""The user's code on its way to the trials: the training function, pickled by value.

One rule: a trial needs nothing of the machine that the sweep was started on. The function goes with
all of the user's own modules that it uses: those that lie beside or below the file it is written
in. What is installed as a package is expected where the trials run.
"""

from __future__ import annotations

import inspect
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from raysweep.core import checks
from raysweep.errors import SpecError

LARGE = 64 * 1024 * 1024  # bytes; more is data, which belongs into `shared`
PACKAGES = ("raysweep", "ray", "numpy", "scipy", "pyarrow", "torch", "scikit-learn")


def check(function: object) -> None:
    """Refuse what cannot be called with a trial.

    Raises:
        SpecError: it is no function, or takes other arguments.
    """
    if not callable(function):
        raise SpecError(
            f"train must be a function that takes a trial, but got {checks.described(function)}"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # a builtin that does not tell
    try:
        signature.bind("trial")
    except TypeError:
        name = getattr(function, "__name__", repr(function))
        raise SpecError(
            f"the training function must take one argument, the trial, but {name}{signature} does"
            f" not; write `def {name}(trial):` and read trial.params"
        ) from None


def pickled(function: Any) -> bytes:  # noqa: ANN401  (any callable)
    """The function and the user's modules that it uses, as bytes.

    Raises:
        SpecError: it refers to something that cannot be sent, or carries too much data.
    """
    own = list(_own_modules(_home(function)))
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(function)
    except Exception as error:
        raise SpecError(
            f"the training function cannot be sent to the trials: {error};"
            f" create what it refers to inside of it"
        ) from error
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    if len(data) > LARGE:
        raise SpecError(
            f"the training function refers to {len(data) / 2**20:.0f} MiB of data;"
            f" hand large data over with shared={{'name': array}} and read trial.shared['name']"
        )
    return data


def origin(function: Any) -> tuple[dict[str, Any], str]:  # noqa: ANN401  (any callable)
    """Where the sweep comes from: versions and git commit, and the uncommitted changes."""
    home = _home(function)
    document = {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git(home, "rev-parse", "HEAD").strip() or None,
        "command": sys.argv,
    }
    return document, _git(home, "diff", "HEAD")


def _home(function: Any) -> Path | None:  # noqa: ANN401  (any callable)
    """The folder of the file that the function is written in; None in a notebook."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = inspect.getsourcefile(type(function))
    return Path(file).resolve().parent if file and os.path.exists(file) else None  # noqa: PTH110


def _own_modules(home: Path | None) -> Iterator[ModuleType]:
    """The imported modules that lie in the user's folder and are not installed there."""
    if home is None:
        return
    installed = {"site-packages", "dist-packages"}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name == "__main__" or name.partition(".")[0] == "raysweep":
            continue
        path = Path(file).resolve()
        if path.is_relative_to(home) and not installed.intersection(path.parts):
            yield module


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(home: Path | None, *arguments: str) -> str:
    """What git says; nothing where there is no git or no repository."""
    if home is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(home), *arguments],  # noqa: S607  (the user's own git)
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
