"""The checkpoint of a trial that is a command: the files that it leaves in a folder.

One rule: what is taken is whole. Files that change while they are read are left for the next time,
and what has not changed since the last time is not taken again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from raysweep.storage.checkpoints import Files


class Found(NamedTuple):
    """The folder as it stood at one moment."""

    files: Files
    written: float  # when its latest file was, by the system's clock in seconds


class _Stand(NamedTuple):
    """How a file stands; another after it has been written to."""

    size: int  # bytes
    changed: int  # nanoseconds, by the system's clock; of the inode, which a copy cannot set back
    inode: int


class CheckpointFolder:
    """A folder that a script writes its own checkpoints into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: dict[str, _Stand] = {}  # how each file stood when it was taken last

    def restore(self, files: Files | None) -> None:
        """Lay the files of a checkpoint out again; None is no checkpoint."""
        if files is None:
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            files.unpack(self.path)
        self._taken = self._standing()

    def changed(self) -> Found | None:
        """The folder, if a file is new or other than when it was taken last, and none is in work."""
        try:
            standing = self._standing()
            if standing == self._taken or not standing:
                return None
            contents = {name: (self.path / name).read_bytes() for name in standing}
            if standing != self._standing():
                return None
        except FileNotFoundError:  # it was there a moment ago
            return None
        self._taken = standing
        return Found(Files(contents), max(each.changed for each in standing.values()) / 1e9)

    def _standing(self) -> dict[str, _Stand]:
        """Each file as it stands; nothing but regular files, none that a link leads to."""
        found: dict[str, _Stand] = {}
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and not path.is_symlink():
                stat = path.stat()
                name = str(path.relative_to(self.path))
                found[name] = _Stand(stat.st_size, stat.st_ctime_ns, stat.st_ino)
        return found
