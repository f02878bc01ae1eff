import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_common import avro
from millrace_common.codec import Decoder
from millrace_common.testing import InMemorySchemas, Record, avro_value, polled, with_offsets
from millrace_lake import conversion, loading
from millrace_lake.conversion import money
from millrace_lake.tables import NAMES, TableSpec, tables
from millrace_lake.writer import Store, TableWriter
from millrace_schemas import schema_text

EVENT_MS = 1_772_370_000_123
EVENT_TIME = datetime(2026, 3, 1, 13, 0, 0, 123_000, tzinfo=UTC)
DAY = date(2026, 3, 1)

EVENT = {
    "event_id": "e1",
    "event_type": "purchase",
    "event_time": EVENT_MS,
    "event_date": 20_513,
    "received_at": EVENT_MS + 40,
    "client_session_id": "s1",
    "user_id": None,
    "page": "/product/7",
    "product_id": "7",
    "product_brand": "acme",
    "product_category": None,
    "product_price_cents": 1_999,
    "amount_cents": 3_998,
    "search_query": None,
    "properties": {"page": "/product/7", "amount": "39.98"},
    "platform": "web",
    "referrer": None,
    "device_type": "mobile",
    "os": "Android",
    "browser": None,
    "is_bot": False,
    "country_code": "DE",
    "region": None,
}
EVENT_ROW = EVENT | {
    "event_time": EVENT_TIME,
    "event_date": DAY,
    "received_at": datetime(2026, 3, 1, 13, 0, 0, 163_000, tzinfo=UTC),
    "properties": [("page", "/product/7"), ("amount", "39.98")],
}
SESSION = {
    "session_id": f"s1-{EVENT_MS}",
    "client_session_id": "s1",
    "user_id": "u1",
    "started_at": EVENT_MS,
    "ended_at": EVENT_MS + 86_400_000,
    "duration_ms": 86_400_000,
    "event_count": 5,
    "page_views": 1,
    "clicks": 1,
    "searches": 1,
    "add_to_carts": 1,
    "purchases": 1,
    "unique_pages": 1,
    "unique_products": 1,
    "revenue_cents": 3_998,
    "has_conversion": True,
    "is_bounce": False,
    "entry_page": "/",
    "exit_page": None,
    "referrer": None,
    "device_type": "mobile",
    "country_code": None,
    "is_bot": False,
    "closed_by": "gap",
    "revision": 1,
}
ORDER: dict[str, Any] = {
    "transactionId": "t1",
    "userId": "u1",
    "orderItems": [
        {"productId": "7", "quantity": 2, "price": 19.99, "category": "shoes"},
        {"productId": "8", "quantity": 1, "price": 0.1, "category": "socks"},
    ],
    "totalAmount": 40.08,
    "currency": "EUR",
    "paymentMethod": "card",
    "status": "paid",
    "timestamp": EVENT_MS,
}
LETTER = {
    "service": "ingest",
    "stage": "decode",
    "reason": "undecodable",
    "detail": "no",
    "source_topic": "user-events",
    "source_partition": 3,
    "source_offset": 9,
    "source_timestamp": EVENT_MS,
    "key": b"\x00\xff",
    "value": None,
    "occurred_at": EVENT_MS + 1_000,
}
GOLDEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "events": (EVENT, EVENT_ROW),
    "late_events": (
        EVENT | {"watermark": EVENT_MS + 9_000, "lateness_ms": 9_000},
        EVENT_ROW | {"watermark": datetime(2026, 3, 1, 13, 0, 9, 123_000, tzinfo=UTC), "lateness_ms": 9_000},
    ),
    "sessions": (
        SESSION,
        SESSION
        | {
            "started_at": EVENT_TIME,
            "ended_at": datetime(2026, 3, 2, 13, 0, 0, 123_000, tzinfo=UTC),
            "session_date": DAY,
        },
    ),
    "transactions": (
        ORDER,
        {
            "transaction_id": "t1",
            "user_id": "u1",
            "order_items": [
                {"product_id": "7", "quantity": 2, "price": Decimal("19.99"), "category": "shoes"},
                {"product_id": "8", "quantity": 1, "price": Decimal("0.10"), "category": "socks"},
            ],
            "total_amount": Decimal("40.08"),
            "currency": "EUR",
            "payment_method": "card",
            "status": "paid",
            "occurred_at": EVENT_TIME,
            "event_date": DAY,
        },
    ),
    "dead_letters": (
        LETTER,
        LETTER
        | {
            "source_timestamp": EVENT_TIME,
            "occurred_at": datetime(2026, 3, 1, 13, 0, 1, 123_000, tzinfo=UTC),
            "occurred_date": DAY,
        },
    ),
}


class Table:
    """A table as loading sees it."""

    def __init__(self, name: str, conflict: str | None = None) -> None:
        self.spec: TableSpec = tables([name])[0]
        self.conflict = conflict


def load(name: str, *data: dict[str, Any], conflict: str | None = None, broken: bytes | None = None) -> loading.Loaded:
    """Send `data` (and a broken value at the end) as bytes through the codec and the conversion."""
    target = Table(name, conflict)
    schema = schema_text(target.spec.subject)
    plain = json.dumps(avro.without_logical_types(json.loads(schema)))
    values = [avro_value(plain, 1, datum) for datum in data] + ([broken] if broken is not None else [])
    decoder = Decoder(InMemorySchemas({1: schema}), schema, max_value_bytes=1_000_000, wait=lambda seconds: None)
    run = polled(target.spec.topic, with_offsets(Record(value) for value in values))
    return loading.load(decoder.decode(run), target)


@pytest.mark.parametrize("name", NAMES)
def test_row_is_exactly_what_was_sent(name: str) -> None:
    datum, row = GOLDEN[name]
    loaded = load(name, datum)
    assert loaded.rows.to_pylist() == [row]
    assert loaded.dead == ()


@pytest.mark.parametrize("name", NAMES)
def test_what_repeats_is_written_once_a_file(name: str, store: Store) -> None:
    writer = TableWriter(tables([name])[0], store)
    (file,) = writer.files.write(pa.Table.from_batches([load(name, GOLDEN[name][0]).rows]))
    columns = pq.read_metadata(f"{writer.uri}/{file.path}").row_group(0).to_dict()["columns"]
    for column in columns:
        unique = column["path_in_schema"].partition(".")[0] in writer.spec.unique_columns
        assert column["has_dictionary_page"] == (not unique and column["physical_type"] != "BOOLEAN"), column


@pytest.mark.parametrize("name", NAMES)
def test_table_holds_no_float_and_no_time_without_zone(name: str) -> None:
    def types(kind: pa.DataType) -> Iterator[pa.DataType]:
        yield kind
        for number in range(kind.num_fields):
            yield from types(kind.field(number).type)

    for field in tables([name])[0].schema:
        for kind in types(field.type):
            assert not pa.types.is_floating(kind)
            assert not pa.types.is_timestamp(kind) or kind.tz == "UTC"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("events", "event_date"),
        ("transactions", "event_date"),
        ("late_events", "event_date"),
        ("sessions", "session_date"),
        ("dead_letters", "occurred_date"),
    ],
)
def test_partition_column_is_a_date(name: str, column: str) -> None:
    spec = tables([name])[0]
    assert spec.partition_column == column
    assert spec.schema.field(column).type == pa.date32()


def test_day_of_a_time_before_1970_is_that_day() -> None:
    loaded = load("sessions", SESSION | {"started_at": -1, "ended_at": 0})
    assert loaded.rows.column("session_date").to_pylist() == [date(1969, 12, 31)]


@pytest.mark.parametrize("far_ms", [2**62, -(2**62), 253_402_300_800_000, -62_135_596_800_001])
def test_time_outside_the_years_1_to_9999_is_dead_and_costs_no_other_row(far_ms: int) -> None:
    loaded = load("sessions", SESSION, SESSION | {"ended_at": far_ms}, SESSION | {"session_id": "last"})
    assert loaded.rows.column("session_id").to_pylist() == [SESSION["session_id"], "last"]
    (dead,) = loaded.dead
    assert (dead.record.offset(), dead.reject.reason) == (1, "out_of_range")
    assert f"ended_at: {far_ms} ms" in dead.reject.detail
    assert loaded.counts.balanced


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf"), 1e15, -1e300])
@pytest.mark.parametrize("place", ["price", "totalAmount"])
def test_amount_without_exact_cents_is_dead(amount: float, place: str) -> None:
    items = [ORDER["orderItems"][0], ORDER["orderItems"][1] | {"price": amount}]
    bad = ORDER | ({"orderItems": items} if place == "price" else {"totalAmount": amount})
    loaded = load("transactions", ORDER, bad, ORDER | {"transactionId": "t3", "orderItems": []})
    assert loaded.rows.column("transaction_id").to_pylist() == ["t1", "t3"]
    assert [(dead.record.offset(), dead.reject.reason) for dead in loaded.dead] == [(1, "out_of_range")]
    assert loaded.rows.column("order_items").to_pylist()[1] == []


def test_unreadable_record_is_dead_beside_readable_ones() -> None:
    loaded = load("sessions", SESSION, broken=b"\x00\x00\x00\x00\x01\x02")
    assert loaded.rows.num_rows == 1
    assert [(dead.record.offset(), dead.reject.stage) for dead in loaded.dead] == [(1, "decode")]


def test_schema_conflict_sets_every_record_aside_and_says_why() -> None:
    loaded = load("sessions", SESSION, SESSION, conflict="column clicks is string in the table and int32 in the rows")
    assert loaded.rows.num_rows == 0
    assert [(dead.record.offset(), str(dead.reject.reason)) for dead in loaded.dead] == [
        (0, "schema_mismatch"),
        (1, "schema_mismatch"),
    ]
    assert loaded.dead[0].reject.detail == "column clicks is string in the table and int32 in the rows"


@given(st.lists(st.integers(-(2**50), 2**50)))
def test_every_cent_survives_the_way_through_a_double(cents: list[int]) -> None:
    amounts = np.array([cent / 100 for cent in cents], dtype=np.float64)
    assert money(amounts).to_pylist() == [Decimal(cent).scaleb(-2) for cent in cents]


@given(st.integers(0, 3), st.integers(0, 3))
def test_slices_of_orders_convert_like_whole_ones(first: int, count: int) -> None:
    spec = tables(["transactions"])[0]
    orders = [ORDER | {"transactionId": f"t{n}", "orderItems": ORDER["orderItems"] * n} for n in range(4)]
    columns = pa.RecordBatch.from_pylist(orders, schema=avro.arrow_schema(avro.parse(schema_text("transactions"))))
    part = columns.slice(first, count)
    rows = conversion.order_rows(part, spec.schema)
    assert rows.to_pylist() == conversion.order_rows(columns, spec.schema).to_pylist()[first : first + count]
    assert conversion.check_order(part) == []
