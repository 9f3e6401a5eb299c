"""What one `mlflow.log_metric` takes: with our endpoint, and with `mlflow server` on SQLite.

One rule: both are measured by the same real client, in the same run, in turns. A round is a process
that logs a few hundred metrics one after the other; what counts is the median over rounds.

    make bench-tracking            some minutes
    make bench-tracking QUICK=1    half a minute
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from record import QUICK, RESULTS, ROOT, percentile, spread, written
from rich.console import Console
from rich.table import Table

from raysweep.runtime.tracking import TrackedRun, Tracking

PYTHON = ROOT / ".venv-mlflow" / "bin" / "python"
HOLD = 0.2  # of what mlflow server takes, at most, for the median call
PATIENCE = 120.0  # seconds until the peer must have started

CLIENT = """
import json, sys, time
import mlflow
calls, took = int(sys.argv[1]), []
mlflow.start_run()
for step in range(calls + 20):
    began = time.perf_counter()
    mlflow.log_metric("loss", 1 / (step + 1), step=step)
    took.append(time.perf_counter() - began)
mlflow.end_run()
print(json.dumps(took[20:]))  # the first ones open the connection
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    calls: int  # of a round


def size() -> Size:
    """What the environment asks for."""
    return Size(rounds=3, calls=150) if QUICK else Size(rounds=7, calls=300)


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[dict[str, str]]:
    """Our endpoint; yields what the client's environment needs."""
    reports: list[tuple[float, dict[str, float]]] = []

    def report(metrics: Mapping[str, float]) -> None:
        reports.append((time.monotonic(), dict(metrics)))

    run = TrackedRun(
        run_id="ab" * 16,
        name="bench_0",
        experiment="bench",
        artifacts=folder / "artifacts",
        params={},
        tags={},
    )
    with Tracking(run, report, record=folder / "record.json") as tracking:
        yield tracking.environment


@contextlib.contextmanager
def theirs(folder: Path) -> Iterator[dict[str, str]]:
    """`mlflow server` as its quick start has it, with a new database."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(PYTHON), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", f"{folder}/mlartifacts"]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603  (our own environment's)
            command, stdout=log, stderr=log, start_new_session=True, env=outside()
        )
        try:
            wait_for(port, server)
            yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.2)
    raise SystemExit(f"mlflow server did not start at port {port}")


def outside() -> dict[str, str]:
    """An environment without settings of MLflow's, and without its calls home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "no_proxy": "127.0.0.1"}


def measured(environment: Mapping[str, str], calls: int) -> list[float]:
    """What each call of one round took, in milliseconds."""
    ran = subprocess.run(  # noqa: S603  (our own environment's)
        [PYTHON, "-c", CLIENT, str(calls)],
        env={**outside(), **environment}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [1000 * seconds for seconds in json.loads(ran.stdout.splitlines()[-1])]


def rows(rounds: Mapping[str, list[list[float]]]) -> list[dict[str, object]]:
    """What is written down: for each percentile the median over rounds, and the spread."""
    made: list[dict[str, object]] = []
    for share, hold in ((50, HOLD), (99, None)):
        each = {
            side: [percentile(values, share) for values in found] for side, found in rounds.items()
        }
        median = {side: statistics.median(values) for side, values in each.items()}
        ratio = median["raysweep"] / median["peer"]
        row: dict[str, object] = {"what": f"mlflow.log_metric, p{share}, milliseconds"}
        row |= {side: round(value, 3) for side, value in median.items()}
        row |= {"ratio": round(ratio, 3), "hold": hold}
        row |= {"holds": None if hold is None else ratio <= hold}
        row |= {f"{side}_spread": spread(values, 3) for side, values in each.items()}
        made.append(row)
    return made


def mlflow_version() -> str:
    """The peer's."""
    script = "import mlflow; print(mlflow.__version__)"
    asked = subprocess.run(  # noqa: S603  (our own environment's)
        [PYTHON, "-c", script], check=True, capture_output=True, text=True
    )
    return asked.stdout.strip()


def shown(found: list[dict[str, object]]) -> Table:
    """The rows as a table."""
    table = Table("what", "raysweep", "mlflow server", "ratio", "hold", "holds")
    for row in found:
        cells = [f"{row[side]} {row[f'{side}_spread']}" for side in ("raysweep", "peer")]
        rest = ["" if row[name] is None else str(row[name]) for name in ("ratio", "hold", "holds")]
        table.add_row(str(row["what"]), *cells, *rest)
    return table


def main() -> None:
    """Measure, show, write down."""
    asked = size()
    rounds: dict[str, list[list[float]]] = {"raysweep": [], "peer": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ours(folder) as our, theirs(folder) as their:
            for _ in range(asked.rounds):
                rounds["raysweep"].append(measured(our, asked.calls))
                rounds["peer"].append(measured(their, asked.calls))
    found = rows(rounds)
    Console(width=140).print(shown(found))
    if not QUICK:
        versions = {"mlflow": mlflow_version()}
        written(RESULTS / "tracking.json", found, packages=["raysweep"], versions=versions)


if __name__ == "__main__":
    main()
