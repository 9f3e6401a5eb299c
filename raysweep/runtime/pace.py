"""The pace of a sweep: how often slots speak, what they hold ready, how far the sampler runs ahead.

One rule: a slot speaks at once when a place is free, after a tick when it has something to say,
and now and then to show that it is there; so a controller's load grows with its slots, never with
their reports.
"""

from __future__ import annotations

import math

from raysweep.core.exchange import SlotBook

HEARTBEAT = 1.0  # seconds between requests with nothing to say
AGAIN = 0.3  # seconds between requests while no controller answers
LEAST_TICK = 0.05  # seconds that a slot gathers reports, at least
EASE = 50  # times as long as an exchange takes a slot gathers, at least: it costs the trials
REQUESTS_A_SECOND = 500  # that the slots together may make: the tick grows with their number
MOST_MARGIN = 10.0  # seconds: what a clock may be off by, and what it takes to kill a trial
AHEAD = 16  # trials that wait for a slot, at least, so that a sampler's time is nobody's
WORTH_A_QUEUE = 0.0005  # share of a trial's time that an exchange may take
LONGEST_QUEUE = 32  # trials
AT_HAND = 0.5  # seconds of work that a slot has at hand, so that it need not ask for each trial
LEAST_PATIENCE = 1.0  # seconds that a trial may lie in a slot's queue, however short others are
FRESH = 0.2  # how much the latest of several durations counts


def tick(slots: int) -> float:
    """Seconds that each of so many slots gathers reports before its next request.

    >>> tick(2), tick(1_000)
    (0.05, 2.0)
    """
    return max(LEAST_TICK, slots / REQUESTS_A_SECOND)


def eased(tick: float, exchange: float | None) -> float:
    """The same for a slot whose exchanges take so long, in seconds; None: nobody knows yet.

    >>> eased(0.05, 0.0005), eased(0.05, 0.004), eased(0.05, 20.0)
    (0.05, 0.2, 1.0)
    """
    return tick if exchange is None else max(tick, min(HEARTBEAT, EASE * exchange))


def margin(lease: float) -> float:
    """Seconds beyond a slot's lease before its trials go elsewhere; half of it is the template's.

    >>> margin(300.0), margin(4.0)
    (10.0, 4.0)
    """
    return min(MOST_MARGIN, lease)


def ahead(slots: int, room: int, *, learns: bool) -> int:
    """How many trials should wait for so many slots, which together take as many as there is room for.

    Of a sampler that learns few: what waits was proposed without what has come to light since.
    """
    return max(1, slots // 8) if learns else max(AHEAD, 2 * slots, 2 * room)


def runs_low(waiting: int, ahead: int, *, learns: bool) -> bool:
    """Whether so few trials wait that it is worth asking a sampler, which answers many at once."""
    return learns or 2 * waiting <= ahead


def queue(exchange: float, trial: float) -> int:
    """How many trials a slot should hold beyond those that run.

    As many as end while it asks for more, twice, or in half a second; none where asking takes next
    to nothing of a trial's time.

    Args:
        exchange: seconds from a request to its reply.
        trial: seconds that a trial takes.

    >>> queue(0.005, 60.0), queue(0.005, 2.0), queue(0.005, 0.1), queue(0.02, 0.004)
    (0, 1, 5, 32)
    """
    if exchange < WORTH_A_QUEUE * trial:
        return 0
    wanted = max(2 * exchange, AT_HAND)
    return min(LONGEST_QUEUE, math.ceil(wanted / trial)) if trial > 0 else LONGEST_QUEUE


def patience(trial: float) -> float:
    """Seconds that what a slot holds ready waits there for a trial that usually takes so long."""
    return max(LEAST_PATIENCE, 4 * trial)


def average(before: float | None, latest: float) -> float:
    """What something usually takes, seconds: of the latest times, the later ones first."""
    return latest if before is None else before + FRESH * (latest - before)


def due(book: SlotBook, sent: float, *, tick: float, heartbeat: float = HEARTBEAT) -> float:
    """When a slot makes its next request, having sent the one before at `sent`.

    At once when a place is free: the controller holds its reply until there is a trial. Soon when a
    trial would have to wait with its next report.
    """
    if book.urgent or not book.holds:
        return sent
    if book.crowded:
        tick = min(tick, LEAST_TICK)
    return sent + (tick if book.waiting else max(heartbeat, tick))
