"""A job document as a spec, a command and notices.

One rule: every part is read by itself and all problems are told together, in the order of the file;
a job comes out only if there is none.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from raysweep.azureml import components, schema, searching, trials
from raysweep.azureml.commands import rendered, with_double_braces
from raysweep.azureml.components import Component
from raysweep.azureml.documents import Document, Place
from raysweep.azureml.environments import Environments, mapping_file
from raysweep.azureml.inputs import input_, output
from raysweep.azureml.readers import Reader, Table, at_all, each, refused, text
from raysweep.azureml.refusals import refuse
from raysweep.azureml.spaces import parameter
from raysweep.core import checks
from raysweep.core.command import ROOTS, Command, Environment, Input, Literal
from raysweep.core.policies import NoPolicy
from raysweep.core.samplers import Grid, Random, Sampler, seeded
from raysweep.core.space import Space
from raysweep.core.spec import NAME, Resources, SweepSpec
from raysweep.core.suiting import suiting
from raysweep.errors import JobFileError, Problem, SpecError

T = TypeVar("T")

# What a job says about Azure ML's machines, and what shows it there.
UNUSED = ("compute", "identity", "queue_settings", "services")
UNUSED_RESOURCES = (
    "instance_type",
    "max_instance_count",
    "locations",
    "shm_size",
    "docker_args",
    "properties",
)
ABOUT = ("display_name", "experiment_name", "description", "tags", "properties")

_LONGEST_STEM = 100  # of a generated name; the time and a few digits follow


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a sweep job asks for, ready to run."""

    spec: SweepSpec
    command: Command
    notices: tuple[str, ...] = ()  # for people, a line each
    storage: str | None = None  # None: the job does not say
    warm_start: str | None = None  # an earlier sweep: NAME, or STORAGE/NAME
    about: Mapping[str, Any] = field(default_factory=dict)  # the keys of ABOUT that are given


def job_in(document: Document, *, environments: Path | None = None) -> Job:
    """The job that a document describes.

    Raises:
        JobFileError: all that is wrong with it.
    """
    kind = document.value.get("type")
    if kind in OTHER_JOBS:
        place = _Reading(document=document, environments=Environments(file=None)).top.at("type")
        raise refused(place, f"must be sweep, but this is a {kind} job: only sweeps run here")
    block = document.value.get("raysweep")
    return _Reading(
        document=document,
        environments=Environments(
            file=mapping_file(environments, document.folder),
            overruled=isinstance(block, Mapping) and "environment" in block,
        ),
    ).job()


@dataclass(kw_only=True)
class _Reading:
    """One reading of a document: what was found so far, and what is wrong with it."""

    document: Document
    environments: Environments
    problems: list[Problem] = field(default_factory=list)

    @property
    def notices(self) -> list[str]:
        return self.environments.notices

    @property
    def top(self) -> Place:
        return self.document.top

    def job(self) -> Job:
        self.notices.extend(self.document.notices)
        found, self.problems = self._table().read(self.document.value, self.top)
        space = self._attempt(lambda: self._space(found), self.top.at("search_space"))
        command = self._attempt(lambda: self._command(found), self.top.at("trial"))
        spec = self._attempt(lambda: self._spec(found, space), self.top.at("raysweep"))
        if self.problems or spec is None or command is None:
            raise JobFileError(sorted(self.problems, key=self._order))
        self._notice_unused(found)
        return Job(
            spec=spec,
            command=command,
            notices=tuple(dict.fromkeys(self.notices)),
            storage=self._storage(found.get("raysweep", {}).get("storage")),
            warm_start=self._earlier(found.get("raysweep", {}).get("warm_start")),
            about={key: found[key] for key in ABOUT if key in found},
        )

    def _storage(self, given: str | None) -> str | None:
        """The storage that the job names: a folder beside the file, or a URI."""
        if given is None or "://" in given:
            return given
        place = self.top.at("raysweep").at("storage")
        return str(place.folder / Path(given).expanduser())

    def _earlier(self, given: str | None) -> str | None:
        """The earlier sweep that the job names: NAME, or the same after a storage."""
        if given is None or "/" not in given or "://" in given:
            return given
        place = self.top.at("raysweep").at("warm_start")
        return str(place.folder / Path(given).expanduser())

    def _table(self) -> Table:
        """The keys of a job, each with what raysweep makes of it."""
        readers: dict[str, Reader] = {
            **schema.JOB,
            "name": _name,
            "trial": self._trial,
            "search_space": each(partial(parameter, self.notices)),
            "sampling_algorithm": searching.sampler,
            "early_termination": searching.policy,
            "objective": searching.objective,
            "limits": searching.limits,
            "inputs": each(partial(input_, self.notices)),
            "outputs": each(output),
            "resources": trials.resources,
            "raysweep": self._raysweep,
        }
        return Table(fields=readers, needs=schema.JOB_NEEDS, ignores=schema.JOB_IGNORES)

    def _attempt(self, build: Callable[[], T], place: Place) -> T | None:
        """What can be built; what is wrong with it is kept."""
        try:
            return build()
        except JobFileError as error:
            self.problems += error.problems
        except SpecError as error:
            self.problems.append(place.problem(str(error)))
        return None

    def _order(self, problem: Problem) -> tuple[bool, int, int]:
        """As they stand in the file; other files after it."""
        return problem.file != self.document.file, problem.line or 0, problem.column or 0

    def _trial(self, value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
        if isinstance(value, str):
            return components.read(value, place, self.environments)
        if isinstance(value, components.Inline):
            return components.parts(value, place, self.environments)
        return trials.table(self.environments)(value, place)

    def _raysweep(self, value: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401  (a reader)
        own = {"environment": at_all, "sampler": searching.own_sampler}
        plain = Table(fields={**schema.RAYSWEEP.fields, **own})(value, place)
        if "environment" in plain:
            where = place.at("environment")
            plain["environment"] = self.environments.chosen(plain["environment"], where)
        try:
            plain["resources"] = Resources(**plain.get("resources", {}))
        except SpecError as error:
            raise refused(place.at("resources"), str(error)) from error
        return plain

    def _space(self, found: Mapping[str, Any]) -> Space | None:
        place = self.top.at("search_space")
        if not found.get("search_space"):
            if "search_space" in found or "search_space" not in self.document.value:
                raise refuse("empty_space", place, "must not be empty", key=True)
            return None
        space = Space(found["search_space"])
        if isinstance(self._sampler(found), Grid):
            searching.check_grid(space, place)
        return space

    def _sampler(self, found: Mapping[str, Any]) -> Sampler:
        """What proposes the trials: raysweep's own key goes before Azure ML's, but for the seed."""
        asked: Sampler = found.get("sampling_algorithm", Random())
        own: Sampler | None = found.get("raysweep", {}).get("sampler")
        return asked if own is None else seeded(own, asked.seed)

    def _spec(self, found: Mapping[str, Any], space: Space | None) -> SweepSpec | None:
        if self.problems or space is None:
            return None
        own = dict(found.get("raysweep", {}))
        own["try_first"] = searching.points(own.get("try_first", []), space)
        asked = self._sampler(found)
        sampler, why = suiting(
            asked,
            space,
            found["limits"].max_total_trials,
            learning="warm_start" in own,
        )
        self.notices.extend(why)
        seed = asked.seed
        return SweepSpec(
            name=found.get("name") or self._generated_name(found),
            space=space,
            objective=found["objective"],
            sampler=sampler,
            seed=secrets.randbits(32) if seed is None else seed,
            policy=found.get("early_termination", NoPolicy()),
            limits=found["limits"],
            resources=own.get("resources", Resources()),
            **{key: own[key] for key in _SPEC_KEYS if key in own},
        )

    def _generated_name(self, found: Mapping[str, Any]) -> str:
        """A name that tells which job and when, and that no other sweep has."""
        given = found.get("display_name") or found.get("experiment_name") or "sweep"
        stem = Path(self.document.file).stem if self.document.file else given
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:_LONGEST_STEM] or "sweep"
        return f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"

    def _command(self, found: Mapping[str, Any]) -> Command | None:
        """The command, or at least what is wrong with its references."""
        if "trial" not in found:
            self._check_references(found)
            return None
        trial = found["trial"]
        parameters = self._names(found, "search_space")
        inputs = dict(found.get("inputs", {}))
        outputs = dict(found.get("outputs", {}))
        component: Component | None = trial.get("component")
        place = (self.top.at("trial") if component is None else component.place).at("command")
        command = with_double_braces(self.notices, trial["command"], place)
        if component is not None:
            inputs = self._completed(component, found, parameters)
            outputs |= component.outputs  # it says their types
            command = components.command_text(command, parameters)
        names = {
            "search_space": parameters,
            "inputs": {*inputs, *(() if component else self._names(found, "inputs"))},
            "outputs": {*outputs, *self._names(found, "outputs")},
        }
        return Command(
            text=rendered(command, names, place),
            code=trial.get("code", ""),
            literals={n: value for n, value in inputs.items() if not isinstance(value, Input)},
            inputs={n: value for n, value in inputs.items() if isinstance(value, Input)},
            outputs=outputs,
            variables=trial.get("environment_variables", {}),
            environment=self._environment(found),
            processes=trial.get("distribution"),
            experiment=found.get("experiment_name") or self._folder_name(),
        )

    def _check_references(self, found: Mapping[str, Any]) -> None:
        """The references of a command whose trial has something else wrong."""
        trial = self.document.value.get("trial")
        if not isinstance(trial, Mapping) or isinstance(trial, components.Inline):
            return
        if isinstance(command := trial.get("command"), str):
            place = self.top.at("trial").at("command")
            names = {root: self._names(found, root) for root in ROOTS}
            rendered(with_double_braces([], command, place), names, place)

    def _completed(
        self, component: Component, found: Mapping[str, Any], parameters: list[str]
    ) -> dict[str, Literal | Input]:
        """The values of a component's inputs; stand-ins when the job's could not be read."""
        if "inputs" in self.document.value and "inputs" not in found:
            return dict.fromkeys(component.inputs, "")
        given = found.get("inputs", {})
        return components.completed(component, given, parameters, self.top.at("inputs"))

    def _names(self, found: Mapping[str, Any], key: str) -> list[str]:
        """The names that a mapping of the job defines, wrong values included."""
        given = found.get(key, self.document.value.get(key))
        return [str(name) for name in given] if isinstance(given, Mapping) else []

    def _environment(self, found: Mapping[str, Any]) -> Environment:
        environment: Environment = found["trial"]["environment"]
        chosen: Environment | None = found.get("raysweep", {}).get("environment")
        return environment if chosen is None else chosen

    def _folder_name(self) -> str:
        """The experiment of a job that names none: where it is submitted from, as in Azure ML."""
        return Path.cwd().stem.replace(" ", "") or "Default"

    def _notice_unused(self, found: Mapping[str, Any]) -> None:
        """One line for all that only Azure ML's machines can use."""
        trial = found["trial"]
        unused = [key for key in UNUSED if key in found]
        unused += ["trial.queue_settings"] * ("queue_settings" in trial)
        for prefix, resources in (
            ("", found.get("resources", {})),
            ("trial.", trial.get("resources", {})),
        ):
            unused += [f"{prefix}resources.{key}" for key in UNUSED_RESOURCES if key in resources]
        written = self.document.value.get("outputs") or {}
        unused += [
            f"outputs.{name}.{key}"
            for name, output in written.items()
            for key in UNUSED_OUTPUT
            if isinstance(output, Mapping) and key in output
        ]
        if unused:
            self.notices.append(f"not used here: {', '.join(unused)}")


OTHER_JOBS = (
    "command",
    "pipeline",
    "automl",
    "spark",
    "import",
    "data_transfer",
    "parallel",
    "finetuning",
)
UNUSED_OUTPUT = ("path", "name", "version")  # where Azure ML would put and register it

_SPEC_KEYS = (
    "max_attempts",
    "sync_decisions",
    "grace",
    "lease",
    "keep_checkpoints",
    "try_first",
)


def _name(value: Any, place: Place) -> str:  # noqa: ANN401  (a reader)
    """The sweep's name; an empty one is generated, as in Azure ML."""
    name = text(value, place)
    if name and not NAME.fullmatch(name):
        raise refuse("job_name", place, f"must become a folder's name, but got {name!r}")
    return name


def plain_document(value: object, *, folder: Path) -> Document:
    """A document out of a mapping, which has no places but its keys."""
    document = Document(value=value, folder=folder)
    if not isinstance(value, Mapping):
        raise refused(document.top, f"must be a mapping, but got {checks.described(value)}")
    return document
