"""docs/azure.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from raysweep.azureml import EXTENSIONS, REFUSALS
from raysweep.cli.group import COMMANDS
from raysweep.core.space import EXPRESSIONS

GUIDE = (Path(__file__).parents[2] / "docs" / "azure.md").read_text()


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def rows(heading: str) -> list[str]:
    """The rows of the table below a heading."""
    part = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in part.splitlines() if line.startswith("| ")][1:]


def test_the_guide_has_every_refusal_and_no_other() -> None:
    """What, why and the remedy, as an error gives it."""
    expected = [
        row(each.what, each.why, each.remedy.replace("{path}", "inputs.NAME"))
        for each in REFUSALS.values()
    ]
    assert expected == rows("What is refused")


def test_the_guide_has_every_extension_and_no_other() -> None:
    """What and why."""
    expected = [row(each.what, each.why) for each in EXTENSIONS.values()]
    assert expected == rows("What is taken beyond Azure")


def test_the_guide_names_every_expression_and_command() -> None:
    """Nothing that there is is left out."""
    assert not [kind for kind in EXPRESSIONS if f"`{kind}" not in GUIDE]
    told = GUIDE.partition("## Commands\n")[2].partition("\n## ")[0]
    assert not [
        name for name in COMMANDS if f"`raysweep {name}" not in told and f"`{name}`" not in told
    ]
