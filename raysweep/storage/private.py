"""Folders of a machine that are one user's alone: for caches, and for mirrors of buckets.

One rule: what lies in one is trusted, code among it, so nobody else may have made it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path

from raysweep.errors import StorageUnusableError

PLACE = "RAYSWEEP_CACHE"  # the variable that says where, in place of the defaults
PRIVATE = 0o700


def node_place() -> Path:
    """This user's place on this machine, for what goes when it is not needed any more."""
    return (
        Path(os.environ.get(PLACE) or tempfile.gettempdir()).absolute() / f"raysweep-{os.getuid()}"
    )


def private(folder: Path) -> Path:
    """The folder, made if need be, that nobody but this user can open.

    Raises:
        StorageUnusableError: It cannot be made, or is somebody else's.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=PRIVATE)
        found = folder.lstat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise StorageUnusableError(
            f"cache {folder} cannot be made on {socket.gethostname()}: {error};"
            f" name a folder of every node that you may write with {PLACE}"
        ) from error
    if folder.is_symlink() or not folder.is_dir() or found.st_uid != os.getuid():
        raise StorageUnusableError(
            f"cache {folder} on {socket.gethostname()} must be a folder of your own, but it is"
            f" another user's, or a link or a file; name another place with {PLACE}"
        )
    folder.chmod(PRIVATE)
    return folder
