"""What is shown of a running sweep: a live table on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

from raysweep.runtime.status import Status

ScreenKind = Literal["auto", "live", "lines", "none"]


@contextlib.contextmanager
def shown(kind: ScreenKind) -> Iterator[Callable[[Status | None], None]]:
    """A watcher that shows each status it is given."""
    def lines(status: Status | None) -> None:
        for line in status.log if status else ():
            print(line)
    yield lines
