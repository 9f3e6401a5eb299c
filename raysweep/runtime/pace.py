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
WORTH_WAITING = 0.01  # share of a trial's time that a place may wait for a sampler that knows all
SPARE = 0.5  # share of its time that such a sampler is busy at most
BATCH = 0.1  # seconds until the first of several proposals is handed out, if one takes less
RESTS = 3  # times as long as an ask took before another is made for mere reports
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


def ahead(slots: int, room: int) -> int:
    """How many trials should wait for so many slots, which together take as many as there is room for.

    Of a sampler that learns nothing, so that what waits is none the worse for it.

    >>> ahead(2, 2), ahead(100, 300)
    (16, 600)
    """
    return max(AHEAD, 2 * slots, 2 * room)


def runs_low(waiting: int, ahead: int) -> bool:
    """Whether so few trials wait that it is worth asking a sampler, which answers many at once."""
    return 2 * waiting <= ahead


def asks_on_demand(ask: float | None, trial: float | None, slots: int) -> bool:
    """Whether a sampler that learns is asked only once a place is free: it then knows all results.

    Where an ask takes next to nothing of a trial's time, and those of all slots leave the sampler
    time to spare. While nobody knows, too: with no result yet there is nothing to run ahead of.

    Args:
        ask: seconds that a proposal takes; None: none was made yet.
        trial: seconds that a trial takes; None: none has ended yet.
        slots: how many there are.

    >>> asks_on_demand(0.1, 60.0, 4), asks_on_demand(1.0, 60.0, 4), asks_on_demand(0.1, 60.0, 400)
    (True, False, False)
    >>> asks_on_demand(None, 60.0, 4), asks_on_demand(5.0, None, 4)
    (True, True)
    """
    if ask is None or trial is None:
        return True
    return ask <= min(WORTH_WAITING, SPARE / slots) * trial


def ahead_of_learning(slots: int) -> int:
    """How many trials of a sampler that learns should wait for so many slots, if any are to.

    Few: each was proposed without what has come to light since.

    >>> ahead_of_learning(1), ahead_of_learning(64)
    (1, 8)
    """
    return max(1, slots // 8)


def has_time(ask: float | None, trial: float | None, slots: int) -> bool:
    """Whether proposing leaves a sampler the time to think again of what it has proposed.

    >>> has_time(1.0, 60.0, 4), has_time(1.0, 60.0, 40)
    (True, False)
    """
    return ask is None or trial is None or ask * slots <= SPARE * trial


def batch(wanted: int, ask: float | None) -> int:
    """How many of so many trials a sampler that learns is asked for at once.

    None waits long for those after it, and these know what came in meanwhile.

    Args:
        wanted: how many are.
        ask: seconds that a proposal takes; None: nobody knows.

    >>> batch(8, None), batch(8, 2.0), batch(8, 0.03), batch(8, 0.0)
    (1, 1, 3, 8)
    """
    if ask is None:
        return 1
    return max(1, min(wanted, int(BATCH / ask))) if ask else wanted


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
