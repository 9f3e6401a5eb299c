"""Libraries that only some checkpoints need, and that `pip install raysweep` does not bring."""

from __future__ import annotations

import importlib
from typing import Any

from raysweep.errors import UserError


def library(module: str, extra: str, why: str) -> Any:  # noqa: ANN401  (a module that may be absent)
    """A module, imported now.

    Args:
        module: its name.
        extra: of raysweep, which brings it.
        why: what the message begins with when it cannot be imported.

    Raises:
        UserError: it cannot; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{why} ({error}): pip install 'raysweep[{extra}]'") from error
