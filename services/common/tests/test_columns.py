"""Columns as numpy sees them, against what Python says of the same values; slices and nulls included."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.columns import Binaries, StringMap, Text, entries, list_lengths, list_rows

texts = st.text("ab\0ü", max_size=20)
rows = st.lists(st.one_of(st.none(), texts), max_size=12)
maps = st.lists(st.lists(st.tuples(texts, texts), max_size=5), max_size=8)
cut = st.integers(0, 4)


def words_of(text: str) -> list[int]:
    data = text.encode()
    return [int.from_bytes(data[start : start + 8], "little") for start in range(0, len(data), 8)]


@given(rows, cut)
def test_words_are_the_bytes_of_each_row(strings: list[str | None], start: int) -> None:
    text, plain = Text(pa.array(strings, pa.string()).slice(start)), [string or "" for string in strings[start:]]
    assert text.lengths.tolist() == [len(string.encode()) for string in plain]
    for number in range(6):
        expected = [(words_of(string) + [0] * 6)[number] for string in plain]
        assert text.word(number).tolist() == expected


@given(st.integers(1, 20), st.lists(st.text("abc", min_size=20, max_size=20), min_size=1), cut)
def test_words_of_equally_long_rows_come_at_once(length: int, strings: list[str], start: int) -> None:
    strings = [string[:length] for string in strings]
    text = Text(pa.array(strings).slice(start))
    words = text.words()
    if len(strings) <= start:
        assert words is None
        return
    assert words is not None
    assert [word.tolist() for word in words] == [text.word(number).tolist() for number in range(len(words))]
    assert len(words) == -(-length // 8)


def test_rows_of_different_lengths_do_not_come_at_once() -> None:
    assert Text(pa.array(["a", "bb"])).words() is None


@given(rows, texts.filter(bool), cut)
def test_rows_equal_are_those_that_are(strings: list[str | None], wanted: str, start: int) -> None:
    column = pa.array([*strings, wanted], pa.string()).slice(start)
    assert Text(column).rows_equal(wanted).tolist() == [
        n for n, text in enumerate(column.to_pylist()) if text == wanted
    ]


@given(rows, cut)
def test_rows_with_a_byte_are_those_that_have_it(strings: list[str | None], start: int) -> None:
    column = pa.array(strings, pa.string()).slice(start)
    assert Text(column).rows_with(0).tolist() == [
        n for n, text in enumerate(column.to_pylist()) if "\0" in (text or "")
    ]


@given(maps, texts.filter(bool), cut)
def test_a_map_answers_like_a_dictionary(pairs: list[list[tuple[str, str]]], key: str, start: int) -> None:
    column = pa.array(pairs, pa.map_(pa.string(), pa.string())).slice(start)
    expected = [dict(row).get(key) for row in pairs[start:]]
    assert StringMap(column).get(key).to_pylist() == expected
    assert StringMap(column, empty_is_null=True).get(key).to_pylist() == [value or None for value in expected]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6), cut)
def test_entries_of_lists_know_their_rows(lists: list[list[int]], start: int) -> None:
    column = pa.array(lists, pa.list_(pa.int64())).slice(start)
    assert list_lengths(column).tolist() == [len(row) for row in lists[start:]]
    assert entries(column, column.values).to_pylist() == [value for row in lists[start:] for value in row]
    assert list_rows(column).tolist() == [number for number, row in enumerate(lists[start:]) for _ in row]


@given(st.lists(st.binary(max_size=9)), st.integers(min_value=0, max_value=3))
def test_a_binary_column_is_the_sequence_of_its_rows(values: list[bytes], skipped: int) -> None:
    column = Binaries(pa.array(values, pa.binary()))
    assert list(column) == values
    assert [column[row] for row in range(len(column))] == values
    part = column[skipped:]
    assert (list(part), len(part)) == (values[skipped:], len(values[skipped:]))
