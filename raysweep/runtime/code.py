"""The user's code on its way to the trials: the training function, pickled by value.

One rule: a trial needs nothing of the machine that the sweep was started on. The function goes with
all of the user's own modules that it uses: those that lie beside or below the file it is written
in, by value if they have been imported, and as source for imports that only a trial makes. What is
installed as a package is expected where the trials run.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from raysweep.core import checks
from raysweep.errors import SpecError

LARGE = 64 * 1024 * 1024  # bytes; more is data, which belongs into `shared`
MOST_FILES = 1_000  # of Python that are taken for a project's own
INSTALLED = tuple(
    {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib")}
)
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
    own = list(_own_modules(home(function)))
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


def origin(place: Path | None) -> tuple[dict[str, Any], str]:
    """Where code of this folder comes from: versions and git commit, and uncommitted changes."""
    document = {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git(place, "rev-parse", "HEAD").strip() or None,
        "command": sys.argv,
    }
    return document, _git(place, "diff", "HEAD")


def home(function: Any) -> Path | None:  # noqa: ANN401  (any callable)
    """The folder of the file that the function is written in; None in a notebook."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = inspect.getsourcefile(type(function))
    return Path(file).resolve().parent if file and os.path.exists(file) else None  # noqa: PTH110


def sources(place: Path | None) -> Iterator[tuple[Path, bytes]]:
    """The user's own Python files beside and below a folder, for imports that come later.

    Yields:
        Each file's path relative to the folder, and its content. Nothing at all where there are
        more files than anyone writes: then the folder is no project's.
    """
    found = [] if place is None else list(islice(_python_files(place), MOST_FILES + 1))
    if place is None or len(found) > MOST_FILES:
        return
    for path in found:
        with contextlib.suppress(OSError):
            yield path.relative_to(place), path.read_bytes()


def _python_files(place: Path) -> Iterator[Path]:
    """The Python files of a project: no hidden folders, no environments, nothing installed."""
    for folder, below, names in os.walk(place):
        here = Path(folder)
        below[:] = [
            name for name in below if not name.startswith((".", "__")) and _is_own(here / name)
        ]
        yield from (here / name for name in names if name.endswith(".py"))


def _is_own(folder: Path) -> bool:
    environment = (folder / "pyvenv.cfg").exists() or folder in INSTALLED
    return not environment and folder.name not in ("site-packages", "dist-packages", "node_modules")


def _own_modules(place: Path | None) -> Iterator[ModuleType]:
    """The imported modules that lie in the user's folder and are not installed there."""
    if place is None:
        return
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name != module.__name__ or name.partition(".")[0] == "raysweep":
            continue
        path = Path(file).resolve()
        if name != "__main__" and path.is_relative_to(place) and not _is_installed(path):
            yield module


def _is_installed(path: Path) -> bool:
    """Whether a module's file is Python's own or a package's."""
    named = {"site-packages", "dist-packages"}.intersection(path.parts)
    return bool(named) or any(path.is_relative_to(folder) for folder in INSTALLED)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(place: Path | None, *arguments: str) -> str:
    """What git says; nothing where there is no git or no repository."""
    if place is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(place), *arguments],  # noqa: S607  (the user's own git)
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
