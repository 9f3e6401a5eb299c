"""Checkpoints beside torch.save, safetensors and Ray Train's directories: to save, to load, to wait for.

One rule: all save to the same disk with the same syncs and the same checksum, in turns, in one run.

    make bench-checkpoints              20 minutes; writes the results
    make bench-checkpoints QUICK=1      four minutes
"""

from __future__ import annotations

from typing import Any

import beside
import files
from record import QUICK, RESULTS, written
from rich.console import Console
from rich.table import Table

PACKAGES = ("raysweep", "ray", "numpy", "pyarrow", "torch", "safetensors", "zlib-ng")


def shown(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table."""
    table = Table("what", "raysweep", "peer", "", "unit", "ratio", "hold", "holds", "others")
    for row in rows:
        sign = "≥" if row["hold_is"] == "at least" else "≤"
        holds = {None: "", True: "yes", False: "[red]NO"}[row["holds"]]
        others = [f"{way} {took:,g}" for way, took in row.get("others", {}).items()
                  if way not in ("raysweep", row["peer_is"])]  # fmt: skip
        cells = [f"{row[side]:,g}" for side in ("raysweep", "peer")]
        hold = "" if row["hold"] is None else f"{sign} {row['hold']:g}"
        table.add_row(row["what"], *cells, row["peer_is"], row["unit"], f"{row['ratio']:g}", hold,
                      holds, ", ".join(others))  # fmt: skip
    return table


def main() -> None:
    """Measure, show, write down."""
    console = Console(width=170)
    rows: list[dict[str, Any]] = []
    for measured in files.measured():
        rows.append(measured.row())
        console.print(f"{rows[-1]['what']}: {rows[-1]['ratio']:g}", highlight=False)
    for row in beside.rows():
        rows.append(row)
        console.print(f"{row['what']}: {row['ratio']:g}", highlight=False)
    console.print(shown(rows))
    if not QUICK:
        written(RESULTS / "checkpoints.json", rows, packages=PACKAGES)


if __name__ == "__main__":
    main()
