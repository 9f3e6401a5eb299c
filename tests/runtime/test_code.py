"""The user's code on its way to the trials: it arrives whole, or is refused by name."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import objectives
import pytest

from raysweep.errors import SpecError
from raysweep.runtime import code

SCRIPT = """
import json
import posixpath
from sibling import FACTOR

def train(trial):
    import later
    print(json.dumps([FACTOR * trial, later.NAME, posixpath.sep]))

class Trainer:
    def __call__(self, trial):
        train(trial)

    def fit(self, trial):
        train(trial)

called = Trainer()
"""
IN_ANOTHER_PROCESS = """
import pickle, sys
sys.path.append(sys.argv[2])
pickle.loads(open(sys.argv[1], 'rb').read())(21)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's script with a sibling that it imports, and one that only a trial does."""
    place = tmp_path / "project"
    (place / ".venv").mkdir(parents=True)
    (place / ".venv" / "installed.py").touch()
    (place / "sibling.py").write_text("FACTOR = 2\n")
    (place / "later.py").write_text("NAME = 'later'\n")
    (place / "script.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(place))
    spec = importlib.util.spec_from_file_location("script", place / "script.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "script", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "sibling", sys.modules.pop("sibling"))
    return module


@pytest.mark.parametrize("kind", ["function", "partial", "object", "method", "lambda"])
def test_a_training_function_runs_where_its_files_are_not(
    project: ModuleType, tmp_path: Path, kind: str
) -> None:
    """Whatever is called, and whatever it imports of the user's own, arrives with it."""
    train = {
        "function": project.train,
        "partial": functools.partial(project.train),
        "object": project.called,
        "method": project.called.fit,
        "lambda": eval("lambda trial: train(trial)", vars(project)),
    }[kind]
    code.check(train)
    pickled, copied = tmp_path / "trial.pkl", tmp_path / "copied"
    pickled.write_bytes(code.pickled(train))
    copied.mkdir()
    for relative, source in code.sources(Path(project.__file__ or "").parent):
        (copied / relative).write_bytes(source)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(pickled), str(copied)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == '[42, "later", "/"]\n'


def test_sources_are_the_users_own(project: ModuleType) -> None:
    """Hidden folders and environments are left out."""
    place = Path(project.__file__ or "").parent
    assert {str(path) for path, _ in code.sources(place)} == {"later.py", "script.py", "sibling.py"}


def test_a_folder_of_everything_is_no_project(tmp_path: Path) -> None:
    """A script in a home folder does not take the home folder along."""
    for number in range(code.MOST_FILES + 1):
        (tmp_path / f"{number}.py").touch()
    assert list(code.sources(tmp_path)) == []


def test_large_data_are_refused_with_the_remedy() -> None:
    """What belongs into `shared` does not travel with the function."""
    data = bytes(code.LARGE + 1)
    with pytest.raises(
        SpecError, match=r"refers to 64 MiB of data; hand large data over with shared"
    ):
        code.pickled(lambda _: data)


def test_the_origin_names_versions_and_commit() -> None:
    """A sweep says what it was made with."""
    document, _ = code.origin(code.home(objectives.climb))
    assert {"python", "ray", "numpy"} <= document["versions"].keys()
    assert "git_commit" in document
