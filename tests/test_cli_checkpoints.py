"""`raysweep checkpoint`: what it lists and shows, and that other libraries read what it exports.

One rule: what is exported is read back by the library that it is for.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, load_model
from test_cli import ROOT, Scribe, golden, reports, run

from raysweep.cli import pages
from raysweep.core.events import AttemptId, Checkpoint
from raysweep.runtime import table
from raysweep.storage import checkpoints
from raysweep.storage.bucket import Bucket
from raysweep.storage.checkpoints.exporting import SAFE_DTYPES

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from raysweep.cli import cli
cli(sys.argv[1:])
"""


def tree() -> dict[str, Any]:
    """A state with some of everything that both torch and safetensors have a form for."""
    return {
        "model": {
            "conv1.weight": torch.arange(8.0).reshape(2, 4),
            "scale": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            "empty": torch.zeros(0, 3),
        },
        "optimizer": {"state": {0: torch.tensor(7)}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "mean": np.arange(3, dtype=">f4"),
        "best": np.float32(0.85),
        "epoch": 3,
        "note": None,
        "seen": {},
    }


def saved(scribe: Scribe, id_: AttemptId, report: int, size: int) -> Checkpoint:
    """A checkpoint on disk, as a trial announces it; of some size, so that a list can be compared."""
    path = scribe.folder.checkpoint(id_.trial, id_.attempt, report)
    path.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, checkpoints.JSON] = {
        "sweep": "digits",
        "trial": id_.trial,
        "attempt": id_.attempt,
        "report": report,
        "interval": report,
        "metrics": {"accuracy": 0.75, "loss": 0.25},
    }
    checkpoints.save(path, tree(), about)
    relative = str(path.relative_to(scribe.folder.path))
    return Checkpoint(id=id_, report=report, path=relative, size=size, checksum="")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with a sweep that runs: trial 0 is the best at its report 3, trial 1 began, 2 waits."""
    scribe = Scribe(tmp_path)
    (first,), (second,) = scribe.hear(0), scribe.hear(1)
    known = reports(first, 0.5, 0.7, 0.75, 0.72)
    kept = [saved(scribe, first, report, 1_234_567) for report in (1, 3, 4)]
    scribe.hear(0, begun=[first], reports=[known], checkpoints=kept)
    begun = saved(scribe, second, 1, 900)
    scribe.hear(1, begun=[second], reports=[reports(second, 0.6)], checkpoints=[begun])
    return tmp_path


def checkpoint_file(storage: Path, trial: int, report: int) -> Path:
    """Where one of them lies."""
    return storage / "digits" / "checkpoints" / f"trial-{trial:05d}" / f"1-{report:06d}.arrow"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint without a sweep."""
    return checkpoints.save(tmp_path / "state.arrow", tree()).path


def exported(state: object, target: Path, *options: object) -> str:
    """The error that the export of a state ends with; "" if it does not."""
    file = checkpoints.save(target.with_name("exported.arrow"), state).path
    answer = run("checkpoint", "export", file, target, *options)
    assert (2 if answer.stderr.startswith("error: ") else 0) == answer.exit_code, answer.output
    return answer.stderr if answer.exit_code else ""


# --- ls and show ----------------------------------------------------------------------------------


def test_checkpoints_are_listed(storage: Path) -> None:
    """Those that the journal names, and which of them `best` loads."""
    answer = run("checkpoint", "ls", "digits", "--storage", storage)
    golden("checkpoint_ls", answer.output, storage)


def test_a_list_as_json_has_bytes_and_whole_paths(storage: Path) -> None:
    """Of one trial, if that is asked for."""
    answer = run("checkpoint", "ls", "digits", 1, "--storage", storage, "-o", "json")
    path = str(checkpoint_file(storage, 1, 1))
    expected = {"trial": 1, "attempt": 1, "interval": 1, "report": 1, "size": 900, "path": path}
    assert [expected | {"best": False}] == json.loads(answer.output)


def test_the_best_of_the_list_is_what_best_loads(storage: Path) -> None:
    """They agree on the path."""
    listed = run("checkpoint", "ls", "digits", "--storage", storage, "-o", "json")
    best = json.loads(run("best", "digits", "--storage", storage, "-o", "json").output)
    assert [best["checkpoint"]] == [
        each["path"] for each in json.loads(listed.output) if each["best"]
    ]


def test_no_checkpoints_is_said_on_stderr(storage: Path) -> None:
    """Stdout is for results, of which there are none."""
    answer = run("checkpoint", "ls", "digits", 2, "--storage", storage)
    assert (0, "", "no checkpoints of trial 2 of digits\n") == (
        answer.exit_code, answer.stdout, answer.stderr,
    )  # fmt: skip
    assert [] == json.loads(
        run("checkpoint", "ls", "digits", 2, "--storage", storage, "-o", "json").stdout
    )


def test_a_checkpoint_is_shown(storage: Path) -> None:
    """Of a sweep, the best trial's: what was said about it, and its leaves."""
    text = run("checkpoint", "show", "digits", "--storage", storage).output
    size = table.size(checkpoint_file(storage, 0, 3).stat().st_size)
    text = re.sub(r"sha256:[0-9a-f]{64}", "CHECKSUM", text.replace(f"  {size},", "  SIZE,"))
    golden("checkpoint_show", text, storage)


def test_the_latest_checkpoint_of_a_trial_is_shown(storage: Path) -> None:
    """Trial 0 went on after its best; a file is shown as the sweep that names it is."""
    asked = ("checkpoint", "show", "digits", "--trial", 0, "--storage", storage, "-o", "json")
    shown = json.loads(run(*asked).output)
    latest = checkpoint_file(storage, 0, 4)
    assert (str(latest), 4, latest.stat().st_size) == (
        shown["path"], shown["metadata"]["report"], shown["size"],
    )  # fmt: skip
    assert shown == json.loads(run("checkpoint", "show", latest, "-o", "json").output)
    assert {"path": "mean", "kind": "array", "dtype": ">f4", "shape": [3], "size": 12} in (
        shown["leaves"]
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_leaves_fit_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """A long path loses its beginning, and no number a digit."""
    monkeypatch.setattr(pages, "PIPE_WIDTH", columns)
    name = f"encoder.{'layer.' * 20}out_proj.weight"
    file = checkpoints.save(tmp_path / "c.arrow", {name: np.zeros((2, 3)), "lr": 0.1}).path
    _, *rows = run("checkpoint", "show", file).output.partition("\npath ")[2].splitlines()[:3]
    assert columns == len(rows[0])
    assert re.fullmatch(r"….*out_proj\.weight  array  <f8    2 x 3  48 B", rows[0])


def test_verify_finds_a_flipped_byte(storage: Path) -> None:
    """Without it the leaves' bytes are not read; damage is nobody's mistake."""
    file = checkpoint_file(storage, 0, 3)
    assert "leaves, verified by checksum" in run("checkpoint", "show", file, "--verify").output
    content = bytearray(file.read_bytes())
    content[content.index(np.arange(3, dtype=">f4").tobytes())] ^= 1
    file.write_bytes(content)
    assert "not verified" in run("checkpoint", "show", file).output
    target = storage / "state.pt"
    for command in (("show", file, "--verify"), ("export", file, target, "--to", "torch")):
        answer = run("checkpoint", *command)
        assert 1 == answer.exit_code
        assert f"error: checkpoint {file} is damaged: the bytes of mean fail" in answer.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        ("digi", (), "no sweep named 'digi'"),
        ("gone.arrow", (), "gone.arrow is no file; for a sweep, give its name and --storage"),
        ("digits", ("--trial", 9), "sweep 'digits' has no trial 9"),
        ("digits", ("--trial", 2), "trial 2 of 'digits' has no checkpoint"),
        (__file__, ("--trial", 0), "--trial is for a sweep's name"),
    ],
)
def test_what_is_no_checkpoint(storage: Path, where: str, options: Any, message: str) -> None:  # noqa: ANN401  (words)
    """A mistake, with what to do about it."""
    answer = run("checkpoint", "show", where, *options, "--storage", storage)
    assert 2 == answer.exit_code
    assert answer.stderr.startswith(f"error: {message}")


def test_an_object_of_a_bucket_is_shown_and_exported(
    server: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is fetched, and named by its URI."""
    from s3_server import BUCKET, environment

    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    place = f"s3://{BUCKET}/{file.parent.name}"
    Bucket(place).upload(file, "state.arrow")
    shown = json.loads(run("checkpoint", "show", f"{place}/state.arrow", "-o", "json").output)
    here = json.loads(run("checkpoint", "show", file, "-o", "json").output)
    assert here | {"path": f"{place}/state.arrow"} == shown
    target = file.with_name("state.pt")
    run("checkpoint", "export", f"{place}/state.arrow", target, "--to", "torch")
    assert 3 == torch.load(target, weights_only=True)["epoch"]
    answer = run("checkpoint", "show", f"{place}/gone.arrow")
    assert (2, f"error: there is no checkpoint {place}/gone.arrow\n") == (
        answer.exit_code, answer.stderr,
    )  # fmt: skip


# --- export to torch ------------------------------------------------------------------------------


def test_torch_reads_the_whole_tree(storage: Path) -> None:
    """With weights_only; numpy's arrays and scalars are tensors of the same numbers."""
    target = storage / "new" / "state.pt"
    answer = run("checkpoint", "export", "digits", target, "--to", "torch", "--storage", storage)
    assert (0, f"{target}\n") == (answer.exit_code, answer.output)
    read, state = torch.load(target, weights_only=True), tree()
    assert [*state] == [*read]
    for name, tensor in state["model"].items():
        torch.testing.assert_close(tensor, read["model"][name], rtol=0, atol=0)
    torch.testing.assert_close(torch.arange(3.0), read["mean"], rtol=0, atol=0)
    torch.testing.assert_close(torch.tensor(0.85), read["best"], rtol=0, atol=0)
    assert {"state": {0: torch.tensor(7)}, "param_groups": [{"betas": (0.9, 0.999)}]} == (
        read["optimizer"]
    )
    assert (3, None, {}) == (read["epoch"], read["note"], read["seen"])


def test_tied_tensors_are_tied_in_torch(tmp_path: Path) -> None:
    """Also where what they are the same as lies outside of the part."""
    weight = torch.arange(4.0)
    state = {"ema": {"a": weight}, "model": {"a": weight, "b": weight, "c": weight.clone()}}
    assert "" == exported(state, tmp_path / "model.pt", "--to", "torch", "--part", "model")
    read = torch.load(tmp_path / "model.pt", weights_only=True)
    read["a"] += 1
    assert [[1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3]] == [each.tolist() for each in read.values()]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.zeros(2, "M8[s]"), "an array of datetime64[s]"),
        (np.zeros(2, [("a", "<f4")]), "an array of [('a', '<f4')]"),
        (b"", "bytes of length 0"),
        (2**2050, "an int of 257 bytes"),
    ],
)
def test_what_torch_cannot_hold_is_refused(tmp_path: Path, value: object, what: str) -> None:
    """By its path and type, and nothing is written."""
    message = exported({"a": {"b": [1, value]}}, tmp_path / "state.pt", "--to", "torch")
    assert message.startswith(f"error: a.b[1] is {what}, which has no form in ")
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize("value", [b"a", 2**2030, "\ud800", 1j, float("nan"), (), True, -(2**70)])
def test_other_values_pass_through_torch(tmp_path: Path, value: object) -> None:
    """They come back as they were."""
    assert "" == exported({"value": value}, tmp_path / "state.pt", "--to", "torch")
    read = torch.load(tmp_path / "state.pt", weights_only=True)["value"]
    assert (type(value), repr(value)) == (type(read), repr(read))


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_estimators_and_files_are_refused(tmp_path: Path, form: str) -> None:
    """They are named; a part without them is exported."""
    from sklearn.linear_model import LogisticRegression

    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.txt").touch()
    state = {"model": {"w": torch.ones(2)}, "clf": LogisticRegression(), "logs": tmp_path / "logs"}
    target = tmp_path / "state"
    assert exported(state, target, "--to", form).startswith("error: clf is an estimator, sklearn.")
    message = exported(state, target, "--to", form, "--part", "logs")
    assert "logs/a.txt is a folder's file" in message
    assert "" == exported(state, target, "--to", form, "--part", "model")


# --- export to safetensors ------------------------------------------------------------------------


def test_safetensors_reads_flat_names_and_json(file: Path) -> None:
    """Tensors and arrays under dotted names; all else in the metadata. Who reads other files can read it."""
    target = file.with_name("state.safetensors")
    run("checkpoint", "export", file, target, "--to", "safetensors")
    assert file.stat().st_mode == target.stat().st_mode
    read = load_file(target)
    expected = {
        "model.conv1.weight": torch.arange(8.0).reshape(2, 4),
        "model.scale": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "model.empty": torch.zeros(0, 3),
        "optimizer.state.0": torch.tensor(7),
        "mean": torch.arange(3.0),
        "best": torch.tensor(0.85),
    }
    torch.testing.assert_close(expected, {name: read[name] for name in expected}, rtol=0, atol=0)
    assert expected.keys() == read.keys()
    with safetensors.safe_open(target, "numpy") as opened:
        said = {name: json.loads(text) for name, text in opened.metadata().items()}
    betas = "optimizer.param_groups.0.betas"
    assert {"epoch": 3, "note": None, "seen": {}, f"{betas}.0": 0.9, f"{betas}.1": 0.999} == said


@pytest.mark.parametrize("dtype", sorted(SAFE_DTYPES))
def test_every_dtype_passes_through_safetensors(tmp_path: Path, dtype: str) -> None:
    """Bit for bit."""
    if not hasattr(torch, dtype):
        pytest.skip(f"torch {torch.__version__} has no {dtype}")
    raw = torch.tensor([1, 0] * 8, dtype=torch.uint8)
    state = {"w": raw.view(getattr(torch, dtype))}
    assert "" == exported(state, tmp_path / "w.safetensors", "--to", "safetensors")
    read = load_file(tmp_path / "w.safetensors")["w"]
    assert (state["w"].dtype, raw.tolist()) == (read.dtype, read.view(torch.uint8).tolist())


def test_arrays_alone_need_no_torch(tmp_path: Path) -> None:
    """Where torch is not installed, numpy's part of safetensors writes."""
    state = {"w": np.arange(6, dtype=">i4").reshape(2, 3), "lr": np.float64(0.1)}
    file = checkpoints.save(tmp_path / "c.arrow", state).path
    target = tmp_path / "w.safetensors"
    words = ["checkpoint", "export", str(file), str(target), "--to"]
    code = [sys.executable, "-c", WITHOUT_TORCH, *words]
    subprocess.run([*code, "safetensors"], cwd=ROOT, check=True)
    read = load_arrays(target)
    assert ([[0, 1, 2], [3, 4, 5]], 0.1) == (read["w"].tolist(), read["lr"].item())
    ran = subprocess.run([*code, "torch", "--force"], cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert 2 == ran.returncode
    assert "pip install 'raysweep[torch]'" in ran.stderr


class Tied(torch.nn.Module):
    """A model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5)
        self.head.weight = self.embed.weight


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    """As safetensors does it for models, which its own `load_model` reads."""
    model, other, target = Tied(), Tied(), tmp_path / "model.safetensors"
    assert "" == exported({"model": model}, target, "--to", "safetensors", "--part", "model")
    assert {"embed.weight", "head.bias"} == load_file(target).keys()
    with safetensors.safe_open(target, "pt") as opened:
        assert {"head.weight": "embed.weight"} == opened.metadata()
    missing, unexpected = load_model(other, target)
    assert [] == [*missing, *unexpected]
    assert torch.equal(model.head.weight, other.head.weight)


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    """Flat names can be alike, and one leaf must not hide another."""
    state = {"a.0": 1, "a": [torch.ones(1)]}
    message = exported(state, tmp_path / "c.safetensors", "--to", "safetensors")
    assert "error: a[0] and a.0 would both be called 'a.0'\n" == message


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"ab", "of type bytes"),
        (1j, "of type complex"),
        (torch.ones(2, dtype=torch.complex128), "of complex128"),
        (np.array(["a"]), "of str32"),
    ],
)
def test_what_safetensors_cannot_hold_is_refused(tmp_path: Path, value: object, what: str) -> None:
    """By its path and type, and nothing is written."""
    message = exported({"a": [value]}, tmp_path / "c.safetensors", "--to", "safetensors")
    assert f"error: a[0] is {what}, which has no form in safetensors\n" == message
    assert not (tmp_path / "c.safetensors").exists()


def test_a_leaf_is_called_as_in_the_checkpoint(tmp_path: Path) -> None:
    """Alone it keeps its last name; a state that is one tensor has none."""
    target = tmp_path / "c.safetensors"
    assert "" == exported(
        {"m": {"w": torch.ones(1)}}, target, "--to", "safetensors", "--part", "m.w"
    )
    assert ["w"] == [*load_file(target)]
    message = exported(torch.ones(1), target, "--to", "safetensors", "--force")
    assert "is one leaf without a name, which safetensors needs" in message


def test_without_safetensors_it_is_said_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    answer = run("checkpoint", "export", file, file.with_name("c"), "--to", "safetensors")
    assert 2 == answer.exit_code
    assert "pip install 'raysweep[safetensors]'" in answer.stderr


# --- export to files, parts, what is there already ------------------------------------------------


def test_a_folder_of_files_is_laid_out(tmp_path: Path) -> None:
    """A whole checkpoint, as of a command, or a part of one; only where nothing is."""
    folder = tmp_path / "saved"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(b"abc")
    target = tmp_path / "out"
    assert "" == exported(folder, target, "--to", "files")
    assert b"abc" == (target / "sub" / "a.bin").read_bytes()
    state = {"logs": folder, "epoch": 1}
    message = exported(state, target, "--to", "files", "--part", "logs", "--force")
    assert (
        f"error: {target} is there already; files go to a new folder, or an empty one\n" == message
    )
    message = exported(state, tmp_path / "new", "--to", "files")
    assert message.endswith("is no folder of files, and it holds one as --part logs\n")
    assert "" == exported(state, tmp_path / "new", "--to", "files", "--part", "logs")
    assert b"abc" == (tmp_path / "new" / "sub" / "a.bin").read_bytes()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("model.conv1.weight", "tensor([[0., 1., 2., 3.],\n        [4., 5., 6., 7.]])"),
        ("optimizer.state[0]", "tensor(7)"),
        ("optimizer.param_groups.0", "{'betas': (0.9, 0.999)}"),
        ("optimizer.param_groups[0].betas[1]", "0.999"),
    ],
)
def test_a_part_is_exported(file: Path, part: str, expected: str) -> None:
    """By its path as `show` has it, or with dots alone."""
    target = file.with_name("part.pt")
    run("checkpoint", "export", file, target, "--to", "torch", "--part", part)
    assert expected == repr(torch.load(target, weights_only=True))


@pytest.mark.parametrize(
    ("part", "there"),
    [
        ("modle", "it has model, optimizer, mean, best, epoch, note, seen; did you mean 'model'?"),
        ("optimizer.lr", "optimizer has state, param_groups"),
        ("epoch.x", "epoch has no parts"),
    ],
)
def test_a_part_that_is_not_there(file: Path, part: str, there: str) -> None:
    """The message names those that are."""
    answer = run("checkpoint", "export", file, file.with_name("c"), "--to", "torch", "--part", part)
    assert (2, f"error: {file} has no part {part!r}: {there}\n") == (
        answer.exit_code, answer.stderr,
    )  # fmt: skip


def test_a_file_is_replaced_only_by_force(file: Path) -> None:
    """And what is no file never is."""
    target = file.with_name("state.pt")
    target.write_text("mine")
    export = ("checkpoint", "export", file, target, "--to", "torch")
    answer = run(*export)
    assert (2, "mine") == (answer.exit_code, target.read_text())
    assert (
        f"{target} is there already: choose another name, or replace it with --force"
        in answer.stderr
    )
    assert 0 == run(*export, "--force").exit_code
    assert 3 == torch.load(target, weights_only=True)["epoch"]
    target.unlink()
    target.mkdir()
    assert 2 == run(*export, "--force").exit_code
    assert [] == [*target.iterdir()]


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_disk_that_is_full_leaves_nothing(file: Path, form: str) -> None:
    """Exit code 1, the reason, and what was there stays."""
    target = file.with_name("out")
    target.write_text("mine")
    words = ["checkpoint", "export", str(file), str(target), "--to", form, "--force"]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
    code = f"import sys\n{limit}from raysweep.cli import cli\ncli(sys.argv[1:])"
    ran = subprocess.run([sys.executable, "-B", "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    assert (1, "mine") == (ran.returncode, target.read_text())
    assert ran.stderr.startswith(f"error: {form} cannot write {target}: ")
    assert "File too large" in ran.stderr
    assert {"out", "state.arrow"} == {path.name for path in file.parent.iterdir()}
