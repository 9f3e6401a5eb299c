"""Segments: what a journal may rely on, whatever its bytes lie in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import BUCKET, environment

from raysweep.storage.bucket import Bucket
from raysweep.storage.bucket_segments import BucketSegments
from raysweep.storage.segments import FileSegments, Segments

BLOCKS = (b"first " * 4, b"second " * 5, b"third " * 6)
JOINED = b"".join(BLOCKS)

Make = Callable[[], Segments]


@pytest.fixture(params=["folder", "bucket"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    """What makes the segments of one journal, each time as another process would."""
    made: list[Segments] = []
    if request.param == "bucket":
        for name, value in environment(request.getfixturevalue("server")).items():
            monkeypatch.setenv(name, value)

    def one() -> Segments:
        if request.param == "bucket":
            made.append(BucketSegments(Bucket(f"s3://{BUCKET}/{tmp_path.name}")))
        else:
            made.append(FileSegments(tmp_path / "journal"))
        return made[-1]

    yield one
    for segments in made:
        segments.close()


@pytest.fixture
def segments(make: Make) -> Segments:
    """The segments of a journal that nobody has written."""
    return make()


def written(segments: Segments, epoch: int = 1) -> Segments:
    """A segment with three blocks."""
    assert segments.create(epoch)
    offset = 0
    for block in BLOCKS:
        segments.append(epoch, offset, block)
        offset += len(block)
    return segments


def test_where_nothing_was_written_there_is_nothing(segments: Segments) -> None:
    """No epoch, no segment, no snapshot, no sign of life."""
    assert [] == segments.epochs()
    assert not segments.exists(1)
    assert segments.read(1) is None
    assert segments.silence() is None
    assert segments.read_snapshot() is None


def test_of_all_who_create_an_epoch_one_succeeds(make: Make) -> None:
    """Though eight try at the same time."""
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda one: one.create(1), [make() for _ in range(8)]))
    assert [False] * 7 + [True] == sorted(created)
    assert [1] == make().epochs()


def test_an_epoch_is_seen_by_others_once_it_is_created(make: Make) -> None:
    """Its segment is there, and empty."""
    assert make().create(3)
    assert make().exists(3)
    assert not make().exists(2)
    assert [3] == make().epochs()
    assert b"" == make().read(3)


def test_epochs_lie_apart(make: Make) -> None:
    """Each has its own bytes."""
    one = written(make())
    assert one.create(2)
    one.append(2, 0, b"other")
    assert (JOINED, b"other") == (make().read(1), make().read(2))
    assert [1, 2] == sorted(make().epochs())


@pytest.mark.parametrize("start", [0, 1, 23, 24, 25, 58, 59, 60, 94, 95, 200])
def test_what_was_appended_is_read_from_any_byte_on(make: Make, start: int) -> None:
    """Within a block, between two, at the end and after it."""
    written(make())
    assert JOINED[start:] == make().read(1, start)


@pytest.mark.parametrize("block", [b"x", b"longer " * 9])
def test_what_an_earlier_try_has_left_is_replaced(make: Make, block: bytes) -> None:
    """By a shorter or a longer block; and the next one follows that."""
    one = written(make())
    one.append(1, 59, block)
    assert JOINED[:59] + block == make().read(1)
    one.append(1, 59 + len(block), b"next")
    assert JOINED[:59] + block + b"next" == make().read(1)


def test_a_segment_that_is_given_up_does_no_harm(make: Make) -> None:
    """Nothing of it is read, and the next epoch can be created; whoever comes finds a free one."""
    one = make()
    assert one.create(1)
    one.give_up(1)
    assert make().read(1) in (None, b"")
    assert make().create(max(make().epochs(), default=0) + 1)


def test_a_snapshot_is_that_which_was_kept_last(make: Make) -> None:
    """It is no segment, and a later one replaces it."""
    one = written(make())
    for content in (b"x" * 10_000, b"y" * 100):
        one.keep_snapshot(content)
        assert content == make().read_snapshot()
    assert [1] == make().epochs()
    assert JOINED == make().read(1)


def test_a_sign_of_life_is_no_commit(make: Make) -> None:
    """Others hear of it; what is read stays the same."""
    one = written(make())
    one.beat(1)
    silence = make().silence()
    assert silence is not None
    assert silence >= 0
    assert JOINED == make().read(1)


@pytest.mark.parametrize("offset", [0, 24, 30, 94])
def test_the_line_that_cuts_a_segment_does(make: Make, offset: int) -> None:
    """Between two commits or within one, on a shell."""
    one = written(make())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(one.cut(1, offset), shell=True, check=True, env=os.environ | {"PATH": path})
    assert JOINED[:offset] == make().read(1)
