"""Azure ML v2 sweep jobs, read without Azure ML: a YAML file, a mapping or the SDK's own object.

One rule: what Azure ML's loader accepts is accepted and means the same, less what `REFUSALS`
says; what it refuses is refused, less what `EXTENSIONS` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raysweep.azureml import sdk
from raysweep.azureml.documents import Document
from raysweep.azureml.files import read_mapping
from raysweep.azureml.jobs import Job, job_in, plain_document
from raysweep.azureml.refusals import EXTENSIONS, REFUSALS
from raysweep.azureml.settings import with_settings
from raysweep.errors import JobFileError, Problem

__all__ = ["EXTENSIONS", "REFUSALS", "Job", "JobFileError", "Problem", "read_job"]


def read_job(
    source: str | Path | Mapping[str, object] | object,
    settings: Mapping[str, str] | None = None,
    *,
    environments: Path | None = None,
) -> Job:
    """The sweep job that a file, a mapping or an object of the azure-ai-ml SDK describes.

    Relative paths in a file are relative to the file's folder; those of a mapping, of an object
    without a `base_path` and of a setting are relative to the current directory.

    Args:
        source: the path of a YAML file, or a mapping of the same keys, or a `SweepJob` or
            `command(...).sweep(...)` of azure-ai-ml.
        settings: dotted path -> value, put into the document before it is read:
            `limits.max_total_trials` -> `8`, `inputs.data.path` -> `./iris.csv`,
            `search_space.lr` -> `{"type": "choice", "values": [1]}`. A value is JSON or YAML 1.1;
            mappings that are missing on the way are made.
        environments: a file that says what stands for Azure ML's registered environments; else
            `raysweep-environments.yml` beside the job file, else what the environment variable
            RAYSWEEP_ENVIRONMENTS names.

    Raises:
        JobFileError: everything that is wrong with it, each with file, line and column.
    """
    document = _document(source)
    if settings:
        document = with_settings(document, settings)
    return job_in(document, environments=environments)


def _document(source: object) -> Document:
    if isinstance(source, str | Path):
        return read_mapping(Path(source))
    if isinstance(source, Mapping) and not sdk.is_sdk_object(source):
        return plain_document(dict(source), folder=Path.cwd())
    return sdk.document(source)
