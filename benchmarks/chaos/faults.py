"""The kinds of faults, and how each is injected into a round.

One rule: a fault is what really happens to machines, processes and disks, done with what the
operating system has for it; nothing inside of raysweep is asked to misbehave.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import disks
import journals
import processes
from ledger import Ledger
from nodes import Nodes
from rounds import START, Fault, Injected, Round

from raysweep.errors import CheckpointDamagedError
from raysweep.storage import checkpoints, journal

BEYOND = 20.0  # seconds that a slot is stopped: its lease of 8 s, the margin of 10 s, and some
NOTICE = 10.0  # seconds
FALLS_SILENT = 30.0  # seconds that a controller has to see that another has the sweep
ANY = ("none", "bandit", "median_stopping", "truncation_selection")


# --- processes ------------------------------------------------------------------------------------


def kill_one(round_: Round, kind: str) -> Injected | None:
    """SIGKILL one of the processes of a kind."""
    found = round_.processes(kind)
    if not found:
        return None
    victim = round_.rng.choice(found)
    moment = time.monotonic()
    processes.kill(victim.pid)
    return Injected(time=moment)


def kill_slot(round_: Round) -> Injected | None:
    """A slot's actor."""
    return kill_one(round_, "slot")


def kill_trial(round_: Round) -> Injected | None:
    """A trial's process, as when memory has run out."""
    return kill_one(round_, "trial")


def kill_template(round_: Round) -> Injected | None:
    """The process that a slot's trials are forked from."""
    return kill_one(round_, "template")


def kill_controller(round_: Round) -> Injected | None:
    """The controller's actor."""
    return kill_one(round_, "controller")


def stop_slot(round_: Round) -> Injected | None:
    """Hold slots' actors beyond their lease; then they wake up and believe to have their trials."""
    moment = time.monotonic()
    if not _held(round_, "slot", BEYOND, together=2):
        return None
    round_.also.append(Injected(time=moment))
    return Injected(time=moment)


def stop_controller(round_: Round) -> Injected | None:
    """Hold the controller for some seconds."""
    held = _held(round_, "controller", round_.rng.uniform(1.0, 5.0))
    return Injected(time=time.monotonic()) if held else None


def _held(round_: Round, kind: str, seconds: float, together: int = 1) -> bool:
    """Stop some processes of a kind and let them go on later; False when there are too few."""
    found = round_.processes(kind)
    if len(found) < together:
        return False
    victims = round_.rng.sample(found, together)
    for victim in victims:
        processes.send(victim.pid, signal.SIGSTOP)
    time.sleep(seconds)
    for victim in victims:
        processes.send(victim.pid, signal.SIGCONT)
    return True


# --- machines -------------------------------------------------------------------------------------


def lose_node(round_: Round) -> Injected | None:
    """Kill a node's raylet; its workers see that by themselves. Another node takes its place."""
    assert round_.nodes is not None
    moment = time.monotonic()
    round_.nodes.lose(round_.rng)
    time.sleep(round_.rng.uniform(0.0, 5.0))
    round_.nodes.add()
    return Injected(time=moment)


def take_node_away(round_: Round) -> Injected | None:
    """Give some seconds' notice of a node's end; another is there before it goes."""
    assert round_.nodes is not None
    moment = time.monotonic()
    round_.nodes.take_away(round_.rng, NOTICE)
    return Injected(time=moment)


def lose_cluster(round_: Round) -> Injected | None:
    """Kill every node at once; a new cluster takes the sweep up."""
    assert round_.nodes is not None
    moment = time.monotonic()
    round_.nodes.lose_all()
    take_up(round_)
    return Injected(time=moment)


def take_up(round_: Round) -> None:
    """Resume the sweep on a new cluster."""
    round_.nodes = Nodes(round_.place)
    round_.must(round_.resume("--detach", address=round_.address))
    round_.observer.watch(round_.address)


def two_controllers(round_: Round) -> Injected | None:
    """Resume on another cluster while the first runs: one epoch wins, the other falls silent."""
    assert round_.nodes is not None
    first, old = round_.nodes, [one.pid for one in round_.processes("controller")]
    round_.nodes = Nodes(round_.place)
    round_.must(round_.resume("--detach", address=round_.address))
    moment = time.monotonic()
    round_.observer.watch(round_.address)
    silent = processes.until(
        lambda: not {*old} & {one.pid for one in round_.processes("controller")}, FALLS_SILENT
    )
    first.lose_all()
    return Injected(time=moment, found=silent)


# --- clients --------------------------------------------------------------------------------------


def begin_clumsily(round_: Round) -> None:
    """Kill `raysweep run --detach` at any moment, until a sweep is there; then take it up."""
    round_.nodes = Nodes(round_.place)
    while not round_.folder.exists():
        starting = round_.run("--detach", address=round_.address)
        with contextlib.suppress(subprocess.TimeoutExpired):
            starting.wait(round_.rng.uniform(1.0, 6.0))
        moment = time.monotonic()
        if starting.poll() is None:
            starting.kill()
            round_.also.append(Injected(time=moment))
    if not processes.until(lambda: bool(round_.processes("controller")), patience=5.0):
        round_.must(round_.resume("--detach", address=round_.address))
    round_.observer.watch(round_.address)


def begin_followed(round_: Round) -> None:
    """`raysweep run` in a terminal, as it were: the client stays with the sweep."""
    round_.nodes = Nodes(round_.place)
    round_.run(address=round_.address)
    started = processes.until(round_.folder.exists, START)
    assert started, f"no sweep within {START:g} s: {round_.said()[-1500:]}"
    round_.observer.watch(round_.address)


def kill_client(round_: Round) -> Injected | None:
    """Kill whoever watches; `raysweep watch` shows the sweep again."""
    for client in round_.clients:
        if client.poll() is None:
            client.kill()
    moment = time.monotonic()
    before = len(round_.said())
    round_.client("watch", round_.name, address=round_.address)
    shown = processes.until(lambda: " trials ended" in round_.said()[before:], START)
    return Injected(
        time=moment, recovered=time.monotonic() - moment if shown else None, found=shown
    )


def begin_alone(round_: Round) -> None:
    """`raysweep run` without a cluster: it starts a Ray of its own."""
    round_.run(address=None)


def kill_alone(round_: Round) -> Injected | None:
    """Kill that client, and with it its Ray; `raysweep resume` takes the sweep up."""
    client = round_.clients[-1]
    moment = time.monotonic()
    client.kill()
    client.wait()
    heard = len(round_.witness().heard)
    round_.resume(address=None)
    again = processes.until(lambda: len(round_.witness().heard) > heard, START)
    return Injected(time=moment, found=again)


# --- disks ----------------------------------------------------------------------------------------


def fill_disk(round_: Round) -> Injected | None:
    """Fill the storage to its last byte; some seconds later there is room again.

    Trials mostly meet it before the controller does, since a checkpoint is larger than a commit; so
    every other time the controller is killed as well, and another must open its journal there.
    """
    with disks.full(round_.storage):
        if round_.rng.random() < 1 / 2:
            kill_controller(round_)
        time.sleep(round_.rng.uniform(1.0, 4.0))
    return Injected(time=time.monotonic())


def close_disk(round_: Round) -> Injected | None:
    """Take the controller and let nobody write to the storage: whoever replaces it must wait.

    Linux lets nobody close a file system under an open file, hence the kill.
    """
    with disks.read_only(round_.storage, lambda: kill_controller(round_)) as closed:
        time.sleep(round_.rng.uniform(1.0, 4.0))
    return Injected(time=time.monotonic()) if closed else None


# --- bytes ----------------------------------------------------------------------------------------


def tear_tail(round_: Round) -> Injected | None:
    """Lose the cluster in the middle of a commit: part of a block, or holes, after the last."""
    assert round_.nodes is not None
    moment = time.monotonic()
    round_.nodes.lose_all()
    _nobody_writes(round_)
    journals.tear(round_.folder / "journal", round_.rng)
    take_up(round_)
    return Injected(time=moment)


def flip_committed(round_: Round) -> Injected | None:
    """Flip a byte of a commit: `resume` must refuse and say where; with the byte back, it goes on."""
    assert round_.nodes is not None
    moment = time.monotonic()
    round_.nodes.lose_all()
    _nobody_writes(round_)
    found = [_is_found(round_) for _ in range(FLIPS)]
    take_up(round_)
    round_.also += [Injected(time=moment, found=one) for one in found[1:]]
    return Injected(time=moment, found=found[0])


FLIPS = 5  # of one cluster that is down


def _is_found(round_: Round) -> bool:
    """Whether a flipped byte is refused by name, the folder as it was before and after."""
    with journals.flipped(round_.folder / "journal", round_.rng) as (path, offset):
        nobody = round_.resume("--detach", address="127.0.0.1:1")
        before = len(round_.said())
        code = nobody.wait(timeout=START)
        said = round_.said()[before:]
    damaged = f"{path} is damaged at byte "
    place = said.partition(damaged)[2].partition(":")[0]
    return code == 1 and place.isdigit() and int(place) <= offset


def _nobody_writes(round_: Round) -> None:
    """Wait until nothing of the sweep is left that could still write."""
    gone = processes.until(lambda: not round_.processes(), START)
    assert gone, f"the cluster is gone, but not {round_.processes()}"


def flip_checkpoint(round_: Round) -> Injected | None:
    """Flip a byte of a running trial's latest checkpoint and kill its slot.

    The trial is held meanwhile, so that no later checkpoint comes in between.
    """
    trials = {one.pid: one for one in round_.processes("trial")}
    began = [one for one in round_.witness().began if one.pid in trials]
    if not began:
        return None
    chosen = round_.rng.choice(began)
    processes.send(chosen.pid, signal.SIGSTOP)
    time.sleep(0.5)  # what it has said meanwhile is in the journal
    path = _latest_checkpoint(round_, chosen.trial)
    slot = round_.observer.slot_process(trials[chosen.pid].slot)
    if path is None or slot is None:
        processes.send(chosen.pid, signal.SIGCONT)
        return None
    moment = time.monotonic()
    journals.flip(path, round_.rng.randrange(path.stat().st_size))
    if _is_damaged(path):
        round_.flipped.add(str(path.relative_to(round_.folder)))
    processes.kill(slot)
    return Injected(time=moment)


def _is_damaged(path: Path) -> bool:
    """Whether the flip matters: some bytes of a file only fill it up, and say nothing."""
    try:
        checkpoints.load(path)
    except CheckpointDamagedError:
        return True
    return False


def _latest_checkpoint(round_: Round, trial: int) -> Path | None:
    """What the trial's next attempt would be restored from, if there is an earlier one as well."""
    result = round_.result()
    ledger = Ledger(result.state.spec)
    for record in journal.read(result.folder.journal):
        ledger.follow(record)
    saved = ledger.checkpoints(trial)
    return round_.folder / saved[-1].path if len(saved) > 1 else None


# --- all of them ----------------------------------------------------------------------------------


def anything(round_: Round) -> Injected | None:
    """Any of the faults that a sweep must take while it runs, one after the other."""
    return round_.rng.choice(WHILE_IT_RUNS)(round_)


WHILE_IT_RUNS = (
    kill_slot,
    kill_slot,
    kill_trial,
    kill_trial,
    kill_template,
    kill_template,
    kill_controller,
    kill_controller,
    stop_controller,
    flip_checkpoint,
    lose_node,
)

FAULTS: Sequence[Fault] = (
    Fault(name="slot killed", inject=kill_slot, count=12, gap=(1.0, 4.0),
          policies=("none", "bandit"), recovery="attempt"),
    Fault(name="trial's process killed", inject=kill_trial, count=15, gap=(0.3, 1.5),
          policies=("none", "median_stopping"), recovery="attempt"),
    Fault(name="template killed", inject=kill_template, count=12, gap=(0.5, 2.5),
          policies=("none", "truncation_selection"), recovery="attempt"),
    Fault(name="controller killed", inject=kill_controller, count=10, gap=(1.0, 5.0),
          policies=("none", "bandit")),
    Fault(name="controller killed, reports not awaited", inject=kill_controller, count=10,
          gap=(1.0, 5.0), policies=("median_stopping",), sync=False),
    Fault(name="controller stopped for seconds", inject=stop_controller, count=6, gap=(0.5, 2.0),
          policies=("none", "truncation_selection")),
    Fault(name="slot stopped beyond its lease", inject=stop_slot, count=3, gap=(0.5, 3.0),
          policies=("none",), recovery="attempt", pace=0.5),
    Fault(name="node lost", inject=lose_node, count=5, gap=(18.0, 22.0),
          policies=("none",), recovery="attempt", lingers=BEYOND, pace=0.6),
    Fault(name="node taken away with notice", inject=take_node_away, count=5, gap=(1.0, 3.0),
          policies=("none",), recovery="attempt", lingers=NOTICE, pace=0.4),
    Fault(name="client killed while it starts, then watchers", inject=kill_client, count=6,
          gap=(0.5, 3.0), policies=("none",), begin=begin_clumsily, recovery="own"),
    Fault(name="client killed that stayed, then watchers", inject=kill_client, count=6,
          gap=(0.5, 3.0), policies=("bandit",), begin=begin_followed, recovery="own"),
    Fault(name="client killed with its own Ray", inject=kill_alone, count=4, gap=(2.0, 5.0),
          policies=("none",), begin=begin_alone, alone=True, gpus=0.0),
    Fault(name="disk full", inject=fill_disk, count=6, gap=(0.5, 2.0),
          policies=("none", "bandit"), tmpfs=True),
    Fault(name="storage read-only", inject=close_disk, count=6, gap=(1.0, 3.0),
          policies=("none",), tmpfs=True),
    Fault(name="checkpoint's byte flipped, slot killed", inject=flip_checkpoint, count=8,
          gap=(1.0, 4.0), policies=("none",), recovery="attempt"),
    Fault(name="whole cluster lost", inject=lose_cluster, count=4, gap=(2.0, 5.0),
          policies=("none",), recovery="attempt", lingers=5.0),
    Fault(name="journal's tail torn, cluster lost", inject=tear_tail, count=4, gap=(2.0, 5.0),
          policies=("median_stopping",), recovery="attempt", lingers=5.0),
    Fault(name="committed byte flipped, cluster lost", inject=flip_committed, count=2,
          gap=(2.0, 5.0), policies=("none",), recovery="attempt", lingers=5.0),
    Fault(name="two controllers", inject=two_controllers, count=4, gap=(2.0, 5.0),
          policies=("none",), recovery="attempt", lingers=5.0),
    Fault(name="all of them, at random", inject=anything, count=20, gap=(0.5, 6.0),
          policies=("none", "bandit"), recovery="report", pace=0.5),
)  # fmt: skip
