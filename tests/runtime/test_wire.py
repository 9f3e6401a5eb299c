"""What a trial says, as bytes: whatever pieces they come in, the slot hears the same."""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from raysweep.runtime.messages import Message
from raysweep.runtime.wire import Reader, packed

NUMBERS = st.floats(width=64)  # NaN and infinities included
SAID = st.lists(
    st.one_of(
        st.lists(st.text(min_size=1, max_size=40), max_size=4).map(
            lambda names: ["metrics", names]
        ),
        st.just(["fresh"]),
        st.tuples(st.integers(0, 1000), st.text(max_size=100)).map(lambda told: ["saved", *told]),
        st.lists(NUMBERS, min_size=5, max_size=5).map(lambda numbers: ["report", numbers]),
    ),
    max_size=30,
)


@given(said=SAID, cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_what_is_said_is_heard_in_whatever_pieces(said: list[Message], cuts: list[int]) -> None:
    """Each message once, in order; a value that is NaN begins no message."""
    told, expected, width = [], [], 0
    for message in said:
        if message[0] == "report":
            numbers = [1.5, *message[1][:width]]
            told.append(["report", struct.pack(f"={1 + width}d", *numbers)])
            expected += [["report", told[-1][1]]]
        else:
            told.append(message)
            expected.append(message)
            width = len(message[1]) if message[0] == "metrics" else width
    stream = b"".join(map(packed, told))
    ends = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    reader = Reader()
    heard = [one for start, end in pairwise(ends) for one in reader.messages(stream[start:end])]
    assert joined(heard) == joined(expected)
    assert (
        reader.messages(packed(["end"])[:-1]) == []
    )  # nothing is left over, nor heard before its end


def joined(messages: list[Message]) -> list[Message]:
    """The messages with the reports in a row as one."""
    found: list[Message] = []
    for message in messages:
        if message[0] == "report" and found and found[-1][0] == "report":
            found[-1] = ["report", found[-1][1] + message[1]]
        else:
            found.append(message)
    return found


def test_reports_in_a_row_are_heard_at_once() -> None:
    """As one message, whose numbers are theirs."""
    rows = array("d", [0.5, 3.0, 0.6, 2.0, 0.7, 1.0]).tobytes()
    heard = Reader().messages(packed(["metrics", ["loss"]]) + rows + packed(["fresh"]))
    assert heard == [["metrics", ["loss"]], ["report", rows], ["fresh"]]
