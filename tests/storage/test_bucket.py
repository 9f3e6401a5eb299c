"""A bucket: what is written is there, what is refused is told, and a lost answer is made up for."""

from __future__ import annotations

import json
import pickle
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from s3_server import BUCKET, Fault, Proxy, Request, environment, proxy_of

from raysweep.errors import SpecError, StorageUnusableError
from raysweep.storage import bucket as module
from raysweep.storage.bucket import Bucket


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """What makes trouble before it."""
    with proxy_of(server) as one:
        yield one


@pytest.fixture(autouse=True)
def surroundings(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a client of that proxy, which is quick to try again."""
    for name, value in environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    quick = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    monkeypatch.setattr(module, "AGAIN", {**module.AGAIN, "backoff": quick})


@pytest.fixture
def bucket() -> Bucket:
    """An empty folder of the bucket."""
    return Bucket(f"s3://{BUCKET}/{secrets.token_hex(4)}/folder")


# Objects


@pytest.mark.parametrize("key", ["a", "a/b/c.arrow", "with space/ü%20#?[x]*&=+~.txt"])
def test_what_is_written_is_read(bucket: Bucket, key: str) -> None:
    """Whole, from a byte on, and replaced; whatever it is called."""
    bucket.write(key, b"before")
    bucket.write(key, b"0123456789")
    assert b"0123456789" == bucket.read(key)
    assert b"789" == bucket.read(key, 7)
    assert {key: 10} == {name: entry.size for name, entry in bucket.entries("").items()}
    assert bucket.exists(key)


def test_what_is_not_there_is_none(bucket: Bucket) -> None:
    """To read, to look up, to list and to remove."""
    assert bucket.read("a") is None
    assert not bucket.exists("a")
    assert {} == bucket.entries("a")
    assert [] == bucket.folders("")
    bucket.remove(["a", "b"])


def test_many_are_read_at_the_same_time(bucket: Bucket, proxy: Proxy) -> None:
    """In the order in which they were asked for, with those that are not there."""
    for number in range(30):
        bucket.write(f"{number}", b"x%d" % number)
    asked = [(f"{number}", number % 2) for number in range(31)]
    expected = [b"x%d"[number % 2 :] % number for number in range(30)]
    proxy.delay = 0.05
    assert [*expected, None] == bucket.read_all(asked)
    assert proxy.most > 4


def test_folders_are_those_directly_within(bucket: Bucket) -> None:
    """Objects are none, and folders of folders are not shown."""
    for key in ("a/1/x", "a/2/y/z", "a/file", "ab/3/x"):
        bucket.write(key, b"")
    assert ["a/1", "a/2"] == sorted(bucket.folders("a"))
    assert ["a/1/x", "a/2/y/z", "a/file"] == sorted(bucket.entries("a"))


def test_a_list_has_more_than_a_page(bucket: Bucket, server: str) -> None:
    """A store lists a thousand at once; more are asked for."""
    with ThreadPoolExecutor(8) as pool:
        keys = [f"{number:05d}" for number in range(1_050)]
        direct = _of(server, bucket)
        list(pool.map(lambda key: direct.write(key, b""), keys))
        assert keys == sorted(bucket.entries(""))
        bucket.remove(keys)
    assert {} == bucket.entries("")


def _of(endpoint: str, bucket: Bucket) -> Bucket:
    """The same folder, asked for without the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        return Bucket(bucket.uri)


def test_a_bucket_travels_by_its_uri(bucket: Bucket) -> None:
    """Pickled, it is the same place."""
    bucket.write("a", b"x")
    assert b"x" == pickle.loads(pickle.dumps(bucket)).read("a")


# Creation


def test_an_object_is_created_once(bucket: Bucket) -> None:
    """Whoever comes later is told so, and changes nothing."""
    assert bucket.create("claim", b"one")
    assert not bucket.create("claim", b"two")
    assert b"one" == bucket.read("claim")


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.LOSE, Fault.SLOW_DOWN])
def test_an_object_is_ours_whatever_became_of_the_answer(
    bucket: Bucket, proxy: Proxy, fault: Fault
) -> None:
    """Asked again, the store may say that it is there already: by us."""
    proxy.once("PUT", "claim", fault)
    assert bucket.create("claim", b"one")
    assert b"one" == bucket.read("claim")
    assert 2 == len([request for request in proxy.came if request.method == "PUT"])


def test_an_answer_that_never_comes_is_read_back(bucket: Bucket, proxy: Proxy) -> None:
    """No answer to any try, though the first was carried out: it is ours."""
    proxy.fault = lambda request: Fault.LOSE if request.method == "PUT" else None
    assert bucket.create("claim", b"one")


def test_a_creation_that_was_somebody_elses_is_told(bucket: Bucket, proxy: Proxy) -> None:
    """Our tries were lost, and another one has it."""
    bucket.write("claim", b"other")
    proxy.fault = lambda request: Fault.DROP if request.method == "PUT" else None
    assert not bucket.create("claim", b"one")


def test_a_creation_of_which_nothing_is_known_is_an_error(bucket: Bucket, proxy: Proxy) -> None:
    """Nothing was carried out: that it may be later is said by the error."""
    proxy.fault = lambda request: Fault.DROP if request.method == "PUT" else None
    with pytest.raises(OSError, match="claim cannot be created: the connection was closed before"):
        bucket.create("claim", b"one")
    proxy.mend()
    assert bucket.create("claim", b"one")


@pytest.mark.parametrize(
    ("uri", "condition"),
    [
        ("az://container/folder", ("if-none-match", "*")),
        ("gs://bucket/folder", ("x-goog-if-generation-match", "0")),
        ("s3://bucket/folder", ("if-none-match", "*")),
    ],
)
def test_every_store_is_told_to_create(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, uri: str, condition: tuple[str, str]
) -> None:
    """In its own words: only if there is none."""
    account = {"gcs_base_url": proxy.endpoint, "disable_oauth": True, "client_email": ""}
    key = json.dumps(account | {"private_key": "", "private_key_id": ""})
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", key)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", proxy.endpoint)
    monkeypatch.setattr(module, "PATIENCE", {**module.PATIENCE, "allow_http": True})
    proxy.fault = lambda _: Fault.FORBIDDEN  # there is nobody of that kind behind it
    with pytest.raises(OSError, match="claim cannot be"):
        Bucket(uri).create("claim", b"one")
    assert "PUT" == proxy.came[0].method
    assert condition in proxy.came[0].headers.items()


# Faults on the way


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.LOSE, Fault.CUT_ANSWER, Fault.SLOW_DOWN])
def test_every_third_request_may_fail(bucket: Bucket, proxy: Proxy, fault: Fault) -> None:
    """Each is sent again, and nobody notices."""
    proxy.every(3, fault)
    for number in range(10):
        bucket.write(f"{number}", b"x")
        assert bucket.exists(f"{number}")
        assert b"x" == bucket.read(f"{number}")
    assert 10 == len(bucket.entries(""))
    bucket.remove(list(bucket.entries("")))
    assert {} == bucket.entries("")


def test_what_cannot_be_asked_is_no_answer(bucket: Bucket, proxy: Proxy) -> None:
    """An object that could not be looked up is not said to be absent."""
    proxy.fault = lambda _: Fault.DROP
    for ask in (bucket.exists, bucket.read, bucket.entries, bucket.folders):
        with pytest.raises(OSError, match="a cannot be") as caught:
            ask("a")
        assert not isinstance(caught.value, FileNotFoundError)


def test_a_store_that_does_not_answer_is_given_up(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some patience and some tries."""
    monkeypatch.setattr(module, "PATIENCE", {**module.PATIENCE, "read_timeout": "30ms"})
    proxy.delay = 0.2
    with pytest.raises(OSError, match=r"no answer in time \(http://127.*check the network"):
        Bucket(bucket.uri).write("a", b"x")


# What is told


def told(bucket: Bucket) -> str:
    """What is told of a write that is refused, with its kind."""
    with pytest.raises(OSError, match=r"^s3://") as caught:
        bucket.write("a/b", b"x")
    assert OSError is type(caught.value)
    return str(caught.value).removeprefix(bucket.uri)


def test_a_bucket_that_is_not_there_is_named() -> None:
    """It is not taken for an object that is not there."""
    bucket = Bucket("s3://nobodys/folder")
    expected = (
        "/a/b cannot be written: 404 Not Found (NoSuchBucket) The specified bucket does not exist; there is"
        " no such bucket: create it, or check its name, AWS_REGION and AWS_ENDPOINT_URL"
    )
    assert expected == told(bucket)
    for ask in (bucket.read, bucket.entries, bucket.folders):
        with pytest.raises(OSError, match="there is no such bucket"):
            ask("a")


def test_what_is_forbidden_names_the_credentials(bucket: Bucket, proxy: Proxy) -> None:
    """And what they must allow."""
    proxy.fault = lambda _: Fault.FORBIDDEN
    expected = (
        "/a/b cannot be written: 403 Forbidden (AccessDenied) Access Denied; check AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY, a profile (with boto3 installed), and that they may read, write, list"
        " and remove"
    )
    assert expected == told(bucket)


def test_a_store_that_is_overloaded_is_waited_for(bucket: Bucket, proxy: Proxy) -> None:
    """The status and the code are the store's."""
    proxy.fault = lambda _: Fault.SLOW_DOWN
    expected = (
        "/a/b cannot be written: 503 Service Unavailable (SlowDown) Please reduce your request rate; the"
        " store is overloaded or out of order: wait"
    )
    assert expected == told(bucket)


def test_what_a_store_says_in_several_lines_is_told_in_one() -> None:
    """Azure's adds the request and the time."""
    said = "status code: 404 Not Found: <Code>X</Code><Message>Not there.\nRequestId:1\nTime:2</Message>"
    assert "404 Not Found (X) Not there" == module._reason(said)


def test_a_store_that_is_not_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network says, of which host."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    expected = (
        "/a/b cannot be written: Connection refused (http://127.0.0.1:1); check the network and AWS_REGION"
        " and AWS_ENDPOINT_URL"
    )
    assert expected == told(Bucket("s3://any/folder"))


def test_without_credentials_it_is_said_where_they_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment has none, nor has the machine a role."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    assert "no credentials were found: set AWS_ACCESS_KEY_ID and" in told(Bucket("s3://any/folder"))


def test_a_profile_has_credentials(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the command line of AWS keeps them, where boto3 is there to read them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[mine]\naws_access_key_id = OFTHEPROFILE\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    Bucket(bucket.uri).write("a", b"x")
    assert "Credential=OFTHEPROFILE/" in proxy.came[-1].headers["authorization"]
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(StorageUnusableError, match="nobodys"):
        Bucket(bucket.uri)


def test_other_authorities_are_trusted_where_the_environment_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not for a store that is asked without encryption."""
    (tmp_path / "ca.pem").write_bytes(b"pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    assert {"allow_http": True} == module._aws_options()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1")
    assert {"root_certificate": b"pem"} == module._aws_options()


def test_without_the_client_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageUnusableError, match=r"pip install 'raysweep\[buckets\]'"):
        Bucket("s3://any/folder")


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///a", "ftp://a/b", "/a/b", "s3://a/../b", "s3://a//b"]
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    """It is named."""
    with pytest.raises(SpecError, match=re.escape(repr(uri))):
        Bucket(uri)


def test_what_the_environment_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account, for Azure."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StorageUnusableError, match=r"set AZURE_STORAGE_ACCOUNT_NAME.*abfss://"):
        Bucket("az://container/folder")


FORKED = """
import os, sys
from raysweep.storage.bucket import Bucket
bucket = Bucket(sys.argv[1])
bucket.write("a", b"x")
if os.fork() == 0:
    try:
        Bucket(sys.argv[1]).read("a")
    except OSError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(bucket.read("a"))
"""


def test_a_forked_process_does_not_wait_for_ever(bucket: Bucket) -> None:
    """Nor does the one that it was forked from."""
    command = [sys.executable, "-c", FORKED, bucket.uri]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert re.fullmatch(r".* was forked from \d+, which had talked to a bucket, .*\nb'x'\n", said)


# Files


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 11 * 2**20 + 1])
def test_a_file_goes_there_and_back(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one part or in many, some of which fail at first."""
    monkeypatch.setattr(module, "PART", 5 * 2**20)  # the least that S3 takes
    (tmp_path / "here").write_bytes(secrets.token_bytes(size))
    proxy.every(4, Fault.DROP)
    bucket.upload(tmp_path / "here", "there")
    bucket.download("there", tmp_path / "back")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "back").read_bytes()
    parts = {request.path for request in proxy.came if "partNumber" in request.path}
    assert len(parts) == (3 if size > 10 * 2**20 else 0)


def test_a_download_leaves_nothing_half(
    bucket: Bucket, proxy: Proxy, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of an object that is not there, and not of one that is replaced meanwhile."""
    with pytest.raises(FileNotFoundError, match=r"s3://.*there"):
        bucket.download("there", tmp_path / "back")
    monkeypatch.setattr(module, "PART", 100)
    bucket.write("there", b"x" * 250)
    direct = _of(server, bucket)

    def replaced(request: Request) -> None:
        if "bytes=100-" in request.headers.get("range", ""):
            direct.write("there", b"y" * 250)

    proxy.fault = replaced
    with pytest.raises(OSError, match="it was replaced meanwhile"):
        bucket.download("there", tmp_path / "back")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CUT_ANSWER, Fault.FORBIDDEN])
def test_a_download_that_fails_on_the_way_leaves_what_was_there(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Its last part never comes: no file is half of one and half of another, and none is left beside it."""
    monkeypatch.setattr(module, "PART", 100)
    bucket.write("there", b"x" * 250)
    (tmp_path / "back").write_bytes(b"before")
    proxy.fault = lambda one: fault if "bytes=2" in one.headers.get("range", "") else None
    with pytest.raises(OSError, match="there cannot be read"):
        bucket.download("there", tmp_path / "back")
    assert [tmp_path / "back"] == list(tmp_path.iterdir())
    assert b"before" == (tmp_path / "back").read_bytes()


def test_a_file_that_is_not_there_is_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    """The message is the file system's."""
    with pytest.raises(FileNotFoundError, match="absent"):
        bucket.upload(tmp_path / "absent", "there")


# Proof


def test_a_store_is_proved(bucket: Bucket) -> None:
    """What was written for it is gone."""
    bucket.prove()
    assert {} == bucket.entries("")


def test_a_store_that_does_not_know_conditions_is_refused(bucket: Bucket, proxy: Proxy) -> None:
    """It would give one epoch to two controllers."""
    proxy.fault = lambda request: Fault.UNCONDITIONAL if request.method == "PUT" else None
    with pytest.raises(StorageUnusableError, match="two controllers could run one sweep"):
        bucket.prove()


def test_a_store_that_cannot_be_written_is_refused(bucket: Bucket, proxy: Proxy) -> None:
    """With the reason."""
    proxy.fault = lambda request: Fault.FORBIDDEN if request.method == "PUT" else None
    with pytest.raises(StorageUnusableError, match=r"cannot be used.*AccessDenied"):
        bucket.prove()
