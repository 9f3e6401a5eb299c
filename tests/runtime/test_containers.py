from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from raysweep.core.command import Environment
from raysweep.runtime.command.containers import Container, suits

CONTAINER = Container(
    image="registry.example/train:3",
    name="9f-3-1",
    crew="trials-x",
    work=Path("/tmp/t/work"),
    written=(Path("/tmp/t"), Path("/sweeps/s/outputs/trial-00003")),
    read=(Path("/data/iris.csv"),),
)
IMAGE = Environment(image="registry.example/train:3")


def test_the_container_sees_what_the_command_is_told_of() -> None:
    """Folders under their own names, inputs to be read only, the node's network."""
    words = CONTAINER.command("python a.py", {"SECRET": "s3cret"})
    bound = [words[at + 1] for at, word in enumerate(words) if word == "--mount"]
    place = "/sweeps/s/outputs/trial-00003"
    assert [
        "type=bind,source=/tmp/t,target=/tmp/t",
        f"type=bind,source={place},target={place}",
        "type=bind,source=/data/iris.csv,target=/data/iris.csv,readonly",
    ] == bound
    assert "--network=host" in words
    assert ["registry.example/train:3", "-c"] == words[-4:-2]
    assert "python a.py" == words[-1]


def test_no_value_is_among_the_arguments() -> None:
    """Whoever may list processes sees the names of variables alone."""
    words = CONTAINER.command("python a.py", {"SECRET": "s3cret"})
    assert "SECRET" in words
    assert not any("s3cret" in word for word in words)


def test_ranks_have_containers_of_their_own() -> None:
    """Two processes of a trial do not take each other's name."""
    names = {
        words[words.index("--name") + 1]
        for words in (CONTAINER.command("x", {"RANK": rank}) for rank in ("0", "1"))
    }
    assert 2 == len(names)


def test_without_podman_the_command_runs_in_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the log says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert not suits(IMAGE, said.append)
    assert ["podman is not on this node: the command runs without registry.example/train:3"] == said


def test_an_image_beside_a_conda_file_is_only_its_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where podman is, an image alone is used, and one with packages of its own beside it is not."""
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert suits(IMAGE, said.append)
    assert not suits(dataclasses.replace(IMAGE, pip=("numpy",)), said.append)
    assert not suits(dataclasses.replace(IMAGE, conda={"dependencies": ["numpy"]}), said.append)
    assert not said
