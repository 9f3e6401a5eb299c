"""Plain forms: whatever is said or journaled comes back equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.core import exchange
from raysweep.core.events import (
    COMMANDS,
    EVENTS,
    Assign,
    AttemptId,
    Checkpoint,
    End,
    Ending,
    Exchanged,
    Finish,
    Proposed,
    Reports,
    Stop,
    StopCause,
)
from raysweep.core.exchange import Acknowledged, Refusal, Reply, Request
from raysweep.core.plain import from_plain, to_plain
from raysweep.core.state import Phase

ID = AttemptId(3, 2)

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    LEAVES | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
PARAMS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
IDS = st.builds(AttemptId, st.integers(0, 10**6), st.integers(1, 20))
TIMES = st.floats(0, 1e9)
COUNTS = st.integers(0, 10**9)


@st.composite
def blocks(draw: st.DrawFn) -> Reports:
    """Some reports of some metrics, whatever the bytes of their values."""
    names = draw(st.lists(st.text(max_size=5), min_size=1, max_size=3, unique=True))
    count = draw(st.integers(1, 3))
    size = 8 * count * len(names)
    return Reports(
        id=draw(IDS),
        first=draw(st.integers(1, 10**6)),
        names=tuple(names),
        times=bytes(8 * count),
        values=draw(st.binary(min_size=size, max_size=size)),
    )


CHECKPOINTS = st.builds(
    Checkpoint, id=IDS, report=COUNTS, path=st.text(), size=COUNTS, checksum=st.text()
)
ENDS = st.builds(End, id=IDS, last_report=COUNTS, ending=st.sampled_from(Ending), error=st.text())
STOPS = st.builds(Stop, id=IDS, report=COUNTS, cause=st.sampled_from(StopCause), reason=st.text())
ASSIGNS = st.builds(Assign, id=IDS, slot=COUNTS, incarnation=COUNTS, params=PARAMS, start=COUNTS,
                    checkpoint=st.none() | CHECKPOINTS)  # fmt: skip


def some(one: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A few of these."""
    return st.lists(one, max_size=2).map(tuple)


# Where a field's type alone does not say what may be in it.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("epoch", "slot", "incarnation", "sequence", "places", "known", "report", "start"), COUNTS
    ),
    **dict.fromkeys(("max_total_trials", "max_concurrent_trials"), st.none() | COUNTS),
    "time": TIMES,
    "id": IDS,
    "ids": some(IDS),
    "params": PARAMS,
    "paths": some(st.text()),
    "begun": some(IDS),
    "fresh": some(IDS),
    "holds": some(IDS),
    "drops": some(IDS),
    "reports": some(blocks()),
    "checkpoints": some(CHECKPOINTS),
    "ends": some(ENDS),
    "assigns": some(ASSIGNS),
    "stops": some(STOPS),
    "checkpoint": st.none() | CHECKPOINTS,
    "acknowledged": some(st.builds(Acknowledged, id=IDS, report=COUNTS)),
    "tick": TIMES,
}


def any_of(kind: type) -> st.SearchStrategy[Any]:
    """Whatever may be in a dataclass of this kind."""
    fields = [field.name for field in dataclasses.fields(kind)]
    known = {name: FIELDS[name] for name in fields if name in FIELDS}
    if kind is Proposed:
        known["params"] = some(PARAMS)
    return st.builds(kind, **known)


def sent(value: object) -> object:
    """The same, packed and read back."""
    return from_plain(type(value), msgpack.unpackb(msgpack.packb(to_plain(value))))


KINDS: Sequence[type] = (*EVENTS, *COMMANDS, Request, Reply)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_everything_comes_back_equal(kind: type, data: st.DataObject) -> None:
    """Events, commands, requests and replies, over the wire and through the journal."""
    one = data.draw(any_of(kind))
    back = sent(one)
    assert one == back
    assert repr(one) == repr(back)  # 1 and 1.0 and True are equal, and not the same


def test_enums_come_back_as_enums() -> None:
    """And not as the strings that they are stored as."""
    end = End(id=ID, last_report=0, ending=Ending.KILLED)
    reply = Reply(epoch=1, sequence=1, refused=Refusal.GAP)
    assert Ending.KILLED is from_plain(End, to_plain(end)).ending
    assert Refusal.GAP is from_plain(Reply, to_plain(reply)).refused


def test_the_phase_of_an_ended_sweep_is_stored_as_its_word() -> None:
    """`Finish` holds a plain string by its type."""
    assert ["completed", ""] == to_plain(Finish(phase=Phase.COMPLETED, reason=""))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"a": {"b": [1, {"c": None}]}},
        {"a": True, "b": 1, "c": 1.0, "d": "1"},
        MappingProxyType({"a": MappingProxyType({"b": 1})}),
    ],
    ids=repr,
)
def test_params_come_back_as_they_were(params: dict[str, Any]) -> None:
    """Mappings within mappings, whatever kind of mapping they are."""
    back = sent(Proposed(time=0.0, params=(params,)))
    assert isinstance(back, Proposed)
    assert repr(to_plain(params)) == repr(back.params[0])
    assert isinstance(back.params[0], dict)


def test_older_data_leave_the_defaults() -> None:
    """A field that was added at the end reads as its default."""
    plain = to_plain(Exchanged(time=1.0, slot=0, incarnation=1, places=1))
    assert Exchanged(time=1.0, slot=0, incarnation=1, places=1) == from_plain(Exchanged, plain[:4])


def test_kinds_are_journaled_by_a_number_that_stays() -> None:
    """The order of events and commands is the journal's."""
    events = ["Opened", "Proposed", "Exchanged", "SlotLost", "TrialsTimedOut", "SweepTimedOut",
              "CancelAsked", "SamplerFailed", "LimitsChanged", "Suspended", "Revised"]  # fmt: skip
    assert events == [kind.__name__ for kind in EVENTS][: len(events)]
    assert ["Assign", "Stop", "Finish", "Discard"] == [kind.__name__ for kind in COMMANDS][:4]


def test_a_message_is_small() -> None:
    """Names of fields are not in it, so that a heartbeat costs little."""
    heartbeat = Request(epoch=1, slot=2, incarnation=1, sequence=300, places=1)
    assert 16 >= len(msgpack.packb(to_plain(heartbeat)))
    assert "slot" in {field.name for field in dataclasses.fields(exchange.Request)}
