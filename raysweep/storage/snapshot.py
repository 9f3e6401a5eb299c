"""The code folder of a command on its way to the nodes: one tar file in the sweep's folder.

One rule: the folder goes as it stands, committed or not, less what Azure ML would leave out, and the
same content gives the same bytes. What is left out: the patterns of `.amlignore` in the folder's
root, or else of `.gitignore` there; ignore files further down do not count. A pattern is asked about
files alone and the last that fits decides, so that `!data/small.csv` brings a file back from a
folder that is left out, which git would not do. Links are followed: what they lead to goes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pathspec import PathSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from raysweep.errors import ClusterError, SpecError
from raysweep.storage.atomic import replacing

LARGEST = 2 * 2**30  # bytes of content; more is data, and every attempt lays it all out again
NAMED = 3  # of the biggest entries, in the message of a folder that is too large
IGNORE_FILES = (".amlignore", ".gitignore")  # the first that is there counts
ALWAYS = "__pycache__"  # left out whatever the file says, as Azure does for a component's code
WRITTEN = 946_684_800  # every file's time in the tar, 2000: zip files cannot tell times before 1980

Identity = tuple[int, int]  # device and inode: the same folder by whatever name


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A code folder as it stood, in one file."""

    path: Path
    sha256: str  # of the tar file: equal where names, contents and executable bits are
    files: int
    size: int  # bytes of content


class _File(NamedTuple):
    name: str  # relative to the code folder, with slashes
    path: Path
    size: int  # bytes
    executable: bool


def pack(code: Path, target: Path, *, apart: Path | None = None) -> Snapshot:
    """Write the files of a code folder into one tar file; whole, durable, or not at all.

    Args:
        code: The folder, or a single file, which then is all that the working directory holds.
        target: The tar file; its folder must be there.
        apart: A folder that is no part of the code wherever it lies: the storage. By default the
            folder of `target`.

    Raises:
        SpecError: There is no such folder, it is empty or too large after what is left out, a
            file cannot be read, or a pattern cannot be understood.
        OSError: The tar file cannot be written.
    """
    files = sorted(_chosen(code, target.parent if apart is None else apart))
    size = sum(each.size for each in files)
    if not files:
        raise SpecError(
            f"code {code} has no file to send; check its path, and the patterns of"
            f" {' or '.join(IGNORE_FILES)} in it"
        )
    if size > LARGEST:
        raise _too_large(code, files, size)
    with replacing(target) as file:
        _write(files, file)
    with target.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Snapshot(path=target, sha256=digest, files=len(files), size=size)


def unpack(snapshot: Path, folder: Path) -> None:
    """Lay a snapshot out in a new folder; its files are the owner's to write.

    Raises:
        ClusterError: The snapshot is damaged, or would write outside of the folder.
        FileExistsError: The folder is there already.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(snapshot, "r:") as tar:
            tar.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ClusterError(
            f"the code snapshot {snapshot} cannot be laid out: {error};"
            f" it is not as it was written, so start the sweep anew"
        ) from error


# What is left out


class _Ignored:
    """The patterns of a code folder's ignore file."""

    def __init__(self, lines: Sequence[str], file: str) -> None:
        self._files = _patterns([*lines, ALWAYS], file)
        # The same without the final slash, which says `only a folder`: asked about folders alone.
        self._folders = _patterns([line.rstrip("/") for line in [*lines, ALWAYS]], file)
        self.brings_back = any(line.startswith("!") for line in lines)

    def file(self, name: str) -> bool:
        """Whether a file is left out."""
        return self._files.match_file(name)

    def folder(self, name: str) -> bool:
        """Whether a folder is left out, all but what a `!` pattern may bring back from it."""
        return self._folders.match_file(name)


def _ignored(code: Path) -> _Ignored:
    for file in (code / name for name in IGNORE_FILES):
        if not file.is_file():
            continue
        try:
            text = file.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise _unreadable(file, error) from error
        return _Ignored([line.strip() for line in text.split("\n")], str(file))
    return _Ignored([], "")


def _patterns(lines: Sequence[str], file: str) -> PathSpec[GitIgnoreSpecPattern]:
    return PathSpec([_pattern(line, number, file) for number, line in enumerate(lines, 1)])


def _pattern(line: str, number: int, file: str) -> GitIgnoreSpecPattern:
    try:
        return GitIgnoreSpecPattern(line)
    except (GitIgnorePatternError, re.error) as error:
        raise SpecError(
            f"line {number} of {file} is no pattern that git knows: {line!r}; mend or remove it"
        ) from error


# What goes


def _chosen(code: Path, apart: Path) -> Iterator[_File]:
    """The files of a code folder that go, in no order."""
    if code.is_file():
        return iter([_file(code.name, code, code.stat())])
    if not code.is_dir():
        raise SpecError(f"code {code} is no folder and no file on this machine; check its path")
    walk = _Walk(_ignored(code), _identity(apart.stat()))
    return walk.files(code, "", (_identity(code.stat()),))


@dataclass(frozen=True)
class _Walk:
    """A walk through a code folder, links followed."""

    ignored: _Ignored
    apart: Identity

    def files(self, folder: Path, name: str, above: tuple[Identity, ...]) -> Iterator[_File]:
        """The files in a folder and below; `above` are the folders that led here."""
        for child in self._children(folder, name):
            below = f"{name}/{child.name}" if name else child.name
            found = self._stat(child, below)
            if found is None or _identity(found) == self.apart:
                continue
            if stat.S_ISREG(found.st_mode) and not self.ignored.file(below):
                yield _file(below, child, found)
            elif stat.S_ISDIR(found.st_mode) and self._enters(below, found, above):
                yield from self.files(child, below, (*above, _identity(found)))

    def _enters(self, name: str, found: os.stat_result, above: tuple[Identity, ...]) -> bool:
        """Whether a folder can hold files that go: a link back to where the walk came from cannot."""
        if _identity(found) in above:
            return False
        return self.ignored.brings_back or not self.ignored.folder(name)

    def _children(self, folder: Path, name: str) -> list[Path]:
        try:
            return list(folder.iterdir())
        except OSError as error:
            if self.ignored.folder(name):
                return []
            raise _unreadable(folder, error) from error

    def _stat(self, path: Path, name: str) -> os.stat_result | None:
        """What a name leads to; None for one that leads nowhere and is left out."""
        try:
            return path.stat()
        except OSError as error:
            if self.ignored.file(name):
                return None
            raise _unreadable(path, error) from error


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _file(name: str, path: Path, found: os.stat_result) -> _File:
    return _File(name, path, found.st_size, bool(found.st_mode & stat.S_IXUSR))


def _write(files: Sequence[_File], out: BinaryIO) -> None:
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in files:
            _add(tar, each)


def _add(tar: tarfile.TarFile, file: _File) -> None:
    info = tarfile.TarInfo(file.name)
    info.size, info.mtime = file.size, WRITTEN
    info.mode = 0o755 if file.executable else 0o644
    try:
        content = file.path.open("rb")
    except OSError as error:
        raise _unreadable(file.path, error) from error
    with content:
        try:
            tar.addfile(info, content)
        except OSError as error:
            if error.errno is not None:  # the tar file's own: the disk is full
                raise
            raise SpecError(
                f"{file.path} became shorter while it was read; start the sweep when nothing"
                f" writes to it any more, or name it in {IGNORE_FILES[0]}"
            ) from error


def _unreadable(path: Path, error: OSError) -> SpecError:
    link = f" (it is a link to {path.readlink()})" if path.is_symlink() else ""
    return SpecError(
        f"{path} of the code cannot be read: {error.strerror or error}{link};"
        f" mend or remove it, or name it in {IGNORE_FILES[0]}"
    )


def _too_large(code: Path, files: Sequence[_File], size: int) -> SpecError:
    sizes = Counter[str]()
    for each in files:
        sizes[each.name.partition("/")[0]] += each.size
    biggest = ", ".join(f"{name} ({_gib(each)})" for name, each in sizes.most_common(NAMED))
    return SpecError(
        f"code {code} holds {_gib(size)}, and at most {_gib(LARGEST)} go to the nodes; the biggest:"
        f" {biggest}; name what no trial needs in {IGNORE_FILES[0]} there, and hand data over as"
        f" an input"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
