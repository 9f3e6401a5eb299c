"""Uploads of many parts: none stays half in S3, where it costs and nobody sees it."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from s3_server import BUCKET, REFUSALS, Fault, Proxy, Request, point_at, proxy_of, unfinished

from raysweep.cli.doctor import commits
from raysweep.storage import bucket as module
from raysweep.storage import uploads
from raysweep.storage.bucket import Bucket
from raysweep.storage.folder import SweepFolder

PART = 5 * 2**20  # the least that S3 takes


@pytest.fixture
def proxy(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the server; its clients are quick to try again, and send small parts."""
    with proxy_of(server) as one:
        point_at(one, tmp_path / "here", monkeypatch)
        quick = {
            "init_backoff": timedelta(milliseconds=1),
            "max_backoff": timedelta(milliseconds=5),
        }
        monkeypatch.setattr(module, "AGAIN", {**module.AGAIN, "backoff": quick})
        monkeypatch.setattr(module, "PART", PART)
        yield one


@pytest.fixture
def uri(proxy: Proxy, tmp_path: Path) -> str:
    """A sweep's folder, that no other test uses."""
    del proxy
    return f"s3://{BUCKET}/{tmp_path.name}/my sweep"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One of four parts."""
    path = tmp_path / "file"
    path.write_bytes(secrets.token_bytes(3 * PART + 1))
    return path


def is_part(request: Request) -> bool:
    """Whether it sends one."""
    return "partNumber=" in request.path


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CUT_REQUEST, Fault.SLOW_DOWN, Fault.FORBIDDEN])
def test_an_upload_of_which_a_part_fails_is_ended(
    uri: str, proxy: Proxy, server: str, file: Path, fault: Fault
) -> None:
    """By whoever sent it; there is no object, and nothing that is not shown."""
    proxy.fault = lambda one: fault if "partNumber=2" in one.path else None
    with pytest.raises(OSError, match="a/b cannot be written"):
        Bucket(uri).upload(file, "a/b")
    assert not Bucket(uri).exists("a/b")
    assert [] == unfinished(server, uri)


@pytest.mark.parametrize(
    "fault", [Fault.DROP, Fault.LOSE, Fault.CUT_REQUEST, Fault.CUT_ANSWER, Fault.SLOW_DOWN]
)
@pytest.mark.parametrize(
    "request_",
    [("POST", r"\?uploads="), ("PUT", "partNumber=2"), ("POST", r"\?uploadId=")],
    ids=["beginning", "part", "end"],
)
def test_a_request_of_an_upload_may_fail(
    uri: str, proxy: Proxy, file: Path, request_: tuple[str, str], fault: Fault
) -> None:
    """Whichever it is: the object is whole."""
    proxy.once(*request_, fault)
    Bucket(uri).upload(file, "there")
    back = file.with_name("back")
    Bucket(uri).download("there", back)
    assert file.read_bytes() == back.read_bytes()


def test_an_end_that_azure_hears_twice_is_no_failure(
    uri: str, proxy: Proxy, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first was lost, and its parts are no longer apart: the file is sent again."""
    answer = (400, "InvalidBlockList", "The specified block list is invalid.")
    monkeypatch.setitem(REFUSALS, Fault.FORBIDDEN, answer)
    proxy.once("POST", r"\?uploadId=", Fault.FORBIDDEN)
    Bucket(uri).upload(file, "there")
    assert file.read_bytes() == Bucket(uri).read("there")


def test_an_upload_that_somebody_ended_is_no_missing_file(
    uri: str, proxy: Proxy, server: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store says 404 of it; a trial sends it again, as it would not for want of a file."""
    bucket = Bucket(uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)  # for whoever ends it, past the proxy

    def end(request: Request) -> None:
        if "partNumber=1" in request.path:
            uploads.end_unfinished(uri)

    proxy.fault = end
    with pytest.raises(OSError, match=r"404 Not Found \(NoSuchUpload\).*; send it again") as caught:
        bucket.upload(file, "there")
    assert (OSError, None) == (type(caught.value), caught.value.errno)


SENDER = """
import sys
from pathlib import Path
from raysweep.storage import bucket
bucket.PART = int(sys.argv[3])
bucket.Bucket(sys.argv[1]).upload(Path(sys.argv[2]), "checkpoints/trial-00000/1-000001.arrow")
"""


def killed_on_the_way(uri: str, proxy: Proxy, file: Path) -> None:
    """Begin an upload in a process, and kill it when it has sent a part."""
    before = len(proxy.came)
    sender = subprocess.Popen([sys.executable, "-c", SENDER, uri, str(file), str(PART)])
    proxy.fault = lambda one: Fault.SLOW_DOWN if "partNumber=4" in one.path else None
    deadline = time.monotonic() + 60
    while not any(is_part(one) for one in proxy.came[before:]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sender.kill()
    sender.wait()
    proxy.mend()


def test_what_a_killed_process_began_to_send_is_ended(
    uri: str, proxy: Proxy, server: str, file: Path
) -> None:
    """When the sweep is taken up, or is over; what another sends stays."""
    for one in (uri, f"{uri} 2"):
        killed_on_the_way(one, proxy, file)
        assert ["checkpoints/trial-00000/1-000001.arrow"] == unfinished(server, one)
    SweepFolder.at(uri).collect(())
    assert [] == unfinished(server, uri)
    assert 1 == len(unfinished(server, f"{uri} 2"))
    SweepFolder.at(f"{uri} 2").end_uploads()
    assert [] == unfinished(server, f"{uri} 2")


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.LOSE, Fault.CUT_ANSWER, Fault.SLOW_DOWN])
def test_every_other_request_may_fail_while_uploads_are_ended(
    uri: str, proxy: Proxy, server: str, file: Path, fault: Fault
) -> None:
    """Each is sent again."""
    killed_on_the_way(uri, proxy, file)
    proxy.every(2, fault)
    assert 1 == len(uploads.end_unfinished(uri))
    assert [] == unfinished(server, uri)


def test_a_store_that_refuses_to_show_uploads_stops_nothing(
    uri: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what stays, and what to do."""
    proxy.fault = lambda one: Fault.FORBIDDEN if "?uploads" in one.path else None
    SweepFolder.at(uri).collect(())
    assert "Access Denied" in caplog.text
    assert "give the bucket a lifecycle rule" in caplog.text


def test_without_boto3_nothing_is_asked(
    uri: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And `raysweep doctor` says what helps."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert [] == uploads.end_unfinished(uri)
    assert [] == proxy.came
    told = (
        "parts of unfinished uploads stay there: install boto3, or give the bucket a lifecycle rule"
    )
    assert told in commits(uri).found
