"""The command line: what it prints, what it refuses, which exit code it leaves with.

One rule: nearly all of it needs no cluster. A sweep's folder is written as a controller writes it,
event by event; the last tests run a small sweep on a real Ray.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysweep.cli import cli
from raysweep.cli import doctor as doctors
from raysweep.cli.doctor import Mark
from raysweep.cli.files import changed, load
from raysweep.cli.group import COMMANDS
from raysweep.core.events import (
    Assign,
    AttemptId,
    CancelAsked,
    Checkpoint,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Proposed,
    Reports,
    Revised,
    SlotLost,
)
from raysweep.core.policies import Bandit, MedianStopping, NoPolicy, Policy, TruncationSelection
from raysweep.core.samplers import Bayesian, Random, Sampler, Tpe
from raysweep.core.space import Space, choice, loguniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.storage.folder import SweepFolder
from raysweep.storage.journal import Journal

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
HEAVY = {"ray", "torch", "sklearn", "scipy", "pyarrow", "numpy", "rich"}

SWEEP = """
import raysweep as rs

def train(trial):
    for step in range(trial.params["steps"]):
        trial.report(score=trial.params["x"] * (step + 1))

print("hello from the file")
sweep = rs.Sweep(
    train,
    space={"x": rs.uniform(0, 1), "steps": rs.choice([1, 2]),
           "model": rs.choice(["linear", {"depth": rs.randint(8)}])},
    objective=rs.maximize("score"),
    sampler=rs.Random(seed=7),
    policy=rs.Bandit(slack_factor=0.1, delay_evaluation=2),
    limits=rs.Limits(max_total_trials=4, trial_timeout=90),
    isolation="none",
    name="small",
)

if __name__ == "__main__":
    raise AssertionError("the file was run, not imported")
"""


def run(*arguments: object) -> Result:
    """The command line with these arguments, away from the caller's own storage and cluster."""
    environment = {"RAYSWEEP_STORAGE": "/nowhere", "RAY_ADDRESS": None}
    return CliRunner(env=environment).invoke(cli, [str(argument) for argument in arguments])


def golden(name: str, text: str, storage: Path) -> None:
    """Compare a text with the recorded one; `RECORD=1 pytest` writes what is not there yet."""
    file = GOLDEN / f"cli_{name}.txt"
    text = text.replace(str(storage), "STORAGE")
    if os.environ.get("RECORD") and not file.exists():
        file.write_text(text)
    assert file.read_text() == text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds a sweep."""
    file = tmp_path / "small_sweep.py"
    file.write_text(SWEEP)
    return file


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Loading a file changes the interpreter, as a command that ends soon after may."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# --- sweeps as a controller records them ----------------------------------------------------------


class Scribe:
    """Applies events and journals them, with a time that goes on by a second each."""

    def __init__(
        self,
        storage: Path,
        *,
        name: str = "digits",
        policy: Policy | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        self.spec = SweepSpec(
            name=name,
            space=Space({"lr": loguniform(1e-4, 1e-1), "width": choice([8, 16, 32])}),
            objective=maximize("accuracy"),
            sampler=sampler or Random(seed=7),
            seed=7,
            policy=policy or Bandit(slack_factor=0.1),
            limits=Limits(max_total_trials=4),
            max_attempts=2,
        )
        self.folder = SweepFolder(storage / name)
        self.folder.path.mkdir(parents=True)
        self.folder.create(self.spec, origin={}, files={})
        self._journal, _ = Journal.open(self.folder.journal)
        self._state = SweepState(self.spec)
        self._time = 0.0
        self.note(Opened(time=0.0, epoch=1, slots_kept=True))
        params = tuple({"lr": 0.001 * 4**n, "width": 8 * 2 ** (n % 3)} for n in range(4))
        self.note(Proposed(time=0.0, params=params, exhausted=True))

    def note(self, event: Event) -> list[AttemptId]:
        """Apply and journal an event; returns the attempts that were assigned."""
        commands = self._state.apply(event)
        self._journal.append(event, commands)
        self._journal.write(self._journal.seal())
        return [command.id for command in commands if isinstance(command, Assign)]

    def hear(
        self,
        slot: int,
        *,
        incarnation: int = 1,
        begun: Sequence[AttemptId] = (),
        reports: Sequence[Reports] = (),
        checkpoints: Sequence[Checkpoint] = (),
        ends: Sequence[End] = (),
    ) -> list[AttemptId]:
        """A slot speaks; returns what it is given."""
        return self.note(
            Exchanged(
                time=self.tick(),
                slot=slot,
                incarnation=incarnation,
                places=1,
                begun=tuple(begun),
                reports=tuple(reports),
                checkpoints=tuple(checkpoints),
                ends=tuple(ends),
            )
        )

    def tick(self) -> float:
        """The time of the next event."""
        self._time += 1.0
        return self._time


def reports(id_: AttemptId, *accuracies: float, first: int = 1) -> Reports:
    """Reports of an accuracy and a loss each."""
    rows = array("d", [number for accuracy in accuracies for number in (accuracy, 1 - accuracy)])
    return Reports(
        id=id_,
        first=first,
        names=("accuracy", "loss"),
        times=bytes(8 * len(accuracies)),
        values=rows.tobytes(),
    )


def ended(id_: AttemptId, last: int, ending: Ending, error: str = "", traceback: str = "") -> End:
    """An attempt's end."""
    where = "train.py:12 in train" if error else ""
    return End(id=id_, last_report=last, ending=ending, error=error, where=where,
               traceback=traceback)  # fmt: skip


def begin(storage: Path, policy: Policy | None = None) -> tuple[Scribe, AttemptId, AttemptId]:
    """A sweep whose first two trials run: trial 0 has three reports, trial 1 has one."""
    scribe = Scribe(storage, policy=policy)
    (first,), (second,) = scribe.hear(0), scribe.hear(1)
    scribe.hear(0, begun=[first], reports=[reports(first, 0.5, 0.7, 0.75)])
    scribe.hear(1, begun=[second], reports=[reports(second, 0.3)])
    return scribe, first, second


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage with a sweep that is over: completed, stopped, failed twice, lost and best."""
    scribe, first, second = begin(tmp_path)
    (third,) = scribe.hear(0, ends=[ended(first, 3, Ending.RETURNED)])
    (fourth,) = scribe.hear(1, ends=[ended(second, 1, Ending.OBEYED)])
    trace = 'Traceback (most recent call last):\n  File "train.py", line 12\nValueError: no [blue]'
    failure = ended(third, 1, Ending.RAISED, "ValueError: no [blue]", trace)
    (again,) = scribe.hear(0, begun=[third], reports=[reports(third, 0.6)], ends=[failure])
    scribe.hear(0, begun=[again], ends=[ended(again, 0, Ending.KILLED, "killed by SIGSEGV")])
    saved = Checkpoint(
        id=fourth, report=2, path="checkpoints/trial-00003/1-000002.arrow", size=9, checksum=""
    )
    known = reports(fourth, 0.8, 0.85)
    scribe.hear(1, begun=[fourth], reports=[known], checkpoints=[saved])
    scribe.note(SlotLost(time=scribe.tick(), slot=1, incarnation=1, cause="its node died"))
    (resumed,) = scribe.hear(0)
    over = ended(resumed, 2, Ending.RETURNED)
    scribe.hear(0, begun=[resumed], reports=[reports(resumed, 0.95, 0.9)], ends=[over])
    scribe.folder.log(3).write_text("".join(f"epoch {number}\n" for number in range(30)))
    return tmp_path


# --- golden texts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", [0, 1, 2, 3])
def test_explain_tells_the_story(storage: Path, trial: int) -> None:
    """Attempts, decisions in numbers, the end, traceback and log: all on one page."""
    answer = run("explain", "digits", trial, "--storage", storage)
    golden(f"explain_{trial}", answer.output, storage)


@pytest.mark.parametrize("command", ["show", "best"])
def test_a_sweep_is_shown(storage: Path, command: str) -> None:
    """From the folder alone come the trials, why each ended, and the best."""
    answer = run(command, "digits", "--storage", storage)
    golden(command, answer.output, storage)


@pytest.mark.parametrize("command", ["validate", "preview"])
def test_a_file_is_shown(file: Path, command: str) -> None:
    """What the file asks for, and the first trials."""
    answer = run(command, file)
    golden(command, answer.stdout, file.parent)


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_is_true(name: str) -> None:
    """The line in the list, kept apart so that nothing is imported, is the command's own."""
    command = cli.get_command(cli.make_context("raysweep", [], resilient_parsing=True), name)
    assert command is not None
    assert COMMANDS[name][1] == command.get_short_help_str(100)


def test_help_imports_nothing_heavy() -> None:
    """`raysweep --help` is there at once."""
    code = (
        "import json, sys\n"
        "from raysweep.cli import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print(json.dumps([*sys.modules]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(ran.stdout.splitlines()[-1])}
    assert set() == HEAVY & loaded


def test_list_shows_every_sweep(storage: Path) -> None:
    """A line for each sweep: phase, trials, best."""
    lines = run("list", "--storage", storage).output.splitlines()
    assert ["digits", "completed", "4", "of", "4", "accuracy", "0.95", "(trial", "3)"] == (
        lines[1].split()[:9]
    )


def test_list_goes_on_past_a_damaged_journal(storage: Path) -> None:
    """One sweep that cannot be read hides no other."""
    segment = next((Scribe(storage, name="broken").folder.path / "journal").iterdir())
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    found = json.loads(run("list", "--storage", storage, "-o", "json").output)
    assert [("broken", "damaged"), ("digits", "completed")] == [
        (sweep["name"], sweep["phase"]) for sweep in found
    ]
    assert "damaged" in run("list", "--storage", storage).output


def test_list_of_an_empty_storage_says_so(tmp_path: Path) -> None:
    """Nothing on stdout, a word on stderr, no error."""
    answer = run("list", "--storage", tmp_path)
    assert (0, "") == (answer.exit_code, answer.stdout)
    assert f"no sweeps in {tmp_path}" in answer.stderr


def test_show_of_a_running_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    """The folder cannot tell whether a controller lives, so both ways are named."""
    begin(tmp_path)
    output = run("show", "digits", "--storage", tmp_path).output
    assert f"raysweep watch digits --storage {tmp_path}" in output
    assert f"raysweep resume digits --storage {tmp_path}" in output


def test_show_as_json_holds_every_trial(storage: Path) -> None:
    """The document says all that the page says."""
    shown = json.loads(run("show", "digits", "--storage", storage, "-o", "json").output)
    assert ["completed", "stopped", "failed", "completed"] == [
        trial["state"] for trial in shown["trials"]
    ]
    assert {"completed": 2, "stopped": 1, "failed": 1} == shown["counts"]
    assert 3 == shown["best"]["trial"]


def test_best_as_json_holds_metrics_and_checkpoint(storage: Path) -> None:
    """The best report's other metrics, and the checkpoint that lies nearest."""
    best = json.loads(run("best", "digits", "--storage", storage, "-o", "json").output)
    assert pytest.approx({"accuracy": 0.95, "loss": 0.05}) == best["metrics"]
    assert (3, 2) == (best["best_interval"], best["checkpoint_interval"])


def test_best_without_a_value_fails(tmp_path: Path) -> None:
    """No finite value: the sweep has nothing to hand out, and that is no user's mistake."""
    Scribe(tmp_path)
    answer = run("best", "digits", "--storage", tmp_path)
    assert 1 == answer.exit_code
    assert "error: sweep 'digits' has no finite value of 'accuracy'" in answer.stderr


def test_explain_as_json_holds_the_story(storage: Path) -> None:
    """Attempts and judgements come as data."""
    story = json.loads(run("explain", "digits", 1, "--storage", storage, "-o", "json").output)
    assert [True] == [judged["stopped"] for judged in story["judged"]]
    assert "bandit: best 0.3 < 0.455 = 0.5 / (1 + 0.1)" in story["judged"][0]["why"]
    assert ["ended as it was told"] == [told["ending"] for told in story["attempts"]]


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (NoPolicy(), "no policy: every trial runs to its end"),
        (Bandit(slack_amount=0.4), "best 0.3 is within slack_amount 0.4 of 0.5 (trial 0)"),
        (Bandit(slack_factor=1, delay_evaluation=3), "not judged before interval 3"),
        (MedianStopping(evaluation_interval=2), "judged only at multiples of 2"),
        (
            TruncationSelection(truncation_percentage=20),
            "too few trials (2) for the worst 20 % to be one",
        ),
    ],
)
def test_explain_says_why_a_trial_was_not_stopped(tmp_path: Path, policy: Policy, why: str) -> None:
    """Every policy's go-on has its reason in numbers, as it stood at that interval."""
    begin(tmp_path, policy)
    story = json.loads(run("explain", "digits", 1, "--storage", tmp_path, "-o", "json").output)
    assert [why] == [judged["why"] for judged in story["judged"]]
    assert "has not ended: it is running" == story["ended"]


def test_explain_counts_as_the_policy_does(tmp_path: Path) -> None:
    """Median and truncation compare with the trials that had come as far by then."""
    _, first, _ = begin(tmp_path, MedianStopping())
    del first
    story = json.loads(run("explain", "digits", 0, "--storage", tmp_path, "-o", "json").output)
    assert "best 0.75 is not worse than 0.65, the median of 1 means" == story["judged"][-1]["why"]


def test_a_trial_that_was_proposed_anew_is_shown_with_what_it_ran(tmp_path: Path) -> None:
    """Its values are the last; the story says what the sampler knew each time, and what it had not."""
    scribe = Scribe(tmp_path, sampler=Bayesian(seed=7))
    (first,) = scribe.hear(0)
    scribe.hear(0, begun=[first], reports=[reports(first, 0.5)])
    anew = {"lr": 0.05, "width": 8}
    scribe.note(Revised(time=scribe.tick(), trial=1, params=anew, known=1))
    scribe.hear(1)
    late = {"lr": 0.07, "width": 8}
    scribe.note(Revised(time=scribe.tick(), trial=1, params=late, known=1))
    story = json.loads(run("explain", "digits", 1, "--storage", tmp_path, "-o", "json").output)
    assert (anew, [0, 1]) == (story["params"], [told["known"] for told in story["proposals"]])
    page = run("explain", "digits", 1, "--storage", tmp_path).output
    assert "proposed\n  at 0s, knowing no result\n  at 3s, knowing 1 result\n" in page
    shown = json.loads(run("show", "digits", "--storage", tmp_path, "-o", "json").output)
    assert anew in [trial["params"] for trial in shown["trials"]]


def test_explain_of_a_trial_that_is_not_there(storage: Path) -> None:
    """The message says which there are."""
    answer = run("explain", "digits", 9, "--storage", storage)
    assert (2, "error: sweep 'digits' has no trial 9: it has trials 0 to 3\n") == (
        answer.exit_code, answer.stderr,
    )  # fmt: skip


def test_export_writes_the_tables(storage: Path) -> None:
    """What it prints is the folder that holds them."""
    target = storage / "tables"
    answer = run("export", "digits", "--storage", storage, "--to", target)
    assert f"{target}\n" == answer.output
    assert (target / "trials.parquet").is_file()


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    """JSON knows no NaN."""
    scribe, first, _ = begin(tmp_path, NoPolicy())
    scribe.hear(0, reports=[reports(first, float("nan"), first=4)])
    story = json.loads(run("explain", "digits", 0, "--storage", tmp_path, "-o", "json").output)
    assert story["judged"][-1]["value"] is None


# --- what is refused ------------------------------------------------------------------------------


def test_a_sweep_that_is_not_there_is_a_mistake(storage: Path) -> None:
    """The message suggests the nearest name; no traceback."""
    answer = run("show", "digit", "--storage", storage)
    assert 2 == answer.exit_code
    assert answer.stderr.startswith("error: no sweep named 'digit'")
    assert "did you mean 'digits'?" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_debug_shows_the_traceback(storage: Path) -> None:
    """For those who look for a bug of ours."""
    answer = run("--debug", "show", "digit", "--storage", storage)
    assert 2 == answer.exit_code
    assert "Traceback" in answer.stderr


def test_a_damaged_journal_is_the_cluster_s_loss(storage: Path) -> None:
    """It is nobody's spec: exit code 1, and what to do."""
    segment = next((storage / "digits" / "journal").iterdir())
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    answer = run("show", "digits", "--storage", storage)
    assert 1 == answer.exit_code
    assert f"error: {segment} is damaged" in answer.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_thing", ":1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("x = 1\nx = (\n", ":2: SyntaxError: '(' was never closed"),
        ("import sys\n\nsys.exit(3)", ":3: SystemExit: 3"),
        (SWEEP.replace('steps": rs.choice([1, 2])', 'steps": rs.choice([])'),
         ":11: choice values must not be empty"),
        ("x = 1", " defines no sweep"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(file: Path, text: str, message: str) -> None:
    """File, line and error; exit code 2."""
    file.write_text(text)
    answer = run("validate", file)
    assert 2 == answer.exit_code
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"error: {file}{message}")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The message says what files there are."""
    other = tmp_path / "job.toml"
    other.write_text("type = 'sweep'\n")
    answer = run("run", other)
    assert 2 == answer.exit_code
    assert "must be a Python file (.py) or an Azure ML job (.yml), but ends with" in answer.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Bad usage is exit code 2."""
    assert 2 == run("run", tmp_path / "none.py").exit_code


def test_a_taken_name_is_refused_before_ray_starts(storage: Path, file: Path) -> None:
    """A second run of the same name: resume it, or choose another."""
    answer = run("run", file, "--name", "digits", "--storage", storage)
    assert 2 == answer.exit_code
    assert "a sweep named 'digits' is already in" in answer.stderr


@pytest.mark.parametrize("command", ["resume", "cancel"])
def test_a_sweep_that_is_over_can_only_be_looked_at(storage: Path, command: str) -> None:
    """The message says how it ended and where to look."""
    answer = run(command, "digits", "--storage", storage)
    assert 2 == answer.exit_code
    line = f"raysweep show digits --storage {storage}"
    assert answer.stderr.startswith(f"error: sweep 'digits' is over (completed): see `{line}`")
    more = f"raysweep resume digits --storage {storage} --set limits.max_total_trials=8"
    assert (command == "resume") == (more in answer.stderr)


def test_watch_of_a_sweep_that_is_over_shows_it(storage: Path) -> None:
    """No cluster is asked; the exit code is the sweep's."""
    answer = run("watch", "digits", "--storage", storage)
    assert 0 == answer.exit_code
    assert "best accuracy 0.95 in trial 3 at interval 3" in answer.stdout


def test_a_canceled_sweep_has_failed(tmp_path: Path) -> None:
    """Scripts that wait for it learn so from the exit code."""
    scribe, first, second = begin(tmp_path)
    scribe.note(CancelAsked(time=scribe.tick()))
    scribe.hear(0, ends=[ended(first, 3, Ending.OBEYED)])
    scribe.hear(1, ends=[ended(second, 1, Ending.OBEYED)])
    assert 1 == run("watch", "digits", "--storage", tmp_path).exit_code


@pytest.mark.parametrize("command", ["resume", "watch", "cancel"])
def test_an_address_where_nothing_is(tmp_path: Path, command: str) -> None:
    """It is said at once, and nothing is started."""
    begin(tmp_path)
    with socket.socket() as taken:  # bound and not listening: whoever knocks is refused
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        answer = run(command, "digits", "--storage", tmp_path, "--address", address)
    assert 2 == answer.exit_code
    assert f"error: no Ray cluster answers at address '{address}'" in answer.stderr


# --- files and settings ---------------------------------------------------------------------------


def test_a_file_s_own_output_stays_off_stdout(file: Path) -> None:
    """Stdout is one JSON document, whatever the file prints."""
    answer = run("validate", file, "-o", "json")
    assert "small" == json.loads(answer.stdout)["name"]
    assert "hello from the file" in answer.stderr


def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    """Its folder is where Python looks first."""
    (tmp_path / "neighbour_of_it.py").write_text("NAME = 'beside'\n")
    file = tmp_path / "has_neighbour.py"
    text = SWEEP.replace('"small"', "neighbour_of_it.NAME")
    file.write_text(f"import neighbour_of_it\n{text}")
    assert "beside" == load(file, {}).spec.name


def test_a_file_may_have_a_taken_name(tmp_path: Path) -> None:
    """`json.py` with a sweep in it does not replace the library's json."""
    file = tmp_path / "json.py"
    file.write_text(SWEEP)
    assert "small" == load(file, {}).spec.name
    assert json is sys.modules["json"]


@pytest.mark.parametrize("command", ["validate", "preview"])
def test_what_auto_chose_is_said_and_kept(file: Path, command: str) -> None:
    """The spec has the sampler that will run; a line on stderr says why."""
    file.write_text(SWEEP.replace("rs.Random(seed=7)", "rs.Auto(seed=7)"))
    assert Tpe(seed=7) == load(file, {}).spec.sampler
    assert "sampler auto is tpe: it compares conditional" in run(command, file).stderr


COUNTED = (
    SWEEP.partition("    space=")[0]
    + """    space={"n": rs.randint(6)},
    objective=rs.maximize("score"), sampler=rs.Auto(seed=7), name="small",
    limits=rs.Limits(max_total_trials=8, max_concurrent_trials=2),
)
"""
)


@pytest.mark.parametrize(
    ("given", "kind", "notices"),
    [
        ((), "grid", ["sampler auto is grid: all 6 combinations fit in 8 trials"]),
        (("--sampler", "sobol"), "sobol", []),
        (("--sampler", "auto"), "grid", ["sampler auto is grid: all 6 combinations fit in 8 trials"]),
        (("--set", "limits.max_total_trials=3"), "bayesian", ["sampler auto is bayesian: it needs"]),
        (("--set", "sampler.seed=8"), "grid", ["sampler auto is grid"]),
    ],
)  # fmt: skip
def test_auto_chooses_for_what_the_command_line_asks(
    file: Path, given: Sequence[str], kind: str, notices: list[str]
) -> None:
    """Not for what the file alone says; and what it chose for that is not said."""
    file.write_text(COUNTED)
    done = run("validate", file, *given, "-o", "json")
    assert (0, kind) == (done.exit_code, json.loads(done.stdout)["sampler"]["type"]), done.output
    said = done.stderr.splitlines()[1:]  # after the file's own hello
    assert len(notices) == len(said)
    assert all(line.startswith(start) for line, start in zip(said, notices, strict=True))


@pytest.mark.parametrize(
    "asked", [("--sampler", "auto"), ("--set", 'sampler={"type": "auto", "seed": 7}')]
)
def test_auto_chooses_where_the_command_line_asks_for_it(
    file: Path, asked: tuple[str, ...]
) -> None:
    """As it does in the file."""
    done = run("validate", file, "-o", "json", *asked)
    assert {"type": "tpe", "seed": 7} == json.loads(done.stdout)["sampler"]
    assert "sampler auto is tpe" in done.stderr


def test_settings_change_parts_of_the_spec(file: Path) -> None:
    """Numbers, words, whole parts: by dotted path."""
    spec = changed(
        load(file, {}).spec,
        {
            "limits.max_total_trials": "9",
            "space.x.high": "2",
            "policy": '{"type": "median_stopping"}',
            "resources.custom.tpu": "1",
            "name": "other",
        },
    )
    assert (9, 2.0, MedianStopping(), {"tpu": 1}, "other") == (
        spec.limits.max_total_trials,
        spec.space.to_dict()["x"]["high"],  # type: ignore[index,call-overload]  # JSON's builtins
        spec.policy,
        spec.resources.custom,
        spec.name,
    )


def test_the_sampler_s_seed_is_the_sweep_s(file: Path) -> None:
    """A seed that is set is the one that trials are drawn with."""
    first, second = (
        json.loads(run("preview", file, "--set", f"sampler.seed={seed}", "-o", "json").stdout)
        for seed in (7, 8)
    )
    assert first != second
    assert first == json.loads(run("preview", file, "-o", "json").stdout)


def test_a_sampler_may_be_named(file: Path) -> None:
    """Another sampler than the file's, with the file's seed."""
    spec = json.loads(run("validate", file, "--sampler", "sobol", "-o", "json").stdout)
    assert ({"type": "sobol", "seed": 7}, 7) == (spec["sampler"], spec["seed"])


def test_the_same_sampler_of_optuna_keeps_the_file_s_options(file: Path) -> None:
    """Naming it once more changes nothing; its options may be set one by one."""
    file.write_text(
        file.read_text().replace("rs.Random(seed=7)", 'rs.Optuna(options={"multivariate": True})')
    )
    again = json.loads(run("validate", file, "--sampler", "optuna:TPESampler", "-o", "json").stdout)
    other = json.loads(run("validate", file, "--sampler", "optuna:QMCSampler", "-o", "json").stdout)
    more = json.loads(
        run("validate", file, "--set", "sampler.options.group=true", "-o", "json").stdout
    )
    assert {"multivariate": True} == again["sampler"]["options"]
    assert {} == other["sampler"].get("options", {})
    assert {"multivariate": True, "group": True} == more["sampler"]["options"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sobel", "did you mean 'sobol'?"),
        ("optuna:TPESample", "optuna has no sampler 'TPESample'; did you mean 'TPESampler'?"),
    ],
)
def test_a_sampler_that_is_none_is_refused(file: Path, name: str, message: str) -> None:
    """With what is near."""
    done = run("validate", file, "--sampler", name)
    assert 2 == done.exit_code
    assert message in done.stderr


def test_a_sweep_may_begin_with_an_earlier_one(file: Path, storage: Path) -> None:
    """By name, in the storage that is named; the sampler has to be one that learns."""
    space = '{"lr": rs.loguniform(1e-5, 1), "width": rs.choice([8, 16, 32])}'
    head, _, tail = SWEEP.partition("    space=")
    tail = tail.partition("objective=")[2].replace("score", "accuracy")
    file.write_text(f"{head}    space={space},\n    objective={tail}")
    given = ("validate", file, "--warm-start", "digits", "--storage", storage)
    refused = run(*given)
    assert 2 == refused.exit_code
    assert "the random sampler does not learn; use bayesian, tpe, auto or optuna" in refused.stderr
    done = run(*given, "--sampler", "bayesian")
    assert 0 == done.exit_code, done.output
    assert "warm start: begins with the 3 results of sweep 'digits'" in done.stderr
    assert "3 results of an earlier sweep" in done.stdout


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("limit.timeout=3", "spec has no key 'limit'; did you mean 'limits'?"),
        ("limits.max_trials=3", "limits has no key 'max_trials'; did you mean"),
        ("space.y.upper=3", "space has no key 'y'"),
        ("name.first=a", "name must be a mapping, but got 'small' (str)"),
        ("limits.max_total_trials=many", "limits.max_total_trials must be a whole number"),
        ("grace", "'grace' must be KEY=VALUE"),
    ],
)
def test_a_setting_that_cannot_be(file: Path, setting: str, message: str) -> None:
    """An unknown path or a bad value is bad usage, with the nearest that there is."""
    answer = run("validate", file, "--set", setting)
    assert 2 == answer.exit_code
    assert message in answer.stderr


def test_settings_leave_the_given_spec_alone(file: Path) -> None:
    """A spec is frozen: the change is a new one, down to the mappings inside."""
    spec = load(file, {}).spec
    changed(spec, {"limits.max_total_trials": "9", "resources.custom.tpu": "1"})
    assert (4, {}) == (spec.limits.max_total_trials, spec.resources.custom)


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_times_commits(tmp_path: Path) -> None:
    """The storage is made if need be, measured, and left as it was."""
    check = doctors.commits(str(tmp_path / "new"))
    assert check.mark in (Mark.OK, Mark.WARN)
    assert "ms a commit" in check.found
    assert [] == [*(tmp_path / "new").iterdir()]


def test_doctor_fails_where_storage_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    check = doctors.commits(str(tmp_path / "file" / "sweeps"))
    assert Mark.FAIL is check.mark
    assert "cannot be written" in check.found


@pytest.mark.parametrize(("mode", "mark"), [(0o600, Mark.OK), (0o644, Mark.WARN)])
def test_doctor_looks_at_the_token(tmp_path: Path, mode: int, mark: Mark) -> None:
    """A token that others may read is theirs, too."""
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(mode)
    check = doctors.token(token)
    assert mark is check.mark
    assert "secret" not in check.found


def test_doctor_fails_by_exit_code(tmp_path: Path) -> None:
    """Scripts can ask whether anything is in the way."""
    (tmp_path / "file").write_text("")
    answer = run("doctor", "--storage", tmp_path / "file", "-o", "json")
    assert 1 == answer.exit_code
    checks = {check["name"]: check["mark"] for check in json.loads(answer.stdout)}
    assert ("ok", "ok", "fail") == (checks["python"], checks["ray"], checks["storage"])


# --- on a real Ray --------------------------------------------------------------------------------


@pytest.mark.ray
def test_a_sweep_runs_and_is_shown(local_ray: str, file: Path, tmp_path: Path) -> None:
    """The whole way: run it with changes, one JSON document on stdout, lines on stderr, exit 0."""
    del local_ray
    answer = run("run", file, "--set", "limits.max_total_trials=3", "--cpus", "0.5",
                 "--name", "mine", "--storage", tmp_path, "-o", "json")  # fmt: skip
    assert 0 == answer.exit_code, answer.output
    document = json.loads(answer.stdout)
    assert ("mine", "completed", 3) == (document["name"], document["phase"], document["trials"])
    assert "3 of 3 trials ended" in answer.stderr
    assert "mine" in run("show", "mine", "--storage", tmp_path).output


@pytest.mark.ray
def test_a_sweep_without_a_completed_trial_fails(
    local_ray: str, file: Path, tmp_path: Path
) -> None:
    """Exit code 1, and `explain` has the traceback."""
    del local_ray
    file.write_text(SWEEP.replace('score=trial.params["x"]', 'score=trial.params["y"]'))
    answer = run("run", file, "--storage", tmp_path)
    assert 1 == answer.exit_code
    assert "KeyError: 'y'" in run("explain", "small", 0, "--storage", tmp_path).output
