"""Result files: what a journal says, as tables that pandas, DuckDB and pyarrow agree about."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.core.events import (
    AttemptId,
    CancelAsked,
    Checkpoint,
    End,
    Ending,
    Event,
    Exchanged,
    Opened,
    Params,
    Proposed,
    Reports,
    SlotLost,
    StopCause,
    TrialsTimedOut,
)
from raysweep.core.policies import Bandit, NoPolicy, Policy
from raysweep.core.samplers import Random, trial_seed
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.core.state import SweepState
from raysweep.core.trials import TrialState
from raysweep.errors import SweepNotFoundError
from raysweep.storage import dataset
from raysweep.storage.dataset import export
from raysweep.storage.folder import SweepFolder
from raysweep.storage.journal import Journal

NAN, INF = math.nan, math.inf
SEED = 7


class Sweep:
    """A sweep with one slot, driven by hand: a state, and a journal of all that it was told."""

    def __init__(self, path: Path, policy: Policy | None = None) -> None:
        spec = SweepSpec(
            name="wines",
            space=Space({"x": uniform(0, 1)}),
            objective=maximize("score"),
            sampler=Random(),
            seed=SEED,
            policy=policy or NoPolicy(),
            limits=Limits(max_total_trials=100, trial_timeout=1000),
            max_attempts=2,
        )
        self.folder = SweepFolder(path / "wines")
        self.folder.create(spec, origin={}, files={})
        self.journal, _ = Journal.open(self.folder.journal)
        self.state = SweepState(spec)
        self.incarnation = 1
        self.clock = 0.0
        self.tell(Opened(time=0.0, epoch=1, slots_kept=True))

    def tell(self, event: Event) -> None:
        """Apply, journal and commit an event."""
        self.journal.append(event, self.state.apply(event))
        self.journal.write(self.journal.seal())

    def now(self) -> float:
        """A second later than the last time."""
        self.clock += 1.0
        return self.clock

    def propose(self, *params: Params) -> None:
        """Propose trials, and let the slot take and begin them."""
        self.tell(Proposed(time=self.now(), params=params))
        self.exchange()
        self.exchange()

    def exchange(self, **said: Any) -> None:  # noqa: ANN401  (the fields of `Exchanged`)
        """Let the slot say something; what it was given before has begun."""
        assigned = [t.id for t in self.state.trials if t.state is TrialState.ASSIGNED]
        self.tell(
            Exchanged(
                time=self.now(),
                slot=0,
                incarnation=self.incarnation,
                places=100,
                begun=tuple(assigned),
                **said,
            )
        )

    def reports(self, trial: int, /, **metrics: list[float]) -> Reports:
        """The trial's next reports: a list of values a metric."""
        record = self.state.trials[trial]
        rows = list(zip(*metrics.values(), strict=True))
        first = record.last_report + 1
        return Reports(
            id=record.id,
            first=first,
            names=tuple(metrics),
            times=array("d", [float(first + n) for n in range(len(rows))]).tobytes(),
            values=array("d", [value for row in rows for value in row]).tobytes(),
        )

    def report(self, trial: int, /, **metrics: list[float]) -> None:
        """Let a trial report."""
        self.exchange(reports=(self.reports(trial, **metrics),))

    def checkpoint(self, trial: int) -> str:
        """Announce a checkpoint of the trial's last report; returns its path."""
        record = self.state.trials[trial]
        path = f"checkpoints/{trial}-{record.attempt}-{record.last_report}.arrow"
        one = Checkpoint(
            id=record.id, report=record.last_report, path=path, size=1, checksum="crc32:0"
        )
        self.exchange(checkpoints=(one,))
        return path

    def end(self, trial: int, ending: Ending = Ending.RETURNED, error: str = "") -> None:
        """End the trial's attempt."""
        record = self.state.trials[trial]
        end = End(id=record.id, last_report=record.last_report, ending=ending, error=error)
        self.exchange(ends=(end,))

    def lose_slot(self) -> None:
        """Lose the slot; its successor takes up what it held."""
        self.tell(SlotLost(time=self.now(), slot=0, incarnation=self.incarnation, cause="gone"))
        self.incarnation += 1
        self.exchange()
        self.exchange()

    def curve(self, trial: int) -> list[float]:
        """The trial's counted values, as the policies see them."""
        history = self.state.history
        return [history.value(trial, k) for k in range(1, history.intervals(trial) + 1)]

    def rows(self, table: str = "metrics", where: str = "true") -> list[dict[str, Any]]:
        """Export, and read some of a table's rows."""
        export(self.folder)
        source = self.folder.path / ("metrics" if table == "metrics" else f"{table}.parquet")
        found = duckdb.from_arrow(pq.read_table(source)).filter(where)
        return found.to_arrow_table().to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types

    def trial(self, number: int = 0) -> dict[str, Any]:
        """Export, and read one trial's row."""
        return self.rows("trials")[number]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Makes the test's sweep."""
    made: list[Sweep] = []

    def sweep(policy: Policy | None = None) -> Sweep:
        made.append(Sweep(tmp_path, policy))
        return made[-1]

    yield sweep
    for one in made:
        one.journal.close()


Make = Callable[..., Sweep]


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row[name] for name in names) for row in rows]


def same(ours: list[float], theirs: list[float]) -> bool:
    """Whether two curves are the same, NaN included."""
    return array("d", ours).tobytes() == array("d", theirs).tobytes()


# --- trials ---------------------------------------------------------------------------------------


def test_a_completed_trial_has_all_its_columns(make: Make) -> None:
    """One row says what a trial had, did and came to."""
    sweep = make()
    sweep.propose({"x": 0.25})
    sweep.report(0, score=[0.1, 0.9])
    path = sweep.checkpoint(0)
    sweep.report(0, score=[0.5])
    sweep.end(0)
    expected = {
        "trial": 0, "state": "completed", "reason": "ran to its end", "error": "",
        "attempts": 1, "failures": 0, "losses": 0, "intervals": 3, "best": 0.9,
        "best_interval": 2, "began": 3.0, "ended": 7.0, "seconds": 4.0, "checkpoint": path,
        "seed": trial_seed(SEED, 0), "params.x": 0.25,
    }  # fmt: skip
    assert expected == sweep.trial()


def test_a_trial_that_has_not_begun_has_nulls(make: Make) -> None:
    """What is not known yet is null, not zero."""
    sweep = make()
    sweep.tell(Proposed(time=1.0, params=({"x": 0.5},)))
    row = sweep.trial()
    unknown = ("best", "best_interval", "began", "ended", "seconds", "checkpoint")
    assert [(None,) * len(unknown)] == columns([row], *unknown)
    assert (row["state"], row["attempts"], row["intervals"]) == ("waiting", 0, 0)


def test_a_value_that_is_not_finite_is_never_best(make: Make) -> None:
    """NaN and infinity are intervals, and no best."""
    sweep = make()
    sweep.propose({"x": 0.5})
    sweep.report(0, score=[NAN, 0.3, INF, 0.3])
    assert [(4, 0.3, 2)] == columns([sweep.trial()], "intervals", "best", "best_interval")


def test_a_checkpoint_after_the_best_interval_is_not_the_bests(make: Make) -> None:
    """The checkpoint column names the nearest one at or before the best interval."""
    sweep = make()
    sweep.propose({"x": 0.5})
    sweep.report(0, score=[0.1])
    before = sweep.checkpoint(0)
    sweep.report(0, score=[0.9, 0.2])
    sweep.checkpoint(0)
    assert before == sweep.trial()["checkpoint"]


def test_failures_and_losses_are_counted_apart(make: Make) -> None:
    """A lost attempt is no failure, and the error is the last one's."""
    sweep = make()
    sweep.propose({"x": 0.5})
    sweep.lose_slot()
    sweep.end(0, Ending.RAISED, "ValueError: first")
    sweep.exchange()
    sweep.end(0, Ending.RAISED, "ValueError: second")
    row = sweep.trial()
    assert [(3, 2, 1)] == columns([row], "attempts", "failures", "losses")
    assert ("failed", "ValueError: second") == (row["state"], row["error"])


def test_nested_parameters_are_joined_with_dots(make: Make) -> None:
    """A conditional parameter is null where its trial does not have it."""
    sweep = make()
    sweep.propose(
        {"net": {"kind": "conv", "filters": {"first": 8}}, "lr": 0.1},
        {"net": {"kind": "tree", "depth": 3}, "lr": 0.2},
    )
    names = ("params.net.kind", "params.net.filters.first", "params.net.depth", "params.lr")
    expected = [("conv", 8, None, 0.1), ("tree", None, 3, 0.2)]
    assert expected == columns(sweep.rows("trials"), *names)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([1, None], pa.int64(), [1, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([0.5, 2.5], pa.float64(), [0.5, 2.5]),
        (["adam", "sgd"], pa.string(), ["adam", "sgd"]),
        ([True, False], pa.bool_(), [True, False]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["adam", 3], pa.string(), ['"adam"', "3"]),
        ([[1, 2], None], pa.string(), ["[1, 2]", None]),
        ([{}, {}], pa.string(), ["{}", "{}"]),
        ([None, None], pa.string(), [None, None]),
        ([2**63, 1], pa.string(), [str(2**63), "1"]),
    ],
)
def test_a_parameter_has_the_type_of_its_values(
    make: Make, values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    """Native where all values are alike, float64 for ints among floats, JSON text otherwise."""
    sweep = make()
    sweep.propose(*({"p": value} for value in values))
    export(sweep.folder)
    column = pq.read_table(sweep.folder.path / "trials.parquet")["params.p"]
    assert (kind, expected) == (column.type, column.to_pylist())


# --- metrics --------------------------------------------------------------------------------------


def test_a_report_is_a_row_in_the_order_of_the_journal(make: Make) -> None:
    """Trials interleave as they reported."""
    sweep = make()
    sweep.propose({"x": 0.1}, {"x": 0.2})
    sweep.exchange(reports=(sweep.reports(1, score=[0.5, 0.6]), sweep.reports(0, score=[0.1])))
    sweep.report(1, score=[0.7])
    names = ("trial", "attempt", "report", "interval", "seconds", "counted", "metrics.score")
    expected = [
        (1, 1, 1, 1, 1.0, True, 0.5),
        (1, 1, 2, 2, 2.0, True, 0.6),
        (0, 1, 1, 1, 1.0, True, 0.1),
        (1, 1, 3, 3, 3.0, True, 0.7),
    ]
    assert expected == columns(sweep.rows(), *names)


def test_a_metric_that_a_report_lacks_is_null_and_nan_stays_nan(make: Make) -> None:
    """Null is not reported; NaN and infinity are what was reported."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[NAN], loss=[-INF])
    sweep.report(0, lr=[0.5], score=[1.0])
    first, second = sweep.rows()
    assert math.isnan(first["metrics.score"])
    assert [(-INF, None)] == columns([first], "metrics.loss", "metrics.lr")
    assert [(1.0, None, 0.5)] == columns([second], "metrics.score", "metrics.loss", "metrics.lr")


def test_a_report_without_the_primary_metric_is_no_interval(make: Make) -> None:
    """It has no interval, does not count, and the intervals go on after it."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.exchange(reports=(sweep.reports(0, score=[0.1]),))
    sweep.report(0, loss=[3.0, 2.0])
    sweep.report(0, score=[0.2])
    expected = [(1, 1, True), (2, None, False), (3, None, False), (4, 2, True)]
    assert expected == columns(sweep.rows(), "report", "interval", "counted")


def test_metrics_that_change_within_one_exchange_keep_their_intervals(make: Make) -> None:
    """Several blocks of one trial in one event are numbered one after another."""
    sweep = make()
    sweep.propose({"x": 0.1})
    first = sweep.reports(0, score=[0.1, 0.2])
    second = replace(sweep.reports(0, loss=[1.0]), first=3)
    third = replace(sweep.reports(0, loss=[0.5], score=[0.3]), first=4)
    sweep.exchange(reports=(first, second, third))
    expected = [(1, 1, 0.1), (2, 2, 0.2), (3, None, None), (4, 3, 0.3)]
    assert expected == columns(sweep.rows(), "report", "interval", "metrics.score")


def test_reports_after_a_policys_stop_do_not_count(make: Make) -> None:
    """Neither the rest of the batch that was decided on, nor what comes later."""
    sweep = make(Bandit(slack_amount=0.1))
    sweep.propose({"x": 0.1}, {"x": 0.2})
    sweep.report(0, score=[0.5, 0.9, 0.9])
    sweep.report(1, score=[0.5, 0.6, 0.2, 0.95])
    sweep.report(1, score=[0.99])
    sweep.end(1, Ending.OBEYED)
    rows = sweep.rows(where="trial = 1")
    after = [(report, None, False) for report in (3, 4, 5)]
    expected = [(1, 1, True), (2, 2, True), *after]
    assert expected == columns(rows, "report", "interval", "counted")


def test_reports_after_a_timeout_do_not_count(make: Make) -> None:
    """A stop that no report led to holds from its own moment on."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[0.1])
    sweep.tell(TrialsTimedOut(time=sweep.now(), ids=(AttemptId(0, 1),)))
    sweep.report(0, score=[0.9])
    expected = [(1, 1, True), (2, None, False)]
    assert expected == columns(sweep.rows(), "report", "interval", "counted")


def test_intervals_go_on_from_the_checkpoint_of_a_lost_attempt(make: Make) -> None:
    """What was redone is there twice and counts once, under the later attempt."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[0.1, 0.2])
    sweep.checkpoint(0)
    sweep.report(0, score=[0.3, 0.4])
    sweep.lose_slot()
    sweep.report(0, score=[0.35])
    names = ("attempt", "report", "interval", "counted", "metrics.score")
    expected = [
        (1, 1, 1, True, 0.1),
        (1, 2, 2, True, 0.2),
        (1, 3, 3, False, 0.3),
        (1, 4, 4, False, 0.4),
        (2, 1, 3, True, 0.35),
    ]
    assert expected == columns(sweep.rows(), *names)


def test_an_attempt_that_begins_without_reports_takes_back_what_it_will_redo(make: Make) -> None:
    """Rows stop counting when the next attempt begins, before it has reported itself."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[0.1, 0.2])
    sweep.lose_slot()
    assert [(False,), (False,)] == columns(sweep.rows(), "counted")


def test_an_attempt_that_ignores_its_checkpoint_starts_at_one(make: Make) -> None:
    """Nothing that came before a fresh attempt counts."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[0.1, 0.2])
    sweep.checkpoint(0)
    sweep.lose_slot()
    reports = sweep.reports(0, score=[0.3])
    sweep.exchange(fresh=(reports.id,), reports=(reports,))
    expected = [(1, 1, False), (1, 2, False), (2, 1, True)]
    assert expected == columns(sweep.rows(), "attempt", "interval", "counted")


def test_parts_are_cut_at_their_most_rows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is in one part, in order, in row groups; every part has every column."""
    monkeypatch.setattr(dataset, "ROWS_PER_PART", 5)
    monkeypatch.setattr(dataset, "ROWS_AT_ONCE", 2)
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.report(0, score=[float(n) for n in range(7)])
    sweep.report(0, score=[7.0], late=[1.0])
    rows = sweep.rows()
    files = sorted((sweep.folder.path / "metrics").iterdir())
    parts = [pq.ParquetFile(file) for file in files]
    assert ["part-00000.parquet", "part-00001.parquet"] == [file.name for file in files]
    assert [(5, 3), (3, 2)] == [(p.metadata.num_rows, p.metadata.num_row_groups) for p in parts]
    assert parts[0].schema_arrow == parts[1].schema_arrow
    assert [float(n) for n in range(8)] == [row["metrics.score"] for row in rows]
    assert [None] * 7 + [1.0] == [row["metrics.late"] for row in rows]


# --- decisions ------------------------------------------------------------------------------------


def test_each_stop_is_a_decision(make: Make) -> None:
    """With the report and the interval it was made at, its cause, its reason and its time."""
    sweep = make(Bandit(slack_amount=0.1))
    sweep.propose({"x": 0.1}, {"x": 0.2}, {"x": 0.3})
    sweep.report(0, score=[0.9, 0.9])
    sweep.report(1, loss=[1.0])
    sweep.report(1, score=[0.2])
    sweep.tell(TrialsTimedOut(time=sweep.now(), ids=(AttemptId(2, 1),)))
    sweep.tell(CancelAsked(time=sweep.now(), reason="enough"))
    rows = sweep.rows("decisions")
    expected = [
        (1, 1, 2, 1, "policy", 6.0),
        (2, 1, None, 0, "trial_timeout", 7.0),
        (0, 1, None, 2, "sweep_ends", 8.0),
    ]
    assert expected == columns(rows, "trial", "attempt", "report", "interval", "cause", "time")
    assert sweep.state.trials[1].reason == rows[0]["reason"]
    assert "enough" == rows[2]["reason"]


def test_a_moot_decision_is_kept(make: Make) -> None:
    """A trial that ran to its end though it was told to stop is completed; the decision stays."""
    sweep = make(Bandit(slack_amount=0.1))
    sweep.propose({"x": 0.1}, {"x": 0.2})
    sweep.report(0, score=[0.9])
    sweep.report(1, score=[0.2])
    sweep.end(1, Ending.RETURNED)
    assert "completed" == sweep.trial(1)["state"]
    assert [(1, "policy")] == columns(sweep.rows("decisions"), "trial", "cause")


# --- files ----------------------------------------------------------------------------------------


def busy(sweep: Sweep) -> Sweep:
    """A sweep with a bit of everything."""
    sweep.propose({"x": 0.1, "kind": "a"}, {"x": 0.2, "kind": {"deep": True}})
    sweep.report(0, score=[0.9, NAN, 0.8])
    sweep.report(1, score=[0.2], loss=[1.0])
    sweep.end(1, Ending.OBEYED)
    sweep.checkpoint(0)
    sweep.lose_slot()
    sweep.report(0, score=[0.95])
    sweep.end(0)
    return sweep


@pytest.mark.parametrize("table", ["trials.parquet", "metrics", "decisions.parquet"])
def test_pandas_duckdb_and_pyarrow_read_the_same(make: Make, table: str) -> None:
    """The three agree about columns, rows, nulls and numbers."""
    sweep = busy(make(Bandit(slack_amount=0.1)))
    path = export(sweep.folder) / table
    pattern = f"{path}/*.parquet" if path.is_dir() else str(path)
    plain = pq.read_table(path)
    by_duckdb = duckdb.read_parquet(pattern).to_arrow_table()
    by_pandas = pd.read_parquet(path)
    assert plain.num_rows > 0
    assert plain.column_names == by_duckdb.column_names == list(by_pandas.columns)
    assert repr(plain.to_pylist()) == repr(by_duckdb.to_pylist())
    pd.testing.assert_frame_equal(plain.to_pandas(), by_pandas)


def test_an_export_imports_no_pandas(make: Make) -> None:
    """Where there is one, it would cost the end of each sweep 0.2 s."""
    sweep = busy(make(Bandit(slack_amount=0.1)))
    code = (
        "import sys; from pathlib import Path; from raysweep.storage.dataset import export;"
        " from raysweep.storage.folder import SweepFolder;"
        " export(SweepFolder(Path(sys.argv[1]))); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(sweep.folder.path)], check=True)


def test_every_file_says_what_it_is_of(make: Make) -> None:
    """Sweep, format, metric and goal stand in the metadata of each file."""
    folder = export(busy(make()).folder)
    expected = {
        b"raysweep.format": b"1",
        b"raysweep.sweep": b"wines",
        b"raysweep.metric": b"score",
        b"raysweep.goal": b"maximize",
    }
    for name in ("trials.parquet", "metrics/part-00000.parquet", "decisions.parquet"):
        assert expected.items() <= pq.read_schema(folder / name).metadata.items()


def test_an_empty_sweep_gives_empty_tables(make: Make) -> None:
    """Before anything happened there are no rows, and the columns that are always there."""
    folder = export(make().folder)
    tables = {
        "trials.parquet": dataset.TRIALS,
        "metrics": dataset.METRICS,
        "decisions.parquet": dataset.DECISIONS,
    }
    for name, schema in tables.items():
        table = pq.read_table(folder / name)
        assert (0, schema.remove_metadata()) == (table.num_rows, table.schema.remove_metadata())
        pattern = folder / name / "*" if name == "metrics" else folder / name
        assert schema.names == duckdb.read_parquet(str(pattern)).columns
        assert [] == duckdb.read_parquet(str(pattern)).fetchall()


def test_another_export_replaces_the_one_before(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old parts are replaced, parts that are left over go, other files stay."""
    sweep = busy(make())
    monkeypatch.setattr(dataset, "ROWS_PER_PART", 1)
    metrics = export(sweep.folder) / "metrics"
    (metrics / "notes.txt").write_text("mine")
    assert len(list(metrics.glob("*.parquet"))) == sweep.state.reports
    monkeypatch.undo()
    export(sweep.folder)
    assert ["notes.txt", "part-00000.parquet"] == sorted(file.name for file in metrics.iterdir())
    assert sweep.state.reports == pq.read_table(metrics / "part-00000.parquet").num_rows


def test_results_go_to_another_folder_when_asked(make: Make, tmp_path: Path) -> None:
    """The folder is made and returned, and the sweep's own gets nothing."""
    sweep = busy(make())
    before = sorted(sweep.folder.path.rglob("*"))
    there = tmp_path / "a" / "b"
    assert there == export(sweep.folder, there)
    assert ["decisions.parquet", "metrics", "trials.parquet"] == sorted(
        file.name for file in there.iterdir()
    )
    assert before == sorted(sweep.folder.path.rglob("*"))


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    """Nothing is made where no sweep is."""
    with pytest.raises(SweepNotFoundError, match="nothing-here"):
        export(SweepFolder(tmp_path / "nothing-here"))
    assert [] == list(tmp_path.iterdir())


# --- any sweep ------------------------------------------------------------------------------------

VALUES = st.one_of(st.sampled_from([NAN, INF, -INF, 0.0]), st.floats(-1, 1))
SHAPES = [("score",), ("loss", "score"), ("loss",), ("score", "lr")]
SHAPED = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.lists(VALUES, min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)
ENDINGS: Mapping[str, Ending] = {
    "end": Ending.RETURNED,
    "fail": Ending.RAISED,
    "lose": Ending.LOST,
}
# Reports and losses come up often, so that much is redone before a trial ends.
ACTIONS: st.SearchStrategy[str] = st.sampled_from(
    ["report"] * 6 + ["checkpoint"] * 3 + ["lose", "lose slot"] * 2 + ["time out", *ENDINGS]
)
STEPS = st.lists(st.tuples(st.integers(0, 1), ACTIONS, SHAPED), min_size=10, max_size=25)


def blocks(sweep: Sweep, trial: int, shaped: list[tuple[Any, list[float]]]) -> tuple[Reports, ...]:
    """Blocks of one trial that follow one another."""
    made: list[Reports] = []
    for names, values in shaped:
        block = sweep.reports(trial, **dict.fromkeys(names, values))
        made.append(replace(block, first=made[-1].last + 1) if made else block)
    return tuple(made)


def act(sweep: Sweep, trial: int, action: str, shaped: list[Any]) -> None:
    """One thing that may happen to a trial that is running or stopping."""
    record = sweep.state.trials[trial]
    if action == "lose slot":
        sweep.lose_slot()
    elif record.state not in (TrialState.RUNNING, TrialState.STOPPING):
        sweep.exchange()
    elif action == "report":
        unheeded = record.start > 0 and record.last_report == 0 and len(shaped) > 1
        fresh = (record.id,) if unheeded else ()
        sweep.exchange(reports=blocks(sweep, trial, shaped), fresh=fresh)
    elif action == "checkpoint" and record.last_report:
        sweep.checkpoint(trial)
    elif action == "time out":
        sweep.tell(TrialsTimedOut(time=sweep.now(), ids=(record.id,)))
    elif action in ENDINGS:
        sweep.end(trial, ENDINGS[action], "ValueError: no")


@settings(max_examples=40)
@given(steps=STEPS)
def test_what_counts_is_the_history_whatever_happened(
    steps: list[tuple[int, str, list[Any]]],
) -> None:
    """Counted rows in the order of intervals are each trial's curve; no report is lost or doubled."""
    with tempfile.TemporaryDirectory() as path:
        sweep = Sweep(Path(path), Bandit(slack_amount=1.5, delay_evaluation=2))
        sweep.propose({"x": 0.1}, {"x": 0.2})
        for trial, action, shaped in steps:
            act(sweep, trial, action, shaped)
        rows = sweep.rows()
        sweep.journal.close()
    assert sweep.state.reports == len(set(columns(rows, "trial", "attempt", "report"))) == len(rows)
    for trial in range(2):
        counted = [row for row in rows if row["counted"] and row["trial"] == trial]
        counted.sort(key=lambda row: row["interval"])
        curve = sweep.curve(trial)
        assert list(range(1, len(curve) + 1)) == [row["interval"] for row in counted]
        assert same(curve, [row["metrics.score"] for row in counted])


def test_the_parameters_of_json_text_read_back(make: Make) -> None:
    """A column of mixed values gives each of them back."""
    mixed = ["a", 1, [1.5, None], True]
    sweep = make()
    sweep.propose(*({"p": value} for value in mixed))
    assert mixed == [json.loads(row["params.p"]) for row in sweep.rows("trials")]


def test_causes_are_the_words_of_the_core(make: Make) -> None:
    """A decision's cause reads as `StopCause` writes it."""
    sweep = make()
    sweep.propose({"x": 0.1})
    sweep.tell(CancelAsked(time=sweep.now()))
    assert [StopCause.SWEEP_ENDS] == [StopCause(row["cause"]) for row in sweep.rows("decisions")]
