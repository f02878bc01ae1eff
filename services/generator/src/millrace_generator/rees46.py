"""Reads files in the REES46 format: rows of shop events as CSV, plain or gzip.

https://rees46.com/en/datasets. The files have 40 to 100 million rows, so nothing here keeps more than a line.
"""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from millrace_generator.errors import InputError
from millrace_generator.traffic import Kind

COLUMNS: Final = (
    "event_time",
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_id",
    "user_session",
)
_KINDS: Final[dict[str, Kind]] = {"view": "page_view", "cart": "add_to_cart", "purchase": "purchase"}
_TIME_CHARACTERS: Final = len("2019-10-01 00:00:00 UTC")
_EARLIEST_MS: Final = 946_684_800_000  # the year 2000: the pipeline takes nothing before it for an event time
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LARGEST_CENTS: Final = 10**15  # a double still holds it to the cent


class Row(NamedTuple):
    """One usable row; text as in the file, surrounding spaces removed.

    Attributes:
        content: all nine fields, the same for identical rows only.
        time_ms: event_time, epoch milliseconds, UTC.
        kind: event_type in the pipeline's words.
        product_id: never empty.
        category_code: often empty.
        brand: often empty.
        price: a decimal number, may be negative.
        user_id: may be empty.
        user_session: never empty.
    """

    content: str
    time_ms: int
    kind: Kind
    product_id: str
    category_code: str
    brand: str
    price: str
    user_id: str
    user_session: str


def read_rows(path: Path, skipped: Counter[str]) -> Iterator[Row]:
    """Yield the usable rows of the file at `path` in file order; count the others in `skipped` by reason.

    Raises:
        InputError: the file cannot be read, is cut short, or has not the columns of the format.
    """
    with _open(path) as lines:
        header = next(lines, "").lstrip("\ufeff")
        names = [name.strip() for name in next(csv.reader([header]), [])]
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            message = f"{path}: not a REES46 file, no column {', '.join(missing)}"
            raise InputError(message)
        order = [names.index(name) for name in COLUMNS]
        in_order = order == list(range(len(names)))
        for line in lines:
            # Splitting is several times faster than the csv reader, and the published files have no quotes.
            fields = line.rstrip("\r\n").split(",") if '"' not in line else next(csv.reader([line]), [])
            if len(fields) != len(names):
                skipped["wrong number of columns"] += 1
                continue
            row = _row(fields if in_order else [fields[i] for i in order])
            if isinstance(row, Row):
                yield row
            else:
                skipped[row] += 1


@lru_cache(maxsize=1 << 16)
def cents(price: str) -> int | None:
    """Return a decimal number as cents, halves to even, never passing through a binary float; None if it is not one."""
    try:
        amount = Decimal(price)
        whole = int((amount * 100).to_integral_value(ROUND_HALF_EVEN)) if amount.is_finite() else None
    except (InvalidOperation, OverflowError):
        return None
    return None if whole is None or abs(whole) > _LARGEST_CENTS else whole


def _row(fields: list[str]) -> Row | str:
    """Return the row, or why it is skipped."""
    event_time, event_type, product_id, _, category_code, brand, price, user_id, user_session = map(str.strip, fields)
    content, kind, time_ms = ",".join(fields), _KINDS.get(event_type), _epoch_ms(event_time)
    complete = user_session and price and product_id and _readable(content)
    if complete and kind is not None and time_ms is not None and cents(price) is not None:
        return Row(content, time_ms, kind, product_id, category_code, brand, price, user_id, user_session)
    reasons = (
        (kind is None, f"event type {ascii(event_type[:32])}"),
        (not user_session, "empty user_session"),
        (not price, "empty price"),
        (not product_id, "empty product_id"),
        (time_ms is None, "unreadable event_time"),
        (cents(price) is None, "unreadable price"),
        (True, "unreadable text"),
    )
    return next(reason for holds, reason in reasons if holds)


def _readable(text: str) -> bool:
    """Return whether the file had UTF-8 there, and no NUL, which the pipeline refuses."""
    return text.isprintable() or ("\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text))


@lru_cache(maxsize=1 << 12)
def _epoch_ms(event_time: str) -> int | None:
    """Return `2019-10-01 00:00:00 UTC` as epoch milliseconds; None if it is anything else."""
    if len(event_time) != _TIME_CHARACTERS or not event_time.endswith(" UTC"):
        return None
    try:
        time_ms = int(datetime.fromisoformat(event_time[:-4] + "+00:00").timestamp()) * 1000
    except ValueError:
        return None
    return time_ms if time_ms >= _EARLIEST_MS else None


@contextmanager
def _open(path: Path) -> Iterator[Iterator[str]]:
    """Open `path` as lines of text, unpacking gzip; bytes that are not UTF-8 become lone surrogates."""
    try:
        with path.open("rb") as file:
            packed = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
            content = gzip.open(file) if packed else file
            yield io.TextIOWrapper(content, encoding="utf-8", errors="surrogateescape", newline="\n")
    except (OSError, EOFError, zlib.error) as error:
        message = f"{path}: {error}"
        raise InputError(message) from error
