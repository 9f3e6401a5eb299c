"""The public face: quick to import, whole when looked at."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import raysweep

ROOT = Path(__file__).resolve().parent.parent

# NumPy is not in the design's list, but costs twice what `import raysweep` may.
HEAVY = {"numpy", "pyarrow", "ray", "scipy", "sklearn", "torch"}

LOADED = "import json, sys; import {module}; print(json.dumps([*sys.modules]))"


def loaded_by(module: str) -> set[str]:
    """The names of the top-level packages that a fresh Python has after importing a module."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.partition(".")[0] for name in json.loads(ran.stdout)}


def test_importing_the_face_loads_nothing_heavy() -> None:
    """`import raysweep` is done before a cluster, a model or an array is thought of."""
    assert set() == HEAVY & loaded_by("raysweep")


def test_every_public_name_is_there() -> None:
    """What the face promises, it has."""
    assert [] == [name for name in raysweep.__all__ if not hasattr(raysweep, name)]


def test_completion_sees_every_public_name() -> None:
    """`dir(raysweep)` shows what was not loaded yet."""
    assert set(raysweep.__all__) <= set(dir(raysweep))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A lazy face answers for a name that it lacks as any module does."""
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(raysweep, name)


def test_the_version_is_the_project_s() -> None:
    """`raysweep.__version__` and pyproject.toml agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == raysweep.__version__
