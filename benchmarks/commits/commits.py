"""What a commit of the journal takes, on each kind of storage: from `Journal.write` to its return.

One rule: each storage is written by the same code with the same payloads, in turns. A round is a new
journal that takes some hundred commits of 50 reports, one after the other; what counts is the median over
rounds. S3 is moto's server on this machine: a request costs what it costs to carry out, and no way.

    make bench-commits                     two minutes
    make bench-commits QUICK=1             a few seconds
    make bench-commits NFS=/mnt/folder     on a folder of a network file system, too
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from record import QUICK, RESULTS, percentile, spread, written
from rich.console import Console
from rich.table import Table
from s3_server import BUCKET, Fault, environment, proxy_of, s3_server

from raysweep.core.events import AttemptId, Event, Exchanged, Reports
from raysweep.storage.bucket import Bucket
from raysweep.storage.bucket_segments import BucketSegments
from raysweep.storage.journal import Journal
from raysweep.storage.segments import FileSegments, Segments

REPORTS = 50  # of a commit
DROPPED = 10  # of so many requests one is lost on its way

Make = Callable[[str], Segments]  # of a name that no other round has


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    commits: int  # of a round: more than twice as many as become one object


def size() -> Size:
    """What the environment asks for."""
    return Size(rounds=2, commits=60) if QUICK else Size(rounds=7, commits=600)


def event() -> Event:
    """What a slot sends: 50 reports of one metric."""
    block = Reports(
        id=AttemptId(0, 1),
        first=1,
        names=("loss",),
        times=os.urandom(8 * REPORTS),
        values=os.urandom(8 * REPORTS),
    )
    return Exchanged(time=1.0, slot=0, incarnation=1, places=1, reports=(block,))


def measured(segments: Segments, commits: int) -> list[float]:
    """What each commit of a new journal took, in milliseconds."""
    journal, _ = Journal.open(segments)
    took = []
    for _ in range(commits):
        journal.append(event(), [])
        payload = journal.seal()
        began = time.perf_counter()
        journal.write(payload)
        took.append(1000 * (time.perf_counter() - began))
    journal.close()
    return took


@contextlib.contextmanager
def folder_in(parent: str) -> Iterator[Make]:
    """Journals in a folder."""
    made = Path(tempfile.mkdtemp(prefix="raysweep-", dir=parent))
    try:
        yield lambda name: FileSegments(made / name)
    finally:
        shutil.rmtree(made)


def bucket_at(endpoint: str) -> Make:
    """Journals in a bucket."""

    def make(name: str) -> Segments:
        with mock.patch.dict(os.environ, environment(endpoint)):
            return BucketSegments(Bucket(f"s3://{BUCKET}/{name}"))

    return make


def kind_of(folder: str) -> str:
    """The file system of a folder: `ext4`."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(at, kind) for at, kind in mounts if Path(folder).resolve().is_relative_to(at)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


@contextlib.contextmanager
def storages() -> Iterator[dict[str, Make]]:
    """What is compared, by what it is called."""
    folders = ["/var/tmp", "/dev/shm", *filter(None, [os.environ.get("NFS")])]  # noqa: S108
    with contextlib.ExitStack() as stack:
        found = {
            f"a folder on {kind_of(folder)}": stack.enter_context(folder_in(folder))
            for folder in folders
        }
        server = stack.enter_context(s3_server())
        clear, faulty = (stack.enter_context(proxy_of(server)) for _ in range(2))
        faulty.every(DROPPED, Fault.DROP)
        yield found | {
            "S3 (moto)": bucket_at(server),
            "S3 (moto), through a proxy": bucket_at(clear.endpoint),
            "S3 (moto), through a proxy that drops every tenth request": bucket_at(faulty.endpoint),
        }


def row(where: str, rounds: list[list[float]]) -> dict[str, object]:
    """What is written down of a storage: for each percentile the median over rounds, and the spread."""
    made: dict[str, object] = {
        "what": f"a commit of {REPORTS} reports, milliseconds",
        "where": where,
    }
    for share in (50, 99):
        each = [percentile(took, share) for took in rounds]
        made[f"p{share}"] = round(statistics.median(each), 3)
        made[f"p{share}_spread"] = spread(each, 3)
    return made | {"commits": len(rounds[0]), "rounds": len(rounds)}


def shown(rows: list[dict[str, object]]) -> Table:
    """The rows as a table."""
    table = Table("where", "p50 ms", "p99 ms", title=str(rows[0]["what"]))
    for one in rows:
        table.add_row(
            str(one["where"]), *(f"{one[name]} {one[f'{name}_spread']}" for name in ("p50", "p99"))
        )
    return table


def main() -> None:
    """Measure, show, write down."""
    asked = size()
    with storages() as found:
        rounds: dict[str, list[list[float]]] = {where: [] for where in found}
        for number in range(asked.rounds):
            for where, make in found.items():
                rounds[where].append(measured(make(f"round-{number}"), asked.commits))
    rows = [row(where, took) for where, took in rounds.items()]
    Console(width=120).print(shown(rows))
    if not QUICK:
        written(RESULTS / "commits.json", rows, packages=("raysweep", "obstore", "moto"))


if __name__ == "__main__":
    main()
