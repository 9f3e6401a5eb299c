"""The split into development and test tasks is what it was on the first day."""

from __future__ import annotations

import json
from pathlib import Path

import lcbench
import live
import split
import tables

GOLDEN = Path(__file__).parents[1] / "golden" / "samplers" / "split.json"
NAMES = [*tables.names(), *lcbench.names(), *live.names()]


def test_split_is_the_one_that_was_frozen() -> None:
    """Both lists, in order: whoever changes a rule or a name changes this file, and is seen."""
    expected = json.loads(GOLDEN.read_text())
    assert expected == {"development": split.development(NAMES), "test": split.test(NAMES)}


def test_every_task_is_on_one_side() -> None:
    """No task is left out, none is tuned on and judged by."""
    assert sorted(NAMES) == sorted([*split.development(NAMES), *split.test(NAMES)])


def test_order_of_names_plays_no_part() -> None:
    """The split is the same however the names are listed."""
    assert split.development(NAMES) == split.development(reversed(NAMES))
    assert split.test(NAMES) == split.test(reversed(NAMES))
