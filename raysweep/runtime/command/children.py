"""The processes of one command: started together, heard, ended with all that descends from them.

One rule: when they are over nothing of them is left, whatever they started and wherever it went. Each
has a process group of its own; who ends this process abruptly has them adopted and killed by the
template.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.errors import CommandError
from raysweep.runtime.process_tree import children, kill_descendants, kill_group, killed_by, reap

KEPT = 50  # lines of output that a failure is told with
LAST = 400  # characters of them that its one line holds
CHUNK = 64 * 1024  # bytes read of it at once
DRAINED = 5.0  # seconds that the last output may take to arrive once everything has ended
LOOK = 0.02  # seconds between looks at whether what was asked to end has ended
PLACE = re.compile(r'File "(?:[^"\n]*/)?([^"/\n]+)", line (\d+)(?:, in (\S+))?')  # as Python tells
ERROR = re.compile(r"[\w.]*(?:Error|Exception|Exit|Interrupt)(?::|$)")  # the line that names one


class Start(NamedTuple):
    """How a process is started."""

    arguments: list[str]
    environment: Mapping[str, str]


class Children:
    """A command that runs, as one process or as several ranks of one."""

    def __init__(self, starts: Sequence[Start], folder: Path) -> None:
        """Start the processes in a folder.

        Raises:
            CommandError: one cannot be started; then none runs.
        """
        self._lines: deque[bytes] = deque(maxlen=KEPT)
        self.processes: list[subprocess.Popen[bytes]] = []
        reading, writing = os.pipe()
        self._copying = threading.Thread(target=self._copy, args=(reading,), daemon=True)
        self._copying.start()
        try:
            for start in starts:
                process = subprocess.Popen(  # noqa: S603  (the user's own command)
                    start.arguments,
                    cwd=folder,
                    env=start.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # `kill 0` in a script is not meant for who supervises it
                )
                self.processes.append(process)
        except OSError as error:
            self.end(0.0)
            what, where = starts[0].arguments[0], os.uname().nodename
            raise CommandError(f"{what} cannot be started on {where}: {error}") from error
        finally:
            os.close(writing)

    def _copy(self, reading: int) -> None:
        """Pass what they print on, and keep its last lines."""
        rest = b""
        with contextlib.suppress(OSError):  # who reads our output is gone, and we with it
            while printed := os.read(reading, CHUNK):
                os.write(1, printed)
                *lines, rest = (rest + printed).split(b"\n")
                self._lines.extend(lines)
                rest = rest[-CHUNK:]
        self._lines.extend([rest] if rest else [])
        os.close(reading)

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[int]]:
        """File descriptors, each readable once its process has ended."""
        watches = [os.pidfd_open(process.pid) for process in self.processes]
        try:
            yield watches
        finally:
            for watch in watches:
                os.close(watch)

    @property
    def over(self) -> bool:
        """Whether all have ended, or one has failed."""
        codes = [process.poll() for process in self.processes]
        return all(code is not None for code in codes) or any(codes)

    @property
    def code(self) -> int:
        """The exit code of the one that failed first, or 0; negative for a signal."""
        return next((process.returncode for process in self.processes if process.returncode), 0)

    def end(self, grace: float) -> None:
        """Ask what is left to end; after `grace` seconds make it. Nothing is left after.

        What a command that has ended by itself leaves behind is not asked.
        """
        if any(process.poll() is None for process in self.processes):
            for process in self.processes:
                kill_group(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._any_left() and time.monotonic() < deadline:
                time.sleep(LOOK)
        for process in self.processes:
            process.kill()
            process.wait()
        kill_descendants()
        self._copying.join(DRAINED)

    def _any_left(self) -> bool:
        """Whether anything still runs: a shell may be gone before the script that it waited for."""
        running = {process.pid for process in self.processes if process.poll() is None}
        reap(but=running)
        return bool(children())

    @property
    def output(self) -> str:
        """The last lines that were printed."""
        return b"\n".join(self._lines).decode(errors="backslashreplace")


def how_it_ended(code: int) -> str:
    """An exit code in words.

    >>> how_it_ended(3), how_it_ended(-11)
    ('exited with code 3', 'was killed by SIGSEGV')
    >>> how_it_ended(143)
    'exited with code 143 (128 + 15: killed by SIGTERM)'
    """
    if code < 0:
        return f"was {killed_by(-code)}"
    meaning = {126: "found, but not executable", 127: "command not found"}.get(code)
    if meaning is None and code > 128:  # noqa: PLR2004  (as shells count)
        meaning = f"128 + {code - 128}: {killed_by(code - 128)}"
    return f"exited with code {code}" + (f" ({meaning})" if meaning else "")


def last_words(output: str) -> str:
    r"""The end of what was printed, on one line: from the last error that has a name, if there is one.

    >>> last_words('  File "/tmp/x/a.py", line 3\n    def x(:\nSyntaxError: invalid syntax\n')
    'SyntaxError: invalid syntax (a.py:3)'
    >>> last_words("one\n\ntwo\n")
    'one | two'
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    named = [at for at, line in enumerate(lines) if ERROR.match(line)]
    if not named:
        told = " | ".join(line.strip() for line in lines[-3:])
        return told if len(told) <= LAST else f"...{told[-LAST:]}"
    told = " | ".join(line.strip() for line in lines[named[-1] :])[:LAST]
    places = PLACE.findall("\n".join(lines[: named[-1]]))
    return f"{told} ({':'.join(places[-1][:2])})" if places else told


def kind_of(output: str) -> str:
    r"""What failures of one cause have in common: a traceback's last place, or the last line.

    >>> kind_of('Traceback:\n  File "/tmp/x1/train.py", line 7, in main\n    x\nValueError: 0.3')
    'train.py:7 in main'
    """
    places = PLACE.findall(output)
    if places:
        file, line, name = places[-1]
        return f"{file}:{line} in {name or 'the module'}"
    return last_words(output).rpartition(" | ")[2]
