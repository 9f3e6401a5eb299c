"""Copies of files and folders that somebody else wrote.

One rule: what can be copied is, and nothing in a folder keeps the rest from it: links stay links, and
what is neither file, folder nor link (a pipe, a socket) stays behind.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder with all that is in it; a folder that is there already is added to.

    Raises:
        OSError: something could not be copied; the rest has been.
    """
    if not source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        return
    try:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=_special)
    except shutil.Error as error:
        (first, *rest) = error.args[0]
        more = f", and {len(rest)} more" if rest else ""
        raise OSError(f"{first[0]} could not be copied: {first[2]}{more}") from error


def _special(folder: str, names: list[str]) -> list[str]:
    """Which entries of a folder are neither files, folders nor links."""
    kinds = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}  # noqa: PTH118  (a name need not be UTF-8)
    return [name for name, mode in modes.items() if not any(is_kind(mode) for is_kind in kinds)]
