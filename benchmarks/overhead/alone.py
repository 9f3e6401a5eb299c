"""What is measured without a Ray: whole commands, and how long an epoch of the real trials takes.

One rule: commands are run in turns, each in a fresh process, with files that have been read before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runs import Answer, Run

PYTHON = sys.executable
COMMANDS = {
    "click": (PYTHON, "-c", "import click"),
    "import": (PYTHON, "-c", "import raysweep"),
    "help": (str(Path(PYTHON).with_name("raysweep")), "--help"),
}
EPOCH = "import digits; print(digits.seconds_an_epoch())"


def imports(run: Run, place: Path) -> Answer:
    """What each command takes, in milliseconds: the median of `run.trials`, in turns."""
    place.mkdir(exist_ok=True)
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(run.trials + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=place)  # noqa: S603  (our own)
            if turn:  # the first reads the files
                took[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def epoch(run: Run, _: Path) -> Answer:
    """What an epoch takes, in seconds, while as many others train as there will be slots."""
    command = (PYTHON, "-c", EPOCH)
    here = Path(__file__).parent

    def timed(_: int) -> float:
        ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here)  # noqa: S603  (our own)
        return float(ran.stdout)

    with ThreadPoolExecutor(run.slots) as threads:
        return {"seconds": statistics.median(threads.map(timed, range(run.slots)))}
