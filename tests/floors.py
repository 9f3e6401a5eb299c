"""The floors of the house and how they are judged: who may import whom, read from the source.

One rule: a module imports only what is below it. Every `import` counts, wherever it stands: at the
top, inside a function, or behind `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# From the ground up. A room is a module or a package with all that is in it; rooms of one floor do
# not import each other. The longest name that fits a module is its room.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("raysweep.errors",),
    ("raysweep.core.checks", "raysweep.core.command", "raysweep.core.order", "raysweep.core.plain"),
    ("raysweep.core.events", "raysweep.core.expressions"),
    ("raysweep.core.distributions",),
    ("raysweep.core.choices",),
    ("raysweep.core.space",),
    ("raysweep.core.curves", "raysweep.core.trials", "raysweep.core.exchange"),
    ("raysweep.core.indexes",),
    ("raysweep.core.history",),
    ("raysweep.core.samplers", "raysweep.core.policies", "raysweep.core.roster"),
    ("raysweep.core.spec", "raysweep.core.requests"),
    ("raysweep.core.standing", "raysweep.core.suiting"),
    ("raysweep.core.state",),
    ("raysweep.core",),  # its __init__.py
    ("raysweep.storage", "raysweep.azureml"),
    ("raysweep.result",),  # read from a storage; what runs a sweep hands it out
    ("raysweep.runtime",),
    ("raysweep",),  # the face: __init__.py and the modules beside it
    ("raysweep.cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Packages whose own modules each need a floor. The face's modules share one; its packages do not.
DIVIDED = ("raysweep", "raysweep.core")

# What only these rooms may know, by the design.
RAY_ROOMS = (
    "raysweep.runtime.controller",
    "raysweep.runtime.slot",
    "raysweep.runtime.client",
    "raysweep.runtime.cluster",
    "raysweep.runtime.crew",
    "raysweep.runtime.session",
)

# What core does without, by reason.
CORE_BANS: Mapping[str, tuple[str, ...]] = {
    "core is true without a cluster; what needs one belongs in runtime": ("ray",),
    "core opens no file; that belongs in storage": ("io", "os", "pathlib", "shutil", "tempfile"),
    "core stores nothing; that belongs in storage": ("pyarrow", "pandas"),
    "core starts and calls nothing; that belongs in runtime": ("subprocess", "socket", "signal"),
    "core reads no clock; time is a field of an event": ("time", "datetime"),
    "core draws from (seed, trial number), never from a shared generator": ("random", "secrets"),
    "core answers in values and logs nothing": ("logging",),
    "core has neither threads nor async; its caller has": ("threading", "asyncio", "concurrent"),
    "core trains nothing; that is the user's code": ("torch", "sklearn"),
    "core describes another library's sampler; runtime asks it": ("optuna",),
}

NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import, as it stands in a file."""

    importer: str  # dotted name of the module that imports
    target: str  # dotted name of the module that is imported, ours or anyone's
    place: str  # file:line, the file relative to the tree's root

    def __str__(self) -> str:
        """The sentence that every message begins with."""
        return f"{self.place}: {self.importer} imports {self.target}"


# Reading imports


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the package `raysweep` beneath `root`, by its dotted name."""
    found = {}
    for path in sorted((root / "raysweep").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(root: Path) -> list[Import]:
    """Every import of every module beneath `root`, file by file."""
    modules = modules_of(root)
    return [
        Import(importer=name, target=target, place=f"{path.relative_to(root)}:{line}")
        for name, path in modules.items()
        for target, line in dict.fromkeys(targets_in(path, name, modules))  # each once a line
    ]


def targets_in(path: Path, name: str, modules: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    """What one file imports, and on which lines."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, package)
            yield from (
                (
                    f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source,
                    node.lineno,
                )
                for alias in node.names
            )
        elif isinstance(node, ast.Call) and (named := imported_by_name(node)):
            yield named, node.lineno


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from ... import` names, its dots resolved."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imported_by_name(call: ast.Call) -> str | None:
    """The module that `import_module("...")` or `__import__("...")` names outright, if it is one."""
    match call:
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return name
    return None


# Judging them: each returns the messages of what is wrong, none when all is well


def room_of(module: str) -> str:
    """The room that a module of ours is in: the longest name of `FLOORS` that fits."""
    fitting = [room for room in FLOOR_OF if within(module, (room,))]
    return max(fitting, key=len)


def within(module: str, rooms: tuple[str, ...]) -> bool:
    """Whether a module is one of these rooms or lies in one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def rooms_without_a_floor(root: Path) -> list[str]:
    """Modules of core, and packages of the house, that `FLOORS` does not name."""
    modules = modules_of(root)
    return [
        f"{path.relative_to(root)}: {name} has no floor; give it one in FLOORS of"
        " tests/floors.py, above all that it imports"
        for name, path in modules.items()
        if room_of(name) in DIVIDED and name != room_of(name) and not of_the_face(name, path)
    ]


def of_the_face(name: str, path: Path) -> bool:
    """Whether a module lies beside the face's `__init__.py`, no package of its own."""
    return name.count(".") == 1 and path.name != "__init__.py"


def broken_floors(root: Path) -> list[str]:
    """Imports of what is not below."""
    return [
        message
        for found in imports_of(root)
        if within(found.target, ("raysweep",)) and (message := broken_floor(found))
    ]


def broken_floor(found: Import) -> str | None:
    """What is wrong with an import of ours, if anything is."""
    here, there = room_of(found.importer), room_of(found.target)
    if here == there or FLOOR_OF[there] < FLOOR_OF[here]:
        return None
    where = "beside it" if FLOOR_OF[there] == FLOOR_OF[here] else "above it"
    return (
        f"{found}: {there} is {where}, and {here} may import only what is below;"
        " move what both need down a floor, or hand it over as an argument"
    )


def rooms_that_know_ray(root: Path) -> list[str]:
    """Imports of ray outside the rooms that may, and of those rooms by the rest of runtime."""
    return [
        f"{found}: only {', '.join(room.rpartition('.')[2] for room in RAY_ROOMS)} of runtime know"
        " ray; return a value or a command, and let one of them act on it"
        for found in imports_of(root)
        if not within(found.importer, RAY_ROOMS)
        and (
            within(found.target, ("ray",))
            or (within(found.importer, ("raysweep.runtime",)) and within(found.target, RAY_ROOMS))
        )
    ]


def bans_in_core(root: Path) -> list[str]:
    """Imports in core of what core does without."""
    return [
        f"{found}: {reason}"
        for found in imports_of(root)
        if within(found.importer, ("raysweep.core",))
        for reason, banned in CORE_BANS.items()
        if within(found.target, banned)
    ]


def circles(root: Path) -> list[str]:
    """The import circles, each as the chain of imports that closes it."""
    edges: dict[str, dict[str, Import]] = {name: {} for name in modules_of(root)}
    for found in imports_of(root):
        if found.target in edges:
            edges[found.importer].setdefault(found.target, found)
    done: set[str] = set()
    return [chain for name in edges for chain in circles_from(name, edges, [], done)]


def circles_from(
    name: str, edges: Mapping[str, Mapping[str, Import]], path: list[Import], done: set[str]
) -> Iterator[str]:
    """The circles that are met from here on; `done` are the modules that were walked already."""
    walked = [step.importer for step in path]
    if name in walked:
        circle = path[walked.index(name) :]
        yield "; ".join(map(str, circle)) + ": a circle; move what both need to a room below"
        return
    if name in done:
        return
    for found in edges[name].values():
        yield from circles_from(found.target, edges, [*path, found], done)
    done.add(name)


def names_that_say_nothing(root: Path) -> list[str]:
    """Modules and folders whose names tell a newcomer nothing."""
    return [
        f"{path.relative_to(root)}: a newcomer would not guess what is in {name!r};"
        " name it after what it holds, or put it beside its only user"
        for name, path in modules_of(root).items()
        if name.rpartition(".")[2].strip("_") in NAMELESS
    ]
