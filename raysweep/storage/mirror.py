"""A mirror: the folder on this machine that stands for a sweep's folder in a bucket.

One rule: the bucket has what counts. A file is written here first and counts once it is sent. What is here
stays unless the bucket has something later, so that what is being written here is never replaced.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from raysweep.storage.bucket import SCHEMES, Bucket, Entry
from raysweep.storage.private import PLACE, private

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
    root = (
        Path(os.environ.get(PLACE) or tempfile.gettempdir()).absolute() / f"raysweep-{os.getuid()}"
    )
    return root / "buckets" / quote(storage, safe="") / name


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
    private(path.parent.parent.parent)
    path.mkdir(parents=True, exist_ok=True)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
