"""The audit of a round: what two witnesses saw against what the journal holds.

One rule: it believes nobody. The journal is followed by a `Ledger` that is written from the design
alone and shares no code with the sweep's own state; values are computed anew from the params; every
decision is asked again of the slow transcription of the policies.

`tampered` spoils true evidence in all the ways in which a sweep could be wrong; an audit that does
not find each of them proves nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import objective
from ledger import Ledger
from observer import Note
from witness import Heard, Witness

from raysweep.core.events import Command, Exchanged, Proposed, Reports, Stop
from raysweep.core.spec import SweepSpec
from raysweep.storage.journal import Record

SHOWN = 5  # problems of one kind that are told


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a round has left, read once."""

    spec: SweepSpec
    records: Sequence[Record]
    witness: Witness
    notes: Sequence[Note]  # what the observer saw, in order
    states: Mapping[int, str]  # of each trial, as the sweep's own result has it
    curves: Mapping[int, Sequence[float]]  # the same
    best: tuple[int, int, float] | None  # the same: trial, interval, value
    sync: bool  # whether what the witness heard was acknowledged


@dataclass(kw_only=True)
class Findings:
    """What an audit has come to."""

    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    trials: int = 0
    ended_right: int = 0
    decisions: int = 0
    stops: int = 0
    decided_wrong: int = 0
    damaged: list[str] = field(default_factory=list)  # checkpoints that could not be restored
    problems: list[str] = field(default_factory=list)  # in words; none when all is well

    def tell(self, problems: Sequence[str]) -> int:
        """Note problems of one kind; returns how many there are."""
        self.problems += problems[:SHOWN]
        if len(problems) > SHOWN:
            self.problems.append(f"... and {len(problems) - SHOWN} more of these")
        return len(problems)


def audited(evidence: Evidence) -> Findings:
    """Compare everything with everything."""
    ledger = Ledger(evidence.spec)
    for record in evidence.records:
        ledger.follow(record)
    found = Findings(decisions=ledger.asked, stops=len(ledger.stopped), damaged=ledger.damaged)
    found.decided_wrong = found.tell(ledger.wrong)
    _count_reports(evidence, found)
    found.tell([*_disagreements(evidence, ledger)])
    found.tell([*_falls(evidence)])
    _judge_trials(evidence, ledger, found)
    return found


def _count_reports(evidence: Evidence, found: Findings) -> None:
    """Every report that was acknowledged is in the journal once, with its value."""
    journaled = Counter(number for number, _ in _journaled(evidence))
    values = dict(_journaled(evidence))
    found.twice = found.tell([f"{_name(n)} is in the journal {count} times"
                              for n, count in journaled.items() if count > 1])  # fmt: skip
    heard = evidence.witness.heard
    found.acknowledged = len(heard) if evidence.sync else _shown_at_most(evidence)
    if evidence.sync:
        found.lost = found.tell([f"{_name(line.number)} was acknowledged and is not in the journal"
                                 for line in heard if line.number not in values])  # fmt: skip
    else:
        missing = _shown_at_most(evidence) - journaled.total()
        found.lost = (
            found.tell([f"{missing} reports fewer than were shown"]) * missing if missing > 0 else 0
        )
    found.tell([f"{_name(line.number)} was {line.value!r} and is {values[line.number]!r}"
                for line in heard if values.get(line.number, line.value) != line.value])  # fmt: skip
    again = Counter(line.number for line in heard)
    found.tell([f"{_name(n)} was made {count} times" for n, count in again.items() if count > 1])


def _journaled(evidence: Evidence) -> Iterator[tuple[tuple[int, int, int], float]]:
    """Every report in the journal: trial, attempt and number; its value."""
    for record in evidence.records:
        if isinstance(record.event, Exchanged):
            for block in record.event.reports:
                column = block.column(evidence.spec.objective.metric) or []
                for number, value in enumerate(column, start=block.first):
                    yield (*block.id, number), value


def _shown_at_most(evidence: Evidence) -> int:
    """The most reports that a status has shown: it shows nothing that could still be lost."""
    return max((note["reports"] for note in _sound(evidence)), default=0)


def _sound(evidence: Evidence) -> list[Note]:
    """The statuses of a controller that was not waiting for its storage."""
    return [note for note in evidence.notes if "reports" in note and not note["paused"]]


def _falls(evidence: Evidence) -> Iterator[str]:
    """What was shown once is not taken back: reports, trials that have ended, the sweep's end."""
    notes = _sound(evidence)
    for before, after in pairwise(notes):
        for name in ("reports", "ended", "over"):
            if after[name] < before[name]:
                yield f"the status went back from {before[name]} {name} to {after[name]}"
    if notes and notes[-1]["reports"] > sum(1 for _ in _journaled(evidence)):
        yield "the last status shows more reports than there are"


def _disagreements(evidence: Evidence, ledger: Ledger) -> Iterator[str]:
    """The sweep's own result says what the ledger says."""
    if ledger.best() != evidence.best:
        yield f"the best is {ledger.best()}, but the sweep says {evidence.best}"
    for trial in range(max(len(ledger.params), len(evidence.states))):
        curve = ledger.curves.get(trial, [])
        if list(evidence.curves.get(trial, [])) != curve:
            yield f"trial {trial} counts {evidence.curves.get(trial)}, but the journal says {curve}"
        state = ledger.ended.get(trial, "live")
        if evidence.states.get(trial) != state:
            yield f"trial {trial} is {evidence.states.get(trial)}, but the journal says {state}"


def _judge_trials(evidence: Evidence, ledger: Ledger, found: Findings) -> None:
    """Every trial that was asked for is there, and ended as it should."""
    total = evidence.spec.total_trials or 0
    found.trials = len(ledger.params)
    if found.trials != total:
        found.problems.append(f"there are {found.trials} trials, but {total} were asked for")
    wrong = [why for trial in range(total) if (why := _wrong_with(ledger, trial))]
    found.ended_right = total - found.tell(wrong)


def _wrong_with(ledger: Ledger, trial: int) -> str:
    """What is wrong with how a trial ended; "" when nothing is."""
    if trial >= len(ledger.params) or trial not in ledger.ended:
        return f"trial {trial} has no end"
    curve = ledger.curves.get(trial, [])
    if curve != objective.curve(ledger.params[trial], len(curve)):
        return f"trial {trial} counts values that its params do not give: {curve}"
    stop = ledger.stopped.get(trial)
    if ledger.ended[trial] == "stopped" and stop is not None and len(curve) == stop:
        return ""
    whole = objective.INTERVALS if stop is None else stop  # a stop may come too late
    if ledger.ended[trial] == "completed" and len(curve) == whole:
        return ""
    return f"trial {trial} is {ledger.ended[trial]} after {len(curve)} intervals (stop at {stop})"


def _name(number: tuple[int, int, int]) -> str:
    return "report {2} of trial {0}, attempt {1}".format(*number)


# --- whether the audit can fail -------------------------------------------------------------------


def missed(evidence: Evidence) -> list[str]:
    """The ways of being wrong that an audit of spoilt evidence does not find: none, or it is void.

    Args:
        evidence: of a round in which all was well, with a policy that has stopped trials.
    """
    assert not audited(evidence).problems, "only sound evidence can be spoilt"
    return [name for name, spoilt in tampered(evidence) if not audited(spoilt).problems]


def tampered(evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """Evidence of sweeps that were wrong, each in one way; what is wrong with it first."""
    for name, change in CHANGES.items():
        yield name, dataclasses.replace(evidence, records=list(change(evidence.records)))
    first = evidence.witness.heard[0]
    yield "an acknowledged report is lost", _with_heard(evidence, first._replace(report=10_000))
    yield "an acknowledged value is another", _with_heard(evidence, first._replace(value=2.0))
    yield "a status went back", _with_note(evidence, reports=0)
    yield "a status shows more than there is", _with_note(evidence, reports=10**6)
    yield "the result has another best", dataclasses.replace(evidence, best=None)
    yield "the result has no trials", dataclasses.replace(evidence, states={}, curves={})


def _with_heard(evidence: Evidence, line: Heard) -> Evidence:
    heard = [*evidence.witness.heard[1:], line]
    return dataclasses.replace(evidence, witness=dataclasses.replace(evidence.witness, heard=heard))


def _with_note(evidence: Evidence, **changes: Any) -> Evidence:  # noqa: ANN401  (what a note holds)
    return dataclasses.replace(
        evidence, notes=[*evidence.notes, _sound(evidence)[-1] | changes, *evidence.notes[-1:]]
    )


def _edited(
    change: Callable[[Exchanged], Exchanged | None],
) -> Callable[[Sequence[Record]], Iterator[Record]]:
    """A change of the first event of a slot that can be changed in this way, in the middle."""

    def edit(records: Sequence[Record]) -> Iterator[Record]:
        done = False
        for place, record in enumerate(records):
            changed = None
            if not done and place > len(records) // 3 and isinstance(record.event, Exchanged):
                changed = change(record.event)
            done = done or changed is not None
            yield record if changed is None else record._replace(event=changed)
        assert done, "no event can be spoilt in this way"

    return edit


def _without_reports(event: Exchanged) -> Exchanged | None:
    return dataclasses.replace(event, reports=()) if event.reports and not event.ends else None


def _with_reports_twice(event: Exchanged) -> Exchanged | None:
    return dataclasses.replace(event, reports=event.reports * 2) if event.reports else None


def _with_another_value(event: Exchanged) -> Exchanged | None:
    blocks = event.reports
    return (
        dataclasses.replace(event, reports=(_shifted(blocks[0]), *blocks[1:])) if blocks else None
    )


def _shifted(block: Reports) -> Reports:
    """The same reports, the values off by the least that a float can be."""
    table = np.nextafter(block.table(), math.inf)
    return dataclasses.replace(block, values=table.tobytes())


def _without_ends(event: Exchanged) -> Exchanged | None:
    return dataclasses.replace(event, ends=()) if event.ends else None


def _without_a_stop(records: Sequence[Record]) -> Iterator[Record]:
    place = next(at for at, record in enumerate(records) if _stops(record))
    for at, record in enumerate(records):
        kept: list[Command] = [c for c in record.commands if not isinstance(c, Stop)]
        yield record._replace(commands=kept) if at == place else record


def _stops(record: Record) -> bool:
    return any(isinstance(command, Stop) for command in record.commands)


def _without_a_trial(records: Sequence[Record]) -> Iterator[Record]:
    place = max(at for at, record in enumerate(records) if isinstance(record.event, Proposed))
    return (record for at, record in enumerate(records) if at != place)


CHANGES: Mapping[str, Callable[[Sequence[Record]], Iterator[Record]]] = {
    "reports are not in the journal": _edited(_without_reports),
    "reports are in the journal twice": _edited(_with_reports_twice),
    "a value is off by its last bit": _edited(_with_another_value),
    "a trial has no end": _edited(_without_ends),
    "a stop is missing": _without_a_stop,
    "proposed trials are missing": _without_a_trial,
}
