"""Columns made of buffers are those that `pa.array` makes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysweep.storage import columns
from raysweep.storage.columns import column, numbers

TEXTS = st.text(st.characters(codec="utf-8"))
ITEMS = {
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.float64(): st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
    pa.string(): TEXTS,
    pa.list_(pa.int64()): st.lists(st.integers(0, 9)),
    pa.list_(pa.string()): st.lists(TEXTS | st.none()),
}


@pytest.mark.parametrize("kind", ITEMS, ids=str)
@given(data=st.data())
def test_a_column_is_what_pa_array_makes(kind: pa.DataType, data: st.DataObject) -> None:
    """Whatever is in it and wherever it is null."""
    values = data.draw(st.lists(ITEMS[kind] | st.none()))
    made = column(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))


@given(st.lists(st.tuples(st.floats(), st.booleans())))
def test_numbers_are_null_where_they_are_not_valid(pairs: list[tuple[float, bool]]) -> None:
    """And NaN where that is their value."""
    values, valid = np.array([v for v, _ in pairs], float), np.array([v for _, v in pairs], bool)
    made = numbers(values, pa.float64(), valid)
    made.validate(full=True)
    assert made.null_count == np.count_nonzero(~valid)
    assert repr(made.to_pylist()) == repr([v if there else None for v, there in pairs])


def test_a_field_of_a_structured_array_is_no_trouble() -> None:
    """Its numbers do not lie side by side."""
    rows = np.array([(1, 2.0), (3, 4.0)], [("a", "i8"), ("b", "f8")])
    assert numbers(rows["b"], pa.float64()).to_pylist() == [2.0, 4.0]


def test_strings_that_fit_no_array_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of strings holds 2 GiB; `pa.array` knows what to do."""
    monkeypatch.setattr(columns, "MOST", 3)
    assert column(["ab", None, "cd"], pa.string()).to_pylist() == ["ab", None, "cd"]
