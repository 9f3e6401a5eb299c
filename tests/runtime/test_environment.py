"""Environments of commands: the cluster's, one that is there, and ones that are built and kept.

No conda is at hand where the tests run: what stands in for it is a script that records what it was
asked for. pip is real, offline, and installs a wheel that the test writes.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from raysweep.core.command import Environment
from raysweep.errors import UserError
from raysweep.runtime.command import environment as environments
from raysweep.runtime.command.environment import Prepared, advice, ready


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where environments are kept; pip reaches no index."""
    monkeypatch.setenv("RAYSWEEP_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "kept" / f"raysweep-{os.getuid()}" / "environments"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tools that PATH begins with."""
    (tmp_path / "tools").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.defpath}")
    return tmp_path / "tools"


def script(path: Path, *lines: str) -> Path:
    """Write something that can be executed."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


def wheel(folder: Path) -> str:
    """Write the wheel of a package with one module; its path is a requirement."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    about = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "NAME = 'tiny'\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return str(path)


def printed(prepared: Prepared, code: str) -> str:
    """What `python` prints when it runs as a command does."""
    path = os.pathsep.join([*prepared.path_entries, os.environ["PATH"]])
    variables = {**os.environ, **prepared.variables, "PATH": path}
    ran = subprocess.run(
        ["sh", "-c", f'python -c "{code}"'],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


# What is there already


def test_nothing_asked_for_is_the_clusters(tmp_path: Path) -> None:
    """`python` in a command is then the one that runs us."""
    prepared = ready(Environment(image="some/image"), tmp_path, pytest.fail)
    assert sys.prefix == printed(prepared, "import sys; print(sys.prefix)")
    assert f"the cluster's own environment (Python {platform.python_version()})" == prepared.what


def test_a_python_without_that_name_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interpreter is called `python3` only, or `python` is another, a command finds it."""
    real = sys.executable
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "python", "echo another")
    monkeypatch.setattr(
        sys, "executable", str(script(tmp_path / "bin" / "python3", f'exec {real} "$@"'))
    )
    prepared = ready(Environment(), tmp_path / "cache", pytest.fail)
    assert sys.prefix == printed(prepared, "import sys; print(sys.prefix)")
    assert str(tmp_path / "bin") == prepared.path_entries[1]


def test_a_named_python_is_used(tmp_path: Path) -> None:
    """Its folder comes first, and it has shown that it runs."""
    python = script(tmp_path / "python", f'exec {sys.executable} "$@"')
    prepared = ready(Environment(python=str(python)), tmp_path, pytest.fail)
    assert (str(tmp_path),) == prepared.path_entries
    assert f"the environment of {python} (Python {platform.python_version()})" == prepared.what


@pytest.mark.parametrize("lines", [None, ["exit 3"]])
def test_a_named_python_must_run(tmp_path: Path, lines: list[str] | None) -> None:
    """One that is not there, or fails, is named with the remedy."""
    python = tmp_path / "python"
    if lines:
        script(python, *lines)
    with pytest.raises(UserError, match=r"python .*/python does not run on .*--set raysweep"):
        ready(Environment(python=str(python)), tmp_path, pytest.fail)


# What pip builds


def test_requirements_are_built_once_and_kept(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command finds the package, apart from this node's own; the next sweep finds it built."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    told: list[str] = []
    environment = Environment(pip=(wheel(tmp_path),))
    prepared = ready(environment, tmp_path / "one", told.append)
    code = "import sys, tiny; print(tiny.NAME, sys.prefix, '/somewhere/else' in sys.path)"
    (env,) = kept.glob("pip-*/env")
    assert f"tiny {env} False" == printed(prepared, code)
    assert str(env) == prepared.variables["VIRTUAL_ENV"]
    assert ["building the virtual", "built the virtual en"] == [line[:20] for line in told]
    assert prepared == ready(environment, tmp_path / "two", pytest.fail)


def test_a_failing_pip_is_told(tmp_path: Path, kept: Path) -> None:
    """The message has pip's last lines with the requirement, and the remedies; nothing is kept."""
    with pytest.raises(UserError) as caught:
        ready(Environment(pip=("no-such-package==1.0",)), tmp_path, lambda _: None)
    message = str(caught.value)
    assert "No matching distribution found for no-such-package==1.0" in message
    assert "mapping file" in message
    assert "--set raysweep.environment=cluster" in message
    assert [] == [path for path in kept.iterdir() if path.is_dir()]


# What conda builds

RECORDING = (
    'echo "$0 $@" >> "$(dirname "$0")/asked"',
    "while [ $# -gt 0 ]; do case $1 in -p) prefix=$2;; -f) file=$2;; esac; shift; done",
    'mkdir -p "$prefix/bin" && cp "$file" "$prefix/file"',
)
DOCUMENT = {
    "name": "sk",
    "prefix": "/home/other/envs/sk",
    "channels": ["conda-forge"],
    "dependencies": ["python=3.11", "numpy>=1.26", "pip", {"pip": ["mlflow"]}],
}


def test_a_conda_tool_builds_a_conda_file(tmp_path: Path, tools: Path) -> None:
    """The file goes to the tool as it is, less another machine's prefix; the result is kept."""
    script(tools / "micromamba", *RECORDING)
    script(tools / "conda", "exit 1")
    environment = Environment(conda=DOCUMENT)
    prepared = ready(environment, tmp_path, lambda _: None)
    assert prepared == ready(environment, tmp_path, pytest.fail)
    env = Path(prepared.variables["CONDA_PREFIX"])
    expected = f"{tools / 'micromamba'} create -p {env} -f {env.parent / 'environment.yml'}\n"
    assert expected == (tools / "asked").read_text(encoding="utf-8")
    written = json.loads((env / "file").read_text(encoding="utf-8"))
    assert {key: value for key, value in DOCUMENT.items() if key != "prefix"} == written
    assert (str(env / "bin"),) == prepared.path_entries
    assert f"the conda environment sk ({env})" == prepared.what


@pytest.mark.parametrize("name", ["mamba", "conda"])
def test_conda_and_mamba_have_another_word(tmp_path: Path, tools: Path, name: str) -> None:
    """They are asked to `env create`."""
    script(tools / name, *RECORDING)
    ready(Environment(conda=DOCUMENT), tmp_path, lambda _: None)
    assert f"{tools / name} env create -p " in (tools / "asked").read_text(encoding="utf-8")


def test_another_file_is_another_environment(tmp_path: Path, tools: Path, kept: Path) -> None:
    """What is kept goes by its content."""
    script(tools / "micromamba", *RECORDING)
    for version in ("1.26", "2.0"):
        ready(Environment(conda={"dependencies": [f"numpy={version}"]}), tmp_path, lambda _: None)
    assert 2 == len(list(kept.glob("conda-*/env")))


@pytest.mark.usefixtures("tools")
def test_a_conda_file_that_needs_no_conda_is_built_by_pip(tmp_path: Path, kept: Path) -> None:
    """Python, pip and a pip section are a virtual environment's, too; another Python is told of."""
    packages = ["conda-forge::python=3.1", "pip=21.2", {"pip": [wheel(tmp_path)]}]
    told: list[str] = []
    prepared = ready(Environment(conda={"dependencies": packages}), tmp_path, told.append)
    assert "tiny" == printed(prepared, "import tiny; print(tiny.NAME)")
    running = platform.python_version()
    assert f"the environment asks for Python 3.1, and gets this node's {running}" == told[0]
    assert 1 == len(list(kept.glob("pip-*/env")))


@pytest.mark.usefixtures("tools")
def test_conda_packages_without_conda_are_named(tmp_path: Path) -> None:
    """What is in the way, and the three ways out."""
    with pytest.raises(UserError) as caught:
        ready(Environment(conda=DOCUMENT), tmp_path, pytest.fail)
    message = str(caught.value)
    assert "the environment needs numpy>=1.26 from conda" in message
    for remedy in ("install micromamba", "mapping file", "--set raysweep.environment=cluster"):
        assert remedy in message


# Builds that are shared or end early

BUILDER = """
import sys
from pathlib import Path
from raysweep.core.command import Environment
from raysweep.runtime.command import environment as environments
from raysweep.runtime.command.environment import ready

environment = Environment(conda={"dependencies": ["numpy"]})
ready(environment, Path(sys.argv[1]), lambda line: print(line, flush=True))
"""


def builder(cache: Path) -> subprocess.Popen[str]:
    """A trial's process, in a process group of its own, that asks for an environment."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_of_many_slots_one_builds(tmp_path: Path, tools: Path) -> None:
    """Slots that ask together get one build; the others say that they wait."""
    go = tools / "go"
    script(tools / "micromamba", *RECORDING, f"while [ ! -e {go} ]; do sleep 0.01; done")
    slots = [builder(tmp_path) for _ in range(3)]
    first = [slot.stdout.readline() for slot in slots if slot.stdout]
    go.touch()
    for slot in slots:
        slot.communicate()
        assert 0 == slot.returncode
    assert ["building", "waiting", "waiting"] == sorted(line.split()[0] for line in first)
    assert 1 == len((tools / "asked").read_text(encoding="utf-8").splitlines())


def test_a_build_ends_with_its_process_group(tmp_path: Path, tools: Path, kept: Path) -> None:
    """Killed half-way, a build leaves no process behind and nothing that counts."""
    script(tools / "micromamba", *RECORDING, f"echo $$ > {tools / 'pid'}; exec sleep 60")
    slot = builder(tmp_path)
    while not (tools / "pid").exists() or not (tools / "pid").read_text(encoding="utf-8"):
        time.sleep(0.01)
    tool = int((tools / "pid").read_text(encoding="utf-8"))
    assert slot.pid == os.getpgid(tool)
    os.killpg(slot.pid, signal.SIGKILL)
    slot.communicate()
    (half,) = kept.glob("conda-*/env")
    (half / "half").touch()
    script(tools / "micromamba", *RECORDING)
    environment = Environment(conda={"dependencies": ["numpy"]})
    prepared = ready(environment, tmp_path, lambda _: None)
    assert half == Path(prepared.variables["CONDA_PREFIX"])
    assert not (half / "half").exists()


def test_an_interrupted_build_is_ended(
    tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an exception leaves a build, the tool does not go on without it."""

    def interrupt(output: Iterable[str], _: int) -> None:
        next(iter(output))
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "deque", interrupt)
    script(tools / "micromamba", f"echo $$ > {tools / 'pid'}", "echo begun", "exec sleep 600")
    with pytest.raises(KeyboardInterrupt):
        ready(Environment(conda=DOCUMENT), tmp_path, lambda _: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tools / "pid").read_text(encoding="utf-8")), 0)


# Advice

CLUSTERS = Prepared(path_entries=(), variables={}, what="the cluster's own environment")
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "train.py", line 1, in <module>\n    from sklearn.svm import SVC\n'
    "ModuleNotFoundError: No module named 'sklearn.svm'\n"
)


def test_a_missing_module_is_explained() -> None:
    """The module, the environment and what it stands in for, and the package that brings it."""
    environment = Environment(name="azureml:AzureML-sklearn-1.5@latest")
    expected = (
        "module 'sklearn' is missing in the cluster's own environment, which the trial ran in for"
        " azureml:AzureML-sklearn-1.5@latest; install scikit-learn on every node, or give the"
        " environment's requirements in the mapping file; if it is your own, see that the code"
        " folder holds it and its .amlignore or .gitignore does not leave it out"
    )
    assert expected == advice(TRACEBACK, environment, CLUSTERS)


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        (Environment(pip=("numpy",)), "add scikit-learn to its requirements"),
        (Environment(conda={}), "add scikit-learn to its requirements"),
        (Environment(python="/opt/bin/python"), "install scikit-learn there, on every node"),
    ],
)
def test_the_remedy_fits_the_environment(environment: Environment, remedy: str) -> None:
    """What is built is mended in the job, what is there on the nodes."""
    assert remedy in advice(TRACEBACK, environment, CLUSTERS)


@pytest.mark.parametrize(
    ("output", "module"),
    [
        ("[rank1]: ModuleNotFoundError: No module named 'torch'", "torch"),
        ("ImportError: No module named numpy", "numpy"),
        ("/usr/bin/python3.11: No module named trainer.__main__", "trainer"),
        (f"{TRACEBACK}\nModuleNotFoundError: No module named 'last'", "last"),
    ],
)
def test_python_says_it_in_several_ways(output: str, module: str) -> None:
    """The last module that was missing counts, however it was asked for."""
    assert advice(output, Environment(), CLUSTERS).startswith(f"module '{module}' is missing")


@pytest.mark.parametrize(
    "output", ["", "ValueError: no", "ImportError: cannot import name 'a' from 'b'"]
)
def test_other_failures_get_no_advice(output: str) -> None:
    """Only a module that is missing is known what to do about."""
    assert "" == advice(output, Environment(), CLUSTERS)
