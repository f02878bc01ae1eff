"""The rules of lines; where ingest has the same rule, it has to give the same reason."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace_batch.orders_csv.lines import MAX_LINE_BYTES, Line, Lines
from millrace_batch.orders_csv.rules import COLUMNS, Order, Reason, Reject, header, judge
from millrace_common import avro
from millrace_ingest.checks import Batch, Limits
from millrace_ingest.orders import RULES
from millrace_schemas import schema_text

WRITTEN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_MS = int(WRITTEN_AT.timestamp() * 1000)
ITEM = {"productId": "p-1", "quantity": 3, "price": 0.1, "category": "things"}
ORDER = {
    "transactionId": "o-1",
    "userId": "u-1",
    "orderItems": [ITEM],
    "totalAmount": 0.3,
    "currency": "EUR",
    "paymentMethod": 'card, or "wallet"',
    "status": "pending",
    "timestamp": AT_MS,
}


def line(order: dict[str, Any]) -> bytes:
    text = io.StringIO()
    fields = {**order, "orderItems": json.dumps(order["orderItems"])}
    csv.writer(text, lineterminator="").writerow([fields[name] for name in COLUMNS])
    return text.getvalue().encode()


def reason(raw: bytes) -> str | None:
    found = judge(Line(2, raw), COLUMNS, WRITTEN_AT)
    return found.reason.value if isinstance(found, Reject) else None


def by_ingest(order: dict[str, Any]) -> str | None:
    schema = avro.arrow_schema(avro.parse(schema_text("transactions")))
    columns = pa.RecordBatch.from_pylist([order], schema=schema)
    batch = Batch(columns, np.array([AT_MS]), Limits(max_ahead_ms=300_000, max_age_ms=0, max_properties=64))
    return next((rule.reason.value for rule in RULES if len(rule.broken(batch))), None)


def with_item(**changed: Any) -> dict[str, Any]:
    item = {**ITEM, **changed}
    total = round(item["quantity"] * item["price"], 2) if abs(item["price"]) < 1e9 else 0
    return {"orderItems": [item], "totalAmount": total}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({"orderItems": [ITEM, ITEM], "totalAmount": 0.6}, None),
        ({"totalAmount": 0.31}, None),
        ({"totalAmount": 0.32}, "total_mismatch"),
        ({"totalAmount": 0.28}, "total_mismatch"),
        ({"totalAmount": float("nan")}, "total_mismatch"),
        ({"totalAmount": float("inf")}, "total_mismatch"),
        ({"transactionId": ""}, "empty_id"),
        ({"userId": ""}, "empty_id"),
        (with_item(productId=""), "empty_id"),
        ({"status": ""}, None),
        ({"status": "a\0b"}, "nul_in_string"),
        (with_item(category="\0"), "nul_in_string"),
        ({"timestamp": AT_MS + 300_000}, None),
        ({"timestamp": AT_MS + 300_001}, "timestamp_in_future"),
        ({"timestamp": 946_684_800_000}, None),
        ({"timestamp": 946_684_799_999}, "timestamp_too_old"),
        ({"timestamp": -1}, "timestamp_too_old"),
        ({"orderItems": [], "totalAmount": 0.0}, "no_items"),
        (with_item(quantity=0), "invalid_quantity"),
        (with_item(quantity=-2), "invalid_quantity"),
        (with_item(price=0.0), None),
        (with_item(price=-0.01), "negative_price"),
        (with_item(price=float("inf")), "negative_price"),
        ({"currency": "XXX"}, "unknown_currency"),
        ({"currency": "eur"}, "unknown_currency"),
        ({"transactionId": "", "currency": "nope", "totalAmount": 99.0}, "empty_id"),
        ({"currency": "nope", "totalAmount": 99.0}, "total_mismatch"),
    ],
    ids=str,
)
def test_line_is_refused_for_what_ingest_refuses_the_record_for(changed: dict[str, Any], expected: str | None) -> None:
    order = {**ORDER, **changed}
    assert (reason(line(order)), by_ingest(order)) == (expected, expected)


def test_all_reasons_of_ingest_are_reasons_here() -> None:
    assert {rule.reason.value for rule in RULES} <= {one.value for one in Reason}


GOOD = line(ORDER)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" + GOOD,
        GOOD + b",",
        GOOD.rpartition(b",")[0],
        GOOD.replace(b'"card', b'"card"'),
        GOOD.replace(b"0.3,", b"much,"),
        GOOD.replace(str(AT_MS).encode(), b"2026-03-01"),
        GOOD.replace(str(AT_MS).encode(), b"1e12"),
        line({**ORDER, "orderItems": {}}),
        line({**ORDER, "orderItems": [1]}),
        line({**ORDER, "orderItems": [{**ITEM, "more": 1}]}),
        line({**ORDER, "orderItems": [{**ITEM, "quantity": 1.0}]}),
        line({**ORDER, "orderItems": [{**ITEM, "quantity": True}]}),
        line({**ORDER, "orderItems": [{**ITEM, "quantity": 2**31}]}),
        line({**ORDER, "orderItems": [{**ITEM, "price": "0.1"}]}),
        line({**ORDER, "orderItems": [{**ITEM, "productId": None}]}),
        line({**ORDER, "orderItems": [{**ITEM, "category": "\ud800"}]}),
        GOOD.replace(b"[{", b"[{{"),
    ],
)
def test_line_that_cannot_be_read_is_malformed(raw: bytes) -> None:
    assert reason(raw) == "malformed_line"


@pytest.mark.parametrize("price", ["0.001", "11258999068426.25", "1e400000", "1e-400000"])
def test_amount_that_the_warehouse_cannot_hold_exactly_is_not_rounded(price: str) -> None:
    raw = GOOD.replace(b"0.1,", price.encode() + b",").replace(b'""quantity"": 3', b'""quantity"": 1')
    found = reason(raw.replace(b"0.3,", price.encode() + b","))
    assert found == "not_in_cents"


def test_order_is_what_the_line_says_to_the_cent() -> None:
    found = judge(Line(2, GOOD), COLUMNS, WRITTEN_AT)
    assert isinstance(found, Order)
    assert (found.total, found.items[0].price * 3, found.occurred_at) == (
        found.items[0].price * 3,
        found.total,
        WRITTEN_AT,
    )
    assert (found.transaction_id, found.payment_method, found.items[0].quantity) == ("o-1", 'card, or "wallet"', 3)


def test_header_names_the_columns_in_any_order() -> None:
    names = tuple(reversed(COLUMNS))
    assert header(Line(1, b"\xef\xbb\xbf" + ",".join(names).encode())) == names
    assert header(Line(1, ",".join(names[1:]).encode())) is None
    assert header(Line(1, ",".join((*names, "more")).encode())) is None
    assert header(Line(1, ",".join((*names[1:], names[1])).encode())) is None
    assert header(Line(1, ",".join(names).encode(), is_ended=False)) is None
    assert header(Line(1, b"PAR1\xff")) is None


def test_lines_are_those_of_the_file_in_bounded_memory() -> None:
    long = b"x" * (3 << 20)
    content = b"a\r\n\nb\n" + long + b"\nc\r\nlast"
    lines = Lines(io.BytesIO(content))
    found = list(lines)
    assert [(one.number, one.raw) for one in found if not one.is_too_long] == [
        (1, b"a"),
        (2, b""),
        (3, b"b"),
        (5, b"c"),
        (6, b"last"),
    ]
    assert [(one.number, len(one.raw)) for one in found if one.is_too_long] == [(4, MAX_LINE_BYTES)]
    assert [one.number for one in found if not one.is_ended] == [6]
    assert lines.size_bytes == len(content)
    assert judge(found[3], COLUMNS, WRITTEN_AT).reason is Reason.LINE_TOO_LONG  # type: ignore[union-attr]
    assert judge(Line(2, GOOD, is_ended=False), COLUMNS, WRITTEN_AT).reason is Reason.UNTERMINATED_LINE  # type: ignore[union-attr]
