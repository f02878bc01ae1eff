"""The rules of transactions, in the order they are applied."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import Int64s, any_of, entries, list_lengths, list_rows
from millrace_ingest.checks import Batch, Rule, empty_strings, rows_of, strings_with_nul, timestamp_rules
from millrace_ingest.fingerprints import Fingerprints, fingerprints
from millrace_ingest.reasons import Reason
from millrace_schemas.currencies import CURRENCIES

_TOLERANCE: Final = 0.01  # of the order's currency
_ROUNDING: Final = (
    1e-12  # relative: what adding up doubles may be off by, so that a difference of exactly a cent passes
)
_CURRENCIES: Final = pa.array(sorted(CURRENCIES))

Doubles = npt.NDArray[np.float64]


def identify(columns: pa.RecordBatch) -> Fingerprints:
    """Return what makes two order records the same one: transactionId, status and timestamp."""
    return fingerprints([columns.column(name) for name in ("transactionId", "status", "timestamp")])


def _item_column(batch: Batch, name: str) -> pa.Array:
    orders = batch.columns.column("orderItems")
    return entries(orders, orders.values).field(name)


def _orders_of(batch: Batch, broken_items: Int64s) -> Int64s:
    return np.unique(list_rows(batch.columns.column("orderItems"))[broken_items])


def _empty_id(batch: Batch) -> Int64s:
    own = empty_strings([batch.columns.column(name) for name in ("transactionId", "userId")])
    return any_of([own, _orders_of(batch, empty_strings([_item_column(batch, "productId")]))])


def _nul(batch: Batch) -> Int64s:
    return any_of([strings_with_nul(column) for column in batch.columns.columns])


def _no_items(batch: Batch) -> Int64s:
    return rows_of(list_lengths(batch.columns.column("orderItems")) == 0)


def _bad_quantity(batch: Batch) -> Int64s:
    return _orders_of(batch, rows_of(np.asarray(_item_column(batch, "quantity")) < 1))


def _bad_price(batch: Batch) -> Int64s:
    prices = np.asarray(_item_column(batch, "price"))
    return _orders_of(batch, rows_of(~(np.isfinite(prices) & (prices >= 0))))


def _sums(batch: Batch) -> Doubles:
    """Return the sum of quantity x price of each order."""
    rows = list_rows(batch.columns.column("orderItems"))
    values = np.asarray(_item_column(batch, "quantity")) * np.asarray(_item_column(batch, "price"))
    sums: Doubles = np.bincount(rows, weights=values, minlength=batch.columns.num_rows).astype(np.float64, copy=False)
    return sums


def _bad_total(batch: Batch) -> Int64s:
    totals = np.asarray(batch.columns.column("totalAmount"))
    with np.errstate(invalid="ignore", over="ignore"):  # orders with infinite prices are already refused
        off = np.abs(totals - _sums(batch))
        return rows_of(~(off <= _TOLERANCE + _ROUNDING * np.abs(totals)) | ~np.isfinite(totals))


def _total_detail(batch: Batch, row: int) -> str:
    total = batch.columns.column("totalAmount")[row].as_py()
    return f"totalAmount {total!r}, the items add up to {float(_sums(batch)[row])!r}"


def _bad_currency(batch: Batch) -> Int64s:
    return rows_of(~np.asarray(pc.is_in(batch.columns.column("currency"), _CURRENCIES)))


def _currency_detail(batch: Batch, row: int) -> str:
    return f"currency {batch.columns.column('currency')[row].as_py()[:20]!r} is not an active ISO 4217 code"


RULES: Final[tuple[Rule, ...]] = (
    Rule(Reason.EMPTY_ID, _empty_id, lambda batch, row: "transactionId, userId or an item's productId is empty"),
    Rule(Reason.NUL_IN_STRING, _nul, lambda batch, row: "a string contains the character U+0000"),
    *timestamp_rules(),
    Rule(Reason.NO_ITEMS, _no_items, lambda batch, row: "orderItems is empty"),
    Rule(Reason.INVALID_QUANTITY, _bad_quantity, lambda batch, row: "the quantity of an item is below 1"),
    Rule(Reason.NEGATIVE_PRICE, _bad_price, lambda batch, row: "the price of an item is negative or no finite number"),
    Rule(Reason.TOTAL_MISMATCH, _bad_total, _total_detail),
    Rule(Reason.UNKNOWN_CURRENCY, _bad_currency, _currency_detail),
)
