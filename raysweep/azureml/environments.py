"""A job's environment as what raysweep can install: requirements, a conda file, an interpreter.

One rule: what only Azure ML knows (a curated or registered environment) is looked up in a mapping
file of the user's, and otherwise is what the cluster has installed, said in one notice:

    # raysweep-environments.yml
    AzureML-sklearn-1.5: {pip: [scikit-learn==1.5.2]}
    my-env:3: {conda_file: ./my-env.yml}
    AzureML-*: cluster
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from raysweep.azureml import schema
from raysweep.azureml.documents import Place
from raysweep.azureml.files import read_file, read_mapping
from raysweep.azureml.readers import each, refused
from raysweep.azureml.refusals import refuse
from raysweep.core import checks
from raysweep.core.command import Environment

MAPPING_FILE = "raysweep-environments.yml"
MAPPING_VARIABLE = "RAYSWEEP_ENVIRONMENTS"

_READ_FROM = re.compile(r"\s*(?:-r|--requirement)[ =]\s*(.+)")


def mapping_file(given: Path | None, folder: Path) -> Path | None:
    """The file that maps Azure ML's environments: as given, beside the job, or by the variable."""
    if given is not None:
        return given
    if (folder / MAPPING_FILE).is_file():
        return folder / MAPPING_FILE
    named = os.environ.get(MAPPING_VARIABLE)
    return Path(named) if named else None


@dataclass(kw_only=True)
class Environments:
    """Reads environments, with the user's mapping file at hand."""

    file: Path | None  # the mapping file
    overruled: bool = False  # the block `raysweep:` chooses; what the trial says is but a name
    notices: list[str] = field(default_factory=list)

    def __call__(self, value: Any, place: Place) -> Environment:  # noqa: ANN401  (a reader)
        """The environment that a job names or writes out."""
        plain = schema.environment(value, place)
        if self.overruled:
            return Environment()
        if isinstance(plain, str):
            return self._registered(plain, place)
        return self._inline(plain, place)

    def chosen(self, value: Any, place: Place, name: str = "") -> Environment:  # noqa: ANN401  (a reader)
        """The environment that a mapping file, or the block `raysweep:`, chooses."""
        plain = schema.ENVIRONMENT_CHOICE(value, place)
        if plain == "cluster":
            return Environment(name=name)
        if "python" in plain:
            python = place.folder / Path(plain["python"]).expanduser()
            return Environment(name=name, python=os.path.normpath(python))
        if "pip" in plain:
            return Environment(name=name, pip=tuple(plain["pip"]))
        return self._conda(plain["conda_file"], place.at("conda_file"), name=name)

    def _registered(self, name: str, place: Place) -> Environment:
        names = list(_names_of(name))
        for pattern, (value, where) in self._mapped().items():
            if any(pattern == known or fnmatchcase(known, pattern) for known in names):
                return self.chosen(value, where, name=name)
        self.notices.append(
            place.notice(
                f"{name} is known to Azure ML only: trials run with what the cluster has installed;"
                f" to choose, write `{names[-1]}: {{pip: [...]}}` into {MAPPING_FILE}, or use"
                f" --set raysweep.environment=..."
            )
        )
        return Environment(name=name)

    def _mapped(self) -> dict[str, tuple[Any, Place]]:
        """What the mapping file says: whole names first, patterns after them."""
        if self.file is None:
            return {}
        document = read_mapping(self.file)
        places: dict[str, Any] = each(lambda value, place: (value, place))(
            document.value, document.top
        )
        return dict(sorted(places.items(), key=lambda item: ("*" in item[0], -len(item[0]))))

    def _inline(self, plain: Mapping[str, Any], place: Place) -> Environment:
        if "build" in plain:
            raise refuse("build", place.at("build"), "cannot be built here", key=True)
        name, image = _name_in(plain), plain.get("image", "")
        if not plain.get("conda_file"):
            return self._image(name, image, place)
        return self._conda(plain["conda_file"], place.at("conda_file"), name=name, image=image)

    def _conda(self, value: Any, place: Place, *, name: str, image: str = "") -> Environment:  # noqa: ANN401  (a reader)
        """What a conda file asks for; each node sees for itself how it can be had."""
        document = _conda_document(value, place)
        if document is None:
            return self._image(name, image, place)
        return Environment(name=name, image=image, conda=document)

    def _image(self, name: str, image: str, place: Place) -> Environment:
        """An image with nothing beside it."""
        if image:
            self.notices.append(
                place.notice(
                    f"trials run in {image} on nodes that have podman, elsewhere with what the"
                    f" cluster has installed"
                )
            )
        return Environment(name=name, image=image)


def _conda_document(value: Any, place: Place) -> dict[str, Any] | None:  # noqa: ANN401  (a reader)
    """The content of a conda file, written inline or at a path; None for one that says nothing."""
    folder = place.folder
    if isinstance(value, str):
        path = place.folder / value
        folder = path.parent
        if not path.is_file():
            raise refused(place, f"must be a file that exists, but got {value!r} ({path})")
        read = read_file(path)
        value, place = read.value, read.top
    elif not isinstance(value, Mapping):
        raise refused(place, f"must be a path or a mapping, but got {checks.described(value)}")
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise refuse("conda", place, f"must be a mapping, but got {checks.described(value)}")
    dependencies = value.get("dependencies", [])
    if not isinstance(dependencies, list):
        found = checks.described(dependencies)
        raise refuse("conda", place, f"must have a list of dependencies, but got {found}")
    plain = {**value, "dependencies": _inlined(dependencies, folder, place)}
    document: dict[str, Any] = json.loads(json.dumps(plain, default=str))  # a version may be a date
    return document


def _inlined(dependencies: list[Any], folder: Path, place: Place) -> list[Any]:
    """A conda file's dependencies with the lines of the requirements files that pip is to read."""
    return [
        {**each, "pip": [line for entry in each["pip"] for line in _lines(entry, folder, place)]}
        if isinstance(each, Mapping) and isinstance(each.get("pip"), list)
        else each
        for each in dependencies
    ]


def _lines(entry: Any, folder: Path, place: Place) -> list[Any]:  # noqa: ANN401  (whatever stands there)
    found = _READ_FROM.fullmatch(entry) if isinstance(entry, str) else None
    if found is None:
        return [entry]
    path = folder / found[1]
    if not path.is_file():
        raise refused(place, f"must name a file that exists, but got {entry!r} ({path})")
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _name_in(plain: Mapping[str, Any]) -> str:
    """The name of an environment that is written out, with its version: `my-env:3`."""
    parts = [plain.get("name"), plain.get("version")]
    return ":".join(str(part) for part in parts if part not in (None, "")) if parts[0] else ""


def _names_of(reference: str) -> Iterator[str]:
    """By what a registered environment may be called, the most exact first.

    >>> list(_names_of("azureml:my-env:3"))
    ['my-env:3', 'my-env']
    >>> list(_names_of("azureml://registries/azureml/environments/sklearn-1.5/labels/latest"))
    ['azureml://registries/azureml/environments/sklearn-1.5/labels/latest', 'sklearn-1.5@latest', 'sklearn-1.5']
    """
    name = reference.removeprefix("azureml:") if "://" not in reference else reference
    yield name
    found = re.search(r"/environments/([^/]+)/(versions|labels)/([^/]+)$", name)
    if found:
        yield f"{found[1]}{':' if found[2] == 'versions' else '@'}{found[3]}"
        yield found[1]
    short = re.split("[:@]", name, maxsplit=1)[0]
    if short not in ("", name) and "/" not in name:
        yield short
