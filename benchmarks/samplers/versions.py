"""What a contender is: the code that its runs come from, as a name and a hash.

One rule: of ours, the modules of its own sampler count and those that they import, not the samplers
beside it; under a policy, that policy's code and settings as well.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from pathlib import Path

import raysweep

CORE = Path(raysweep.__file__).parent / "core"
IMPORT = re.compile(r"^ *from raysweep\.core\.samplers\.(\w+) import", re.MULTILINE)


@functools.cache
def version(contender: str, policy: str = "") -> str:
    """What makes a contender what it is: a package's version, for ours the code itself."""
    if contender.startswith("optuna"):
        return f"optuna {importlib.metadata.version('optuna')}"
    code = hashlib.sha256()
    for name in sorted(_modules(contender.removesuffix("-x2"), set())):
        code.update(_source(name).encode())
    if policy:
        import early  # noqa: PLC0415  (with the surrogate's library: for who runs it)

        code.update((CORE / "policies.py").read_bytes())
        code.update(repr(early.WAYS[policy]).encode())
    return f"raysweep {raysweep.__version__} {code.hexdigest()[:8]}"


def _modules(name: str, found: set[str]) -> set[str]:
    """A module of the samplers, and all of them that it imports."""
    if name not in found:
        found.add(name)
        for imported in IMPORT.findall(_source(name)):
            _modules(imported, found)
    return found


def _source(name: str) -> str:
    return (CORE / "samplers" / f"{name}.py").read_text()
