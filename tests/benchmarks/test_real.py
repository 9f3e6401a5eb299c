"""Sweeps on Ray are the virtual clock's runs, as far as one can tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import real
import tables

from raysweep.cli.benching import SUITE


class TestPaced:
    """Tasks at another speed."""

    def test_only_the_time_is_another(self) -> None:
        """A trial reports what it did, and takes so long in the mean."""
        task = tables.load("fcnet/slice_localization")
        faster = real.paced(task, 0.5)
        units = np.random.default_rng(1).uniform(size=(400, len(task.space.dimensions)))
        seconds = []
        for seed, unit in enumerate(units):
            params = task.space.from_unit(unit)
            before, after = (
                each.read(params, np.random.default_rng(seed)) for each in (task, faster)
            )
            assert before.value == after.value
            seconds.append(after.seconds)
        assert 0.5 == pytest.approx(np.mean(seconds), rel=0.2)


PROGRAM = """
import json, sys
from pathlib import Path
import bench, real
from plan import Job

bench._connect(None, 2)
job = Job(task="lcbench/3945", contender="random", workers=2, budget=6, seeds=(0, 1))
rows = real.rows(job, Path(sys.argv[1]), ordinary=0.1)
print(json.dumps([{**row, "regrets": [*row["regrets"]], "virtual_regrets": [*row["virtual_regrets"]]} for row in rows]))
"""


@pytest.mark.ray
def test_what_learns_nothing_finds_the_same(tmp_path: Path) -> None:
    """Whichever the clock: the same trials, of the same readings; nothing is left lying about."""
    place = tmp_path / "sweeps"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place)], cwd=SUITE.parent, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert [0, 1] == [row["seed"] for row in found]
    for row in found:
        assert 6 == len(row["regrets"]) == len(row["ends"])
        assert row["virtual_regrets"][-1] == row["regrets"][-1]
        assert row["ends"] == sorted(row["ends"])
        assert 0 < row["busy"] <= 1
    assert not place.exists()
