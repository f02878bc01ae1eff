import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_generator.errors import InputError
from millrace_generator.rees46 import COLUMNS, Row, cents, read_rows

HEADER = ",".join(COLUMNS)
VIEW = "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde"


def rows_of(path: Path, text: str | bytes) -> tuple[list[Row], Counter[str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    skipped: Counter[str] = Counter()
    return list(read_rows(path, skipped)), skipped


def test_row_is_read_as_it_stands(tmp_path: Path) -> None:
    rows, skipped = rows_of(tmp_path / "a.csv", f"{HEADER}\n{VIEW}\n")
    assert rows == [
        Row(VIEW, 1_569_888_000_000, "page_view", "44600062", "", "shiseido", "35.79", "541312140", "72d76fde")
    ]
    assert not skipped


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (VIEW.replace("view", "remove_from_cart"), "event type 'remove_from_cart'"),
        (VIEW.replace("72d76fde", ""), "empty user_session"),
        (VIEW.replace("35.79", ""), "empty price"),
        (VIEW.replace("35.79", "abc"), "unreadable price"),
        (VIEW.replace("35.79", "NaN"), "unreadable price"),
        (VIEW.replace("35.79", "1e400"), "unreadable price"),
        (VIEW.replace("44600062", ""), "empty product_id"),
        (VIEW.replace("2019-10-01", "2019-13-01"), "unreadable event_time"),
        (VIEW.replace(" UTC", " CET"), "unreadable event_time"),
        (VIEW.replace("shiseido", "a\0b"), "unreadable text"),
        (VIEW.replace("shiseido,", ""), "wrong number of columns"),
        ("", "wrong number of columns"),
    ],
)
def test_unusable_row_is_counted_by_reason(tmp_path: Path, row: str, reason: str) -> None:
    rows, skipped = rows_of(tmp_path / "a.csv", f"{HEADER}\n{row}\n{VIEW}\n")
    assert len(rows) == 1
    assert skipped == {reason: 1}


def test_bytes_that_are_not_utf8_cost_only_their_row(tmp_path: Path) -> None:
    broken = VIEW.encode().replace(b"shiseido", b"\xff\xfe")
    rows, skipped = rows_of(tmp_path / "a.csv", HEADER.encode() + b"\n" + broken + b"\n" + VIEW.encode())
    assert (len(rows), skipped) == (1, {"unreadable text": 1})


def test_letters_of_any_script_and_odd_spaces_are_kept(tmp_path: Path) -> None:
    brand = "Лён\u00a0日本"
    rows, skipped = rows_of(tmp_path / "a.csv", f"{HEADER}\n{VIEW.replace('shiseido', brand)}\n")
    assert ([row.brand for row in rows], skipped) == ([brand], {})


def test_gzip_byte_order_mark_quotes_and_other_column_order_are_read(tmp_path: Path) -> None:
    order = [*reversed(COLUMNS)]
    values = dict(zip(COLUMNS, VIEW.split(","), strict=True)) | {"brand": '"a,b"'}
    text = "\ufeff" + ",".join(order) + "\r\n" + ",".join(values[name] for name in order) + "\r\n"
    rows, skipped = rows_of(tmp_path / "a.csv.gz", gzip.compress(text.encode()))
    assert ([(row.brand, row.user_session) for row in rows], skipped) == ([("a,b", "72d76fde")], {})


@pytest.mark.parametrize(
    "content",
    [b"", b"a,b\n1,2\n", gzip.compress(f"{HEADER}\n{VIEW}\n".encode() * 500)[:-20]],
    ids=["empty", "other columns", "cut gzip"],
)
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.csv"):
        rows_of(tmp_path / "a.csv", content)


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        list(read_rows(tmp_path / "none.csv", Counter()))


@given(st.integers(-(10**15), 10**15))
def test_cents_are_exact(amount: int) -> None:
    sign, whole = "-" if amount < 0 else "", abs(amount)
    assert cents(f"{sign}{whole // 100}.{whole % 100:02}") == amount


@pytest.mark.parametrize(
    ("price", "expected"), [("0.125", 12), ("0.135", 14), ("2.675", 268), ("7", 700), ("1e2", 10000)]
)
def test_cents_round_halves_to_even(price: str, expected: int) -> None:
    assert cents(price) == expected
