"""A slot's request, read against what the sweep knows: what is new in it, what is owed for it.

One rule: reading changes nothing. The answers follow from the roster alone, so that a controller
which has just replayed its journal answers as the one before it would have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raysweep.core.events import Assign, AttemptId, Checkpoint, Exchanged, Reports, Stop
from raysweep.core.exchange import Acknowledged, Refusal, Request
from raysweep.core.roster import Roster
from raysweep.core.trials import TrialState


def novel(roster: Roster, request: Request, time: float) -> Exchanged | Refusal:
    """What a request says that is not known yet, or why it cannot be taken."""
    if roster.superseded(request.slot, request.incarnation):
        return Refusal.SUPERSEDED
    last = _last_reports(roster, request)
    queued = frozenset(request.queued)
    reports = _new_reports(request, last)
    if reports is None or _lacks_reports(request, last):
        return Refusal.GAP
    return Exchanged(
        time=time,
        slot=request.slot,
        incarnation=request.incarnation,
        places=request.places,
        begun=tuple(id_ for id_ in last if id_ not in queued and _trial_is_assigned(roster, id_)),
        fresh=tuple(id_ for id_ in request.fresh if id_ in last and _can_start_anew(roster, id_)),
        reports=tuple(reports),
        checkpoints=tuple(_new_checkpoints(roster, request, last)),
        ends=tuple(end for end in request.ends if end.id in last),
        ahead=request.ahead,
        returned=tuple(
            id_ for id_ in request.returned if id_ in last and _trial_is_assigned(roster, id_)
        ),
    )


def acknowledged(roster: Roster, request: Request) -> tuple[Acknowledged, ...]:
    """Up to which report each attempt of this request is known."""
    last = _last_reports(roster, request)
    return tuple(Acknowledged(id=id_, report=report) for id_, report in last.items())


def owed(roster: Roster, request: Request) -> tuple[list[Assign], list[Stop], list[AttemptId]]:
    """What the slot must be told until it shows that it knows: assignments, stops, drops."""
    if roster.superseded(request.slot, request.incarnation):  # it was, since it was heard
        return [], [], [*request.holds]
    held = [roster.trials[number] for number in sorted(roster.slots[request.slot].holds)]
    listed = frozenset(request.holds)
    assigns = [
        trial.order_to_run()
        for trial in held
        if trial.state is TrialState.ASSIGNED and trial.id not in listed
    ]
    stops = [trial.order_to_stop() for trial in held if trial.state is TrialState.STOPPING]
    owned = {trial.id for trial in held}
    return assigns, stops, [id_ for id_ in request.holds if id_ not in owned]


def _last_reports(roster: Roster, request: Request) -> dict[AttemptId, int]:
    """The last known report of each attempt that the slot holds and that is its to run."""
    return {
        id_: trial.last_report
        for id_ in request.holds
        if (trial := roster.owned(id_, request.slot, request.incarnation))
    }


def _new_reports(request: Request, last: dict[AttemptId, int]) -> list[Reports] | None:
    """The reports beyond the last known, which are noted in `last`; None when some are missing."""
    reports = []
    for block in request.reports:
        if block.id not in last or (new := block.after(last[block.id])) is None:
            continue
        if new.first > last[block.id] + 1:
            return None
        last[block.id] = new.last
        reports.append(new)
    return reports


def _lacks_reports(request: Request, last: Mapping[AttemptId, int]) -> bool:
    """Whether a checkpoint or an end names a report that is neither known nor sent."""
    ahead = any(one.report > last.get(one.id, one.report) for one in request.checkpoints)
    return ahead or any(
        end.last_report != last.get(end.id, end.last_report) for end in request.ends
    )


def _new_checkpoints(
    roster: Roster, request: Request, last: Mapping[AttemptId, int]
) -> Iterator[Checkpoint]:
    """Those that the sweep does not know yet."""
    for one in request.checkpoints:
        if one.id in last and roster.trials[one.id.trial].takes(one, last[one.id]):
            yield one


def _trial_is_assigned(roster: Roster, id_: AttemptId) -> bool:
    return roster.trials[id_.trial].state is TrialState.ASSIGNED


def _can_start_anew(roster: Roster, id_: AttemptId) -> bool:
    return roster.trials[id_.trial].can_start_anew
