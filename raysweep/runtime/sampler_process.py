"""A sampler in a process of its own, for as long as its sweep.

One rule: the process holds nothing that it was not told, so that one which dies is replaced by
another that is told all of it again.

A sampler that learns computes for long, much of it under the interpreter's lock: on a thread it
would hold up the controller's loop. The process is told only what has changed since it was last
asked, in small parts, and ends when the pipe from its controller closes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from raysweep.core.samplers import Observation
from raysweep.core.spec import SweepSpec
from raysweep.runtime.process_tree import killed_by
from raysweep.runtime.proposals import Answer, answer

PART = 100  # observations that are packed at a time: packing holds the interpreter's lock
TRIES = 2  # of one question: a process that dies twice at it would die again


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the process is asked, after it was told what is new."""

    numbers: range
    unknown: tuple[int, ...]  # trials of which it is to know nothing this time


class SamplerProcess:
    """The controller's side; its methods block, and are called one at a time, but for `close`."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._told: dict[int, Observation] = {}  # by trial
        self._busy = threading.Lock()  # held while it is asked
        self._starting = threading.Lock()  # so that none is started once it is closed
        self._closed = False

    def propose(self, numbers: range, known: Sequence[Observation]) -> Answer:
        """Trials of these numbers, from what is known."""
        with self._busy:
            for _ in range(TRIES):
                try:
                    return self._ask(numbers, known)
                except (EOFError, OSError, pickle.UnpicklingError):
                    ending = self._end()
        return Answer(error=f"the sampler's process ended twice: {ending}")

    def close(self) -> str:
        """End the process, if there is one, for good; how it ended, in words.

        One that is at an answer is killed, and whoever waits for that is told of an error.
        """
        with self._starting:
            self._closed, process = True, self._process
        if process is not None and self._busy.locked():
            process.kill()
        with self._busy:
            return self._end()

    def _end(self) -> str:
        """End the process, if there is one; how it ended, in words."""
        process, self._process, self._told = self._process, None, {}
        if process is None:
            return ""
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what could not be sent does not matter any more
                if pipe is not None:
                    pipe.close()
        try:
            code = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return killed_by(-code) if code < 0 else f"exit code {code}"

    def _ask(self, numbers: range, known: Sequence[Observation]) -> Answer:
        pipe = self._started()
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        for part in parts(each for each in known if self._told.get(each.trial) is not each):
            pickle.dump(part, pipe.stdin)
            self._told |= {each.trial: each for each in part}
        unknown: tuple[int, ...] = ()
        if len(known) < len(self._told):
            unknown = (*(self._told.keys() - {each.trial for each in known}),)
        pickle.dump(Question(numbers=numbers, unknown=unknown), pipe.stdin)
        pipe.stdin.flush()
        told: Answer = pickle.load(pipe.stdout)  # noqa: S301  (our own process wrote it)
        return told

    def _started(self) -> subprocess.Popen[bytes]:
        """The process; a new one is told the spec."""
        with self._starting:
            if self._closed:
                raise EOFError
            if self._process is not None:
                return self._process
            self._process = subprocess.Popen(  # noqa: S603  (our own module)
                # Not the working directory: somebody's queue.py there is not Python's.
                [sys.executable, "-P", "-c", _program()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C in a terminal is its client's alone. Not a session: Linux shares the CPUs among
                # sessions, and one that thinks for milliseconds waits for seconds.
                process_group=0,
            )
        assert self._process.stdin is not None
        pickle.dump(self._spec.to_dict(), self._process.stdin)
        return self._process


def _program() -> str:
    """What the process runs; what is imported here is found there, after all that is installed."""
    start = f"from {__name__} import main; main()"  # with -m, Question would be another
    return f"import sys; sys.path += {[place for place in sys.path if place]!r}; {start}"


def parts(observations: Iterable[Observation]) -> Iterator[list[Observation]]:
    """The observations, a few at a time."""
    each = iter(observations)
    while part := [*itertools.islice(each, PART)]:
        yield part


# --- in the process -------------------------------------------------------------------------------


def main() -> None:
    """Answer until the pipe closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a sampler prints is no answer
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, told), daemon=True).start()
    try:
        _answer(told, answers)
    finally:
        traceback.print_exc()
        os._exit(1)  # at once: an interpreter that ends in good order waits for who listens


def _answer(told: queue.SimpleQueue[Any], answers: IO[bytes]) -> None:
    """Take in what is told; answer what is asked."""
    spec = SweepSpec.from_dict(told.get())
    known: dict[int, Observation] = {}
    while True:
        message = told.get()
        if not isinstance(message, Question):
            known |= {each.trial: each for each in message}
            continue
        seen = [known[trial] for trial in sorted(known.keys() - set(message.unknown))]
        pickle.dump(answer(spec, seen, message.numbers), answers)
        answers.flush()


def _listen(pipe: IO[bytes], told: queue.SimpleQueue[Any]) -> None:
    """Take in what the controller says, even during an answer: when it is gone, so is the process."""
    try:
        while True:
            told.put(pickle.load(pipe))  # noqa: S301  (our own controller wrote it)
    finally:
        os._exit(0)
