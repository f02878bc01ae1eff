"""What a line must be to become an order. The rules are those of ingest for topic transactions, in its order.

They are stated again: ingest holds columns of decoded records, doubles among them, against the broker's time, and here
is text, one line at a time, with exact amounts. A test puts the same orders through both, and wants the same reasons.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final

from millrace_batch.orders_csv.lines import Line
from millrace_schemas.currencies import CURRENCIES

COLUMNS: Final = (
    *("transactionId", "userId", "orderItems", "totalAmount"),
    *("currency", "paymentMethod", "status", "timestamp"),
)
"""The fields of subject transactions; orderItems is a JSON array of its items."""

MAX_AHEAD: Final = timedelta(minutes=5)
"""How far an order may be ahead of the file that it is in, as ingest has it for the broker's time."""

# The same bounds as ingest's and lake's: before 2000 it is an unset clock; a double tells cents up to 2^50 of them.
_EARLIEST_MS: Final = 946_684_800_000
_MOST: Final = Decimal(2**50) / 100
_TOLERANCE: Final = Decimal("0.01")
_CENT: Final = Decimal("0.01")
_INT32_MAX: Final = 2**31 - 1
_MILLISECONDS: Final = re.compile(r"-?[0-9]{1,18}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ITEM: Final = frozenset({"productId", "quantity", "price", "category"})


class Reason(StrEnum):
    """Why a line is no order: a closed list. A line is refused for the first that holds."""

    LINE_TOO_LONG = "line_too_long"
    UNTERMINATED_LINE = "unterminated_line"
    MALFORMED_LINE = "malformed_line"
    EMPTY_ID = "empty_id"
    NUL_IN_STRING = "nul_in_string"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    NO_ITEMS = "no_items"
    INVALID_QUANTITY = "invalid_quantity"
    NEGATIVE_PRICE = "negative_price"
    TOTAL_MISMATCH = "total_mismatch"
    UNKNOWN_CURRENCY = "unknown_currency"
    NOT_IN_CENTS = "not_in_cents"


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order; the price is of one piece."""

    product_id: str
    quantity: int
    price: Decimal
    category: str


@dataclass(frozen=True, slots=True)
class Order:
    """One status of an order, at `timestamp_ms` since the epoch. Amounts are in its currency."""

    transaction_id: str
    user_id: str
    items: tuple[Item, ...]
    total: Decimal
    currency: str
    payment_method: str
    status: str
    timestamp_ms: int

    @property
    def occurred_at(self) -> datetime:
        """Return when it got this status, UTC."""
        return _EPOCH + timedelta(milliseconds=self.timestamp_ms)

    @property
    def event_date(self) -> date:
        """Return the UTC day of it."""
        return self.occurred_at.date()


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is no order.

    Attributes:
        line: the line.
        reason: the first rule that it breaks.
        detail: for a person; no personal data is repeated in it.
    """

    line: Line
    reason: Reason
    detail: str


class _MalformedError(ValueError):
    """A line cannot be read as an order."""


def header(line: Line) -> tuple[str, ...] | None:
    """Return the columns that a file's first line names, in any order; None: it names others, or is no header."""
    try:
        names = tuple(_fields(line.raw.removeprefix(b"\xef\xbb\xbf")))
    except _MalformedError:
        return None
    return names if line.is_ended and sorted(names) == sorted(COLUMNS) else None


def judge(line: Line, columns: Sequence[str], written_at: datetime) -> Order | Reject:
    """Return the order that a line is, or why it is none.

    Args:
        line: any but the first.
        columns: as the header names them.
        written_at: when the file was last written, UTC.
    """
    if line.is_too_long:
        return Reject(line, Reason.LINE_TOO_LONG, f"longer than {len(line.raw):,} bytes; these are its first")
    if not line.is_ended:
        # The rest may be missing, and what is there still be an order.
        return Reject(line, Reason.UNTERMINATED_LINE, "the file ends within the line: end it by a new line")
    try:
        order = _read(line.raw, columns)
    except _MalformedError as error:
        return Reject(line, Reason.MALFORMED_LINE, str(error))
    broken = _first_broken(order, int(written_at.timestamp() * 1000))
    return order if broken is None else Reject(line, *broken)


def _fields(raw: bytes) -> list[str]:
    try:
        rows = list(csv.reader([raw.decode()], strict=True))
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} is not UTF-8"
        raise _MalformedError(message) from error
    except csv.Error as error:
        message = f"no CSV: {error}"
        raise _MalformedError(message) from error
    return rows[0] if rows else []


def _read(raw: bytes, columns: Sequence[str]) -> Order:
    fields = _fields(raw)
    if len(fields) != len(columns):
        message = f"{len(fields)} fields instead of {len(columns)}"
        raise _MalformedError(message)
    given = dict(zip(columns, fields, strict=True))
    if not _MILLISECONDS.fullmatch(given["timestamp"]):
        message = "timestamp is no whole number of milliseconds"
        raise _MalformedError(message)
    return Order(
        transaction_id=given["transactionId"],
        user_id=given["userId"],
        items=_items(given["orderItems"]),
        total=_amount(given["totalAmount"], "totalAmount"),
        currency=given["currency"],
        payment_method=given["paymentMethod"],
        status=given["status"],
        timestamp_ms=int(given["timestamp"]),
    )


def _items(text: str) -> tuple[Item, ...]:
    try:
        found = json.loads(text, parse_float=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError, InvalidOperation) as error:
        message = "orderItems is no JSON"
        raise _MalformedError(message) from error
    if not isinstance(found, list):
        message = "orderItems is no array"
        raise _MalformedError(message)
    return tuple(_item(one) for one in found)


def _item(given: Any) -> Item:
    if not isinstance(given, Mapping) or given.keys() != _ITEM:
        message = f"an item has not just {', '.join(sorted(_ITEM))}"
        raise _MalformedError(message)
    quantity, price = given["quantity"], given["price"]
    if type(quantity) is not int or abs(quantity) > _INT32_MAX:
        message = "a quantity is no whole number of 32 bits"
        raise _MalformedError(message)
    if type(price) not in {int, Decimal}:
        message = "a price is no number"
        raise _MalformedError(message)
    return Item(_text(given["productId"]), quantity, Decimal(price), _text(given["category"]))


def _text(given: Any) -> str:
    if not isinstance(given, str):
        message = "a productId or category is no string"
        raise _MalformedError(message)
    try:
        given.encode()
    except UnicodeEncodeError as error:  # half of a pair, as JSON can write it
        message = "a productId or category has a character that is none"
        raise _MalformedError(message) from error
    return given


def _amount(text: str, name: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        message = f"{name} is no number"
        raise _MalformedError(message) from error


def _first_broken(order: Order, written_at_ms: int) -> tuple[Reason, str] | None:
    ids = (order.transaction_id, order.user_id, *(item.product_id for item in order.items))
    texts = (*ids, order.currency, order.payment_method, order.status, *(item.category for item in order.items))
    prices = [item.price for item in order.items]
    rules: tuple[tuple[Reason, Callable[[], bool], str], ...] = (
        (Reason.EMPTY_ID, lambda: "" in ids, "transactionId, userId or an item's productId is empty"),
        (Reason.NUL_IN_STRING, lambda: any("\0" in text for text in texts), "a string contains U+0000"),
        (
            Reason.TIMESTAMP_IN_FUTURE,
            lambda: order.timestamp_ms > written_at_ms + MAX_AHEAD // timedelta(milliseconds=1),
            f"timestamp {order.timestamp_ms}, the file is of {written_at_ms}",
        ),
        (Reason.TIMESTAMP_TOO_OLD, lambda: order.timestamp_ms < _EARLIEST_MS, "timestamp is before the year 2000"),
        (Reason.NO_ITEMS, lambda: not order.items, "orderItems is empty"),
        (
            Reason.INVALID_QUANTITY,
            lambda: any(item.quantity < 1 for item in order.items),
            "the quantity of an item is below 1",
        ),
        (
            Reason.NEGATIVE_PRICE,
            lambda: not all(price.is_finite() and price >= 0 for price in prices),
            "the price of an item is negative or no finite number",
        ),
        (Reason.TOTAL_MISMATCH, lambda: not _adds_up(order), "totalAmount is not what the items add up to"),
        (Reason.UNKNOWN_CURRENCY, lambda: order.currency not in CURRENCIES, "currency is no active ISO 4217 code"),
        (
            Reason.NOT_IN_CENTS,
            lambda: not all(map(_is_in_cents, (order.total, *prices))),
            "an amount is no whole number of cents, or of more than 2^50",
        ),
    )
    return next(((reason, detail) for reason, is_broken, detail in rules if is_broken()), None)


def _adds_up(order: Order) -> bool:
    if not order.total.is_finite():
        return False
    if any(abs(amount) > _MOST for amount in (order.total, *(item.price for item in order.items))):
        return True  # not in cents either; and adding up may take more digits than there are
    return abs(order.total - sum(item.quantity * item.price for item in order.items)) <= _TOLERANCE


def _is_in_cents(amount: Decimal) -> bool:
    return abs(amount) <= _MOST and amount == amount.quantize(_CENT)
