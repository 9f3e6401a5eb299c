"""A round: one real sweep on a real cluster, faults of one kind injected while it runs, the audit.

One rule: a round leaves nothing behind. Whatever happens in it, its processes are gone afterwards,
and those that were not gone by themselves are told.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import audit
import processes
from chaos_sweep import Asked
from nodes import Nodes
from observer import Observer
from witness import Witness, until_next_attempts, until_next_report

from raysweep.result import Result, load_result
from raysweep.storage import journal

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0  # seconds that a sweep has to end once nothing is broken any more
AWAY = 45.0  # seconds after its end in which all of it is gone: a lease, its margin, and some
START = 90.0  # seconds that a sweep has to begin
RAYSWEEP = "from raysweep.cli import main; main()"  # what the command `raysweep` does
QUICKLY = 0.002  # seconds that an interval takes when nothing is to be injected any more


@dataclass(frozen=True, kw_only=True)
class Injected:
    """One fault that was injected."""

    time: float  # monotonic: when it struck, or, of one that only holds things up, ended
    recovered: float | None = None  # seconds, where the fault measures that itself
    found: bool | None = None  # whether damage was found, where that is the point


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A kind of fault, and how a round injects it."""

    name: str
    inject: Callable[[Round], Injected | None]  # None: there is nothing to break just now
    count: int  # faults of a round
    gap: tuple[float, float]  # seconds between two, at random
    policies: Sequence[str] = ("none",)  # a round with each
    sync: bool = True
    pace: float = 0.2  # seconds an interval
    gpus: float = 0.5  # of one trial
    tmpfs: bool = False  # whether the storage is one that can be filled and closed
    begin: Callable[[Round], None] | None = None  # instead of `raysweep run --detach`
    alone: bool = False  # whether the client has a Ray of its own, which nobody else can ask
    recovery: Literal["report", "attempt", "own"] = "report"  # what the seconds lead to
    lingers: float = 0.05  # seconds after a fault that an attempt it ends may still speak


@dataclass(kw_only=True)
class Outcome:
    """What a round has come to."""

    policy: str
    injected: list[Injected]
    findings: audit.Findings
    recovered: list[float]  # seconds
    left: list[str]  # processes and resources of the sweep that were still there
    best: tuple[int, int, float] | None
    seconds: float
    evidence: audit.Evidence | None = field(repr=False, default=None)


class Round:
    """A sweep that runs and is broken; what a fault needs is here."""

    def __init__(self, fault: Fault, policy: str, place: Path, rng: random.Random) -> None:
        self.fault = fault
        self.rng = rng
        self.place = place
        self.name = f"{place.name}-{policy}"
        self.storage = place / "storage"
        self.nodes: Nodes | None = None
        self.flipped: set[str] = set()  # checkpoints that were damaged
        self.also: list[Injected] = []  # what was injected beside what `inject` returned
        self.home = place / "home"
        self.home.mkdir(parents=True)
        self.storage.mkdir(exist_ok=True)
        self.asked = Asked(
            policy=policy,
            sync=fault.sync,
            gpus=fault.gpus,
            witness=str(place / "witness"),
            pace=str(place / "pace"),
        )
        self.observer = Observer(self.storage, self.name)
        self.clients: list[subprocess.Popen[bytes]] = []
        self.set_pace(fault.pace)

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.storage / self.name

    @property
    def mark(self) -> str:
        """What the processes of this benchmark carry."""
        return os.environ[processes.VARIABLE]

    @property
    def address(self) -> str:
        """The cluster's."""
        assert self.nodes is not None
        return self.nodes.address

    def set_pace(self, seconds: float) -> None:
        """How long an interval takes from now on."""
        fresh = self.place / "pace.new"
        fresh.write_text(str(seconds))
        fresh.rename(self.place / "pace")

    def witness(self) -> Witness:
        """What the trials have written down so far."""
        return Witness.read(self.place / "witness")

    def processes(self, *kinds: str) -> list[processes.Process]:
        """The sweep's processes of these kinds."""
        return processes.of_sweeps(self.mark, *kinds)

    def result(self) -> Result:
        """The sweep as its folder has it now."""
        return load_result(self.name, str(self.storage))

    # --- the command line -------------------------------------------------------------------------

    def client(self, *arguments: str, address: str | None = None) -> subprocess.Popen[bytes]:
        """Start `raysweep ...` as a user would, with this round's storage."""
        where = ["--address", address] if address else []
        command = [sys.executable, "-c", RAYSWEEP, *arguments,
                   "--storage", str(self.storage), *where]  # fmt: skip
        environment = {**os.environ, **self.asked.variable()}
        if address is None:  # a Ray of its own makes a token, which is nobody else's
            environment["HOME"] = str(self.home)
        with (self.place / "clients.log").open("ab") as log:
            started = subprocess.Popen(  # noqa: S603  (the command line of raysweep)
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.clients.append(started)
        return started

    def run(self, *options: str, address: str | None) -> subprocess.Popen[bytes]:
        """`raysweep run`."""
        file = str(HERE / "chaos_sweep.py")
        return self.client("run", file, "--name", self.name, *options, address=address)

    def resume(self, *options: str, address: str | None) -> subprocess.Popen[bytes]:
        """`raysweep resume`."""
        return self.client("resume", self.name, *options, address=address)

    def must(self, client: subprocess.Popen[bytes]) -> None:
        """A client that must end, and well."""
        code = client.wait(timeout=START)
        assert code == 0, f"exit code {code}: {self.said()[-1500:]}"

    def said(self) -> str:
        """What the clients have printed."""
        return (self.place / "clients.log").read_text(errors="replace")

    # --- how it goes ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the cluster and the sweep; returns when trials report."""
        if self.fault.begin is not None:
            self.fault.begin(self)
        else:
            self.nodes = Nodes(self.place)
            self.must(self.run("--detach", address=self.address))
            self.observer.watch(self.address)
        reports = processes.until(lambda: bool(self.witness().heard), START)
        assert reports, f"no report within {START:g} s: {self.said()[-1500:]}"

    def inject_all(self, tell: Callable[[int], None]) -> list[Injected]:
        """Inject the faults, at random moments; tells how many there were after each."""
        injected: list[Injected] = []
        until = time.monotonic() + 2 * PATIENCE + self.fault.count * sum(self.fault.gap)
        while len(injected) < self.fault.count and time.monotonic() < until and not self.over():
            time.sleep(self.rng.uniform(*self.fault.gap))
            self.observer.tend()
            if (one := self.fault.inject(self)) is not None:
                injected.append(one)
                tell(len(injected))
        return injected

    def over(self) -> bool:
        """Whether the sweep has ended, as far as anybody was told."""
        if self.fault.alone:
            return self.clients[-1].poll() is not None
        return bool(self.observer.latest.get("over"))

    def finish(self) -> None:
        """Let the sweep come to its end, undisturbed and fast."""
        self.set_pace(QUICKLY)
        ended = processes.until(self._finished, PATIENCE)
        assert ended, f"the sweep did not end within {PATIENCE:g} s: {self.observer.latest}"

    def _finished(self) -> bool:
        if self.fault.alone:
            return self.over()
        self.observer.tend()
        return bool(self.observer.latest.get("finished"))

    def left(self) -> list[str]:
        """What of the sweep is still there after some time; its controller goes when it is told."""
        processes.until(lambda: not self._left("slot", "template", "trial"), AWAY)
        left = self._left("slot", "template", "trial")
        if self.fault.alone:
            return [*left, *self._left("controller")]
        self.observer.release()
        processes.until(lambda: not self._left("controller"), AWAY)
        processes.until(lambda: not self._held(), AWAY)
        return [*left, *self._left("controller"), *self._held()]

    def _left(self, *kinds: str) -> list[str]:
        return [f"{one.kind} {one.pid} is still there" for one in self.processes(*kinds)]

    def _held(self) -> list[str]:
        """The resources of the cluster that are not free, as was seen last."""
        self.observer.tend()
        free, there = (self.observer.latest.get(which, {}) for which in ("free", "all"))
        return [f"{there[name] - free.get(name, 0.0):g} {name} still held"
                for name in ("CPU", "GPU") if there.get(name, 0.0) != free.get(name, 0.0)]  # fmt: skip

    def evidence(self) -> audit.Evidence:
        """All that the round has left."""
        result = self.result()
        best = result.state.best
        return audit.Evidence(
            spec=result.state.spec,
            records=list(journal.read(result.folder.journal)),
            witness=self.witness(),
            notes=list(self.observer.notes),
            states={trial.number: trial.state for trial in result.trials},
            curves={trial.number: trial.curve for trial in result.trials},
            best=None if best is None else (best.trial, best.interval, best.value),
            sync=self.fault.sync,
        )

    def recovered(self, injected: Sequence[Injected]) -> list[float]:
        """Seconds from each fault until all was as before."""
        if self.fault.recovery == "own":
            return [one.recovered for one in injected if one.recovered is not None]
        moments = [one.time for one in injected]
        if self.fault.recovery == "attempt":
            found = until_next_attempts(self.witness(), moments, self.fault.lingers)
            return [statistics.median(seconds) for seconds in found.values()]
        until = until_next_report if self.fault.sync else self._until_shown
        times = [until(self.witness(), moment) for moment in moments]
        return [time for time in times if time is not None]

    def _until_shown(self, _: Witness, moment: float) -> float | None:
        """Seconds until a status showed more reports than any before this moment."""
        notes = [note for note in self.observer.notes if "reports" in note]
        before = max((note["reports"] for note in notes if note["time"] < moment), default=0)
        later = (note["time"] for note in notes
                 if note["time"] >= moment and note["reports"] > before)  # fmt: skip
        return next((time - moment for time in later), None)

    def close(self) -> None:
        """End all that is left of the round, its cluster included."""
        self.observer.close()
        for client in self.clients:
            if client.poll() is None:
                client.kill()
            client.wait()
        if self.nodes is not None:
            self.nodes.shut_down()
        processes.kill_marked(self.mark)


def played(round_: Round, tell: Callable[[int], None]) -> Outcome:
    """Play a round to its end; what goes wrong on the way is a finding, never an exception."""
    began = time.monotonic()
    injected: list[Injected] = []
    outcome = Outcome(
        policy=round_.asked.policy,
        injected=injected,
        findings=audit.Findings(),
        recovered=[],
        left=[],
        best=None,
        seconds=0.0,
    )
    with _told(outcome):
        round_.begin()
        injected += round_.inject_all(tell)
        injected += round_.also
        time.sleep(
            round_.fault.gap[1]
        )  # so that the last fault, too, is recovered from at its pace
        round_.finish()
        outcome.left = round_.left()
    injected.sort(key=lambda one: one.time)
    unfound = sum(one.found is False for one in injected)
    if unfound:
        outcome.findings.problems.append(f"{unfound} faults did not show as they should")
    round_.close()
    if round_.folder.exists():
        with _told(outcome):
            _audit(round_, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def _audit(round_: Round, outcome: Outcome) -> None:
    outcome.evidence = round_.evidence()
    problems = outcome.findings.problems
    outcome.findings = audit.audited(outcome.evidence)
    outcome.findings.problems += problems
    missed = round_.flipped - {*outcome.findings.damaged}
    if missed and outcome.policy == "none":  # with a policy a trial may be stopped, not restored
        outcome.findings.problems.append(f"damage was not found in {sorted(missed)}")
    outcome.best = outcome.evidence.best
    outcome.recovered = round_.recovered(outcome.injected)


@contextmanager
def _told(outcome: Outcome) -> Iterator[None]:
    """Keep what goes wrong as a finding: the other rounds are still to come."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (whatever it is, it belongs into the table)
        outcome.findings.problems.append(f"{type(error).__name__}: {error}")
