"""A sweep's results as Parquet, for pandas, polars, DuckDB and whatever reads tables.

One rule: everything here is derived from the journal, so it may be thrown away and written again
at any time, also while the sweep runs.

    trials.parquet          a row a trial, by number; its parameters as `params.<name>`
    metrics/part-*.parquet  a row a report, in the order of the journal; `metrics.<name>`
    decisions.parquet       a row a stop: a policy's, a time limit's, or the end of the sweep

Times are seconds of the sweep's own time, except for `seconds` in metrics, which counts from the
beginning of the attempt. A metric is null where the report did not hold it and NaN where that was
its value. A nested parameter's name is joined with dots; a parameter that a trial does not have is
null; one whose values are not all of one type (ints among floats aside) is JSON text.

An attempt that starts from a checkpoint at interval c goes on at c + 1. What the attempt before it
had reported beyond c is reported again: both rows stay, under their own attempts, with the same
`interval`, and only the later one has `counted`. So `where counted` gives each trial's curve, each
interval once, as the policies and the best trial are judged by. A report without the primary
metric, or after a stop, has no interval and does not count.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.core.events import Exchanged, Params, Reports, Stop, StopCause
from raysweep.core.history import History
from raysweep.core.samplers import trial_seed
from raysweep.core.spec import SweepSpec
from raysweep.core.state import SweepState
from raysweep.core.trials import Trial, TrialState
from raysweep.storage import journal
from raysweep.storage.atomic import replacing
from raysweep.storage.columns import column, numbers
from raysweep.storage.folder import SweepFolder

FORMAT = 1  # of these files; raised when an old reader would misunderstand them
ROWS_PER_PART = 1_000_000
ROWS_AT_ONCE = 125_000  # a row group: enough for a reader's threads, little for memory
INT64 = range(-(2**63), 2**63)

TRIALS = pa.schema(
    [
        ("trial", pa.int64()),
        ("state", pa.string()),
        ("reason", pa.string()),  # why it ended, or is to end
        ("error", pa.string()),  # of its last failed attempt
        ("attempts", pa.int64()),
        ("failures", pa.int64()),  # attempts that failed
        ("losses", pa.int64()),  # attempts lost with their slot
        ("intervals", pa.int64()),
        ("best", pa.float64()),  # the best finite counted value; null without one
        ("best_interval", pa.int64()),
        ("began", pa.float64()),  # the first attempt; null if none has
        ("ended", pa.float64()),
        ("seconds", pa.float64()),  # between the two
        (
            "checkpoint",
            pa.string(),
        ),  # nearest at or before the best; relative to the sweep's folder
        ("seed", pa.int64()),
    ]
)
METRICS = pa.schema(
    [
        ("trial", pa.int64()),
        ("attempt", pa.int64()),
        ("report", pa.int64()),
        ("interval", pa.int64()),
        ("seconds", pa.float64()),
        ("counted", pa.bool_()),
    ]
)
DECISIONS = pa.schema(
    [
        ("trial", pa.int64()),
        ("attempt", pa.int64()),
        ("report", pa.int64()),  # the one that was decided on; null when none was
        ("interval", pa.int64()),  # that the trial had reached
        ("cause", pa.string()),
        ("reason", pa.string()),
        ("time", pa.float64()),
    ]
)

# Contiguous reports of one attempt with the same metrics: where they and their values lie.
BLOCK = np.dtype(
    [
        ("trial", np.int64),
        ("attempt", np.int64),
        ("report", np.int64),  # of the first
        ("interval", np.int64),  # of the first
        ("measured", np.int64),  # so many of them, from the first on, are intervals
        ("names", np.int64),  # which combination of metrics they hold
        ("row", np.int64),  # of the first among all reports
        ("cell", np.int64),  # of the first's first value among all values
    ]
)
Blocks = npt.NDArray[np.void]  # of dtype BLOCK
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def export(folder: SweepFolder, to: Path | None = None) -> Path:
    """Write the results of a sweep as far as its journal goes; safe beside a running controller.

    Each file appears whole, in place of the one of an earlier export.

    Args:
        folder: the sweep.
        to: the folder to write into; the sweep's own without one.

    Returns:
        The folder that was written into.

    Raises:
        SweepNotFoundError: there is no such sweep.
        JournalDamagedError: a committed part of its journal fails its checksum.
        OSError: the files cannot be written.
    """
    replay = _Replay(folder)
    to = folder.path if to is None else to
    (to / "metrics").mkdir(parents=True, exist_ok=True)
    about = _about(replay.state.spec)
    _write(to / "trials.parquet", [_trials(replay.state)], about)
    _write_metrics(to / "metrics", replay, about)
    _write(to / "decisions.parquet", [_table(DECISIONS, replay.decisions)], about)
    if to == folder.path:
        folder.send(to / "trials.parquet", to / "metrics", to / "decisions.parquet")
    return to


class _Replay:
    """What a journal comes to: the state, all reports, all decisions."""

    def __init__(self, folder: SweepFolder) -> None:
        self.state = SweepState(folder.read_spec())
        self.reports = _AllReports()
        self.decisions: list[tuple[Any, ...]] = []  # rows of DECISIONS
        for record in journal.read(folder.journal):
            self._take(record)

    def _take(self, record: journal.Record) -> None:
        blocks = record.event.reports if isinstance(record.event, Exchanged) else ()
        trials = self.state.trials
        upto = {  # the last report of an attempt that counts
            block.id: 0 for block in blocks if trials[block.id.trial].state is TrialState.STOPPING
        }
        for command in self.state.apply(record.event, record.commands):
            if isinstance(command, Stop):
                self._decided(command, record.event.time)
                if command.cause is StopCause.POLICY:
                    upto[command.id] = command.report
        measured = [self._measured(block, upto.get(block.id, sys.maxsize)) for block in blocks]
        for block, count, interval in zip(
            blocks, measured, self._intervals(blocks, measured), strict=True
        ):
            self.reports.add(block, count, interval)

    def _measured(self, block: Reports, upto: int) -> int:
        """How many reports of a block, from its first on, are intervals."""
        if self.state.spec.objective.metric not in block.names:
            return 0
        return max(0, min(block.last, upto) - block.first + 1)

    def _intervals(self, blocks: Sequence[Reports], measured: Sequence[int]) -> list[int]:
        """The interval of each block's first report, counted back from what is reached now."""
        history = self.state.history
        reached = {block.id.trial: history.intervals(block.id.trial) for block in blocks}
        firsts = []
        for block, count in zip(reversed(blocks), reversed(measured), strict=True):
            reached[block.id.trial] -= count
            firsts.append(reached[block.id.trial] + 1)
        return firsts[::-1]

    def _decided(self, stop: Stop, time: float) -> None:
        report = stop.report or None
        interval = self.state.history.intervals(stop.id.trial)
        self.decisions.append((*stop.id, report, interval, str(stop.cause), stop.reason, time))


class _AllReports:
    """Every report of a sweep in flat columns, so that one costs its bytes and no object."""

    def __init__(self) -> None:
        self._blocks = array("q")  # the fields of BLOCK, one block after the other
        self._times = array("d")  # a report
        self._values = array("d")  # a metric of a report
        self._names: dict[tuple[str, ...], int] = {}

    def __len__(self) -> int:
        """How many reports these are."""
        return len(self._times)

    def add(self, block: Reports, measured: int, interval: int) -> None:
        """Append a block whose first report is this interval, if it is one."""
        names = self._names.setdefault(block.names, len(self._names))
        place = (names, len(self._times), len(self._values))
        self._blocks.extend((*block.id, block.first, interval, measured, *place))
        self._times.frombytes(block.times)
        self._values.frombytes(block.values)

    def blocks(self) -> Blocks:
        """All blocks, in the order of the journal."""
        return np.frombuffer(self._blocks, dtype=BLOCK)

    def metric_names(self) -> list[str]:
        """Every metric, in the order in which they first appeared."""
        return list(dict.fromkeys(name for names in self._names for name in names))

    def counted(self, history: History) -> Ints:
        """How many reports of each block, from its first on, are in the final history.

        Seen from the end, a trial's interval counts where it comes up first: what lies further
        back was taken out when a later attempt started before it.
        """
        blocks = self.blocks()
        counted = np.zeros(len(blocks), np.int64)
        known: dict[int, int] = {}  # by trial: the least interval that has come up
        fields = blocks[["trial", "interval", "measured"]]
        for index in reversed(range(len(blocks))):
            trial, first, measured = fields[index].item()
            least = known.get(trial, history.intervals(trial) + 1)
            counted[index] = min(max(0, least - first), measured)
            known[trial] = min(least, first)
        return counted

    def table(self, first: int, end: int, counted: Ints, schema: pa.Schema) -> pa.Table:
        """The rows from `first` up to `end` of the metrics table."""
        rows = np.arange(first, end)
        blocks = self.blocks()
        index = np.searchsorted(blocks["row"], rows, side="right") - 1
        block = blocks[index]  # of each row
        nth = rows - block["row"]
        columns = [
            (block["trial"], None),
            (block["attempt"], None),
            (block["report"] + nth, None),
            (block["interval"] + nth, nth < block["measured"]),
            (np.frombuffer(self._times)[first:end], None),
            (nth < counted[index], None),
            *self._metrics(block, nth),
        ]
        kinds = schema.types
        arrays = [
            numbers(values, kind, valid)
            for (values, valid), kind in zip(columns, kinds, strict=True)
        ]
        return pa.table(arrays, schema=schema)

    def _metrics(self, block: Blocks, nth: Ints) -> Iterator[tuple[Floats, Flags]]:
        """Values a metric, and which of them there are: a report may not hold it."""
        cells = {name: np.full(len(block), -1) for name in self.metric_names()}
        for number, names in enumerate(self._names):
            here = np.flatnonzero(block["names"] == number)
            start = block["cell"][here] + nth[here] * len(names)
            for offset, name in enumerate(names):
                cells[name][here] = start + offset
        values = np.frombuffer(self._values)
        for cell in cells.values():
            yield values[cell], cell >= 0


# --- trials ---------------------------------------------------------------------------------------


def _trials(state: SweepState) -> pa.Table:
    table = _table(TRIALS, [_trial_row(state, trial) for trial in state.trials])
    params = [dict(_flattened("params", trial.params)) for trial in state.trials]
    for name in dict.fromkeys(name for row in params for name in row):
        table = table.append_column(name, _params_column([row.get(name) for row in params]))
    return table


def _trial_row(state: SweepState, trial: Trial) -> tuple[Any, ...]:
    """One row of TRIALS."""
    history = state.history
    best = history.best(trial.number)
    interval = None if best is None else _first_interval(history, trial.number, best)
    kept = None if interval is None else trial.nearest_checkpoint(interval)
    return (
        trial.number,
        str(trial.state),
        trial.reason,
        trial.error,
        trial.attempt,
        trial.failures,
        trial.losses,
        history.intervals(trial.number),
        best,
        interval,
        trial.first_begun,
        trial.ended,
        _between(trial.first_begun, trial.ended),
        None if kept is None else kept.checkpoint.path,
        trial_seed(state.spec.seed, trial.number),
    )


def _first_interval(history: History, trial: int, value: float) -> int:
    """The interval at which a trial first reported a value."""
    reached = range(1, history.intervals(trial) + 1)
    return next(k for k in reached if history.value(trial, k) == value)


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else ended - began


def _flattened(prefix: str, params: Params) -> Iterator[tuple[str, Any]]:
    """Each value that is no mapping, its name joined with dots."""
    for key, value in params.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping) and value:
            yield from _flattened(name, value)
        else:
            yield name, value


def _params_column(values: Sequence[Any]) -> pa.Array | pa.ChunkedArray:
    """One parameter of every trial, in the narrowest type that holds all of its values."""
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return column(values, pa.bool_())
    if kinds <= {str}:
        return column(values, pa.string())
    if kinds == {int} and all(value in INT64 for value in present):
        return column(values, pa.int64())
    if kinds in ({float}, {int, float}):
        return column(values, pa.float64())
    texts = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
    return column(texts, pa.string())


# --- files ----------------------------------------------------------------------------------------


def _about(spec: SweepSpec) -> dict[str, str]:
    """What each file says of itself."""
    return {
        "raysweep.format": str(FORMAT),
        "raysweep.sweep": spec.name,
        "raysweep.metric": spec.objective.metric,
        "raysweep.goal": str(spec.objective.goal),
    }


def _table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """A table from its rows."""
    columns = [column([row[i] for row in rows], kind) for i, kind in enumerate(schema.types)]
    return pa.table(columns, schema=schema)


def _write_metrics(folder: Path, replay: _Replay, about: Mapping[str, str]) -> None:
    reports = replay.reports
    counted = reports.counted(replay.state.history)
    columns = [pa.field(f"metrics.{name}", pa.float64()) for name in reports.metric_names()]
    schema = pa.schema([*METRICS, *columns])
    written = []
    for number, (first, end) in enumerate(_cuts(0, len(reports), ROWS_PER_PART)):
        written.append(folder / f"part-{number:05d}.parquet")
        groups = _cuts(first, end, ROWS_AT_ONCE)
        tables = (reports.table(*group, counted, schema) for group in groups)
        _write(written[-1], tables, about)
    for part in set(folder.glob("part-*.parquet")).difference(written):
        part.unlink(missing_ok=True)


def _cuts(first: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """The rows from `first` to `end` in pieces of at most so many; one piece when there is none."""
    return pairwise([*range(first, end, most), end] if first < end else [first, end])


def _write(path: Path, tables: Iterable[pa.Table], about: Mapping[str, str]) -> None:
    """Write tables of one schema, of which there is at least one, as one file."""
    tables = iter(tables)
    table = next(tables)
    schema = table.schema.with_metadata(about)
    with replacing(path) as file, pq.ParquetWriter(file, schema) as writer:
        writer.write_table(table)
        for table in tables:
            writer.write_table(table)
