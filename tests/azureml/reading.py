"""What raysweep makes of a job, in the same plain terms as the oracle's.

One rule: this only names the parts of a `Job` anew; it judges nothing.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from oracle import SHORTEST

from raysweep.azureml import Job

JOBS = Path(__file__).parent / "jobs"


def files(folder: str) -> list[Path]:
    """The job files of a folder, by name."""
    return sorted((JOBS / folder).glob("*.yml"))


def named(path: Path) -> str:
    """How a test calls the file."""
    return path.stem


def plain(job: Job) -> dict[str, Any]:
    """The parts that azure-ai-ml has, too."""
    spec, command = job.spec, job.command
    environment = command.environment
    return {
        "space": spec.space.to_dict(),
        "objective": (spec.objective.goal.value, spec.objective.metric),
        "limits": {
            name: raised(limit) if "timeout" in name else limit
            for name, limit in dataclasses.asdict(spec.limits).items()
        },
        "policy": policy(spec.policy),
        "sampler": (spec.sampler.kind, spec.sampler.seed),
        "command": command.text,
        "code": command.code,
        "processes": command.processes,
        "variables": dict(command.variables),
        "environment": (environment.name, environment.image, environment.conda),
        "literals": dict(command.literals),
        "inputs": {n: (each.type, each.path, each.mode) for n, each in command.inputs.items()},
        "outputs": {name: each.type for name, each in command.outputs.items()},
        "about": {key: job.about[key] for key in job.about if key not in ("tags", "properties")},
        "tags": job.about.get("tags", {}),
        "name": spec.name,
    }


def raised(seconds: float | None) -> float | None:
    """A timeout as Azure ML raises it."""
    return None if seconds is None else max(seconds, SHORTEST)


def policy(given: Any) -> dict[str, Any]:  # noqa: ANN401  (a policy)
    """Its type and the fields that say something."""
    return {"type": given.kind} | {k: v for k, v in dataclasses.asdict(given).items() if v}
