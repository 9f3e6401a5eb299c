"""What a script registers: written down for the trial, so that a script which does so ends well.

One rule: nothing leaves the trial. Which of a sweep's models deserves a registry is known when the
sweep is over; the record says what each trial's script would have registered, and under what name.
"""

from __future__ import annotations

from raysweep.runtime.tracking.fields import Fields, now
from raysweep.runtime.tracking.runs import Book, Json, RefusedError


def create_model(book: Book, fields: Fields) -> Json:
    """A name for versions of a model; a second time it is there already."""
    name = fields.text("name")
    if name in book.registered:
        raise RefusedError("RESOURCE_ALREADY_EXISTS", f"model {name!r} is registered already")
    book.registered[name] = []
    return {"registered_model": _shown(book, name)}


def get_model(book: Book, fields: Fields) -> Json:
    """A name and its versions."""
    return {"registered_model": _shown(book, _named(book, fields))}


def create_version(book: Book, fields: Fields) -> Json:
    """A version of a model: ready at once, where it was logged."""
    name = _named(book, fields)
    moment = now()
    version: Json = {
        "name": name,
        "version": str(len(book.registered[name]) + 1),
        "creation_timestamp": moment,
        "last_updated_timestamp": moment,
        "source": fields.text("source", default=""),
        "run_id": fields.text("run_id", default=""),
        "model_id": fields.text("model_id", default=""),
        "status": "READY",
    }
    book.registered[name].append(version)
    return {"model_version": version}


def get_version(book: Book, fields: Fields) -> Json:
    """A version by its number."""
    name, number = _named(book, fields), fields.text("version")
    for version in book.registered[name]:
        if version["version"] == number:
            return {"model_version": version}
    raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"model {name!r} has no version {number}")


def get_source(book: Book, fields: Fields) -> Json:
    """Where a version's files lie."""
    return {"artifact_uri": get_version(book, fields)["model_version"]["source"]}


def _named(book: Book, fields: Fields) -> str:
    name = fields.text("name")
    if name not in book.registered:
        raise RefusedError("RESOURCE_DOES_NOT_EXIST", f"this trial registered no model {name!r}")
    return name


def _shown(book: Book, name: str) -> Json:
    return {"name": name, "latest_versions": book.registered[name][-1:]}
