"""A trial that is a shell command: laid out, run, heard, judged.

One rule: for the slot it is a training function like any other. The process that would call the
user's function supervises the user's command instead: what the script logs becomes a report, what
it leaves in its checkpoint folder a checkpoint, its exit code the trial's end.

A stop reaches the command as SIGTERM, at once; what is left of it after the grace period is killed.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from raysweep.errors import (
    ClusterError,
    CommandError,
    EnvironmentBuildError,
    MetricError,
    Stopped,
    UserError,
)
from raysweep.runtime.command import containers, environment, inputs
from raysweep.runtime.command.cache import Berth
from raysweep.runtime.command.checkpoint_folder import CheckpointFolder
from raysweep.runtime.command.children import Children, Start, how_it_ended, kind_of, last_words
from raysweep.runtime.command.environment import Prepared
from raysweep.runtime.command.shell import PREFIXES, Rendered, text_of, values_of
from raysweep.runtime.process_tree import adopt_orphans
from raysweep.runtime.tracking import TrackedRun, Tracking, unproxied
from raysweep.runtime.trial import Trial
from raysweep.storage import snapshot
from raysweep.storage.copying import copy
from raysweep.storage.folder import SweepFolder

# What Azure uploads from a job's working directory by itself; here it is copied when the job ends.
KEPT_FOLDERS = ("outputs", "logs")

FILE_STORE = "migrate to a database backend"  # what MLflow says to `set_tracking_uri("file:...")`
SOON = 0.1  # of the time between two reports, in which what is saved belongs to the first

PACKAGE = Path(__file__).parents[2]  # raysweep's own folder

Starter = Callable[[str, Mapping[str, str]], list[str]]  # of a script and its variables


class CommandTrial:
    """The training function of a sweep whose trials are commands.

    Made once for all trials of a slot: inputs are fetched and the environment is built then.

    Raises:
        CommandError: an input or the environment cannot be had on this node.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._spec = folder.read_spec()
        self._command = folder.read_command()
        self._berth = Berth.taken(folder.read_document()["id"])
        log = _Setup(folder.setup_log(socket.gethostname()))
        try:
            self._prepared = environment.ready(self._command.environment, self._berth.cache, log)
            self._inputs = {
                f"inputs.{name}": inputs.fetch(each, self._berth.cache)
                for name, each in self._command.inputs.items()
            }
        except (UserError, ClusterError) as error:  # told in its own words, not as our failure
            output = error.output if isinstance(error, EnvironmentBuildError) else ""
            log(f"{error}\n{output}")
            self._berth.left()
            raise CommandError(str(error), output) from error

    def close(self) -> None:
        """Remove what trials of this slot, and of slots that were killed, left on the node."""
        for abandoned in self._berth.left():
            if self._command.environment.image:
                containers.forget(abandoned)

    def __call__(self, trial: Trial) -> None:
        """Run the command to its end.

        Raises:
            CommandError: it failed, or never logged the primary metric.
            Stopped: the trial was told to end.
        """
        # A handler and not SIG_IGN, which the command would inherit.
        signal.signal(signal.SIGTERM, lambda *_: None)
        adopt_orphans()
        with tempfile.TemporaryDirectory(
            prefix=f"{trial.number}-", dir=self._berth.place, ignore_cleanup_errors=True
        ) as place:
            self._run(trial, Path(place))

    def _run(self, trial: Trial, place: Path) -> None:
        saved = CheckpointFolder(place / "checkpoint")
        saved.restore(trial.checkpoint())
        paths = self._lay_out(trial, place / "work")
        values = values_of(self._command, trial.params, paths)
        rendered = Rendered.of(self._command.text, values)
        supervisor = _Supervisor(trial, saved, self._spec.objective.metric)
        record = self._folder.tracked(trial.number, trial.attempt)
        record.parent.mkdir(exist_ok=True)
        with Tracking(self._tracked(trial), supervisor.report, record=record) as tracking:
            variables = {
                **_azures(values),
                **_own(trial, saved.path, _importable(place)),
                **tracking.environment,
                **self._command.variables,
                **rendered.variables,
                **unproxied({**os.environ, **self._command.variables}),
            }
            children = self._start(trial, place, rendered.script, variables)
            try:
                code = supervisor.watch(children)
            finally:
                children.end(self._spec.grace)
                self._keep(trial, place / "work")
        self._judge(trial, code, children.output, tracking)

    def _lay_out(self, trial: Trial, work: Path) -> dict[str, str]:
        """Make the working directory, the attempt's own; where inputs and outputs lie."""
        if self._folder.snapshot.exists():
            snapshot.unpack(self._folder.snapshot, work)
        else:
            work.mkdir()
        for kept in self._kept(trial):
            kept.mkdir(parents=True, exist_ok=True)
        for name in KEPT_FOLDERS:
            kept = self._folder.artifacts(trial.number) / name
            if kept.is_dir():  # an attempt before this one was here
                copy(kept, work / name)
            elif not (work / name).exists():
                (work / name).mkdir()
        written = {}
        for name, output in self._command.outputs.items():
            path = self._folder.output(trial.number, name)
            if output.type != "uri_file" and not path.exists():
                path.mkdir()
            written[f"outputs.{name}"] = str(path)
        return self._inputs | written

    def _keep(self, trial: Trial, work: Path) -> None:
        """Keep what the command left in the folders that Azure keeps."""
        for name in KEPT_FOLDERS:
            if (work / name).is_dir() and any((work / name).iterdir()):
                try:
                    copy(work / name, self._folder.artifacts(trial.number) / name)
                except OSError as error:
                    _say(f"./{name} is not kept as a whole: {error}")

    def _kept(self, trial: Trial) -> list[Path]:
        """The folders of the sweep that a trial's command writes into."""
        outputs = [self._folder.output(trial.number, "")] if self._command.outputs else []
        return [self._folder.artifacts(trial.number), *outputs]

    def _start(
        self, trial: Trial, place: Path, script: str, variables: Mapping[str, str]
    ) -> Children:
        """Start the command, each of its processes with the variables of its own."""
        starter = self._starter(trial, place)
        inherited = _inherited(self._prepared)
        starts = [
            Start(starter(script, rank), {**inherited, **rank})
            for rank in _ranks(variables, self._command.processes)
        ]
        return Children(starts, place / "work")

    def _starter(self, trial: Trial, place: Path) -> Starter:
        """What makes the arguments that start a script: by bash, here or in a container."""
        image = self._command.environment.image
        if not image or not containers.suits(self._command.environment, _say):
            return lambda script, _: [containers.SHELL, "-c", script]
        local = (Path(path) for path in self._inputs.values() if "://" not in path)
        return containers.Container(
            image=image,
            name=f"{self._folder.read_document()['id']}-{trial.number}-{trial.attempt}",
            crew=self._berth.place.name,
            work=place / "work",
            written=(place, *self._kept(trial)),
            read=tuple(local),
        ).command

    def _tracked(self, trial: Trial) -> TrackedRun:
        """The trial as MLflow's client sees it; another attempt goes on with the same run."""
        identity = f"{self._folder.actor_name}:{trial.number}"
        return TrackedRun(
            run_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
            name=f"{self._folder.name}_{trial.number}",
            experiment=self._command.experiment or self._folder.name,
            artifacts=self._folder.artifacts(trial.number),
            params=trial.params,
            tags={
                "raysweep.sweep": self._folder.name,
                "raysweep.trial": str(trial.number),
                "raysweep.attempt": str(trial.attempt),
            },
        )

    def _judge(self, trial: Trial, code: int, output: str, tracking: Tracking) -> None:
        """Say what was wrong, unless nothing was."""
        run = tracking.environment["MLFLOW_RUN_ID"]
        elsewhere = f"Run '{run}' not found" in output or FILE_STORE in output  # as MLflow says it
        if code and not (elsewhere and not tracking.seen):
            how = f"the command {how_it_ended(code)}"
            advice = environment.advice(output, self._command.environment, self._prepared)
            told = advice or last_words(output)
            kind = f"{how}: {kind_of(output)}"
            raise CommandError(f"{how}: {told}" if told else how, output, kind=kind)
        metric = self._spec.objective.metric
        restored = trial.restored  # what it logged before counts up to there
        if metric not in tracking.seen and (code or not restored):
            raise CommandError(f"primary metric {metric!r} never logged ({_saw(tracking)})", output)


class _Supervisor:
    """Stands between a command that runs, what it logs, and the trial that it is."""

    def __init__(self, trial: Trial, saved: CheckpointFolder, metric: str) -> None:
        self._trial = trial
        self._saved = saved
        self._metric = metric
        self._reported = 0.0  # when the primary metric came last, by the system's clock
        self._talking = threading.Lock()  # the trial's channel is for one thread at a time
        self._over: BaseException | None = None  # why the command is to end
        self._woken, self._waking = socket.socketpair()

    def report(self, metrics: Mapping[str, float]) -> None:
        """Report what the script has logged; it waits meanwhile.

        Raises:
            MetricError: they are no metrics.
            Stopped: the command is to end, so nothing more is of interest.
        """
        with self._talking:
            if self._over is None:
                try:
                    self._report(metrics)
                except MetricError:
                    raise
                except BaseException as error:  # noqa: BLE001  (the main thread raises it)
                    self._over = error
                    self._waking.send(b".")
            if self._over is not None:
                raise Stopped(str(self._over))

    def _report(self, metrics: Mapping[str, float]) -> None:
        """Report metrics; with the primary one go the files that the script has saved.

        The files belong to this report: a script saves and then logs. Only if they were written just
        after the report before do they belong to that one: the script logs and then saves.
        """
        soon = self._reported + SOON * (time.time() - self._reported)
        taken = self._saved.changed() if self._metric in metrics else None
        if taken is None:
            self._trial.report(metrics)
        elif not self._trial.saved and taken.written < soon:
            self._trial.save(taken.files)
            self._trial.report(metrics)
        else:
            self._trial.report(metrics, checkpoint=taken.files)
        if self._metric in metrics:
            self._reported = time.time()

    def watch(self, children: Children) -> int:
        """The exit code of a command that has ended; raises when it is to end."""
        with selectors.DefaultSelector() as selector, children.watched() as watches:
            for each in (self._trial.fileno(), self._woken.fileno(), *watches):
                selector.register(each, selectors.EVENT_READ)
            while not children.over:
                for key, _ in selector.select():
                    if key.fd in watches:
                        selector.unregister(key.fd)  # another rank may still run
                self._raise_if_over(heed=True)
        self._raise_if_over(heed=False)  # a script may end with its last report unanswered
        return children.code

    def _raise_if_over(self, *, heed: bool) -> None:
        with self._talking:
            if self._over is not None:
                raise self._over
            if heed:
                self._trial.heed()


class _Setup:
    """The log of what is prepared on a node before trials run there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        _say(line)
        with self._path.open("a") as file:
            file.write(
                line.strip().replace("\n", "\n  ") + "\n"
            )  # the first line is for the screen


def _azures(values: Mapping[str, object]) -> dict[str, str]:
    """The variables in which Azure hands out values: by kind, and all of them as `AZUREML_SWEEP_x`."""
    named: dict[str, str] = {}
    for key, value in reversed(list(values.items())):  # a parameter comes before an input
        root, _, name = key.partition(".")
        named |= {
            PREFIXES["search_space"] + name: text_of(value),
            PREFIXES[root] + name: text_of(value),
        }
    return named


def _importable(place: Path) -> str:
    """A PYTHONPATH with which `import raysweep` works in whatever environment, and nothing else."""
    (place / "python").mkdir()
    (place / "python" / "raysweep").symlink_to(PACKAGE)
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(place / "python")]))


def _own(trial: Trial, checkpoint: Path, python_path: str) -> dict[str, str]:
    """What a script may know of the sweep that runs it."""
    return {
        "PYTHONPATH": python_path,
        "RAYSWEEP_TRIAL": str(trial.number),
        "RAYSWEEP_ATTEMPT": str(trial.attempt),
        "RAYSWEEP_SEED": str(trial.seed),
        "RAYSWEEP_CHECKPOINT_DIR": str(checkpoint),
    }


def _inherited(prepared: Prepared) -> dict[str, str]:
    """The node's variables as the command's environment wants them; Python prints at once."""
    path = os.pathsep.join([*prepared.path_entries, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PYTHONUNBUFFERED": "1", **prepared.variables, "PATH": path}


def _ranks(variables: Mapping[str, str], processes: int | None) -> list[dict[str, str]]:
    """The variables of each process: of a PyTorch job, as its `env://` wants them."""
    if processes is None:
        return [dict(variables)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {
        **variables,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "NODE_RANK": "0",
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _saw(tracking: Tracking) -> str:
    """What arrived in place of the primary metric, and what to do about it."""
    if tracking.seen:
        return f"saw: {', '.join(sorted(tracking.seen))}"
    if tracking.aside:
        return f"saw in nested runs only: {', '.join(sorted(tracking.aside))}"
    return (
        "saw nothing: log it with mlflow.log_metric or raysweep.report; a script that sets a"
        " tracking URI of its own logs past the sweep"
    )


def _say(line: str) -> None:
    print(f"raysweep: {line}", file=sys.stderr, flush=True)  # noqa: T201  (the trial's log)
