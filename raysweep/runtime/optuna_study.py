"""A sampler of Optuna's in a sweep: a study that is told what is known and asked for trials.

One rule: a study holds what the sweep knows and nothing else. It lives as long as the spec in its
process and is told only what is new; a proposal that nobody used, and a trial that went back, are
withdrawn as failed. Where what is known contradicts what was told, and after a restart, the study
is made anew from what is known.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import json
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from raysweep.core import checks
from raysweep.core.samplers import Observation, Optuna, Random
from raysweep.core.samplers.sampler import point_generator
from raysweep.core.space import Space, Value
from raysweep.core.spec import SweepSpec
from raysweep.errors import SpecError
from raysweep.runtime.optuna_parameters import parameters_of

MOST_SEEDS = 2**32  # numpy's older generators, which Optuna uses, take no greater seed

# What a sampler needs besides Optuna, which imports it only when the sampler has begun to learn.
NEEDS: Mapping[str, str] = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}

# Whose state lies in the trials that they were asked for: they are asked for known ones, too.
KEEPING = frozenset(
    {"CmaEsSampler", "GridSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler"}
)
# Who propose a combination once, and then are done.
EXHAUSTIVE = frozenset({"BruteForceSampler", "GridSampler"})
# Who do not learn: a trial that is asked for again is the same.
STEADY = EXHAUSTIVE | {"QMCSampler", "RandomSampler"}
# Who begin a sequence that goes on: another seed would be another sequence.
SEQUENTIAL = frozenset({"GridSampler", "QMCSampler"})

FIRST = 10  # trials that a sampler sees before it learns, unless its options say otherwise
MOST_REHEARSED = 100  # trials: who learns later than that is not waited for

# What stands in the annotation of an argument that is no plain data.
OBJECTS = ("Callable", "BaseSampler", "BaseCrossover", "BaseMutation", "FrozenTrial", "ndarray")

_studies: dict[int, _Study] = {}
_lock = threading.Lock()


def propose(
    spec: SweepSpec, sampler: Optuna, known: Sequence[Observation], trial: int
) -> dict[str, Value] | None:
    """The parameters of the trial of this number; None when the sampler has been through.

    Args:
        spec: the sweep, by whose identity its study is found again.
        sampler: of the spec.
        known: all other trials that there are, whatever was told before.
        trial: the number; one that was asked for before is asked for anew.
    """
    checks.whole("trial", trial, at_least=0)
    with _lock:
        study = _studies.get(id(spec))
        if study is None:
            study = _Study(sampler, spec.space, spec.seed, first=len(spec.try_first))
            _studies[id(spec)] = study
            weakref.finalize(spec, _studies.pop, id(spec), None).atexit = False
    return study.propose(known, trial)


def check(sampler: Optuna, space: Space) -> None:
    """Refuse what Optuna would refuse.

    Raises:
        SpecError: it has no such sampler, lacks a package for it, does not take these options, or
            cannot sample this space.
    """
    kind = _sampler_class(sampler.sampler)
    package = NEEDS.get(sampler.sampler)
    if package is not None and importlib.util.find_spec(package) is None:
        raise SpecError(
            f"optuna's {sampler.sampler} needs the package {package}, which is not installed:"
            f" pip install {package}"
        )
    _check_options(sampler, kind)
    _check_parameters(sampler, space)
    try:
        with _quietly():
            params = _Study(sampler, space, 0, first=0).propose((), 0)
            if sampler.sampler not in STEADY | NEEDS.keys():
                _rehearse(sampler, space)
    except Exception as error:  # whatever it is that Optuna raises
        raise SpecError(
            f"optuna's {sampler.sampler} cannot be used with the options {sampler.options} for"
            f" this space: {type(error).__name__}: {error}"
        ) from error
    if params is not None:
        _check_proposed(sampler, space, params)


def _rehearse(sampler: Optuna, space: Space) -> None:
    """Have it learn from made-up trials: some options are looked at only then."""
    first = sampler.options.get("n_startup_trials", FIRST)
    count = 1 + int(min(max(first, 0), MOST_REHEARSED))
    known = [
        Observation(trial=trial, params=Random().propose(space, (), trial, 0), score=float(trial))
        for trial in range(count)
    ]
    _Study(sampler, space, 0, first=0).propose(known, count)


def _check_options(sampler: Optuna, kind: type[optuna.samplers.BaseSampler]) -> None:
    """Refuse the options that this sampler has not, and those that only Python could give."""
    arguments = inspect.signature(kind).parameters
    checks.known_keys(
        f"optuna's {sampler.sampler}",
        sampler.options,
        [name for name in arguments if name != "seed"],
    )
    for name, value in sampler.options.items():
        asked = str(arguments[name].annotation)
        if value is not None and any(word in asked for word in OBJECTS):
            raise SpecError(
                f"optuna's {sampler.sampler}: {name} is an object of Python's ({asked}), which no"
                f" spec can hold; leave it out"
            )


def _check_parameters(sampler: Optuna, space: Space) -> None:
    """Refuse parameters, inside of options too, that a sampler could not go through."""
    grid = sampler.options.get("search_space", {})
    if sampler.sampler == "GridSampler" and not isinstance(grid, Mapping):
        raise SpecError(
            f"optuna's GridSampler: search_space must have a list of values for each parameter, but"
            f" got {checks.described(grid)}; rs.Grid() needs no list"
        )
    for parameter in parameters_of(space):
        if sampler.sampler == "GridSampler" and parameter.name not in grid:
            raise SpecError(
                f"optuna's GridSampler needs the values of every parameter in its option"
                f" search_space, but {parameter.name!r} is not there; rs.Grid() needs no list"
            )
        spread = parameter.distribution
        endless = isinstance(spread, FloatDistribution) and spread.step is None
        if sampler.sampler == "BruteForceSampler" and endless:
            raise SpecError(
                f"optuna's BruteForceSampler needs values to count, but {parameter.name!r} has no"
                f" steps for it ({spread}); use choice, randint or quniform for it"
            )


def _check_proposed(sampler: Optuna, space: Space, params: Mapping[str, Value]) -> None:
    """Refuse values beyond the space: of a GridSampler they are listed by hand."""
    try:
        space.to_unit(params)
    except SpecError as error:
        raise SpecError(f"optuna's {sampler.sampler} leaves the search space: {error}") from error


def _sampler_class(name: str) -> type[optuna.samplers.BaseSampler]:
    """The class of this name; a `SpecError` if it is none that options describe."""
    classes = vars(optuna.samplers).items()
    known: dict[str, type[optuna.samplers.BaseSampler]] = {
        each: found
        for each, found in classes
        if isinstance(found, type)
        and issubclass(found, optuna.samplers.BaseSampler)
        and not inspect.isabstract(found)
        and found is not optuna.samplers.PartialFixedSampler  # wraps an object
    }
    if name not in known:
        raise SpecError(
            f"optuna has no sampler {name!r}{checks.did_you_mean(name, known)}"
            f" (known: {', '.join(sorted(known))})"
        )
    return known[name]


# The study


class _Stoppable(optuna.Study):
    """A study that notes that its sampler is done, instead of ending a loop that there is not."""

    stopped = False

    def stop(self) -> None:
        """Called by a sampler that has been through its space."""
        self.stopped = True


@dataclass(kw_only=True)
class _Told:
    """What a study was told of one trial."""

    number: int  # Optuna's own
    params: Mapping[str, Value]
    curve: list[float] = field(default_factory=list)  # values that are not finite included
    ended: Observation | None = None  # as it was then


class _Study:
    """The study of one sweep."""

    def __init__(self, sampler: Optuna, space: Space, seed: int, *, first: int) -> None:
        """A study that knows nothing.

        Args:
            sampler: as the user described it.
            space: of the sweep.
            seed: of the sweep.
            first: the number of the first trial that the sampler proposes.
        """
        self._sampler = sampler
        self._space = space
        self._seed = seed
        self._first = first
        self._parameters = parameters_of(space)
        self._lock = threading.Lock()
        self._told: dict[int, _Told] = {}
        self._begun = False

    def propose(self, known: Sequence[Observation], trial: int) -> dict[str, Value] | None:
        """The parameters of a trial; None when the sampler has been through."""
        with self._lock:
            self._learn(known, trial)
            return self._ask(known, trial)

    def _learn(self, known: Sequence[Observation], trial: int) -> None:
        """Bring the study to what is known."""
        here = {each.trial: each for each in known}
        early = all(number < self._first for number in here)
        forgotten = early and any(number >= self._first for number in self._told)
        if not self._begun or forgotten or self._contradicted(here):
            self._begin(None if early else trial)
        if self._sampler.sampler not in STEADY:
            for number in [*self._told]:
                if number == trial or number not in here:
                    self._withdraw(number)
        for each in known:
            self._tell(each)

    def _contradicted(self, here: Mapping[int, Observation]) -> bool:
        """Whether a trial whose end was told had another, or none."""
        ended = ((number, told.ended) for number, told in self._told.items() if told.ended)
        return any(not _alike(told, here.get(number)) for number, told in ended)

    def _begin(self, trial: int | None) -> None:
        """Make the study anew; by its seed the sampler begins with other draws than the one before.

        Args:
            trial: for which it is made; None: for the first that is proposed.
        """
        seed = self._seed
        anew = trial is not None and self._sampler.sampler not in SEQUENTIAL
        if anew or seed >= MOST_SEEDS:
            seed = int(point_generator(seed, trial or 0).integers(MOST_SEEDS))
        kind = _sampler_class(self._sampler.sampler)
        takes_seed = "seed" in inspect.signature(kind).parameters
        with _quietly():
            make: Callable[..., optuna.samplers.BaseSampler] = kind
            sampler = make(**self._sampler.options, **({"seed": seed} if takes_seed else {}))
            self._storage = optuna.storages.InMemoryStorage()
            self._id = self._storage.create_new_study([StudyDirection.MAXIMIZE], "sweep")
            pruner = optuna.pruners.NopPruner()
            self._study = _Stoppable("sweep", self._storage, sampler, pruner)
        self._told = {}
        self._begun = True

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, each: Observation) -> None:
        """Tell what is new of a trial."""
        told = self._told.get(each.trial)
        if told is not None and told.ended is not None:
            return
        if told is not None and not _continues(told, each):
            self._withdraw(each.trial)
            told = None
        if told is None:
            told = self._told[each.trial] = _Told(number=self._adopt(each), params=each.params)
        self._report(told, each)
        if not each.pending:
            self._end(told, each)

    def _report(self, told: _Told, each: Observation) -> None:
        """Tell the values of further intervals."""
        further = each.curve[len(told.curve) :]
        if not further:
            return
        id_ = self._storage.get_trial_id_from_study_id_trial_number(self._id, told.number)
        for value in further:
            told.curve.append(value)
            if isfinite(value):
                self._storage.set_trial_intermediate_value(id_, len(told.curve), value)

    def _end(self, told: _Told, each: Observation) -> None:
        """Tell how a trial ended."""
        if each.stopped and each.curve:
            self._study.tell(told.number, state=TrialState.PRUNED)
        elif each.score is None:
            self._study.tell(told.number, state=TrialState.FAIL)
        else:
            self._study.tell(told.number, each.score)
        told.ended = each

    def _withdraw(self, number: int) -> None:
        """Take back that a trial runs."""
        told = self._told.pop(number)
        self._study.tell(told.number, state=TrialState.FAIL)

    def _adopt(self, each: Observation) -> int:
        """Have a trial that the study did not propose run in it; its number there."""
        draws = self._space.draws_of(each.params)
        active = {index: self._parameters[index] for index in draws}
        values = {one.name: one.written(draws[index]) for index, one in active.items()}
        if self._sampler.sampler in KEEPING:
            self._study.enqueue_trial(values)
            trial = self._study.ask()
            _ = trial.relative_params  # the sampler notes in the trial what it would have proposed
            for one in active.values():
                one.suggested(trial)
            return trial.number
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=values,
                distributions={one.name: one.distribution for one in active.values()},
            )
        )
        return self._storage.get_n_trials(self._id) - 1

    # --- asking -----------------------------------------------------------------------------------

    def _ask(self, known: Sequence[Observation], number: int) -> dict[str, Value] | None:
        """A trial that the study proposes, and that runs in it from now on."""
        if number in self._told:  # of a sampler that does not learn
            return copy.deepcopy(dict(self._told[number].params))
        ends = self._sampler.sampler in EXHAUSTIVE
        tried = {_text(each.params) for each in known} if ends else set()
        while not self._study.stopped:
            trial = self._study.ask()
            params = self._suggested(trial)
            if _text(params) not in tried:
                kept = copy.deepcopy(params)
                self._told[number] = _Told(number=trial.number, params=kept)
                return params
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _suggested(self, trial: optuna.Trial) -> dict[str, Value]:
        """The parameters of a trial, one suggestion after another."""
        return self._space.drawn(lambda index: self._parameters[index].suggested(trial))


def _alike(told: Observation, now: Observation | None) -> bool:
    """Whether a trial ended as it was told."""
    if now is None or now.pending:
        return False
    return (told.score, told.stopped, told.params) == (now.score, now.stopped, now.params)


def _continues(told: _Told, now: Observation) -> bool:
    """Whether a trial is what was told of it so far, or goes on from there."""
    if told.params != now.params or len(now.curve) < len(told.curve):
        return False
    pairs = zip(told.curve, now.curve, strict=False)
    return all(one == other or (one != one and other != other) for one, other in pairs)  # noqa: PLR0124  (NaN)


def _text(params: object) -> str:
    return json.dumps(params, sort_keys=True)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without a line for each study, and a warning for each sampler that may still change."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
