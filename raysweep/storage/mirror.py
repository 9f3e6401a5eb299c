"""A mirror: the folder on this machine that stands for a sweep's folder in a bucket.

One rule: the bucket has what counts. A file is written here first and counts once it is sent; what is
here already and whole need not be fetched again, since a sweep's files do not change once they are sent.
Logs alone grow, and are sent as a whole each time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from raysweep.storage.bucket import SCHEMES, Bucket

PLACE = "RAYSWEEP_CACHE"  # the variable that says where mirrors are, in place of the system's own
PRIVATE = 0o700


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

        Raises:
            OSError: the store did not take one.
        """
        for path in paths:
            for file in _files(path):
                self.bucket.upload(file, self._key(file))

    def fetch(self, path: Path) -> None:
        """Have a file here.

        Raises:
            FileNotFoundError: the bucket has none.
            OSError: the store does not answer, or this machine has no room.
        """
        if not path.exists():
            make_private(path.parent)
            self.bucket.download(self._key(path), path)

    def fetch_all(self, folder: Path) -> None:
        """Have all that lies beneath a folder here, as it is now.

        Raises:
            OSError: the store does not answer, or this machine has no room.
        """
        for key, entry in self.bucket.entries(self._key(folder)).items():
            path = self._path / key
            if not path.is_file() or path.stat().st_size != entry.size:
                make_private(path.parent)
                self.bucket.download(key, path)

    def _key(self, path: Path) -> str:
        return path.relative_to(self._path).as_posix()


def make_private(folder: Path) -> None:
    """Make a folder of this user's alone, with those above it."""
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
