"""The tables in the project's pages: written between marks, from the runs that are kept.

One rule: no figure of the benchmark is typed by hand. A page says `<!-- samplers: NAME -->` and
`<!-- end -->`; what stands between is made anew by this script, and a test finds what is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from summary import Results

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "samplers"
PAGES = (HERE.parents[1] / "docs" / "samplers.md", HERE.parents[1] / "README.md")
MARKED = re.compile(r"<!-- samplers: (?P<name>[\w ,-]+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def blocks(folder: Path = RESULTS) -> Mapping[str, str]:
    """Every table as Markdown, by the name that pages call it by."""
    return {name: _markdown(table) for name, table in Results.load(folder).tables()}


def _markdown(table: Table) -> str:
    """A rich table as a Markdown one."""
    head = " | ".join(str(column.header) for column in table.columns)
    lines = [f"| {head} |", "|" + "---|" * len(table.columns)]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    lines += [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    return "\n".join(lines) + "\n"


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with its tables as the runs have them; a name that is none is an error."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- samplers: {match['name']} -->\n{made[match['name']]}<!-- end -->"

    return MARKED.sub(block, page)


def main() -> None:
    """Write the tables into the pages."""
    made = blocks()
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), made), encoding="utf-8")
    sys.stdout.write(f"tables there are: {', '.join(made)}\n")


if __name__ == "__main__":
    main()
