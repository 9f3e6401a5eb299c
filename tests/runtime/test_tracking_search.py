"""MLflow's language of searching, as the tracking endpoint reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tracked import Trial, tracked

from raysweep.runtime.tracking.runs import RefusedError
from raysweep.runtime.tracking.search import ordered, where


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """A trial whose reports are kept."""
    with tracked(tmp_path) as trial:
        yield trial


SUBJECT: dict[tuple[str, str], str | float] = {
    ("metrics", "loss"): 0.25,
    ("metrics", "nan"): math.nan,
    ("params", "kind"): "Big",
    ("tags", "a b"): "it's",
    ("attributes", "status"): "FINISHED",
}


def of_subject(
    found: Mapping[tuple[str, str], str | float],
) -> Callable[[str, str], str | float | None]:
    """What a search asks of a test's subject."""
    return lambda kind, key: found.get((kind, key))


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ("", True),
        ("metrics.loss < 0.5", True),
        ("metric.`loss` >= 0.25 AND params.kind = 'Big'", True),
        ("metrics.loss != 0.25", False),
        ("metrics.other != 0.25", False),
        ("metrics.nan > 0", False),
        ("params.kind LIKE 'B_g'", True),
        ("params.kind LIKE 'b%'", False),
        ("params.kind ilike 'b%'", True),
        ("tags.`a b` = 'it''s'", True),
        ('tags."a b" = "it\'s"', True),
        ("status = 'FINISHED' and attributes.status != 'FAILED'", True),
        ("attributes.status IN ('RUNNING', 'FINISHED')", True),
        ("attributes.status not in ('RUNNING', 'FINISHED')", False),
        ("params.other IS NULL", True),
        ("params.kind IS NOT NULL", True),
    ],
)
def test_a_filter_finds_what_it_says(filter_: str, expected: bool) -> None:
    """Each comparison that MLflow's filters have; what is missing is never found."""
    assert expected == where(filter_)(of_subject(SUBJECT))


@pytest.mark.parametrize(
    "filter_",
    ["metrics.loss", "metrics.loss <", "< 3", "a = 'b' OR c = 'd'", "a = 'b", "a IS 3", "a IN 'b'", "a NOT 3", "a IN ('b' 'c')", "a = b", "a ; b"],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_refused(filter_: str) -> None:
    """The message holds the filter and shows one that can be read."""
    with pytest.raises(RefusedError, match="raysweep cannot read") as refused:
        where(filter_)
    assert repr(filter_) in refused.value.message


def test_an_order_puts_what_has_no_value_last() -> None:
    """Either way round; the first key of several decides first."""
    found = [{("metrics", "a"): 1.0}, {}, {("metrics", "a"): 3.0}, {("metrics", "a"): 2.0}]
    rising = ordered(found, ["metrics.a"], of_subject)
    falling = ordered(found, ["metrics.a DESC", "attributes.b"], of_subject)
    assert [1.0, 2.0, 3.0, None] == [each.get(("metrics", "a")) for each in rising]
    assert [3.0, 2.0, 1.0, None] == [each.get(("metrics", "a")) for each in falling]


def test_a_search_comes_in_pages(trial: Trial) -> None:
    """Runs are found newest first, as many at once as the client asks for."""
    for start in range(3):
        trial.post("runs/create", start_time=start, run_name=f"r{start}")
    wanted = {"filter": "attributes.run_name LIKE 'r%'", "max_results": 2}
    first = trial.post("runs/search", **wanted)
    rest = trial.post("runs/search", **wanted, page_token=first["next_page_token"])
    names = [[run["info"]["run_name"] for run in page["runs"]] for page in (first, rest)]
    assert [["r2", "r1"], ["r0"]] == names
