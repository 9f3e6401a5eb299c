"""A bucket: a folder of an object store, S3's, Google's or Azure's, and what can be done with it.

One rule: what a store does not do is an `OSError` that says what, where, why, and what to do about it.
That an object is not there is an answer, and is only given when the store has said so: never when it
could not be asked.

An object appears whole or not at all, and whoever asks afterwards finds it. Requests that fail on the
way are sent again, for some seconds, so each may be carried out twice, and one that failed may have been
carried out. Two objects of one name are told apart by what is in them (`Bucket.create`).
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from raysweep.errors import SpecError, StorageUnusableError
from raysweep.storage.atomic import replacing

SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
READERS = 16  # objects, or parts of one, that are read at the same time
PART = 16 * 2**20  # bytes of a file that go in one request
MOST_PARTS = 9_000  # of one object; S3 takes 10,000
SENDERS = 4  # parts of a file that travel at the same time
TRIES = 3  # to find out who created an object, and to hear an answer to its end
A_PAGE = 1_000  # names that a store lists at once

# A request that gets no answer within `read_timeout` is sent again; a long answer may take longer.
PATIENCE = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "10m"}
AGAIN = {
    "max_retries": 5,  # about two seconds when it is refused each time: then whoever asked decides
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=25),
        "base": 3,
        "max_backoff": timedelta(seconds=2),
    },
}

# What the client says when an answer broke off, or when it sent the end of an upload again that had been carried
# out: S3 knows no such upload any more, and Azure no such parts.
FORGOTTEN = r"NoSuchUpload|InvalidBlockList"
BROKEN_OFF = rf"IncompleteBody|response body|{FORGOTTEN}"

# What an environment says credentials and places with.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (with boto3 installed)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
PLACES = {
    "s3": "AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "the Google project",
    "az": "AZURE_STORAGE_ACCOUNT_NAME",
}

NO_BUCKET = r"NoSuchBucket|ContainerNotFound|bucket does not exist"
NOT_AN_OBJECT = rf"{NO_BUCKET}|{FORGOTTEN}"  # of what else a store says that it is not there

# What to do, by a pattern of what the client says; the first that is found counts.
ADVICE = (
    (
        r"/latest/(api/token|meta-data)|/metadata/identity|metadata\.google|MissingCredential",
        "no credentials were found: set {credentials}, or give this machine a role",
    ),
    (
        NO_BUCKET,
        "there is no such bucket: create it, or check its name, {places}",
    ),
    (FORGOTTEN, "send it again"),
    (r"status code: 40[13]", "check {credentials}, and that they may read, write, list and remove"),
    (
        r"status code: 30\d|is wrong; expecting|incorrectly configured region",
        "the bucket is elsewhere: check {places}",
    ),
    (r"status code: 412", "it was replaced meanwhile: try again"),
    (r"SlowDown|status code: (429|5\d\d)", "the store is overloaded or out of order: wait"),
    (r"kind: (Connect|Timeout|Request|Interrupted)", "check the network and {places}"),
    (r"BadScheme|URL scheme is not allowed", "write https:// where the store is named"),
    (
        r"MissingAccount",
        "set {credentials}, or write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net",
    ),
)
OTHERWISE = "check {credentials}, {places}"

# Where the reason of a failed connection stands in what the client says, the innermost last.
REASONS = r'message: "([^"]+)"|error: "([^"]+)"|\b(TimedOut|IncompleteMessage|UnknownIssuer)\b'
PLAIN = {
    "TimedOut": "no answer in time",
    "IncompleteMessage": "the connection was closed before the answer",
    "UnknownIssuer": "the certificate is signed by nobody we trust (AWS_CA_BUNDLE names others)",
}


T = TypeVar("T")


class Entry(NamedTuple):
    """An object as a list shows it."""

    size: int  # bytes
    modified: datetime  # by the store's clock


class Bucket:
    """A folder of a bucket. Keys are relative to it; two of one URI are the same place.

    Args:
        uri: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER`, `az://CONTAINER/FOLDER` or
            `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER`. Credentials, the region and
            the endpoint are those of the environment.

    Raises:
        SpecError: this is no such URI.
        StorageUnusableError: the client is not installed, or the environment lacks what it needs.
    """

    def __init__(self, uri: str) -> None:
        self.uri = _checked(uri)
        self._client = _client()
        self._store = self._connected()

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        """Pickled by its URI; whoever unpickles it has an environment of its own."""
        return type(self), (self.uri,)

    def name(self, key: str) -> str:
        """An object's URI."""
        return f"{self.uri}/{key}"

    # --- objects ----------------------------------------------------------------------------------

    def read(self, key: str, start: int = 0) -> bytes | None:
        """An object's bytes from one within it on; None when there is no such object."""
        options = {"range": {"offset": start}} if start else None
        with contextlib.suppress(FileNotFoundError), self._telling("read", key):
            got = self._client.get(self._store, key, options=options)
            return cast("bytes", got.bytes().to_bytes())
        return None

    def read_all(self, wanted: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """What `read` says of many, several at the same time."""
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda one: self.read(*one), wanted))

    def write(self, key: str, content: bytes) -> None:
        """Make `content` the whole of an object, in place of what it was."""
        with self._telling("written", key):
            self._client.put(self._store, key, content)

    def create(self, key: str, content: bytes) -> bool:
        """Create an object unless there is one; of all who try at once exactly one is told True.

        An answer that was lost is made up for by reading the object back: whoever finds his own
        content has created it. So no two may come with the same content: it holds a nonce.
        """
        refusal: OSError | None = None
        for _ in range(TRIES):
            refusal = self._try_to_create(key, content)
            if refusal is None:
                return True
            if (found := self.read(key)) is not None:
                return found == content
        assert refusal is not None
        raise refusal

    def _try_to_create(self, key: str, content: bytes) -> OSError | None:
        """Ask once; what comes of it says for certain only that it is ours."""
        try:
            with self._telling("created", key):
                self._client.put(self._store, key, content, mode="create")
        except OSError as error:
            return error
        return None

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self.entry(key) is not None

    def entry(self, key: str) -> Entry | None:
        """An object as a list would show it; None when there is no such object."""
        with contextlib.suppress(FileNotFoundError), self._telling("looked up", key):
            about = self._client.head(self._store, key)
            return Entry(about["size"], about["last_modified"])
        return None

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; what is not there is removed already."""
        listed = list(keys)
        try:
            self._again(
                "removed",
                ", ".join(listed[:1]),
                lambda: self._client.delete(self._store, listed),
            )
        except FileNotFoundError:  # of those that not every store passes over
            if len(listed) > 1:
                for key in listed:
                    self.remove([key])

    def entries(self, folder: str) -> dict[str, Entry]:
        """Every object beneath a folder of this one, by its key."""

        def listed() -> dict[str, Entry]:
            pages = self._client.list(self._store, folder or None, chunk_size=A_PAGE)
            return {
                one["path"]: Entry(one["size"], one["last_modified"])
                for page in pages
                for one in page
            }

        return self._again("listed", folder, listed)

    def folders(self, folder: str) -> list[str]:
        """The folders directly in a folder of this one, as keys."""

        def listed() -> list[str]:
            found = self._client.list_with_delimiter(self._store, folder or None)
            return list(found["common_prefixes"])

        return self._again("listed", folder, listed)

    # --- files ------------------------------------------------------------------------------------

    def upload(self, path: Path, key: str) -> None:
        """Make a file the whole of an object; a large one goes in parts, several at the same time."""
        with path.open("rb") as file:
            part = max(PART, os.fstat(file.fileno()).st_size // MOST_PARTS)

            def send() -> None:
                file.seek(0)
                self._client.put(self._store, key, file, chunk_size=part, max_concurrency=SENDERS)

            self._again("written", key, send)

    def download(self, key: str, path: Path) -> None:
        """Make an object a file, whole or not at all; a large one comes in parts, as above.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._telling("read", key):
            about = self._client.head(self._store, key)
        starts = range(0, about["size"], PART)
        with replacing(path) as file, ThreadPoolExecutor(SENDERS) as pool:

            def fetch(start: int) -> None:
                # Of the object that was looked up, not of one that has come in its place since.
                part = (start, min(start + PART, about["size"]))
                options = {"range": part, "if_match": about["e_tag"]}
                with self._telling("read", key):
                    content = self._client.get(self._store, key, options=options).bytes()
                _write_at(file.fileno(), memoryview(content), start)

            list(pool.map(fetch, starts))

    # --- proof ------------------------------------------------------------------------------------

    def prove(self) -> None:
        """Make sure that it takes writes, and that only one of two can create an object.

        Raises:
            StorageUnusableError: it does not.
        """
        key = f".probe-{secrets.token_hex(4)}"
        try:
            first = self.create(key, b"raysweep was here")
            second = self.create(key, b"raysweep was here again")
            self.remove([key])
        except OSError as error:
            raise StorageUnusableError(f"storage {self.uri} cannot be used: {error}") from error
        if not first or second:
            raise StorageUnusableError(
                f"storage {self.uri} cannot be used: it replaces an object where it was asked to create"
                " one (If-None-Match), so that two controllers could run one sweep; choose a store"
                " that knows conditional writes"
            )

    # --- within -----------------------------------------------------------------------------------

    def _connected(self) -> Any:  # noqa: ANN401  (the client's stores have no common type)
        """The client's store for this URI."""
        given: dict[str, Any] = {"client_options": dict(PATIENCE), "retry_config": AGAIN}
        if self._kind == "s3":
            given["client_options"] |= _aws_options()
            given |= _aws_profile()
        try:
            return importlib.import_module("obstore.store").from_url(self.uri, **given)
        except (self._client.exceptions.BaseError, ValueError) as error:
            raise StorageUnusableError(
                f"storage {self.uri} cannot be used: {_reason(str(error))}; {self._advice(str(error))}"
            ) from error

    @property
    def _kind(self) -> str:
        """Whose store it is: a key of `CREDENTIALS`."""
        return SCHEMES[self.uri.partition("://")[0]]

    def _again(self, what: str, key: str, act: Callable[[], T]) -> T:
        """Do what may be done twice, and do it again when an answer broke off: the client does not."""
        for _ in range(TRIES - 1):
            try:
                with self._telling(what, key):
                    return act()
            except OSError as error:
                if not re.search(BROKEN_OFF, str(error.__cause__)):
                    raise
        with self._telling(what, key):
            return act()

    @contextlib.contextmanager
    def _telling(self, what: str, key: str) -> Iterator[None]:
        """Turn what the client raises into an `OSError` that a user understands.

        Raises:
            FileNotFoundError: the store says that there is no such object.
            FileExistsError: it says that there is one, and none was to be.
        """
        _refuse_forked()
        known = self._client.exceptions
        try:
            yield
        except known.AlreadyExistsError as error:
            raise FileExistsError(errno.EEXIST, "is there already", self.name(key)) from error
        except (known.BaseError, FileNotFoundError, ValueError) as error:
            told = str(error)
            if isinstance(error, FileNotFoundError) and not re.search(NOT_AN_OBJECT, told):
                raise FileNotFoundError(errno.ENOENT, "is not there", self.name(key)) from error
            raise OSError(
                f"{self.name(key)} cannot be {what}: {_reason(told)}; {self._advice(told)}"
            ) from error

    def _advice(self, told: str) -> str:
        """What to do about it."""
        fitting = (advice for pattern, advice in ADVICE if re.search(pattern, told))
        kind = self._kind
        return next(fitting, OTHERWISE).format(credentials=CREDENTIALS[kind], places=PLACES[kind])


def _reason(told: str) -> str:
    """Why the store did not do it, in one line: its status and code, or what the network said."""
    short, _, long = told.partition("\n\nDebug source:")
    if status := re.search(r"status code: (\d{3}[^:\n]*)", short):
        code, message = (re.search(rf"<{tag}>([^<\n]*)", short) for tag in ("Code", "Message"))
        words = [
            status[1].strip(),
            *(f"({code[1]})" if code else "",),
            message[1] if message else "",
        ]
        return " ".join(word for word in words if word).rstrip(".")
    first = short.partition("\n")[0].strip()
    if not (found := re.findall(REASONS, long)):
        return first
    innermost = next(word for word in found[-1] if word)
    host = re.search(r"\bhttps?://[^/\s]+", short)
    return f"{PLAIN.get(innermost, innermost)}{f' ({host[0]})' if host else ''}"


def _write_at(file: int, content: memoryview, offset: int) -> None:
    """Write all of it there; a disk that is nearly full takes a part at first."""
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


def _checked(uri: str) -> str:
    """A URI as it is kept, without a slash at its end."""
    scheme, found, rest = uri.partition("://")
    bucket, *folders = rest.rstrip("/").split("/")
    if not found or scheme not in SCHEMES or not bucket:
        raise SpecError(
            f"a bucket is s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or"
            f" abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER, but got {uri!r}"
        )
    if bad := [folder for folder in folders if folder in ("", ".", "..")]:
        raise SpecError(f"a folder of a bucket cannot be named {bad[0]!r}, but got {uri!r}")
    return f"{scheme}://{'/'.join([bucket, *folders])}"


def _client() -> Any:  # noqa: ANN401  (a module that may be absent)
    """The client of all these stores."""
    try:
        return importlib.import_module("obstore")
    except ImportError as error:
        raise StorageUnusableError(
            "a storage in a bucket needs a package that is not installed:"
            " pip install 'raysweep[buckets]'"
        ) from error


def aws_endpoint() -> str:
    """Where the environment says that S3 is; empty: Amazon's."""
    named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((value for name in named if (value := os.environ.get(name))), "")


def _aws_options() -> dict[str, Any]:
    """What the client does not read from the environment itself."""
    if aws_endpoint().startswith("http://"):
        return {"allow_http": True}  # whoever writes http means it: a store on this very machine
    if authorities := os.environ.get("AWS_CA_BUNDLE"):
        with contextlib.suppress(OSError):
            return {"root_certificate": Path(authorities).read_bytes()}
    return {}


def _aws_profile() -> dict[str, Any]:
    """Credentials of a profile, which only boto3 can find; nothing where the environment has some."""
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    named = "AWS_PROFILE" in os.environ or any(Path(file).expanduser().is_file() for file in files)
    if os.environ.get("AWS_ACCESS_KEY_ID") or not named:
        return {}
    try:
        boto = importlib.import_module("obstore.auth.boto3")
        unknown = importlib.import_module("botocore.exceptions").BotoCoreError
    except ImportError:
        return {}
    try:
        return {"credential_provider": boto.Boto3CredentialProvider()}
    except (unknown, ValueError) as error:
        raise StorageUnusableError(f"the AWS profile has no credentials: {error}") from error


_process: int | None = None  # the one that talks to stores


def _refuse_forked() -> None:
    """Stop a forked process: it has its parent's connections without the threads that serve them.

    It would wait for ever, and its parent with it.
    """
    global _process  # noqa: PLW0603  (the client's threads belong to the process, too)
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise OSError(
            f"process {os.getpid()} was forked from {_process}, which had talked to a bucket, and"
            " cannot do so itself: start it as a process of its own"
        )
