"""What a trial says, as bytes on a stream: reports as bare rows of numbers, all else as msgpack.

One rule: a slot reads any number of reports at the cost of one. A report is a row of float64, its
seconds first; where a row's seconds would be, a message that is none has NaN and the length of what
follows. The rows are as wide as the last `metrics` message says.
"""

from __future__ import annotations

import math
import struct
from array import array
from itertools import takewhile

import msgpack

from raysweep.runtime.messages import Message

HEAD = struct.Struct("=dI")  # NaN, bytes of the message
NUMBER = 8  # bytes
TAG = HEAD.pack(math.nan, 0)[:NUMBER]


def packed(message: Message) -> bytes:
    """A message as it goes over the stream."""
    if message[0] == "report":
        numbers: bytes = message[1]
        return numbers
    body: bytes = msgpack.packb(message)
    return HEAD.pack(math.nan, len(body)) + body


class Reader:
    """The messages of a stream that comes in pieces; reports in a row are one message.

    >>> reader = Reader()
    >>> two = struct.pack("=4d", 0.5, 3.0, 0.6, 2.0)  # after 0.5 s a loss of 3.0, then one of 2.0
    >>> reader.messages(packed(["metrics", ["loss"]]) + two) == [["metrics", ["loss"]], ["report", two]]
    True
    """

    def __init__(self) -> None:
        self._rest = b""  # what has begun and is not whole
        self._width = 1  # numbers of a report

    def messages(self, piece: bytes) -> list[Message]:
        """The messages that are whole with this piece."""
        data, at, said = self._rest + piece, 0, list[Message]()
        while (end := self._end_of_next(data, at)) > at:
            if data.startswith(TAG, at):
                message = msgpack.unpackb(data[at + HEAD.size : end])
                if message[0] == "metrics":
                    self._width = 1 + len(message[1])
            else:
                message = ["report", data[at:end]]
            said.append(message)
            at = end
        self._rest = data[at:]
        return said

    def _end_of_next(self, data: bytes, at: int) -> int:
        """Where the message, or the reports, that begin there end; `at` if they are not whole."""
        if data.startswith(TAG, at):
            if len(data) < at + HEAD.size:
                return at
            end = at + HEAD.size + HEAD.unpack_from(data, at)[1]
            return end if end <= len(data) else at
        row = NUMBER * self._width
        whole = (len(data) - at) // row
        seconds = array("d", data[at : at + whole * row])[:: self._width]
        if math.isnan(sum(seconds)):
            whole = len(list(takewhile(math.isfinite, seconds)))
        return at + whole * row
