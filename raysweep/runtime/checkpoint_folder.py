"""The checkpoint of a trial that is a command: the files that it leaves in a folder.

One rule: what is taken is the folder as it stands while the script waits for its report to be
answered, so that files and report belong together; what has not changed is not taken again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES = "files"  # the tree's only key: relative path -> content


class CheckpointFolder:
    """A folder that a script writes its own checkpoints into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: dict[str, tuple[int, int]] = {}  # how each file stood when it was taken last

    def restore(self, tree: Mapping[str, Any] | None) -> None:
        """Lay the files of a checkpoint out again; None is no checkpoint."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in (tree or {}).get(FILES, {}).items():
            path = self.path / name
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise ValueError(f"a checkpoint must stay in its folder, but holds {name!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._taken = self._standing()

    def changed(self) -> dict[str, dict[str, bytes]] | None:
        """The files as a state tree if any is new or other than when they were taken last."""
        standing = self._standing()
        if standing == self._taken or not standing:
            return None
        tree = {FILES: {name: (self.path / name).read_bytes() for name in standing}}
        self._taken = standing
        return tree

    def _standing(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each file."""
        found = sorted(path for path in self.path.rglob("*") if path.is_file())
        stats = {str(path.relative_to(self.path)): path.stat() for path in found}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
