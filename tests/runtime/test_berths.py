"""Slots of a sweep that come and go on one node at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.runtime.command.cache import Berth, user_cache
from raysweep.storage.private import PLACE

COME_AND_GO = """
import sys
from raysweep.runtime.command.cache import Berth
for _ in range(60):
    berth = Berth.taken(sys.argv[1])
    (berth.place / "mine").touch()
    assert (berth.place / "mine").exists()
    berth.left()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node of the test's own."""
    monkeypatch.setenv(PLACE, str(tmp_path))
    return tmp_path


def test_slots_do_not_take_each_others_place(here: Path) -> None:
    """Four at once, of two sweeps, again and again: no error, and nothing is left."""
    slots = [
        subprocess.Popen([sys.executable, "-c", COME_AND_GO, sweep])
        for sweep in ("a", "b", "a", "b")
    ]
    assert [0] * 4 == [slot.wait(120) for slot in slots]
    assert not [path for path in here.rglob("*") if path.is_dir() and "trials" in path.name]


def test_what_a_dead_slot_left_goes_with_the_next_one() -> None:
    """Its berth, and the whole cache of a sweep that has no other on this node."""
    script = "import os, sys; from raysweep.runtime.command.cache import Berth;"
    script += (
        "b = Berth.taken(sys.argv[1]); (b.cache / 'inputs').mkdir(); print(b.place); os._exit(9)"
    )
    died = subprocess.run(
        [sys.executable, "-c", script, "dead"], stdout=subprocess.PIPE, text=True, check=False
    )
    left = Path(died.stdout.strip())
    assert left.exists()
    berth = Berth.taken("other")
    assert not left.parent.exists()
    assert [berth.place.name] == berth.left()


def test_a_held_place_stays() -> None:
    """Also while another slot of the sweep leaves, and with what they share."""
    one, two = Berth.taken("a"), Berth.taken("a")
    (one.cache / "inputs").mkdir()
    assert [two.place.name] == two.left()
    assert one.place.exists()
    assert (one.cache / "inputs").exists()
    assert [one.place.name] == one.left()
    assert not one.cache.exists()


def test_environments_are_nobodys_to_clear(here: Path) -> None:
    """They are kept under the same folder when one is named, and outlive every sweep."""
    (user_cache() / "environments").mkdir()
    Berth.taken("a").left()
    assert here in user_cache().parents
    assert (user_cache() / "environments").exists()
