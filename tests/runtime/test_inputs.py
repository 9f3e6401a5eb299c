"""Inputs on a node: local ones as they are, remote ones fetched once, and errors that keep secrets."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raysweep.core.command import Input
from raysweep.errors import ClusterError, StorageUnusableError, UserError
from raysweep.runtime.command import inputs
from raysweep.runtime.command.inputs import fetch

BODY = b"sepal,petal\n" * 10_000


class Handler(BaseHTTPRequestHandler):
    """Answers by what the path begins with."""

    server: Server

    def do_GET(self) -> None:
        """Send what was asked for."""
        kind = self.path.split("/")[1].partition("?")[0]
        self.server.asked[kind] += 1
        self.server.credentials.append(self.headers["Authorization"])
        answer: Callable[[], None] = getattr(self, f"send_{kind}", self.send_whole)
        answer()

    def send_whole(self, **headers: str) -> None:
        """The body as it should be."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(BODY)

    def send_slow(self) -> None:
        """The body in two parts, with a pause between them."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BODY[:100])
        self.wfile.flush()
        time.sleep(0.5)
        self.wfile.write(BODY[100:])

    def send_disposition(self) -> None:
        """The body with a name of its own."""
        self.send_whole(Content_Disposition='attachment; filename="../iris.csv"')

    def send_cut(self) -> None:
        """The first time half of the body."""
        if self.server.asked["cut"] > 1:
            self.send_whole()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: len(BODY) // 2])

    def send_moody(self) -> None:
        """The first two times an error of the server."""
        self.send_error(503) if self.server.asked["moody"] < 3 else self.send_whole()

    def send_down(self) -> None:
        """Always an error of the server."""
        self.send_error(500)

    def send_forbidden(self) -> None:
        """No."""
        self.send_error(403)

    def send_away(self) -> None:
        """Another address, of what the system takes for another machine."""
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/whole/iris.csv")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing to the test's output."""


class Server(ThreadingHTTPServer):
    """A web server on the loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Counter[str]()  # how often, by kind
        self.credentials: list[str | None] = []

    def address(self, path: str, credentials: str = "") -> str:
        """An address of this server."""
        return f"http://{credentials}127.0.0.1:{self.server_port}/{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server, asked directly and without long pauses."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(inputs, "PAUSE", 0.01)
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def file(path: str, **fields: str) -> Input:
    """An input that is a file."""
    return Input(type="uri_file", path=path, **fields)


# Local


def test_a_local_path_is_left_as_it_is(tmp_path: Path) -> None:
    """A file, a folder and a `file://` address are used where they lie."""
    path = tmp_path / "a b.csv"
    path.touch()
    assert str(path) == fetch(file(str(path)), tmp_path)
    assert str(path) == fetch(file(path.as_uri()), tmp_path)
    assert str(tmp_path) == fetch(Input(type="uri_folder", path=str(tmp_path)), tmp_path)


def test_a_path_that_another_node_has_is_named(tmp_path: Path) -> None:
    """The message names the path, this node, and where data must lie."""
    for path in (str(tmp_path / "absent.csv"), (tmp_path / "absent.csv").as_uri()):
        with pytest.raises(StorageUnusableError, match=r"absent\.csv is not on this node, .*reach"):
            fetch(file(path), tmp_path)


def test_another_machines_file_is_refused(tmp_path: Path) -> None:
    """A `file://` address with a host does not quietly become a local path."""
    with pytest.raises(UserError, match="a file of the machine 'there'"):
        fetch(file("file://there/etc/hosts"), tmp_path)


@pytest.mark.parametrize("path", ["https://host/x?sig=s", "/absent", "s3://bucket/key"])
def test_direct_is_passed_on(tmp_path: Path, path: str) -> None:
    """With mode `direct` nothing is fetched, looked at or changed."""
    assert path == fetch(file(path, mode="direct"), tmp_path)


# A web address


def test_a_file_keeps_its_name(server: Server, tmp_path: Path) -> None:
    """`iris.csv` stays `iris.csv`, whole, and cannot be written by a trial."""
    found = Path(fetch(file(server.address("data/iris.csv?sig=secret")), tmp_path))
    assert ("iris.csv", BODY) == (found.name, found.read_bytes())
    assert 0o400 == found.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("disposition/download?id=5", "iris.csv"),
        ("data/f%C3%BCr%20alle.csv", "für alle.csv"),
        ("data/für alle.csv", "für alle.csv"),
        ("data/..%2F..%2Fevil", "evil"),
        ("data/%2e%2e", "download"),
        ("data/folder/", "folder"),
        ("", "download"),
        (f"data/{'ü' * 200}.csv", f"{'ü' * 123}.csv"),
    ],
)
def test_a_name_is_never_a_path(server: Server, tmp_path: Path, path: str, name: str) -> None:
    """The server's name for a file comes first, then the address's; neither leads elsewhere."""
    found = Path(fetch(file(server.address(path)), tmp_path))
    assert (name, tmp_path / "inputs") == (found.name, found.parent.parent)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    """The next trial finds it; another address is another file."""
    for _ in range(2):
        fetch(file(server.address("data/iris.csv")), tmp_path)
    assert {"data": 1} == server.asked
    fetch(file(server.address("data/iris.csv?version=2")), tmp_path)
    assert {"data": 2} == server.asked


FETCHER = """
import sys
from pathlib import Path
from raysweep.core.command import Input
from raysweep.runtime.command.inputs import fetch
print(fetch(Input(type="uri_file", path=sys.argv[1]), Path(sys.argv[2])))
"""


def fetcher(address: str, cache: Path) -> subprocess.Popen[str]:
    """A trial's process that fetches a file and tells its path."""
    command = [sys.executable, "-c", FETCHER, address, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_many_trials_one_fetches(server: Server, tmp_path: Path) -> None:
    """Trials that start together ask the server once and get one file."""
    trials = [fetcher(server.address("slow/iris.csv"), tmp_path) for _ in range(5)]
    told = {trial.communicate()[0].strip() for trial in trials}
    (path,) = told
    assert BODY == Path(path).read_bytes()
    assert {"slow": 1} == server.asked


def test_a_fetcher_that_is_killed_leaves_nothing_that_counts(
    server: Server, tmp_path: Path
) -> None:
    """What it had is thrown away, and the next one fetches anew."""
    trial = fetcher(server.address("slow/iris.csv"), tmp_path)
    while not list(tmp_path.glob("inputs/*/part")):
        time.sleep(0.005)
    trial.kill()
    trial.communicate()
    assert BODY == Path(fetch(file(server.address("slow/iris.csv")), tmp_path)).read_bytes()
    assert {"slow": 2} == server.asked


@pytest.mark.parametrize(("kind", "times"), [("cut", 2), ("moody", 3)])
def test_what_passes_is_tried_again(
    server: Server, tmp_path: Path, kind: str, times: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A connection that breaks and an error of the server are tried again, and told."""
    found = Path(fetch(file(server.address(f"{kind}/iris.csv?sig=secret")), tmp_path))
    assert BODY == found.read_bytes()
    assert ["iris.csv"] == [each.name for each in found.parent.iterdir()]
    assert {kind: times} == server.asked
    told = capfd.readouterr().err
    assert "trying again in" in told
    assert "secret" not in told


def test_what_stays_is_the_clusters_loss(server: Server, tmp_path: Path) -> None:
    """After three tries the address, without its secrets, and the last answer are named."""
    address = server.address("down/iris.csv?sig=secret", "user:password@")
    with pytest.raises(ClusterError, match=r"in 3 tries: the server answered 500") as caught:
        fetch(file(address), tmp_path)
    assert server.address("down/iris.csv") in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)
    assert {"down": 3} == server.asked


def test_what_is_refused_is_the_users_to_mend(server: Server, tmp_path: Path) -> None:
    """A status that another try cannot change is told at once."""
    with pytest.raises(UserError, match=r"cannot be fetched: the server answered 403"):
        fetch(file(server.address("forbidden/iris.csv")), tmp_path)
    assert {"forbidden": 1} == server.asked


def test_a_server_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    """A refused connection is tried again and then told."""
    address = server.address("iris.csv")
    server.server_close()
    with pytest.raises(ClusterError, match=r"could not be fetched.*Connection refused"):
        fetch(file(address), tmp_path)


def test_a_server_that_says_nothing_is_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that stops for longer than is patient counts as broken."""
    monkeypatch.setattr(inputs, "PATIENCE", 0.05)
    with pytest.raises(ClusterError, match=r"in 3 tries: the connection broke"):
        fetch(file(server.address("slow/iris.csv")), tmp_path)


def test_credentials_go_to_their_own_machine(server: Server, tmp_path: Path) -> None:
    """`user:password@` becomes a header, which another machine never sees."""
    fetch(file(server.address("away/iris.csv", "user:pass%20word@")), tmp_path)
    token = base64.b64encode(b"user:pass word").decode()
    assert [f"Basic {token}", None] == server.credentials


def test_a_long_download_is_told_of(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A line on stderr says how far a download is."""
    monkeypatch.setattr(inputs, "PROGRESS", -1.0)
    fetch(file(server.address("data/iris.csv?sig=secret")), tmp_path)
    line = f"raysweep: fetching {server.address('data/iris.csv')}: 0 of 0 MiB\n"
    assert capfd.readouterr().err.startswith(line)


def test_a_web_folder_is_refused(tmp_path: Path) -> None:
    """What cannot be listed cannot be a folder."""
    with pytest.raises(UserError, match=r"must be one file, but its type is uri_folder"):
        fetch(Input(type="uri_folder", path="https://host/data/?sig=secret"), tmp_path)


# Other storages


def test_azures_blobs_are_reached_by_their_names_of_today() -> None:
    """A `wasbs://` file is a web address; a folder is asked of the package for `abfs://`."""
    from urllib.parse import urlsplit

    address = urlsplit("wasbs://datasets@examples.blob.core.windows.net/iris.csv")
    expected = "https://examples.blob.core.windows.net/datasets/iris.csv"
    assert expected == inputs._blob(address, "uri_file").geturl()
    expected = "abfs://datasets@examples.blob.core.windows.net/iris.csv"
    assert expected == inputs._blob(address, "uri_folder").geturl()


def test_other_storages_are_asked_by_fsspec(tmp_path: Path) -> None:
    """A file comes under its name, a folder with all that is in it."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe({"/data/a.csv": b"a", "/data/deep/b.csv": b"b"})
    found = Path(fetch(file("memory://data/a.csv"), tmp_path))
    assert ("a.csv", b"a") == (found.name, found.read_bytes())
    folder = Path(fetch(Input(type="uri_folder", path="memory://data"), tmp_path))
    names = sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())
    assert ("data", ["a.csv", "deep/b.csv"]) == (folder.name, names)


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    """What the storage does not have is the user's to mend."""
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=r"memory://nothing/here\.csv is not there"):
        fetch(file("memory://nothing/here.csv"), tmp_path)


def test_an_unknown_storage_names_the_remedy(tmp_path: Path) -> None:
    """A scheme that nothing here understands says what to install."""
    with pytest.raises(UserError, match=r"nosuch://a/b cannot be fetched.*install fsspec"):
        fetch(file("nosuch://a/b"), tmp_path)


def test_without_fsspec_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where fsspec is not installed, the message says so."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UserError, match=r"s3://bucket/key cannot be fetched.*for s3:// on every"):
        fetch(file("s3://bucket/key"), tmp_path)
