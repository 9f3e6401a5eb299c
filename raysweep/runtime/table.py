"""Trials as a table, and values in words: for the live screen and for everything printed later.

One rule: what is printed fits the width that it is given; what must give way are first the reasons,
then the parameters, never a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from raysweep.core.events import Params
from raysweep.runtime.status import Row

GUTTER = 2  # blank columns between those of a table
LEAST_REASON = 20  # columns that a reason needs to be worth reading
LEAST_PARAMS = 12  # the same of all parameters in one column
LEAST_NAME = 6  # the same of a parameter's name

# The colours of states and phases.
STYLES: Mapping[str, str] = {
    "waiting": "dim",
    "assigned": "cyan",
    "running": "cyan",
    "stopping": "yellow",
    "ending": "yellow",
    "completed": "green",
    "stopped": "yellow",
    "timed_out": "magenta",
    "canceled": "dim",
    "interrupted": "yellow",
    "failed": "red",
    "damaged": "red",
}


@dataclass(frozen=True)
class Column:
    """A column of a table, a cell a row."""

    name: str
    cells: Sequence[Text]
    right: bool = False  # numbers stand at the right

    @property
    def width(self) -> int:
        """The widest of the cells and the name."""
        return max([len(self.name), *(cell.cell_len for cell in self.cells)])


def trials_table(rows: Sequence[Row], *, width: int, best: int | None) -> Table:
    """Trials as a table of at most `width` columns, a line each; the best one's value stands out.

    Each parameter has a column of its own where that leaves room for the reasons; else they share
    one; where there is no room for that, they have none.
    """
    columns = [
        Column("trial", [Text(str(row.number)) for row in rows], right=True),
        Column("state", [state_text(row.state) for row in rows]),
        Column("intervals", [Text(str(row.intervals)) for row in rows], right=True),
        Column(
            "best", [Text(number(row.best), _best_style(row, best)) for row in rows], right=True
        ),
    ]
    if any(row.latest != row.best for row in rows):  # where each reports once, it says nothing new
        columns.append(Column("latest", [Text(number(row.latest)) for row in rows], right=True))
    why = min(LEAST_REASON, max((len(row.reason) for row in rows), default=0))
    columns += _params_columns([row.params for row in rows], width - _width(columns) - why)
    left = width - _width(columns)
    columns.append(Column("why", [_cut(Text(row.reason, "dim"), left) for row in rows]))
    return table_of(columns)


def params_table(numbers: Sequence[int], params: Sequence[Params]) -> Table:
    """Trials as a table of their parameters."""
    trials = Column("trial", [Text(str(number)) for number in numbers], right=True)
    return table_of([trials, *_a_column_each(params)])


def table_of(columns: Sequence[Column]) -> Table:
    """A table without lines, for the calm."""
    table = Table(box=None, pad_edge=False, padding=(0, GUTTER, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(
            Text(column.name), justify="right" if column.right else "left", no_wrap=True
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _best_style(row: Row, best: int | None) -> str:
    return "bold green" if row.number == best else ""


def _width(columns: Iterable[Column]) -> int:
    """How much of the terminal these take, the gutters after them included."""
    return sum(column.width + GUTTER for column in columns)


def _params_columns(params: Sequence[Params], room: int) -> list[Column]:
    whole = _a_column_each(params)
    for columns in (whole, [_with_short_name(column) for column in whole]):
        if _width(columns) <= room:
            return columns
    if room < LEAST_PARAMS:
        return []
    return [Column("parameters", [_cut(Text(compact(each)), room - GUTTER) for each in params])]


def _a_column_each(params: Sequence[Params]) -> list[Column]:
    names = dict.fromkeys(name for each in params for name in each)
    return [
        Column(name, [Text(brief(each[name]) if name in each else "") for each in params])
        for name in names
    ]


def _with_short_name(column: Column) -> Column:
    """The column with a name that is hardly wider than what stands below it."""
    narrow = Column(column.name[:LEAST_NAME], column.cells).width
    return Column(_cut(Text(column.name), narrow).plain, column.cells)


def _cut(text: Text, width: int) -> Text:
    cut = text.copy()
    cut.truncate(max(1, width), overflow="ellipsis")
    return cut


# --- values in words ------------------------------------------------------------------------------


def said(state: str) -> str:
    """A state as people say it."""
    return state.replace("_", " ")


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(said(state), STYLES[state])


def number(value: float | None) -> str:
    """A metric's value in four significant digits; nothing for None.

    >>> number(0.98613), number(12.0), number(None)
    ('0.9861', '12', '')
    """
    return "" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> duration(7.6), duration(83), duration(7500)
    ('7s', '1m 23s', '2h 5m')
    """
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004  (a minute)
        return f"{whole}s"
    if whole < 3600:  # noqa: PLR2004  (an hour)
        return f"{whole // 60}m {whole % 60}s"
    return f"{whole // 3600}h {whole % 3600 // 60}m"


def size(count: int) -> str:
    """Bytes in three digits.

    >>> size(24), size(999_999), size(1_234_567), size(70_000_000_000)
    ('24 B', '1.00 MB', '1.23 MB', '70.0 GB')
    """
    if count < 1000:  # noqa: PLR2004  (from here on in units)
        return f"{count} B"
    scaled = float(count)
    for unit in ("kB", "MB", "GB"):
        scaled /= 1000
        if scaled < 999.5:  # noqa: PLR2004  (more would round to four digits)
            return f"{scaled:#.3g} {unit}".replace(". ", " ")
    return f"{scaled / 1000:.3g} TB"


def compact(params: Mapping[str, object]) -> str:
    """Parameters in a line.

    >>> compact({"lr": 0.0031234, "width": 32, "model": {"depth": 4, "bias": True}})
    'lr 0.00312 · width 32 · model {depth 4, bias true}'
    """
    return " · ".join(f"{name} {brief(value)}" for name, value in params.items())


def brief(value: object) -> str:
    """One parameter's value, a float in three significant digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {brief(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(brief, value)) + "]"
    return str(value)
