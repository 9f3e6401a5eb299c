"""Where results are written, and what goes with all of them.

One rule: a result names the machine and the versions that it was measured with.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("raysweep", "ray", "numpy", "pyarrow")


def written(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write the rows down, with the machine, the versions, and what else there is to say of them."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    document = {"machine": machine, "versions": versions, **about, "rows": [*rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
