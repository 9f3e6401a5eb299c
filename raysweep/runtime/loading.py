"""The user's code in the process that trials are forked from: imported once, and judged.

One rule: a process is forked only while it is fit for that: without threads, and without a GPU's context.
What trials import late it imports for those after them, once another process has tried.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from raysweep.core import plain
from raysweep.runtime.messages import Order
from raysweep.runtime.trial import TrainingFunction
from raysweep.storage.folder import SweepFolder

ALLOCATOR_THREADS = frozenset({"jemalloc_bg_thd"})  # pyarrow's; it looks after itself in a fork
SURELY_LATE = {"torch": "torch._dynamo"}  # what a package's first use takes a second to import
MOST_LATE = 2_000  # modules; many more would not fit a packet


class Loaded(NamedTuple):
    """What the trials of a slot need, in the process that starts them."""

    function: TrainingFunction
    afresh: str = ""  # why the process may not fork; "" if it may
    clean_up: Callable[[], None] = lambda: None  # when the last trial is gone


def load(folder: SweepFolder) -> Loaded:
    """The training function: the user's own, or what runs the user's command."""
    before = threads()
    plain.learn(Order)
    if folder.command.exists():
        from raysweep.runtime.command.trial import CommandTrial  # noqa: PLC0415  (only sweeps of commands need it)

        command = CommandTrial(folder)
        return Loaded(command, clean_up=command.close)
    sys.path.append(str(folder.sources))
    function: TrainingFunction = pickle.loads(folder.code.read_bytes())  # noqa: S301  (the user's own code, from the sweep's own folder)
    import_all(late for package, late in SURELY_LATE.items() if package in sys.modules)
    why = unfit(before)
    return Loaded(function, afresh=why and f"importing the training code {why}")


def unfit(before: int) -> str:
    """What makes this process, which had so many threads before, unfit to fork; "" if nothing does."""
    running = [thread.name for thread in threading.enumerate()[1:]]
    if running:
        return f"started threads ({', '.join(running)})"
    if (started := threads() - before) > 0:
        return f"started {started} threads"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "initialised CUDA"
    return ""


def threads() -> int:
    """The threads of this process, less those known to survive a fork."""
    tasks = Path("/proc/self/task").iterdir()
    return sum((task / "comm").read_text().strip() not in ALLOCATOR_THREADS for task in tasks)


def late(known: frozenset[str]) -> list[str]:
    """What was imported since these modules were, of packages of which something was among them.

    PyTorch's first optimizer imports 800 modules in a second. Of other packages nothing is told: what a
    function imports by itself may depend on what it did before, such as set an environment variable.
    """
    packages = {name.partition(".")[0] for name in known}
    new = [name for name in sys.modules if name not in known]
    return [name for name in new if name.partition(".")[0] in packages][:MOST_LATE]


def disown_finalizers() -> None:
    """Leave what is to be finalized at the end of the process that was forked to that process.

    A temporary folder that a module made when it was imported is there for all trials; and PyTorch
    takes 30 ms to take apart what a process that ends does not need to.
    """
    for finalizer in [*weakref.finalize._registry]:  # type: ignore[attr-defined]  # noqa: SLF001  (no public way leads to them)
        finalizer.atexit = False


def import_all(modules: Iterable[str]) -> None:
    """Import these, as far as they can be imported here."""
    for module in modules:
        with contextlib.suppress(Exception):  # it is the trial's to fail on
            importlib.import_module(module)


def settle() -> None:
    """Take what lives now for lasting: no fork then copies pages only to look for garbage there."""
    gc.collect()
    gc.freeze()
