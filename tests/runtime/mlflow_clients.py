"""Real MLflow clients, in environments of their own that have no raysweep.

A client is a process that imports MLflow once and forks for every script, which so starts as a
script does that has just imported it.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tracked import Json, tracked

ROOT = Path(__file__).resolve().parent.parent.parent

# Takes scripts, a line of JSON each, and answers with the exit status of each.
CLIENT = """
import atexit, gc, json, os, sys, threading, traceback
{imports}
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    scope, status = {{"__name__": "__main__"}}, 0
    try:
        exec(compile(order["script"], "script.py", "exec"), scope)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    with open(order["told"], "w") as file:
        json.dump(scope.get("told"), file)
    sys.stdout.flush()
    os._exit(status)  # what else an interpreter does at its end takes longer than all of the above
"""

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came of a script."""

    told: Any  # by the script
    reports: list[dict[str, float]]
    record: Json
    artifacts: Path
    output: str
    seen: tuple[str, ...]


class Client:
    """A process that has imported MLflow."""

    def __init__(self, environment: str, imports: str) -> None:
        python = ROOT / environment / "bin" / "python"
        if not (ROOT / environment / ".installed").exists():
            pytest.fail(
                f"there is no {environment}: run `make mlflow` or `make test`", pytrace=False
            )
        self._process = subprocess.Popen(
            [python, "-c", CLIENT.format(imports=imports)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            env={**_outside(), "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip

    def run(self, folder: Path, script: str, report: Report | None = None, **more: str) -> Heard:
        """Run a script that must succeed as the command of a trial."""
        output, told = folder / "output.txt", folder / "told.json"
        with tracked(folder, report) as trial:
            order = {
                "script": textwrap.dedent(script),
                "environment": _outside() | trial.tracking.environment | _quiet() | more,
                "folder": str(folder),
                "output": str(output),
                "told": str(told),
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(order), file=self._process.stdin, flush=True)
            status = self._process.stdout.readline()
        text = output.read_text(encoding="utf-8") if output.exists() else ""
        if status != "0\n":
            pytest.fail(f"the script ended with {status!r}:\n{text}", pytrace=False)
        return Heard(
            told=json.loads(told.read_text(encoding="utf-8")),
            reports=trial.reports,
            record=trial.record(),
            artifacts=folder / "artifacts",
            output=text,
            seen=trial.tracking.seen,
        )

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


def _outside() -> dict[str, str]:
    """An environment as a cluster's node has it, with a proxy that answers nobody."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}


def _quiet() -> dict[str, str]:
    """No call beyond this machine; at an error, no wait before the next try."""
    return {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}


CLIENTS = {
    "mlflow": (".venv-mlflow", "import mlflow"),
    "mlflow-skinny": (".venv-mlflow-skinny", "import mlflow"),
    "full": (".venv-mlflow", "import mlflow.sklearn, pandas, sklearn.model_selection"),
}
