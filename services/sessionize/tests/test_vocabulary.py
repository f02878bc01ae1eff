"""Strings get ids and come back, also when their hashes meet."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_common.columns import Text
from millrace_sessionize.value_lists import ValueLists
from millrace_sessionize.vocabulary import Vocabulary

COLUMNS = st.lists(st.lists(st.none() | st.text(max_size=20) | st.sampled_from(["a", "b", "a\0", ""]), max_size=30))


def in_and_out(columns: list[list[str | None]]) -> None:
    words = Vocabulary()
    seen: dict[str, int] = {}
    for column in columns:
        (ids,) = words.ids(pa.array(column, type=pa.string()))
        assert words.strings(ids).to_pylist() == column
        assert words.dictionary(ids).to_pylist() == column
        for word, number in zip(column, ids.tolist(), strict=True):
            assert number == (0 if word is None else seen.setdefault(word, number))
    assert len(words) == len(seen) + 1
    assert len(set(seen.values())) == len(seen)


@settings(max_examples=200)
@given(COLUMNS)
def test_strings_come_back(columns: list[list[str | None]]) -> None:
    in_and_out(columns)


@settings(max_examples=50)
@given(COLUMNS, st.sampled_from([0, 5, 2**63]))
def test_strings_with_one_hash_are_told_apart(columns: list[list[str | None]], one_hash: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Vocabulary, "_hash", lambda self, text: np.full(len(text.lengths), one_hash, dtype=np.uint64))
        in_and_out(columns)


def test_many_strings_keep_their_ids_through_growth() -> None:
    words = Vocabulary()
    strings = pa.array([f"key-{number}" for number in range(20_000)])
    (first,) = words.ids(strings)
    assert np.array_equal(words.ids(strings)[0], first)
    assert words.strings(first).equals(strings)


def test_several_columns_get_the_ids_of_each_alone() -> None:
    words = Vocabulary()
    left, right = words.ids(pa.array(["a", None, "b"]), pa.array(["b", "c"]))
    assert words.strings(left).to_pylist() == ["a", None, "b"]
    assert left[2] == right[0]


def test_forgotten_strings_leave_and_the_others_get_new_ids() -> None:
    words = Vocabulary()
    (ids,) = words.ids(pa.array(["a", "b", "c", "d"]))
    new_ids = words.keep_only([ids[[1, 3]]])
    assert len(words) == 3
    assert words.strings(new_ids[ids]).to_pylist() == [None, "b", None, "d"]
    assert words.ids(pa.array(["d", "b"]))[0].tolist() == new_ids[ids[[3, 1]]].tolist()


def test_the_hash_is_keyed_and_covers_every_byte() -> None:
    text = Text(pa.array(["x" * 40, "x" * 39 + "y", "y" + "x" * 39, "x" * 20 + "y" + "x" * 19, "x" * 41, ""]))
    one, other = Vocabulary()._hash(text), Vocabulary()._hash(text)
    assert len(set(one.tolist())) == 6
    assert not set(one.tolist()) & set(other.tolist())


RUNS = st.lists(st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, 2**31 - 1), max_size=40)), max_size=10)


@settings(max_examples=200)
@given(RUNS, st.sets(st.integers(0, 4)))
def test_lists_give_their_distinct_values(runs: list[dict[int, list[int]]], cleared: set[int]) -> None:
    lists = ValueLists()
    lists.resize(5)
    expected: dict[int, set[int]] = {slot: set() for slot in range(5)}
    for number, run in enumerate(runs):
        lists.append(
            np.array(list(run), dtype=np.int64),
            np.array([len(values) for values in run.values()], dtype=np.int64),
            np.array([value for values in run.values() for value in values], dtype=np.int32),
        )
        for slot, values in run.items():
            expected[slot].update(values)
        if number == 2:
            lists.clear(np.array(sorted(cleared), dtype=np.int64))
            expected.update({slot: set() for slot in cleared})
    slots, distinct = lists.distinct(np.arange(5))
    assert list(zip(slots.tolist(), distinct.tolist(), strict=True)) == [
        (slot, value) for slot in range(5) for value in sorted(expected[slot])
    ]
