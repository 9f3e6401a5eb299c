"""The sampler benchmark keeps what it ran, runs what is missing, and says what the runs say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import contenders
import documents
import early
import figures
import latency
import numpy as np
import pytest
import race
import summary
import tables
import versions
from plan import Job, races
from store import RACES, SWEEPS, Store, about

from raysweep.cli.benching import SUITE


def row(contender: str, seed: int, regrets: list[float], **changes: Any) -> dict[str, Any]:  # noqa: ANN401  (columns)
    """A run of a made-up contender."""
    return {
        "task": "mlp/car",
        "contender": contender,
        "policy": "",
        "version": "1",
        "workers": 1,
        "seed": seed,
        "budget": len(regrets),
        "regrets": regrets,
        "ends": [float(at + 1) for at in range(len(regrets))],
        "asks": [0.01] * len(regrets),
        "busy": 0.9,
        **changes,
    }


def job(*seeds: int, budget: int = 2) -> Job:
    """A job of the made-up contender."""
    return Job(task="mlp/car", contender="ours", workers=1, budget=budget, seeds=seeds)


class TestStore:
    """What was run is there, once."""

    def test_what_is_there_is_not_missing(self, tmp_path: Path) -> None:
        """Of this version, and as long as is asked for; a store opened anew knows it, too."""
        store = Store(tmp_path, "race", RACES)
        store.add([row("ours", 0, [0.5, 0.4])])
        for known in (store, Store(tmp_path, "race", RACES)):
            assert known.missing(job(0), "1") is None
            assert job(1) == known.missing(job(0, 1), "1")
            assert job(0) == known.missing(job(0), "2")
            assert job(0, budget=3) == known.missing(job(0, budget=3), "1")

    def test_a_longer_run_takes_the_place_of_a_shorter_one(self, tmp_path: Path) -> None:
        """Whatever the order in which they came; one file a contender is left."""
        store = Store(tmp_path, "race", RACES)
        store.add([row("ours", 0, [0.5, 0.4, 0.3])])
        store.add([row("ours", 0, [0.5, 0.4]), row("theirs", 0, [0.5])])
        store.merge()
        assert ["race-ours.parquet", "race-theirs.parquet"] == sorted(
            file.name for file in tmp_path.iterdir()
        )
        assert [3, 1] == [each["budget"] for each in Store(tmp_path, "race", RACES).rows()]

    def test_an_earlier_version_gives_way(self, tmp_path: Path) -> None:
        """A figure is of one version; what the latest has not run again yet is there all the same."""
        store = Store(tmp_path, "race", RACES)
        store.add([row("ours", 0, [0.5]), row("ours", 1, [0.5])])
        store.merge()
        store.add([row("ours", 1, [0.4], version="2")])
        store.merge()
        assert [("2", 1)] == [(each["version"], each["seed"]) for each in store.rows()]
        assert Store(tmp_path, "race", RACES).missing(job(0, 1, budget=1), "1") == job(1, budget=1)

    def test_files_of_longer_runs_lie_side_by_side(self, tmp_path: Path) -> None:
        """What is run once more, for longer, is new each time that it is kept."""
        store = Store(tmp_path, "race", RACES)
        store.add([row("ours", 0, [0.5]), row("ours", 1, [0.5])])
        store.add([row("ours", 0, [0.5, 0.4])])
        store.add([row("ours", 1, [0.5, 0.4])])
        assert [2, 2] == [each["budget"] for each in Store(tmp_path, "race", RACES).rows()]

    def test_what_runs_were_made_with_stays_when_they_are_merged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On another machine, of which later runs are: both are told, once each."""
        kept = Store(tmp_path, "race", RACES)
        for machine in ("laptop", "cluster", "cluster"):
            monkeypatch.setattr("store._about", lambda made=machine: {"machine": made})
            kept.add([row("ours", 0, [0.5])])
            kept.merge()
        assert {"machine": "laptop; cluster"} == about(tmp_path)

    def test_kinds_of_runs_lie_side_by_side(self, tmp_path: Path) -> None:
        """Neither takes the other's."""
        Store(tmp_path, "race", RACES).add([row("ours", 0, [0.5])])
        assert [] == Store(tmp_path, "early", SWEEPS).rows()


class TestVersions:
    """What a contender is made of."""

    def test_a_sampler_is_its_own_modules(self) -> None:
        """And those that they import, by name; none of the samplers beside it."""
        assert {"random", "sampler"} == versions._modules("random", set())
        ours = versions._modules("bayesian", set())
        assert {"bayesian", "gaussian_process", "layout", "sobol"} < ours
        assert not {"tpe", "grid", "auto"} & ours
        assert versions.version("random") == versions.version("random-x2")

    def test_a_policy_is_its_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other settings under the same name are to be run again."""
        before = versions.version("random", "truncation")
        assert versions.version("random") != before != versions.version("random", "none")
        monkeypatch.setitem(early.WAYS, "truncation", early.WAYS["bandit"])
        assert before != versions.version.__wrapped__("random", "truncation")


class TestRace:
    """A run on a virtual clock."""

    def test_results_arrive_in_the_order_of_their_ends(self) -> None:
        """With more workers the same trials are over sooner, and nothing is lost."""
        task = tables.load("mlp/kc1")
        alone = race.run(task, "random", workers=1, budget=12, seed=3)
        together = race.run(task, "random", workers=4, budget=12, seed=3)
        assert 12 == len(alone.regrets) == len(together.regrets)
        assert (np.diff(together.ends) >= 0).all()
        assert together.ends[-1] < alone.ends[-1]
        assert 0 < together.busy <= 1 + 1e-9

    def test_twice_random_has_two_trials_for_each(self) -> None:
        """Its regret after k trials is random's after 2 k."""
        task = tables.load("mlp/kc1")
        once = race.run(task, "random", workers=2, budget=20, seed=0)
        twice = race.run(task, "random-x2", workers=1, budget=10, seed=0)
        assert once.regrets[1::2].tolist() == twice.regrets.tolist()

    def test_a_run_repeats(self) -> None:
        """For what does not depend on how long an ask takes: one worker."""
        task = tables.load("mlp/kc1")
        runs = [race.run(task, "bayesian", workers=1, budget=8, seed=1) for _ in range(2)]
        assert runs[0].regrets.tolist() == runs[1].regrets.tolist()


class TestFigures:
    """What is computed of the runs."""

    def test_a_difference_is_paired(self) -> None:
        """Seeds that only one has do not count; what is always lower has an interval below 0."""
        random = np.random.default_rng(0)
        theirs = {(task, seed): random.random() for task in "abcd" for seed in range(9)}
        ours = {key: value - 0.1 - 0.01 * random.random() for key, value in theirs.items()}
        ours["e", 0] = 99.0
        found = figures.difference(ours, theirs)
        assert found is not None
        assert -0.11 < found.low < found.mean < found.high < -0.1

    def test_tasks_weigh_alike(self) -> None:
        """However many runs each has."""
        values = {("a", seed): 0.0 for seed in range(9)} | {("b", 0): 1.0}
        assert 0.5 == figures.mean(values).mean

    def test_ranks_share_ties(self) -> None:
        """1 is the best."""
        runs = {"x": {("a", 0): 0.1}, "y": {("a", 0): 0.1}, "z": {("a", 0): 0.3}}
        assert ({"x": 1.5, "y": 1.5, "z": 3.0}, 1) == figures.ranks(runs)

    def test_ranks_are_of_what_all_have_run(self) -> None:
        """A seed that one has not run does not count for the others; nothing common, no ranks."""
        runs = {"x": {("a", 0): 0.1, ("a", 1): 0.9}, "y": {("a", 0): 0.2}}
        assert ({"x": 1.0, "y": 2.0}, 1) == figures.ranks(runs)
        assert ({}, 0) == figures.ranks({"x": {("a", 0): 0.1}, "y": {("b", 0): 0.2}})

    def test_an_interval_is_as_wide_as_the_tasks_and_seeds_make_it(self) -> None:
        """A task that is drawn twice is not drawn with the same seeds: they are other readings."""
        random = np.random.default_rng(1)
        values = {(f"{task}", seed): random.normal() for task in range(40) for seed in range(4)}
        each = np.array([*figures.by_task(values).values()])
        within = np.reshape([*values.values()], (40, 4)).var(axis=1).mean() / 4
        expected = 2 * 1.96 * np.sqrt((each.var() + within) / 40)
        found = figures.mean(values)
        assert expected == pytest.approx(found.high - found.low, rel=0.05)

    def test_the_critical_difference_is_demsars(self) -> None:
        """His table 5: q of five is 2.728, over 14 data sets."""
        assert 2.728 * (5 * 6 / (6 * 14)) ** 0.5 == pytest.approx(
            figures.critical_difference(5, 14), abs=1e-3
        )

    def test_a_speed_up_is_in_trials(self) -> None:
        """Random needs 4 where ours needs 2."""
        ours = figures.grouped([row("ours", 0, [0.5, 0.2])])["ours", 1]
        random = figures.grouped([row("random", 0, [0.9, 0.5, 0.3, 0.2])])["random", 1]
        assert (2.0, True) == figures.speed_up(ours, random, 2)

    def test_a_speed_up_that_random_never_shows_is_more_than_it_had(self) -> None:
        """And says so."""
        ours = figures.grouped([row("ours", 0, [0.5, 0.1])])["ours", 1]
        random = figures.grouped([row("random", 0, [0.9, 0.5, 0.3, 0.2])])["random", 1]
        assert (2.0, False) == figures.speed_up(ours, random, 2)

    def test_a_speed_up_is_of_the_same_tasks_and_seeds(self) -> None:
        """What only random has run, much harder, makes nobody faster."""
        ours = figures.grouped([row("ours", 0, [0.5, 0.2])])["ours", 1]
        rows = [row("random", 0, [0.5, 0.2]), row("random", 1, [9.0, 9.0])]
        random = figures.grouped(rows)["random", 1]
        assert (1.0, True) == figures.speed_up(ours, random, 2)

    def test_a_curve_weighs_tasks_alike(self) -> None:
        """As the intervals about it do."""
        regrets = {("a", seed): np.zeros(3) for seed in range(9)} | {("b", 0): np.ones(2)}
        assert [0.5, 0.5] == figures.mean_curve(regrets).tolist()


def test_any_prefix_of_a_plan_is_fair() -> None:
    """All have the first seeds before anyone has more; slow ones run less."""
    planned = [*races(["a", "b"], ["random", "optuna-gp"], [1, 4], 200, range(10))]
    early = planned[: len(planned) // 2]
    assert {seed for each in early for seed in each.seeds} == set(range(5))
    assert {(1, 100)} == {(j.workers, j.budget) for j in planned if j.contender == "optuna-gp"}


def test_optuna_is_told_what_it_did_not_ask_for() -> None:
    """The latency is that of a study that knows as many trials."""
    made = contenders.CONTENDERS["optuna-tpe"](latency.SPACE, 0)
    params = [latency.SPACE.from_unit(np.full(8, 0.1 * at)) for at in (1, 2, 3)]
    made.learn([(each, latency.score(each)) for each in params])
    _, asked = made.ask()
    assert asked.keys() == latency.SPACE.parameters.keys()


def test_an_ask_that_was_timed_is_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the contender is another by now; what is not asked for stays."""

    def measured(contender: str, *, quick: bool) -> list[dict[str, Any]]:
        assert quick
        return [{"contender": contender, "seconds": [2.0]}]

    monkeypatch.setattr(latency, "measured", measured)
    kept = [
        {"contender": name, "version": "1", "seconds": [1.0]} for name in ("same", "other", "away")
    ]
    rows = latency.renewed(kept, {"same": "1", "other": "2", "new": "1"}, quick=True)
    found = {(row["contender"], row["version"], row["seconds"][0]) for row in rows}
    assert {("same", "1", 1.0), ("away", "1", 1.0), ("other", "2", 2.0), ("new", "1", 2.0)} == found


def test_a_table_has_the_best_first() -> None:
    """By number, after the most trials that there are; those with fewer come last."""
    rows = [
        row("bad", 0, [12.0] * 50), row("good", 0, [0.1] * 50), row("fair", 0, [2.0] * 50),
        row("short", 0, [0.0] * 20),
    ]  # fmt: skip
    shown = summary.regrets(figures.grouped(rows), 1)
    assert ["good", "fair", "bad", "short"] == [*shown.columns[0].cells]


def test_those_that_went_on_are_counted_apart() -> None:
    """A column of few runs does not pass for one of all; pictures are of what all have."""
    rows = [row("ours", seed, [0.5] * (100 if seed else 500)) for seed in range(3)]
    runs = figures.grouped(rows)
    shown = summary.regrets(runs, 1)
    assert ["3, 1 to 500"] == [*shown.columns[-1].cells]
    assert 100 == summary.common(runs.values())


def test_all_tasks_together_are_of_those_who_ran_on_all(tmp_path: Path) -> None:
    """Somebody's mean over the easy ones is not beside the others'; COCO's functions stay apart."""
    tasks = ("mlp/car", "lcbench/1", "bbob/1")
    rows = [row("ours", 0, [0.5] * 20, task=task) for task in tasks]
    Store(tmp_path, "race", RACES).add([*rows, row("theirs", 0, [0.1] * 20)])
    suites = summary.Results.load(tmp_path).suites
    assert ["all", "tables", "lcbench", "coco"] == [*suites]
    assert {("ours", 1)} == suites["all"].keys()
    assert {"mlp/car", "lcbench/1"} == suites["all"]["ours", 1].tasks
    assert {("ours", 1), ("theirs", 1)} == suites["tables"].keys()


@pytest.mark.parametrize("page", documents.PAGES, ids=lambda page: page.name)
def test_pages_have_their_tables_from_the_runs(page: Path) -> None:
    """`python benchmarks/samplers/documents.py` writes them."""
    written = page.read_text(encoding="utf-8")
    assert documents.filled(written, documents.blocks()) == written


@pytest.mark.ray
def test_the_command_runs_resumes_and_writes_its_page(tmp_path: Path) -> None:
    """On a Ray of its own; the second time there is nothing left to do."""
    small = ["--contenders", "random,tpe", "--workers", "2", "--budget", "20", "--seeds", "1"]
    command = [sys.executable, str(SUITE), "--suite", "tables,latency", *small]
    command += ["--part", "development"]
    command += ["--out", str(tmp_path), "--cpus", "1"]
    quick = os.environ | {"QUICK": "1"}
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=quick)
        for _ in range(2)
    ]
    assert "mean normalised regret, 2 workers" in said[0].stdout
    assert said[0].stdout == said[1].stdout
    assert "runs" not in said[1].stderr
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "Real tables" in page
    assert "What one ask takes" in page


def test_the_command_takes_its_own_defaults() -> None:
    """It stumbled over one that it did not know."""
    program = "import bench; print(bench.main.make_context('bench', []).params['chosen'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SUITE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "['tables', 'early', 'latency']\n" == done.stdout


def test_a_page_of_early_termination_marks_the_recommended_policy() -> None:
    """And says what was lost with its interval."""
    common = {"task": "lcbench/1", "sampler": "random", "workers": 4, "trials": 64, "seed": 0}
    about = {"error": 0.1, "regret": 0.1, "least_regret": 0.1, "seconds": 9.0, "stopped": 0}
    rows = [
        {**common, **about, "policy": "none", "epochs": 3200, "saved": 0.0, "winner_stopped": False},
        {**common, **about, "policy": "truncation", "epochs": 900, "saved": 0.7,
         "winner_stopped": True, "regret": 0.11},
    ]  # fmt: skip
    shown = summary.early_table(rows, "random")
    policies = [*shown.columns[0].cells]
    assert ["none", "truncation *"] == policies
