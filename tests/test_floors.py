"""The house keeps its floors, and the checks that say so can fail."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from floors import (
    bans_in_core,
    broken_floors,
    circles,
    names_that_say_nothing,
    rooms_that_know_ray,
    rooms_without_a_floor,
)

ROOT = Path(__file__).resolve().parent.parent

# The house itself


def demand_none(faults: list[str]) -> None:
    """Fail with every message in full."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_every_room_has_a_floor() -> None:
    """A module of core, or a package of the house, is not built before it has its floor."""
    demand_none(rooms_without_a_floor(ROOT))


def test_imports_go_down() -> None:
    """No module imports what is above or beside its room."""
    demand_none(broken_floors(ROOT))


def test_only_four_rooms_know_ray() -> None:
    """Ray is known to the controller, the slot, the client and the cluster, and to nobody else."""
    demand_none(rooms_that_know_ray(ROOT))


def test_core_does_without_the_world() -> None:
    """Core imports no cluster, file, clock, thread, log or shared generator."""
    demand_none(bans_in_core(ROOT))


def test_no_import_circles() -> None:
    """No chain of imports comes back to where it began."""
    demand_none(circles(ROOT))


def test_names_say_what_is_inside() -> None:
    """No module is called utils, helpers, common or base."""
    demand_none(names_that_say_nothing(ROOT))


# What is taken away when core is imported, to see whether it needs it.
BLOCKED = ("ray", "pyarrow", "torch", "sklearn")

IMPORT_CORE = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked: core must not need it")

sys.meta_path.insert(0, Blocked())
import raysweep.core
for found in pkgutil.walk_packages(raysweep.core.__path__, "raysweep.core."):
    importlib.import_module(found.name)
"""


def test_core_runs_where_ray_is_not() -> None:
    """Every module of core imports with ray, pyarrow, torch and sklearn blocked."""
    code = IMPORT_CORE.format(blocked=BLOCKED)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (ran.returncode, ran.stderr)


# A house with faults: that the checks above can fail


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A tree of modules that a test writes, below `root`."""

    root: Path

    def write(self, module: str, *lines: str) -> None:
        """Write one module, given by its path beneath the package."""
        path = self.root / "raysweep" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def fault(tmp_path: Path) -> Fault:
    """A small tree in which a test writes its faults."""
    return Fault(root=tmp_path)


def test_finds_an_import_of_what_is_above(fault: Fault) -> None:
    """The message says which import, in which file and line, breaks which floor, and what to do."""
    fault.write("core/spec.py")
    fault.write("core/history.py", "import math", "from raysweep.core.spec import SweepSpec")
    expected = (
        "raysweep/core/history.py:2: raysweep.core.history imports raysweep.core.spec:"
        " raysweep.core.spec is above it, and raysweep.core.history may import only what is below;"
        " move what both need down a floor, or hand it over as an argument"
    )
    assert [expected] == broken_floors(fault.root)


def test_finds_an_import_of_what_is_beside(fault: Fault) -> None:
    """Two rooms of one floor do not know each other."""
    fault.write("core/policies.py")
    fault.write("core/samplers/grid.py", "from raysweep.core import policies")
    (message,) = broken_floors(fault.root)
    assert "raysweep.core.policies is beside it" in message


@pytest.mark.parametrize(
    "lines",
    [
        ("from raysweep.runtime import slot",),
        ("from ..runtime.slot import Slot",),
        ("from .. import runtime",),
        ("import raysweep.runtime.slot as place",),
        ("def late():", "    import raysweep.runtime.slot"),
        ("if TYPE_CHECKING:", "    from raysweep.runtime.slot import Slot"),
        ("import_module('raysweep.runtime.slot')",),
        ("importlib.import_module('raysweep.runtime.slot')",),
    ],
)
def test_finds_an_import_however_it_is_written(fault: Fault, lines: tuple[str, ...]) -> None:
    """Relative, renamed, late, by name or for types only: it is an import."""
    fault.write("runtime/__init__.py")
    fault.write("runtime/slot.py")
    fault.write("storage/journal.py", *lines)
    (message,) = broken_floors(fault.root)
    assert f"raysweep/storage/journal.py:{len(lines)}: " in message


def test_lets_imports_go_down(fault: Fault) -> None:
    """What is below, and what is in the same room, may be imported."""
    fault.write("errors.py")
    fault.write("core/samplers/__init__.py", "from raysweep.core.samplers.grid import Grid")
    fault.write("core/samplers/grid.py", "from raysweep import errors")
    fault.write("cli.py", "import raysweep", "from raysweep.core.samplers import Grid")
    assert [] == broken_floors(fault.root)


def test_refuses_the_face_to_all_below(fault: Fault) -> None:
    """`import raysweep` in a lower room imports the face."""
    fault.write("__init__.py")
    fault.write("runtime/client.py", "import raysweep as rs")
    (message,) = broken_floors(fault.root)
    assert "raysweep.runtime.client imports raysweep: raysweep is above it" in message


@pytest.mark.parametrize("module", ["core/ideas.py", "plugins/__init__.py"])
def test_asks_a_floor_for_every_room(fault: Fault, module: str) -> None:
    """A room that the table does not name is not let in by default."""
    fault.write(module)
    (message,) = rooms_without_a_floor(fault.root)
    assert message.startswith(f"raysweep/{module}: ")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("storage/journal.py", "import ray"),
        ("cli.py", "from ray.util import state"),
        ("runtime/process.py", "from raysweep.runtime.slot import Slot"),
    ],
)
def test_finds_ray_where_it_is_not_known(fault: Fault, module: str, line: str) -> None:
    """Ray is not imported outside its rooms, nor by way of them within runtime."""
    fault.write("runtime/slot.py", "import ray")
    fault.write(module, line)
    (message,) = rooms_that_know_ray(fault.root)
    assert message.startswith(f"raysweep/{module}:1: ")


@pytest.mark.parametrize(
    ("line", "reason"),
    [("from time import monotonic", "reads no clock"), ("import os.path", "opens no file")],
)
def test_finds_what_core_does_without(fault: Fault, line: str, reason: str) -> None:
    """The message gives the reason of the ban."""
    fault.write("core/state.py", line)
    (message,) = bans_in_core(fault.root)
    assert reason in message


def test_finds_a_circle(fault: Fault) -> None:
    """A circle is told as its chain, even where each link is hidden from the interpreter."""
    fault.write("runtime/slot.py", "def late():", "    from raysweep.runtime import process")
    fault.write("runtime/process.py", "if TYPE_CHECKING:", "    from .trial import Trial")
    fault.write("runtime/trial.py", "from raysweep.runtime.slot import Slot")
    (message,) = circles(fault.root)
    assert {
        "raysweep/runtime/slot.py:2",
        "raysweep/runtime/process.py:2",
        "raysweep/runtime/trial.py:1",
    } == {link.strip().partition(": ")[0] for link in message.split("; ")[:3]}


def test_finds_a_name_that_says_nothing(fault: Fault) -> None:
    """A private module needs a name as well."""
    fault.write("storage/_utils.py")
    (message,) = names_that_say_nothing(fault.root)
    assert message.startswith("raysweep/storage/_utils.py: ")
