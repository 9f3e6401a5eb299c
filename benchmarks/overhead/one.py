"""One measurement, or some that share a Ray, in a process of their own; `overhead.py` starts it.

One rule: what was measured goes to stdout as a line of JSON a run, as soon as it is known; nothing else
does.

    python one.py FOLDER RAY-FOLDER '[{"side": ..., "work": ..., ...}, ...]'
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import Answer, Run, from_json

WORKS = {  # side, work -> where it is done; what is not needed is not imported
    ("raysweep", "report"): "ours.swept",
    ("raysweep", "digits"): "ours.digits",
    ("raysweep", "resume"): "ours.resumed",
    ("raysweep", "decide"): "latency.decided",
    ("tune", "report"): "theirs.fitted",
    ("tune", "digits"): "theirs.digits",
    ("tune", "resume"): "theirs.resumed",
    ("alone", "imports"): "alone.imports",
    ("alone", "epoch"): "alone.epoch",
}


def measured(run: Run, folder: Path) -> Answer:
    """Do what the run asks for, in a folder that is kept only if a later run wants it."""
    module, _, name = WORKS[run.side, run.work].partition(".")
    work: Any = getattr(importlib.import_module(module), name)
    place = folder / run.place if run.place else Path(tempfile.mkdtemp(dir=folder))
    try:
        answer: Answer = work(run, place)
    finally:
        if not run.place:
            shutil.rmtree(place, ignore_errors=True)
    return answer


def ray_for(runs: Sequence[Run], temporary: Path) -> contextlib.AbstractContextManager[None]:
    """The Ray that runs need, if any do."""
    if all(run.side == "alone" for run in runs):
        return contextlib.nullcontext()
    started: contextlib.AbstractContextManager[None] = importlib.import_module("own_ray").own_ray(
        max(run.slots for run in runs), temporary
    )
    return started


def main() -> None:
    """Measure, and say so."""
    folder, temporary, plain = sys.argv[1:]
    runs = from_json(plain)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever others print is no answer
    with ray_for(runs, Path(temporary)):
        for run in runs:
            print(json.dumps(measured(run, Path(folder))), file=out, flush=True)


if __name__ == "__main__":
    main()
