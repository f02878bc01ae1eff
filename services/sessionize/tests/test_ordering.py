"""Rows come in the order of their keys, packed into one integer or not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_sessionize.ordering import order_by

NEAR = st.integers(-3, 3)
FAR = st.integers(-(2**62), 2**62) | NEAR


@pytest.mark.parametrize("numbers", [NEAR, FAR], ids=["packed", "too wide to pack"])
@given(data=st.data())
def test_rows_come_by_their_keys_and_then_by_arrival(numbers: st.SearchStrategy[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(numbers, numbers), max_size=20))
    first, second = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    assert order_by(first, second).tolist() == sorted(range(len(rows)), key=lambda row: rows[row])


def test_keys_that_just_fit_and_just_do_not_are_ordered_alike() -> None:
    for width in (60, 61, 62):  # with two bits of row number beside them
        key = np.array([1 << width, 0, (1 << width) - 1], dtype=np.int64)
        assert order_by(key).tolist() == [1, 2, 0]
