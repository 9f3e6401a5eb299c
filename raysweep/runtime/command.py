"""A trial that is a shell command: laid out, run, heard, judged.

One rule: for the slot it is a training function like any other. The process that would call the
user's function supervises the user's command instead: what the script logs becomes a report, what
it leaves in its checkpoint folder the report's checkpoint, its exit code the trial's end.

A stop reaches the command as SIGTERM, at once; what is left of it after the grace period is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from raysweep.errors import ClusterError, CommandError, MetricError, Stopped, UserError
from raysweep.runtime import containers, environment, inputs
from raysweep.runtime.checkpoint_folder import CheckpointFolder
from raysweep.runtime.children import Children, Start, how_it_ended, last_words
from raysweep.runtime.environment import Prepared
from raysweep.runtime.process_tree import adopt_orphans
from raysweep.runtime.shell import PREFIXES, Rendered, text_of, values_of
from raysweep.runtime.tracking import TrackedRun, Tracking, unproxied
from raysweep.runtime.trial import Trial
from raysweep.storage import snapshot
from raysweep.storage.folder import SweepFolder

# What Azure uploads from a job's working directory by itself; here it is written where it is kept.
KEPT_FOLDERS = ("outputs", "logs")

Starter = Callable[[str, Mapping[str, str]], list[str]]  # of a script and its variables


class CommandTrial:
    """The training function of a sweep whose trials are commands."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._spec = folder.read_spec()
        self._command = folder.read_command()
        self._cache, self._places = _places(folder.read_document()["id"])

    def close(self) -> None:
        """Remove what trials that were killed left on the node."""
        if self._command.environment.image:
            containers.forget(self._places.name)
        shutil.rmtree(self._places, ignore_errors=True)
        with contextlib.suppress(OSError):  # other slots of the sweep, or downloads, are in it
            self._cache.rmdir()

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
            prefix=f"{trial.number}-", dir=self._places, ignore_cleanup_errors=True
        ) as place:
            try:
                self._run(trial, Path(place))
            except (UserError, ClusterError) as error:  # told in its own words, not as our failure
                raise CommandError(str(error)) from error

    def _run(self, trial: Trial, place: Path) -> None:
        work, saved = place / "work", CheckpointFolder(place / "checkpoint")
        self._lay_out(trial, work)
        saved.restore(trial.checkpoint())
        paths = self._paths(trial)
        values = values_of(self._command, trial.params, paths)
        rendered = Rendered.of(self._command.text, values)
        prepared = environment.ready(self._command.environment, self._cache, _say)
        supervisor = _Supervisor(trial, saved)
        record = self._folder.tracked(trial.number, trial.attempt)
        record.parent.mkdir(exist_ok=True)
        with Tracking(self._tracked(trial), supervisor.report, record=record) as tracking:
            variables = {
                **_azures(values),
                **rendered.variables,
                **_own(trial, saved.path),
                **tracking.environment,
                **self._command.variables,
            }
            variables |= unproxied({**os.environ, **variables})
            ranks = _ranks(variables, self._command.processes)
            start = self._starter(trial, place, paths)
            inherited = _cleaned(os.environ, prepared)
            children = Children(
                [Start(start(rendered.script, rank), {**inherited, **rank}) for rank in ranks],
                work,
            )
            try:
                code = supervisor.watch(children)
            finally:
                children.end(self._spec.grace)
        self._judge(code, children.output, tracking, prepared)

    def _starter(self, trial: Trial, place: Path, paths: Mapping[str, str]) -> Starter:
        """What makes the arguments that start a script: by bash, here or in a container."""
        image = self._command.environment.image
        if not image or not containers.suits(self._command.environment, _say):
            return lambda script, _: [containers.SHELL, "-c", script]
        return containers.Container(
            image=image,
            name=f"{self._folder.read_document()['id']}-{trial.number}-{trial.attempt}",
            crew=self._places.name,
            work=place / "work",
            written=(place, *self._kept(trial)),
            read=tuple(Path(paths[f"inputs.{name}"]) for name in self._command.inputs),
        ).command

    def _lay_out(self, trial: Trial, work: Path) -> None:
        """Make the working directory: a copy of the code folder of the attempt's own."""
        if self._folder.snapshot.exists():
            snapshot.unpack(self._folder.snapshot, work)
        else:
            work.mkdir()
        for name in KEPT_FOLDERS:
            if not (work / name).exists():
                kept = self._folder.artifacts(trial.number) / name
                kept.mkdir(parents=True, exist_ok=True)
                (work / name).symlink_to(kept)

    def _kept(self, trial: Trial) -> list[Path]:
        """The folders of the sweep that a trial's command writes into."""
        outputs = [self._folder.output(trial.number, "")] if self._command.outputs else []
        return [self._folder.artifacts(trial.number), *outputs]

    def _paths(self, trial: Trial) -> dict[str, str]:
        """Where the inputs and the outputs lie on this node."""
        fetched = {
            f"inputs.{name}": inputs.fetch(each, self._cache)
            for name, each in self._command.inputs.items()
        }
        written = {}
        for kept in self._kept(trial):
            kept.mkdir(parents=True, exist_ok=True)
        for name, output in self._command.outputs.items():
            path = self._folder.output(trial.number, name)
            (path.parent if output.type == "uri_file" else path).mkdir(parents=True, exist_ok=True)
            written[f"outputs.{name}"] = str(path)
        return fetched | written

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

    def _judge(self, code: int, output: str, tracking: Tracking, prepared: Prepared) -> None:
        """Say what was wrong, unless nothing was."""
        run = tracking.environment["MLFLOW_RUN_ID"]
        elsewhere = f"Run '{run}' not found" in output  # as MLflow's client says it of other places
        if code and not (elsewhere and not tracking.seen):
            advice = environment.advice(output, self._command.environment, prepared)
            told = advice or last_words(output)
            how = f"the command {how_it_ended(code)}"
            raise CommandError(f"{how}: {told}" if told else how, output)
        metric = self._spec.objective.metric
        if metric not in tracking.seen:
            raise CommandError(f"primary metric {metric!r} never logged ({_saw(tracking)})", output)


def _places(sweep: str) -> tuple[Path, Path]:
    """The node's folder for a sweep, and in it one for this slot's trials."""
    while True:
        cache = inputs.node_cache(sweep)
        with contextlib.suppress(
            FileNotFoundError
        ):  # the last slot that closed has just removed it
            return cache, Path(tempfile.mkdtemp(prefix="trials-", dir=cache))


class _Supervisor:
    """Stands between a command that runs, what it logs, and the trial that it is."""

    def __init__(self, trial: Trial, saved: CheckpointFolder) -> None:
        self._trial = trial
        self._saved = saved
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
                    self._trial.report(metrics, checkpoint=self._saved.changed())
                except MetricError:
                    raise
                except BaseException as error:  # noqa: BLE001  (the main thread raises it)
                    self._over = error
                    self._waking.send(b".")
            if self._over is not None:
                raise Stopped(str(self._over))

    def watch(self, children: Children) -> int:
        """The exit code of a command that has ended; raises when it is to end."""
        with selectors.DefaultSelector() as selector, children.watched() as watches:
            for each in (self._trial.fileno(), self._woken.fileno(), *watches):
                selector.register(each, selectors.EVENT_READ)
            while not children.over:
                for key, _ in selector.select():
                    if key.fd in watches:
                        selector.unregister(key.fd)  # another rank may still run
                with self._talking:
                    if self._over is not None:
                        raise self._over
                    self._trial.heed()
        return children.code


def _azures(values: Mapping[str, object]) -> dict[str, str]:
    """`AZUREML_SWEEP_x` for each value; a drawn one before an input of the same name."""
    named = {key.partition(".")[2]: text_of(value) for key, value in reversed(list(values.items()))}
    return {f"{PREFIXES['search_space']}{name}": text for name, text in named.items()}


def _own(trial: Trial, checkpoint: Path) -> dict[str, str]:
    """What a script may know of the sweep that runs it."""
    return {
        "RAYSWEEP_TRIAL": str(trial.number),
        "RAYSWEEP_ATTEMPT": str(trial.attempt),
        "RAYSWEEP_SEED": str(trial.seed),
        "RAYSWEEP_CHECKPOINT_DIR": str(checkpoint),
    }


def _cleaned(inherited: Mapping[str, str], prepared: Prepared) -> dict[str, str]:
    """The node's variables as the command's environment wants them; Python prints at once."""
    path = os.pathsep.join([*prepared.path_entries, inherited.get("PATH", os.defpath)])
    return {**inherited, "PYTHONUNBUFFERED": "1", **prepared.variables, "PATH": path}


def _ranks(variables: Mapping[str, str], processes: int) -> list[dict[str, str]]:
    """The environment of each process: of several, as PyTorch's `env://` wants it."""
    if processes == 1:
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
