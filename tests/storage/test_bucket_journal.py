"""A journal in a bucket: each commit exactly once, whatever becomes of requests, answers and writers."""

from __future__ import annotations

import logging
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from s3_server import BUCKET, Fault, Proxy, Request, environment, proxy_of
from writers import SPEC, Writer

from raysweep.core.events import Opened
from raysweep.errors import JournalDamagedError, StaleEpochError
from raysweep.storage import bucket as bucket_module
from raysweep.storage import bucket_segments, journal, replay
from raysweep.storage.bucket import Bucket, Entry
from raysweep.storage.bucket_segments import BucketSegments, walked
from raysweep.storage.journal import Journal, Record


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What makes trouble before it; the clients are quick to try again."""
    quick = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    monkeypatch.setattr(bucket_module, "AGAIN", {**bucket_module.AGAIN, "backoff": quick})
    with proxy_of(server) as one:
        for name, value in environment(one.endpoint).items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture
def bucket(proxy: Proxy) -> Bucket:  # noqa: ARG001  (the environment is the proxy's)
    """The empty folder of a sweep."""
    return Bucket(f"s3://{BUCKET}/{secrets.token_hex(4)}")


@pytest.fixture
def segments(bucket: Bucket) -> Iterator[BucketSegments]:
    """The segments of its journal."""
    one = BucketSegments(bucket)
    yield one
    one.close()


@pytest.fixture
def direct(server: str, bucket: Bucket) -> Bucket:
    """The same folder without the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server)
        return Bucket(bucket.uri)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Already eight commits become one object."""
    monkeypatch.setattr(bucket_segments, "COMPACT", 8)
    monkeypatch.setattr(bucket_segments, "FEWEST", 2)


def record(number: int) -> Record:
    """A record that says which it is."""
    return Record(Opened(time=float(number), epoch=number, slots_kept=True), [])


def records(count: int, first: int = 0) -> list[Record]:
    """So many of them."""
    return [record(number) for number in range(first, first + count)]


def commit(writer: Journal, made: list[Record]) -> None:
    """A commit a record, each again while the storage refuses, as the controller does."""
    for one in made:
        writer.append(one.event, one.commands)
        payload = writer.seal()
        for _ in range(20):
            try:
                writer.write(payload)
                break
            except StaleEpochError:
                raise
            except OSError:
                continue
        else:
            pytest.fail("twenty tries were not enough")


def settled(segments: BucketSegments) -> None:
    """Wait until what becomes one object has become it."""
    segments._compaction.close()


def read(bucket: Bucket) -> list[Record]:
    """What another process finds."""
    return list(journal.read(BucketSegments(bucket)))


def names(bucket: Bucket, epoch: int = 1) -> list[str]:
    """The objects of a segment."""
    return sorted(key.rpartition("/")[2] for key in bucket.entries(f"journal/{epoch:08d}"))


# A journal as any other


def test_what_was_committed_comes_back(bucket: Bucket, segments: BucketSegments) -> None:
    """An object a commit, after the header's and the claim."""
    writer, before = Journal.open(segments)
    commit(writer, records(3))
    assert [] == list(before)
    assert records(3) == read(bucket)
    assert 5 == len(names(bucket))


def test_a_controller_takes_over_and_the_one_before_is_refused(bucket: Bucket) -> None:
    """It acknowledges nothing more, and what it wrote too late is never read."""
    old, _ = Journal.open(BucketSegments(bucket))
    commit(old, records(2))
    new, before = Journal.open(BucketSegments(bucket))
    assert records(2) == list(before)
    with pytest.raises(StaleEpochError, match=r"journal/00000002: a later controller"):
        commit(old, [record(66)])
    commit(new, records(2, first=2))
    assert records(4) == read(bucket)


def test_a_journal_that_was_removed_acknowledges_nothing(
    bucket: Bucket, segments: BucketSegments
) -> None:
    """Somebody has removed the sweep while it ran."""
    writer, _ = Journal.open(segments)
    bucket.remove(bucket.entries(""))
    writer.append(*record(0))
    with pytest.raises(FileNotFoundError, match="has been removed"):
        writer.write(writer.seal())


@pytest.mark.usefixtures("few")
def test_a_sweep_is_replayed_from_its_snapshot(bucket: Bucket) -> None:
    """Whose place may lie in the middle of an object, by now."""
    one = Writer(BucketSegments(bucket)).train(2)
    replay.keep_snapshot(BucketSegments(bucket), SPEC)
    one.train(5)
    one.journal.close()
    assert any("-" in name for name in names(bucket))
    other = Writer(BucketSegments(bucket))
    assert 0 < other.journal.replayed < one.journal.size
    assert one.state.trials == other.state.trials
    other.train(1)
    assert 8 == len(replay.replayed(BucketSegments(bucket), SPEC).trials)


# Damage


@pytest.mark.usefixtures("few")
def test_every_flipped_byte_is_found(bucket: Bucket, segments: BucketSegments) -> None:
    """In an object of its own, or in one of many commits."""
    writer, _ = Journal.open(segments)
    commit(writer, records(12))
    settled(segments)
    assert 2 == len({len(name) for name in names(bucket)} - {len("claim")})  # both kinds
    for key, entry in bucket.entries("journal/00000001").items():
        if key.endswith("claim"):
            continue
        good = bucket.read(key)
        assert good is not None
        for position in {*range(0, entry.size, 29), entry.size - 1}:
            bad = bytearray(good)
            bad[position] ^= 0x40
            bucket.write(key, bytes(bad))
            with pytest.raises(JournalDamagedError, match=r"00000001 is damaged at byte \d+"):
                read(bucket)
        bucket.write(key, good)
    assert records(12) == read(bucket)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_missing_object_is_found_and_cut(
    bucket: Bucket, segments: BucketSegments, place: int
) -> None:
    """The line in the message leaves what was before it, down to nothing at all."""
    writer, _ = Journal.open(segments)
    commit(writer, records(12))
    settled(segments)
    bucket.remove([f"journal/00000001/{names(bucket)[place]}"])
    with pytest.raises(JournalDamagedError, match="is missing or cut short") as caught:
        read(bucket)
    line = str(caught.value).rpartition("cut it there: ")[2]
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, timeout=60)
    kept = 0 if place == 0 else 7 + place - 1  # the header and seven records are in one object
    assert records(kept) == read(bucket)


# Requests and answers that are lost


def test_five_hundred_commits_are_there_once_each(
    bucket: Bucket, segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """Though every tenth request is dropped."""
    writer, _ = Journal.open(segments)
    proxy.every(10, Fault.DROP)
    commit(writer, records(500))
    proxy.mend()
    segments.close()
    assert records(500) == read(direct)
    assert any("-" in name for name in names(bucket))
    assert len(proxy.came) > 1_500


@pytest.mark.usefixtures("few")
def test_commits_whose_answers_are_lost_are_there_once_each(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """The storage has them, the writer cannot know, and writes them again."""
    writer, _ = Journal.open(segments)
    proxy.fault = lambda _: Fault.LOSE if len(proxy.came) % 7 < 3 else None
    commit(writer, records(40))
    proxy.mend()
    assert records(40) == read(direct)


def test_a_commit_of_which_nothing_is_known_is_an_error(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """It is durable, and nobody has been told; written again it is there once."""
    writer, _ = Journal.open(segments)
    proxy.fault = lambda request: Fault.LOSE if request.method == "PUT" else None
    writer.append(*record(0))
    payload = writer.seal()
    with pytest.raises(OSError, match=r"cannot be written: the connection was closed before"):
        writer.write(payload)
    assert records(1) == read(direct)
    proxy.mend()
    writer.write(payload)
    commit(writer, [record(1)])
    assert records(2) == read(direct)


def test_a_claim_whose_answer_is_lost_is_ours(segments: BucketSegments, proxy: Proxy) -> None:
    """Asked again, the store says that the epoch is there: it is, and ours."""
    proxy.once("PUT", "claim", Fault.LOSE)
    writer, _ = Journal.open(segments)
    assert 1 == writer.epoch
    assert 2 == len([one for one in proxy.came if one.method == "PUT" and "claim" in one.path])


def test_a_claim_that_was_somebody_elses_is_not_ours(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """They were faster, and our own request was lost: the next epoch is ours."""

    def overtaken(request: Request) -> Fault | None:
        if request.method == "PUT" and not direct.exists("journal/00000001/claim"):
            assert BucketSegments(direct).create(1)
            return Fault.DROP
        return None

    proxy.fault = overtaken
    writer, _ = Journal.open(segments)
    assert 2 == writer.epoch


# Requests that arrive late


@pytest.mark.usefixtures("few")
def test_a_commit_that_arrives_twice_and_late_replaces_nothing(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """Not even the object that the commits since have become, which begins with it."""
    proxy.once("PUT", "/000000000000$", Fault.HOLD)
    writer, _ = Journal.open(segments)
    commit(writer, records(20))
    settled(segments)
    assert "000000000000" not in names(direct)
    proxy.let_go()
    assert "000000000000" in names(direct)
    assert records(20) == read(direct)


def test_an_epoch_that_was_given_up_is_not_given_to_another(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """Its header may arrive when somebody else writes."""
    proxy.fault = lambda one: Fault.HOLD if one.path.endswith("000000000000") else None
    with pytest.raises(OSError, match="cannot be written"):
        Journal.open(segments)
    proxy.mend()
    writer, _ = Journal.open(BucketSegments(direct))
    assert 2 == writer.epoch
    commit(writer, records(3))
    proxy.let_go()
    commit(writer, records(3, first=3))
    assert records(6) == read(direct)


# Many commits in one object


@pytest.mark.usefixtures("few")
def test_many_commits_become_one_object(bucket: Bucket, segments: BucketSegments) -> None:
    """Eight each, and never the newest."""
    writer, _ = Journal.open(segments)
    expected = []
    for number in range(26):
        commit(writer, [record(number)])
        expected.append(record(number))
        settled(segments)
        assert expected == read(bucket)
        written = number + 2  # with the header
        assert 1 + (written - 1) // 8 + (written - 1) % 8 + 1 == len(names(bucket))


def test_no_object_becomes_too_large(
    bucket: Bucket, segments: BucketSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends before the bound; what is large already stays as it is."""
    monkeypatch.setattr(bucket_segments, "COMPACT_BYTES", 1_000)
    monkeypatch.setattr(bucket_segments, "FEWEST", 2)
    assert segments.create(1)
    offset, whole = 0, b""
    for size in (100, 200, 300, 400, 2_000, 2_000, 600, 600, 300, 1, 500):
        block = secrets.token_bytes(size)
        segments.append(1, offset, block)
        segments.append(1, offset, block)  # whose answer was lost
        settled(segments)
        offset, whole = offset + size, whole + block
    assert whole == segments.read(1)
    assert [1_000, 2_000, 2_000, 600, 901, 500] == [
        piece.end - piece.begin for piece in walked(bucket.entries("journal/00000001"), 0).pieces
    ]


@pytest.mark.usefixtures("few")
def test_a_writer_that_dies_before_it_has_removed_them_does_no_harm(
    segments: BucketSegments, direct: Bucket, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The objects that the long one covers are passed over, and the next writer goes on."""
    writer, _ = Journal.open(segments)
    proxy.fault = lambda request: Fault.DROP if request.method == "POST" else None
    with caplog.at_level(logging.WARNING):
        commit(writer, records(20))
        settled(segments)
    assert "the objects of 8 commits stay: s3://" in caplog.text
    assert 21 + 2 + 1 == len(names(direct))  # with the header, the long ones and the claim
    assert records(20) == read(direct)
    other, before = Journal.open(BucketSegments(direct))
    assert records(20) == list(before)
    commit(other, records(20, first=20))
    assert records(40) == read(direct)


@pytest.mark.usefixtures("few")
def test_a_long_object_that_cannot_be_written_is_done_without(
    segments: BucketSegments, direct: Bucket, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The commits are none the worse, and the next ones are tried again."""
    writer, _ = Journal.open(segments)
    proxy.fault = lambda one: Fault.SLOW_DOWN if "000000000000-" in one.path else None
    with caplog.at_level(logging.WARNING):
        commit(writer, records(20))
        settled(segments)
    assert "the objects of 8 commits stay: s3://" in caplog.text
    assert 1 == len([name for name in names(direct) if "-" in name])
    assert records(20) == read(direct)


def test_objects_that_are_replaced_while_they_are_read_are_listed_again(
    segments: BucketSegments, direct: Bucket, proxy: Proxy
) -> None:
    """They were there when they were listed, and are not when they are asked for."""
    assert segments.create(1)
    for number in range(9):
        segments.append(1, 10 * number, b"%d" % number * 10)
    whole = b"".join(b"%d" % number * 10 for number in range(9))

    def replaced(request: Request) -> None:
        if request.path.endswith("000000000030"):
            direct.write("journal/00000001/000000000020-000000000060", whole[20:60])
            direct.remove([f"journal/00000001/{10 * number:012d}" for number in range(2, 6)])

    proxy.fault = replaced
    assert whole[5:] == segments.read(1, 5)
    assert 2 == len([one for one in proxy.came if "list-type" in one.path])


def test_a_list_that_misses_objects_is_made_again(bucket: Bucket) -> None:
    """Some were listed before the long one was there, the others after they were gone."""

    class Torn(Bucket):
        lists = 0

        def entries(self, folder: str) -> dict[str, Entry]:
            self.lists += 1
            found = super().entries(folder)
            if self.lists == 1:
                long = f"{folder}/000000000000-000000000030"
                del found[long]
                found[f"{folder}/000000000000"] = Entry(10, found[f"{folder}/claim"].modified)
            return found

    torn = Torn(bucket.uri)
    segments = BucketSegments(torn)
    assert segments.create(1)
    torn.write("journal/00000001/000000000000-000000000030", b"x" * 30)
    torn.write("journal/00000001/000000000030", b"y")
    assert b"x" * 30 + b"y" == segments.read(1)
    assert 2 == torn.lists


@pytest.mark.usefixtures("few")
def test_a_reader_beside_a_writer_misses_nothing(direct: Bucket) -> None:
    """Whatever was committed before it began to read is read, in order, while objects are replaced."""
    segments = BucketSegments(direct)
    writer, _ = Journal.open(segments)
    committed = reads = 0
    done = threading.Event()
    faults: list[str] = []

    def reader() -> None:
        nonlocal reads
        while not done.is_set():
            least = committed
            reads += 1
            found = [int(one.event.time) for one in read(direct)]
            if found != list(range(len(found))) or len(found) < least:
                faults.append(f"{least}: {found}")

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(40):
        commit(writer, [record(number)])
        committed = number + 1
    done.set()
    for thread in threads:
        thread.join()
    segments.close()
    assert [] == faults
    assert reads > 10
    assert records(40) == read(direct)


# The way through a segment's objects


@pytest.mark.parametrize(
    ("objects", "start", "pieces", "end", "breaks"),
    [
        ({}, 0, [], 0, False),
        ({"claim": 16, "alive": 0}, 0, [], 0, False),
        ({"0": 10, "10": 5}, 0, ["0", "10"], 15, False),
        ({"0": 10, "10": 5}, 9, ["0", "10"], 15, False),
        ({"0": 10, "10": 5}, 10, ["10"], 15, False),
        ({"0": 10, "10": 5}, 15, [], 15, False),
        ({"0": 10, "0-15": 15, "10": 5, "15": 2}, 0, ["0-15", "15"], 17, False),
        ({"0-15": 15, "12": 9, "15": 2}, 0, ["0-15", "15"], 17, False),
        ({"0": 10, "11": 5}, 0, ["0"], 10, True),
        ({"10": 5}, 0, [], 0, True),
        ({"0": 10, "10": 0, "10-15": 5}, 0, ["0", "10-15"], 15, False),
        ({"0": 10, "10": 0}, 0, ["0"], 10, True),
    ],
)
def test_the_way_goes_from_end_to_beginning(
    objects: dict[str, int], start: int, pieces: list[str], end: int, breaks: bool
) -> None:
    """The longest object that begins where one ends; what lies within is passed over."""

    def full(name: str) -> str:
        parts = name.split("-")
        return "-".join(f"{int(part):012d}" for part in parts) if parts[0].isdigit() else name

    now = datetime.now(UTC)
    walk = walked({full(name): Entry(size, now) for name, size in objects.items()}, start)
    assert [full(name) for name in pieces] == [piece.key for piece in walk.pieces]
    assert (end, breaks) == (walk.end, walk.breaks)
