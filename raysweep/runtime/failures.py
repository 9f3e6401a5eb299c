"""What is kept of an exception that a trial's code raised.

One rule: it is told in three sizes: a line, a place that tells failures of one kind from others,
and the whole story.
"""

from __future__ import annotations

import os.path
import traceback
from typing import NamedTuple

from raysweep.errors import CommandError

LINE = 500  # characters kept of the line
STORY = 16_000  # of the traceback, its end first: a message must fit a packet


class Failure(NamedTuple):
    """An exception, as an attempt's end tells it."""

    error: str  # `ValueError: shapes do not match`
    where: str  # `train.py:12 in train`: the innermost place; "" when there is none
    traceback: str


def failure(error: BaseException) -> Failure:
    """What is kept of an exception; of a command's failure, what it printed last."""
    if isinstance(error, CommandError):
        line = _sendable(str(error).replace("\n", " ")[:LINE])
        return Failure(line, _sendable(error.kind[:LINE]), _sendable(error.output[-STORY:]))
    line = traceback.format_exception_only(error)[-1].strip().partition("\n")[0]
    story = "".join(traceback.format_exception(error))
    return Failure(_sendable(line[:LINE]), _where(error), _sendable(story[-STORY:]))


def _sendable(text: str) -> str:
    """Text that has a form in UTF-8, whatever the exception said."""
    return text.encode(errors="backslashreplace").decode()


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    file = os.path.basename(frames[-1].filename)  # noqa: PTH119  (a code object's file name need not be a path)
    return f"{file}:{frames[-1].lineno} in {frames[-1].name}"
