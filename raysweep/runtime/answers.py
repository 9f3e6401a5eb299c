"""What a controller answers to a slot's request, wherever it runs.

One rule: an answer follows from the state and the request alone, so that a controller on Ray and
one on a virtual clock cannot differ. When an answer may leave is the controller's to say.
"""

from __future__ import annotations

from raysweep.core.events import Exchanged
from raysweep.core.exchange import Refusal, Reply, Request
from raysweep.core.state import SweepState
from raysweep.runtime import pace


def has_effect(state: SweepState, news: Exchanged) -> bool:
    """Whether this exchange is worth a record: it says something, or can be given something."""
    known = state.slots.get(news.slot)
    if known is None or (known.incarnation, known.places) != (news.incarnation, news.places):
        return True
    if known.ahead != news.ahead:
        return True
    return news.has_news or state.can_assign(news.slot)


def no_news(request: Request, time: float) -> Exchanged:
    """What a request comes to once all that it says is known: the slot is there."""
    return Exchanged(
        time=time,
        slot=request.slot,
        incarnation=request.incarnation,
        places=request.places,
        ahead=request.ahead,
    )


def reply(
    state: SweepState, request: Request, *, epoch: int, slots: int, leave: float | None = None
) -> Reply:
    """The answer to a request that was taken, in a sweep of so many slots.

    Args:
        state: what the sweep has come to.
        request: what the slot said.
        epoch: the controller's.
        slots: how many there are.
        leave: seconds until the slot's machine is taken away; None: it stays.
    """
    assigns, stops, drops = state.owed(request)
    return Reply(
        epoch=epoch,
        sequence=request.sequence,
        acknowledged=state.acknowledged(request),
        assigns=tuple(assigns),
        stops=tuple(stops),
        drops=tuple(drops),
        tick=pace.tick(slots),
        close=state.over,
        leave=leave,
    )


def refusal(state: SweepState, request: Request, why: Refusal, *, epoch: int) -> Reply:
    """The answer to a request that had no effect; after a gap it says from where to repeat."""
    return Reply(
        epoch=epoch,
        sequence=request.sequence,
        refused=why,
        acknowledged=state.acknowledged(request) if why is Refusal.GAP else (),
    )
