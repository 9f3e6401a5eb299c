"""Whether every report that the trials made is in the journal exactly once, with its right value.

One rule: what was made is known from the trials, who write it down themselves; what is there is read
from the journal's records, not from anything that was derived of them. Before it is believed, the check
is made to fail on journals that were spoilt on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.core.events import AttemptId, Exchanged, Reports
from raysweep.storage import journal

METRIC = "score"  # whose value is the report's number


class Block(NamedTuple):
    """Reports of one trial that follow each other."""

    trial: int
    first: int
    scores: npt.NDArray[np.float64]  # one a report


class NotOnceError(Exception):
    """The journal does not hold what was reported, once each."""


def check(segments: Any, made: Mapping[int, int]) -> int:  # noqa: ANN401  (a journal's segments)
    """Hold a journal against what the trials made; returns how many reports that is.

    Args:
        segments: the journal's: `result.folder.journal`.
        made: how many reports each trial made, by its number.

    Raises:
        NotOnceError: a report is missing, is there twice, or has another value.
    """
    events = (record.event for record in journal.read(segments))
    reports = (one for event in events if isinstance(event, Exchanged) for one in event.reports)
    return compare(map(block_of, reports), made)


def block_of(reports: Reports) -> Block:
    """The scores of some reports."""
    if METRIC not in reports.names:
        raise NotOnceError(f"a report of {reports.id} has no {METRIC}: {reports.names}")
    scores = reports.table()[:, reports.names.index(METRIC)]
    return Block(reports.id.trial, reports.first, scores)


def compare(found: Iterable[Block], made: Mapping[int, int]) -> int:
    """Hold what was found against what was made, all at once; returns how many reports that is."""
    blocks = list(found)
    lengths = [len(block.scores) for block in blocks]
    trials = np.repeat([block.trial for block in blocks], lengths).astype(np.int64)
    numbers = _counted(lengths, [block.first for block in blocks])
    scores = np.concatenate([np.empty(0), *(block.scores for block in blocks)])
    if (wrong := np.flatnonzero(scores != numbers)).size:
        at = wrong[0]
        raise NotOnceError(f"trial {trials[at]}, report {numbers[at]}: its score is {scores[at]}")
    order = np.lexsort((numbers, trials))
    expected = np.repeat(sorted(made), [made[trial] for trial in sorted(made)])
    counted = _counted([made[trial] for trial in sorted(made)], [1] * len(made))
    if np.array_equal(trials[order], expected) and np.array_equal(numbers[order], counted):
        return len(numbers)
    raise NotOnceError(_difference(trials, made))


def _counted(lengths: Sequence[int], firsts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Numbers from each first on, so many each, in a row."""
    starts = np.cumsum([0, *lengths[:-1]]) - np.array(firsts or [0])
    numbers: npt.NDArray[np.int64] = np.arange(sum(lengths)) - np.repeat(starts, lengths or [0])
    return numbers


def _difference(trials: npt.NDArray[np.int64], made: Mapping[int, int]) -> str:
    there = dict(
        zip(*(column.tolist() for column in np.unique(trials, return_counts=True)), strict=True)
    )
    for trial in sorted(made.keys() | there.keys()):
        if there.get(trial, 0) != made.get(trial, 0):
            return f"trial {trial}: {made.get(trial, 0)} reports made, {there.get(trial, 0)} in the journal"
    return "as many reports as were made, but some twice and others not at all"


# --- the check, checked ---------------------------------------------------------------------------

SOUND = ((0, 1, [1.0, 2.0]), (1, 1, [1.0]), (0, 3, [3.0]))  # trial, first, scores
MADE = {0: 3, 1: 1}
SPOILT: Mapping[str, Sequence[tuple[int, int, list[float]]]] = {
    "a report is lost": SOUND[:2],
    "a report is there twice": (*SOUND, SOUND[1]),
    "one is lost and another there twice": (*SOUND[:2], (0, 2, [2.0])),
    "a value is another's": (*SOUND[:2], (0, 3, [2.0])),
    "a trial is nobody's": (*SOUND, (2, 1, [1.0])),
}


def prove() -> None:
    """Make sure that the check passes what is sound and fails what is not.

    Raises:
        AssertionError: it does not.
    """
    assert _is_sound(SOUND)
    for what, spoilt in SPOILT.items():
        assert not _is_sound(spoilt), what


def _blocks(plain: Iterable[tuple[int, int, list[float]]]) -> list[Block]:
    """Blocks as they come out of real records."""
    made = [
        Reports(
            id=AttemptId(trial, 1),
            first=first,
            names=(METRIC,),
            times=bytes(8 * len(scores)),
            values=np.array(scores).tobytes(),
        )
        for trial, first, scores in plain
    ]
    return [block_of(one) for one in made]


def _is_sound(plain: Iterable[tuple[int, int, list[float]]]) -> bool:
    try:
        return compare(_blocks(plain), MADE) == sum(MADE.values())
    except NotOnceError:
        return False
