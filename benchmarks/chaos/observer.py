"""A second witness: one who asks the sweep where it stands, all through the round, and notes it.

One rule: it is a process apart. It is a Ray driver, so it dies with its node; another then takes its
place, and what it has noted is kept by the conductor.

    python observer.py ADDRESS STORAGE NAME

prints a JSON line for each status, and does what it reads: `slot NAME` prints the process id of a
slot's actor, `release` ends the controller of a sweep that is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

EVERY = 0.2  # seconds between looks
ANSWER = 20.0  # seconds that a question has
HELD = 1.0  # seconds between looks at the cluster's resources

Note = dict[str, Any]


class Observer:
    """The conductor's hold on the one who asks."""

    def __init__(self, storage: Path, name: str) -> None:
        self.notes: list[Note] = []  # every status, in order
        self._what = (str(storage), name)
        self._answers: queue.Queue[Note] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._address = ""

    def watch(self, address: str) -> None:
        """Look at this cluster from now on."""
        self.close()
        self._address = address
        self._process = subprocess.Popen(  # noqa: S603  (this very file)
            [sys.executable, __file__, address, *self._what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def tend(self) -> None:
        """Send another one if this one has died with its node."""
        if self._process is not None and self._process.poll() is not None:
            self.watch(self._address)

    @property
    def latest(self) -> Note:
        """The last status; empty before the first."""
        return self.notes[-1] if self.notes else {}

    def slot_process(self, slot: str) -> int | None:
        """The process of a slot's actor."""
        return self._ask(f"slot {slot}").get("pid")

    def release(self) -> None:
        """End the controller of a sweep that is over."""
        self._ask("release")

    def close(self) -> None:
        """Look no more."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _ask(self, question: str) -> Note:
        self.tend()
        assert self._process is not None
        assert self._process.stdin is not None
        while not self._answers.empty():
            self._answers.get()
        with contextlib.suppress(OSError, queue.Empty):
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            return self._answers.get(timeout=ANSWER)
        return {}

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # cut short when it was killed
                note = json.loads(line)
                if "answer" in note:
                    self._answers.put(note)
                else:
                    self.notes.append(note)


def observe(address: str, storage: str, name: str) -> None:
    """Print what there is to see until killed."""
    from raysweep.runtime.client import Client, connect  # noqa: PLC0415  (only here is Ray needed)
    from raysweep.storage.folder import find_sweep  # noqa: PLC0415  (the same)

    connect(address)
    questions: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    held: Note = {}
    client, looked = None, 0.0
    while True:
        client = client or Client.attach(find_sweep(storage, name))
        if time.monotonic() - looked > HELD:
            held = _resources()
            looked = time.monotonic()
        note = {} if client is None else _status(client)
        if "gone" in note:
            client = None
        _say({"time": time.monotonic(), **held, **note})
        with contextlib.suppress(queue.Empty):
            _say({"answer": True, **_answered(client, questions.get(timeout=EVERY))})


def _resources() -> Note:
    import ray  # noqa: PLC0415

    free: Note = ray.available_resources()  # type: ignore[no-untyped-call]  # Ray gives it no types
    there: Note = ray.cluster_resources()  # type: ignore[no-untyped-call]  # the same
    return {"free": free, "all": there}


def _status(client: Any) -> Note:  # noqa: ANN401  (raysweep is not imported yet up there)
    import ray  # noqa: PLC0415

    try:
        status = client.status()
    except ray.exceptions.RayActorError:
        return {"gone": True}
    if status is None:
        return {"silent": True}
    names = ("reports", "ended", "total", "phase", "paused", "over", "finished", "slots")
    return {name: getattr(status, name) for name in names}


def _answered(client: Any, question: str) -> Note:  # noqa: ANN401  (the same)
    import ray  # noqa: PLC0415

    from raysweep.runtime.slot import NAMESPACE  # noqa: PLC0415

    kind, _, name = question.partition(" ")
    try:
        if kind == "slot":
            actor: Any = ray.get_actor(name, namespace=NAMESPACE)
            return {"pid": ray.get(actor.process_id.remote(), timeout=ANSWER / 2)}
        if client is not None:
            client.release()
    except (ray.exceptions.RayError, ValueError) as error:
        return {"error": str(error)}
    return {}


def _listen(questions: queue.Queue[str]) -> None:
    for line in sys.stdin:
        questions.put(line.strip())
    os._exit(0)  # the conductor is gone


def _say(note: Note) -> None:
    print(json.dumps(note), flush=True)


if __name__ == "__main__":
    observe(*sys.argv[1:])
