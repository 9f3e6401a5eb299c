"""A sweep's folder: where each of its files lies.

One rule: the folder holds all that a sweep is, so that another machine can take it up: what was
asked for, the code, the shared data, the journal, the checkpoints, and the results derived from
them. `spec.json` is written last: a folder without it is no sweep.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

from raysweep.core import checks
from raysweep.errors import (
    SpecError,
    StorageUnusableError,
    SweepExistsError,
    SweepNotFoundError,
)
from raysweep.storage.atomic import create_exclusive, flush_folder, write_bytes
from raysweep.storage.bucket import SCHEMES, Bucket
from raysweep.storage.bucket_segments import BucketSegments
from raysweep.storage.mirror import Mirror, is_bucket, make_root, mirror_path
from raysweep.storage.segments import FileSegments, Segments

if TYPE_CHECKING:
    from raysweep.core.command import Command
    from raysweep.core.spec import SweepSpec

DEFAULT_STORAGE = "~/raysweep"
ENVIRONMENT = "RAYSWEEP_STORAGE"  # the variable that names another


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep; of one in a bucket, those of its mirror on this machine."""

    path: Path
    remote: str = ""  # the URI of a sweep's folder in a bucket

    @classmethod
    def at(cls, uri: str) -> Self:
        """The folder that `uri` names; no storage is asked."""
        return cls(mirror_path(uri), uri) if is_bucket(uri) else cls(Path(uri))

    @property
    def uri(self) -> str:
        """What names the folder on every machine."""
        return self.remote or str(self.path)

    @property
    def storage(self) -> str:
        """The storage that it is in."""
        return self.remote.rpartition("/")[0] or str(self.path.parent)

    @cached_property
    def mirror(self) -> Mirror | None:
        """The way to the bucket, for a folder in one."""
        return Mirror(self.remote, self.path) if self.remote else None

    @property
    def name(self) -> str:
        """The sweep's name, unique in its storage."""
        return self.path.name

    @cached_property
    def actor_name(self) -> str:
        """The sweep's name among all sweeps of a cluster, whatever storage they are in."""
        return f"raysweep:{self.name}:{self.read_document()['id']}"

    @property
    def spec_file(self) -> Path:
        """The spec with the versions and the state of the user's code that it was made with."""
        return self.path / "spec.json"

    @property
    def code(self) -> Path:
        """The training function, pickled by value."""
        return self.path / "code" / "trial.pkl"

    @property
    def command(self) -> Path:
        """The command of a sweep whose trials are commands, as JSON; there is no `code` then."""
        return self.path / "code" / "command.json"

    @property
    def snapshot(self) -> Path:
        """The folder that such a command works in, one tar file."""
        return self.path / "code" / "snapshot.tar"

    @property
    def sources(self) -> Path:
        """The user's own Python files, for imports that a trial makes."""
        return self.path / "code" / "src"

    @property
    def diff(self) -> Path:
        """The uncommitted changes of the user's code, as `git diff` shows them."""
        return self.path / "code" / "uncommitted.diff"

    @property
    def shared(self) -> Path:
        """The data that all trials read, one Arrow file."""
        return self.path / "shared.arrow"

    @property
    def followed(self) -> Path:
        """A file that whoever runs the sweep in a terminal holds the lock of; says who."""
        return self.path / ".followed"

    @property
    def journal(self) -> Segments:
        """Where the journal's segments lie."""
        if self.mirror is None:
            return FileSegments(self.path / "journal")
        return BucketSegments(self.mirror.bucket)

    def checkpoint(self, trial: int, attempt: int, report: int) -> Path:
        """Where the checkpoint handed to a report goes."""
        return self.path / "checkpoints" / f"trial-{trial:05d}" / f"{attempt}-{report:06d}.arrow"

    def log(self, trial: int) -> Path:
        """What a trial wrote to stdout and stderr."""
        return self.path / "logs" / f"trial-{trial:05d}.log"

    def setup_log(self, host: str) -> Path:
        """What was prepared on a node before trials ran there."""
        return self.path / "logs" / f"setup-{host}.log"

    def input(self, name: str) -> Path:
        """Where an input is copied to when not every node reaches it."""
        return self.path / "inputs" / name

    def output(self, trial: int, name: str) -> Path:
        """Where a trial's command writes one of its outputs."""
        return self.path / "outputs" / f"trial-{trial:05d}" / name

    def artifacts(self, trial: int) -> Path:
        """What a trial's script logged as MLflow artifacts."""
        return self.path / "artifacts" / f"trial-{trial:05d}"

    def tracked(self, trial: int, attempt: int) -> Path:
        """What a trial's script logged through MLflow beyond its metrics: params, tags, runs."""
        return self.path / "tracking" / f"trial-{trial:05d}-{attempt}.json"

    def left_by(self, trial: int, attempt: int) -> list[Path]:
        """What an attempt leaves beside its reports and checkpoints."""
        return [
            self.log(trial),
            self.output(trial, ""),
            self.artifacts(trial),
            self.tracked(trial, attempt),
        ]

    # --- in a bucket; on a file system all of these do nothing ------------------------------------

    def send(self, *paths: Path) -> None:
        """Make files, and all in folders, durable in the bucket."""
        if self.mirror is not None:
            self.mirror.send(paths)

    def fetch(self, path: Path) -> None:
        """Have a file here. Raises FileNotFoundError when there is none."""
        if self.mirror is not None:
            self.mirror.fetch(path)

    def fetch_all(self, *paths: Path) -> None:
        """Have these files, and all that lies in these folders, here."""
        if self.mirror is not None:
            for path in paths:
                self.mirror.fetch_all(path)

    def forget(self, path: Path) -> None:
        """Remove a file here that is in the bucket."""
        if self.mirror is not None:
            path.unlink(missing_ok=True)

    def look(self) -> None:
        """Have `spec.json` here as it is in the bucket, and nothing of another sweep of this name."""
        if self.mirror is not None:
            self.mirror.look(self.spec_file)

    def take_up(self) -> None:
        """Have all here that trials and controllers need; what is not there yet takes its time.

        Raises:
            OSError: the store does not answer, or this machine has no room.
        """
        if self.mirror is not None:
            self.mirror.look(self.spec_file)
            self.mirror.fetch_in_turn(self.code.parent, self.input(""), self.shared)
            self.log(0).parent.mkdir(exist_ok=True)

    def end_uploads(self) -> None:
        """End what processes that were killed have begun to send. Nothing may be sending any more."""
        if self.mirror is not None:
            self.mirror.end_uploads()

    def collect(self, named: Collection[str]) -> list[str]:
        """Remove the files among the checkpoints that are not named, relative to this folder.

        They were being written when their machine was lost, or nobody was left to remove them. Nothing
        that is still to be named may be among them.
        """
        self.remove(unnamed := self.unnamed(named))
        self.end_uploads()
        return unnamed

    def unnamed(self, named: Collection[str]) -> list[str]:
        """The files among the checkpoints that are not named, relative to this folder."""
        place = self.path / "checkpoints"
        if self.mirror is not None:
            return [key for key in self.mirror.keys_in(place) if key not in named]
        files = (path for path in place.rglob("*") if path.is_file())
        found = (path.relative_to(self.path).as_posix() for path in files)
        return [path for path in found if path not in named]

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files among the checkpoints, each named relative to this folder.

        What is gone already is fine.

        Raises:
            OSError: the storage refuses, or one of them is no file among the checkpoints.
        """
        listed = [_checkpoint_name(path) for path in paths]
        if self.mirror is not None:
            self.mirror.bucket.remove(listed)
            return
        for path in listed:
            (self.path / path).unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether this is a sweep."""
        return self.spec_file.is_file()

    def create(
        self, spec: SweepSpec, *, origin: Mapping[str, Any], files: Mapping[Path, bytes]
    ) -> None:
        """Make the folder of a new sweep; what is large is in place already.

        Args:
            spec: what was asked for.
            origin: versions and the state of the user's code, for `spec.json`.
            files: what else is in it, by path.

        Raises:
            SweepExistsError: the name is taken.
            StorageUnusableError: the storage cannot be written.
        """
        try:
            for folder in (self.code.parent, self.path / "checkpoints", self.path / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
            for path, content in files.items():
                write_bytes(path, content)
            identity = secrets.token_hex(4)
            document = json.dumps({"id": identity, "spec": spec.to_dict(), **origin}, indent=2)
            created = create_exclusive(self.spec_file, document.encode())
        except OSError as error:
            raise _unusable(self.path, error) from error
        if not created:
            raise _taken(self)

    def read_spec(self) -> SweepSpec:
        """The spec as it was when the sweep was made."""
        from raysweep.core.spec import SweepSpec  # noqa: PLC0415  (no trial needs it, nor its samplers)

        return SweepSpec.from_dict(self.read_document()["spec"])

    def read_command(self) -> Command:
        """The command of a sweep whose trials are commands."""
        from raysweep.core.command import Command  # noqa: PLC0415  (only sweeps of commands need it)

        return Command.from_dict(json.loads(self.command.read_bytes()))

    def read_document(self) -> dict[str, Any]:
        """All of `spec.json`: the spec, the versions, the state of the user's code.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """
        if not self.spec_file.exists():
            self.look()
        try:
            document: dict[str, Any] = json.loads(self.spec_file.read_bytes())
        except FileNotFoundError:
            raise _missing(self) from None
        return document


def default_storage() -> str:
    """The storage where nobody names one."""
    return os.environ.get(ENVIRONMENT) or DEFAULT_STORAGE


def storage_path(storage: str | os.PathLike[str]) -> Path:
    """The folder that a storage's name stands for.

    Raises:
        SpecError: it is not a folder of a file system.
    """
    text = checks.text("storage", os.fspath(storage))
    scheme, found, rest = text.partition("://")
    if found and scheme != "file":
        raise SpecError(
            f"storage must be a folder that every node reaches, or a bucket"
            f" ({', '.join(f'{known}://' for known in SCHEMES)}), but got {text!r}"
        )
    return Path(rest if found else text).expanduser().absolute()


def new_sweep(storage: str | os.PathLike[str], name: str) -> SweepFolder:
    """The folder for a sweep that is to be made; proves that the storage takes writes.

    Raises:
        SweepExistsError: the name is taken.
        StorageUnusableError: the storage cannot be written.
    """
    folder = _named(storage, name)
    if folder.mirror is not None:
        Bucket(folder.storage).prove()
        folder.look()
    if folder.exists():
        raise _taken(folder)
    if folder.mirror is not None:
        return folder
    probe = folder.path.parent / f".probe-{secrets.token_hex(4)}"
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(probe, b"raysweep was here")
        probe.unlink()
    except OSError as error:
        raise _unusable(folder.path.parent, error) from error
    return folder


@contextlib.contextmanager
def made(storage: str | os.PathLike[str], name: str) -> Iterator[SweepFolder]:
    """A new sweep's folder while it is filled; it gets its name when the block ends without an error.

    What fails on the way leaves nothing, and of two that make the same at once one is refused.

    Raises:
        SweepExistsError: the name is taken.
        StorageUnusableError: the storage cannot be written.
    """
    final = new_sweep(storage, name)
    staging = final.path.with_name(f".{name}-{secrets.token_hex(4)}")
    try:
        if final.mirror is not None:
            make_root(staging)
        else:
            staging.mkdir()
        yield SweepFolder(staging)
        if final.mirror is not None:
            final.mirror.publish(staging, last=final.spec_file.name)
            return
        flush_folder(staging)
        try:
            staging.rename(final.path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise _taken(final) from None
            raise _unusable(final.path, error) from error
        flush_folder(final.path.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def find_sweep(storage: str | os.PathLike[str], name: str) -> SweepFolder:
    """The folder of a sweep that is there.

    Raises:
        SweepNotFoundError: there is none of this name; the message suggests the nearest.
    """
    folder = _named(storage, name)
    folder.look()
    if not folder.exists() or name.startswith("."):  # one in the making has a dot
        raise _missing(folder)
    return folder


def sweeps(storage: str | os.PathLike[str]) -> Iterator[SweepFolder]:
    """Every sweep in a storage, by name."""
    if is_bucket(os.fspath(storage)):
        for name in sorted(Bucket(os.fspath(storage)).folders("")):
            (folder := _named(storage, name)).look()
            if folder.exists():
                yield folder
        return
    root = storage_path(storage)
    children = sorted(root.glob("[!.]*")) if root.is_dir() else []  # one in the making has a dot
    yield from (folder for child in children if (folder := SweepFolder(child)).exists())


def storage_name(storage: str | os.PathLike[str]) -> str:
    """A storage's name, written the one way that all write it.

    Raises:
        SpecError: it is no storage's.
    """
    text = os.fspath(storage)
    return Bucket(text).uri if is_bucket(text) else str(storage_path(text))


def _named(storage: str | os.PathLike[str], name: str) -> SweepFolder:
    """The folder that a sweep of this name has, or would have."""
    return SweepFolder.at(f"{storage_name(storage)}/{name}")


def _checkpoint_name(path: str) -> str:
    """The path, if it leads to somewhere among the checkpoints and nowhere else."""
    first, *rest = PurePosixPath(path).parts or ("",)
    if first != "checkpoints" or not rest or ".." in rest:
        raise PermissionError(
            errno.EPERM, "only checkpoints are removed from a sweep's folder", path
        )
    return path


def _taken(folder: SweepFolder) -> SweepExistsError:
    if not folder.exists():
        return SweepExistsError(
            f"{folder.path} is there already, and is no sweep; remove it, or choose another name"
        )
    return SweepExistsError(
        f"a sweep named {folder.name!r} is already in {folder.storage}; take it up with"
        f" `raysweep resume {folder.name}` if it was interrupted, or choose another name (--name)"
    )


def _missing(folder: SweepFolder) -> SweepNotFoundError:
    near = checks.did_you_mean(folder.name, [other.name for other in sweeps(folder.storage)])
    return SweepNotFoundError(
        f"no sweep named {folder.name!r} in {folder.storage}{near}"
        f" (`raysweep list` shows them; --storage names another place)"
    )


def _unusable(path: Path, error: OSError) -> StorageUnusableError:
    return StorageUnusableError(
        f"storage {path} cannot be written: {error.strerror or error}; choose a folder that you"
        f" may write with storage=... or --storage"
    )
