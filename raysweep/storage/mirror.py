"""A mirror: the folder on this machine that stands for a sweep's folder in a bucket.

One rule: the bucket has what counts. A file is written here first and counts once it is sent. What is here
stays unless the bucket has something later, so that what is being written here is never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from raysweep.errors import StorageUnusableError, SweepExistsError
from raysweep.storage.atomic import write_bytes
from raysweep.storage.bucket import SCHEMES, Bucket, Entry
from raysweep.storage.private import node_place, private
from raysweep.storage.uploads import end_unfinished

CLAIM = "claim"  # the object that whoever makes a sweep creates first
UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENXIO)

log = logging.getLogger(__name__)


def is_bucket(storage: str) -> bool:
    """Whether a storage's name is that of a bucket.

    >>> is_bucket("s3://sweeps/vision"), is_bucket("/mnt/sweeps")
    (True, False)
    """
    scheme, found, _ = storage.partition("://")
    return bool(found) and scheme in SCHEMES


def mirror_path(uri: str) -> Path:
    """Where the mirror of a sweep's folder is, the same on every machine for one user."""
    storage, _, name = uri.rstrip("/").rpartition("/")
    return node_place() / "buckets" / quote(storage, safe="") / name


class Mirror:
    """The way between a folder of this machine and one in a bucket."""

    def __init__(self, uri: str, path: Path) -> None:
        self._uri = uri
        self._path = path

    @cached_property
    def bucket(self) -> Bucket:
        """The sweep's folder."""
        return Bucket(self._uri)

    def send(self, paths: Iterable[Path]) -> None:
        """Put files, and folders with all that is in them, into the bucket; what is not there is not.

        A file that nobody can read, or whose name no object can have, stays here; the log says so.

        Raises:
            OSError: the store did not take one.
        """
        for path in paths:
            for file in _files(path):
                key = self._key(file)
                if not key.isprintable():
                    log.warning("%r cannot be an object's name: the file is not kept", key)
                    continue
                try:
                    self.bucket.upload(file, key)
                    os.utime(file)  # it is no older than the object
                except OSError as error:
                    if error.errno not in UNREADABLE:
                        raise
                    log.warning("%s is not kept: %s", file, error)

    def fetch(self, path: Path) -> None:
        """Have a file here.

        Raises:
            FileNotFoundError: the bucket has none.
            OSError: the store does not answer, or this machine has no room.
        """
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.bucket.download(self._key(path), path)

    def fetch_all(self, path: Path) -> None:
        """Have a file, or all that lies beneath a folder, here, but for what is here in a later state.

        Raises:
            OSError: the store does not answer, or this machine has no room.
        """
        key = self._key(path)
        found = self.bucket.entries(key)
        if not found and (entry := self.bucket.entry(key)) is not None:
            found = {key: entry}
        for each, entry in found.items():
            self._fetch_later(self._path / each, each, entry)

    def fetch_in_turn(self, *paths: Path) -> None:
        """The same of several: one of this machine's processes fetches, the others find it here."""
        with self._turn():
            for path in paths:
                self.fetch_all(path)

    def look(self, first: Path) -> None:
        """Have the file here that tells one sweep from another of its name, and nothing of the other."""
        content = self.bucket.read(self._key(first))
        if content is None:
            first.unlink(missing_ok=True)
            return
        make_root(self._path)
        with self._turn():
            known = first.read_bytes() if first.exists() else None
            if known != content:
                shutil.rmtree(self._path, ignore_errors=True)
                self._path.mkdir()
                write_bytes(first, content)

    def publish(self, staging: Path, *, last: str) -> None:
        """Give what was made in a folder beside its place in the bucket, and become its mirror.

        Who is first to claim the place sends; what is there without having been claimed is in the way.

        Args:
            staging: the folder.
            last: the file in it that comes last, and says that all is there.

        Raises:
            SweepExistsError: the place is taken.
            StorageUnusableError: the store did not take it; nothing is left there.
        """
        try:
            if not self.bucket.create(CLAIM, secrets.token_bytes(16)):
                raise self._taken()
            if len(self.bucket.entries("")) > 1:
                self.bucket.remove([CLAIM])
                raise self._taken()
            self._send_claimed(staging, last)
        except OSError as error:
            raise StorageUnusableError(str(error)) from error
        shutil.rmtree(self._path, ignore_errors=True)
        staging.rename(self._path)

    def _send_claimed(self, staging: Path, last: str) -> None:
        try:
            made = Mirror(self._uri, staging)
            made.send(path for path in staging.iterdir() if path.name != last)
            self.bucket.write(last, (staging / last).read_bytes())
        except BaseException:
            self.bucket.remove(self.bucket.entries(""))
            raise

    def keys_in(self, folder: Path) -> Iterable[str]:
        """What lies beneath a folder in the bucket, relative to the sweep's."""
        return self.bucket.entries(self._key(folder))

    def end_uploads(self) -> None:
        """End what was never sent to its end; one that could not be is passed over, and logged."""
        try:
            end_unfinished(self._uri)
        except OSError as error:
            log.warning("%s", error)

    def _taken(self) -> SweepExistsError:
        return SweepExistsError(
            f"{self._uri} holds something already, and no sweep: one that is being made just now, or the"
            " rest of one that could not be; remove it, or choose another name (--name)"
        )

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One after the other, of all on this machine that fill this mirror."""
        with self._path.with_name(f".{self._path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _fetch_later(self, path: Path, key: str, entry: Entry) -> None:
        sent = entry.modified.timestamp()
        if not path.is_file() or path.stat().st_mtime < sent:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.bucket.download(key, path)
            os.utime(path, (sent, sent))

    def _key(self, path: Path) -> str:
        return path.relative_to(self._path).as_posix()


def make_root(path: Path) -> None:
    """Make the folder that all mirrors are in, this user's alone, and in it the one of a mirror.

    Raises:
        StorageUnusableError: it is somebody else's.
    """
    private(node_place())
    path.mkdir(parents=True, exist_ok=True)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
