"""Files that appear whole or not at all, and stay once they are there.

One rule: nothing under its final name is ever partial. Bytes go to a new file in the same folder, are
flushed to the disk, take the final name in one step, and the folder's entry is flushed after them.
What fails on the way leaves no file behind; a process that is killed leaves at most one file
named `.*.tmp`. Every `OSError` reaches the caller as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".tmp"  # how the names of files end that are being written

# Of what fails, what ends by itself or by somebody's hand; a store in a network gives no number.
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.EACCES, None)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that becomes `path`, durably, when the block ends without an error.

    Until then, and for good when the block raises, whatever was at `path` stays.

    Args:
        path: The final name; its folder must be there.

    Yields:
        A binary file to write to.
    """
    with _beside(Path(path)) as (file, temporary):
        yield file
        _flush(file)
        temporary.replace(path)
    flush_folder(Path(path).parent)


def write_bytes(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> None:
    """Make `data` the whole content of `path`, atomically and durably."""
    with replacing(path) as file:
        file.write(data)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as indented JSON, atomically and durably.

    Raises:
        TypeError: If the value has no JSON form.
        ValueError: If it holds NaN or an infinity, which JSON does not know.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def create_exclusive(path: str | os.PathLike[str], data: bytes | bytearray | memoryview) -> bool:
    """Create `path` with this content, unless it is there already.

    Of several processes that try at once, on one machine or on several, exactly one succeeds; nobody
    ever reads a part of the content.

    Returns:
        Whether this call created the file; it is durable then.
    """
    with _beside(Path(path)) as (file, temporary):
        file.write(data)
        _flush(file)
        created = _link(temporary, Path(path))
    if created:
        flush_folder(Path(path).parent)
    return created


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file in the folder of `path`, and remove it if it still has its own name at the end."""
    temporary = path.parent / f".{secrets.token_hex(8)}{PARTIAL}"
    with temporary.open("xb") as file:
        try:
            yield file, temporary
        finally:
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS repeats a request whose answer was lost and then finds its own link: the count tells.
        return temporary.stat().st_nlink > 1
    return True


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def begin_flush(file: BinaryIO) -> None:
    """Have the disk begin with what is in a file, without waiting for it; a hint that may go unheard."""
    if _sync_file_range is not None:
        _sync_file_range(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), _START_WRITING)


_START_WRITING = 2  # SYNC_FILE_RANGE_WRITE of Linux, which Python's os does not have
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable: a file's own flush does not include its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
