"""A folder of files as part of a state tree: what libraries save that write their own files.

One rule: a name leads to a place in the folder and nowhere else, and files are laid out where nothing
was, all of them or none.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from raysweep.storage.atomic import PARTIAL
from raysweep.storage.checkpoints.leaf import Bytes, Held

LONGEST = 4096  # characters of a path, as Linux has it


class HeldFile:
    """A file's bytes."""

    device = "cpu"
    address = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.nbytes = path.stat().st_size

    def flat(self) -> Bytes:
        """All of them, read."""
        content = bytearray(self.nbytes)
        self.copy_to(memoryview(content))
        return memoryview(content)

    def copy_to(self, target: memoryview) -> None:
        """Read them.

        Raises:
            ValueError: there are others than there were.
        """
        with self._path.open("rb", buffering=0) as file:
            read = 0
            while some := file.readinto(target[read:]):
                read += some
            if read < self.nbytes or file.read(1):
                raise ValueError(f"{self._path} was written to while it was saved")


class Files(Mapping[str, memoryview]):
    """Files by their names in a folder, as `trial.report(checkpoint=pathlib.Path(...))` keeps them.

    A mapping of POSIX paths, relative to the folder, to the files' bytes. Modes, owners, times and
    empty folders are not kept.
    """

    def __init__(self, held: Mapping[str, Bytes | bytearray | Held]) -> None:
        check_names(held)
        self.held = {name: _checked(name, each) for name, each in held.items()}

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The files of a folder; a link to a file counts as the file.

        Raises:
            ValueError: It is no folder, or holds something that is neither a file nor a folder.
        """
        if not folder.is_dir():
            raise ValueError(
                f"is {folder}, which is no folder: store the folder that the files are in"
            )
        return cls({str(path.relative_to(folder)): HeldFile(path) for path in _files_in(folder)})

    @classmethod
    def stored(cls, items: Mapping[str | int, object]) -> Self:
        """The files of a checkpoint.

        Raises:
            ValueError: something among them is no file.
        """
        held = {str(key): item for key, item in items.items() if isinstance(item, memoryview)}
        if len(held) < len(items):
            raise ValueError("holds among its files what is none")
        return cls(held)

    def __getitem__(self, name: str) -> memoryview:
        """The bytes of a file, read-only."""
        held = self.held[name]
        return memoryview(
            held if isinstance(held, bytes | memoryview) else held.flat()
        ).toreadonly()

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.held)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.held)

    def __repr__(self) -> str:
        return f"<Files: {', '.join(self.held)}>"

    def unpack(self, folder: str | os.PathLike[str]) -> Path:
        """Write the files into a folder that is not there yet, or empty; returns it.

        Raises:
            FileExistsError: there is something in it, or it is no folder.
            OSError: the files cannot be written; none is there then.
        """
        place = Path(folder).absolute()
        place.parent.mkdir(parents=True, exist_ok=True)
        making = place.with_name(f".{secrets.token_hex(8)}{PARTIAL}")
        making.mkdir()
        try:
            for name, content in self.items():
                path = making / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if place.is_dir():
                making.chmod(stat.S_IMODE(place.stat().st_mode))
            making.rename(place)  # which replaces an empty folder
        except OSError as error:
            taken = error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
            kind = FileExistsError if taken else type(error)
            raise kind(error.errno, f"{place}: {error.strerror}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return place


def _checked(name: str, held: object) -> Bytes | Held:
    """A file's bytes, which will not change, or how they are had."""
    if isinstance(held, bytes | HeldFile):
        return held
    if isinstance(held, bytearray | memoryview):
        view = memoryview(held)
        return view if view.readonly and view.contiguous and view.format == "B" else bytes(view)
    raise ValueError(f"the file {name!r} is of type {type(held).__name__}: give its bytes")


def check_names(names: Iterable[str]) -> None:
    """Refuse names that lead out of their folder, or that cannot lie in one folder together.

    Raises:
        ValueError: there is one.
    """
    listed = list(names)
    for name in listed:
        if not isinstance(name, str) or len(name) > LONGEST:
            raise ValueError(f"{str(name)[:40]!r} is no string, or too long for a file's name")
        if "\0" in name or {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"{name!r} is no name of a file in a folder")
        if not name.isascii() and name != name.encode("utf-8", "replace").decode():
            raise ValueError(f"{name!r} is no valid Unicode: rename it")
    in_order = sorted(name.split("/") for name in listed)  # a file, then what would be within it
    for above, below in itertools.pairwise(in_order):
        if below[: len(above)] == above:
            raise ValueError(f"{'/'.join(above)!r} is both a file and a folder")


def _files_in(folder: Path) -> Iterator[Path]:
    """Every file beneath a folder, by name."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _files_in(path)
        else:
            raise ValueError(f"holds {path}, which is neither a file nor a folder")
