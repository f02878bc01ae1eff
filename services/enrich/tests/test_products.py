"""The product table, and the feed that keeps it current."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.codec import Decoder
from millrace_common.errors import FatalError
from millrace_common.testing import InMemorySchemas, Record, avro_value
from millrace_enrich import metrics
from millrace_enrich.money import cents, cents_of_price
from millrace_enrich.products import ProductFeed, ProductTable
from millrace_schemas import schema_text

PRODUCTS: Final = schema_text("products")


@dataclass(frozen=True)
class Message:
    """A record, or an event of a partition."""

    record: Record = field(default_factory=lambda: Record(None))
    failure: KafkaError | None = None
    in_partition: int = 0

    def error(self) -> KafkaError | None:
        return self.failure

    def partition(self) -> int:
        return self.in_partition

    def key(self) -> bytes | None:
        return self.record.key()

    def value(self) -> bytes | None:
        return self.record.value()

    def offset(self) -> int:
        return self.record.offset()


@dataclass
class Messages:
    """Hands out prepared polls, then nothing."""

    polls: list[list[Any]]

    def consume(self, num_messages: int, timeout: float) -> list[Any]:
        return self.polls.pop(0) if self.polls else []


def product(product_id: str, **facts: Any) -> Message:
    datum = {"productId": product_id, "name": None, "brand": None, "category": None, "price": None, "updatedAt": 0}
    return Message(Record(avro_value(PRODUCTS, 1, datum | facts), product_id.encode()))


def tombstone(product_id: str) -> Message:
    return Message(Record(None, product_id.encode()))


def end_of(partition: int) -> Message:
    return Message(failure=KafkaError(KafkaError._PARTITION_EOF), in_partition=partition)


def feed_of(*polls: Iterable[Message], partitions: int = 1) -> ProductFeed:
    decoder = Decoder(InMemorySchemas({1: PRODUCTS}), PRODUCTS, max_value_bytes=262_144, wait=lambda seconds: None)
    return ProductFeed(Messages([list(poll) for poll in polls]), decoder, ProductTable(), partitions)


def brands(table: ProductTable, *product_ids: str | None) -> list[str | None]:
    found: list[str | None] = table.join(pa.array(product_ids, pa.string())).column("brand").to_pylist()
    return found


def going_on() -> None:
    """Nobody told the process to stop."""


def test_reading_ends_when_every_partition_was_read_to_its_end() -> None:
    feed = feed_of([product("1", brand="a"), end_of(1)], [product("2", brand="b")], [end_of(0)], partitions=2)
    feed.read_to_end(going_on)
    assert brands(feed.table, "1", "2", "3", None) == ["a", "b", None, None]


def test_reading_can_be_ended_from_outside() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        feed_of().read_to_end(stop)


def test_following_takes_in_changes_and_tombstones() -> None:
    feed = feed_of([product("1", brand="a"), product("2", brand="b")], [product("1", brand="c"), tombstone("2")])
    feed.follow()
    feed.follow()
    assert brands(feed.table, "1", "2") == ["c", None]
    assert len(feed.table) == 1


def test_the_last_record_of_a_product_in_one_poll_is_the_truth() -> None:
    feed = feed_of([product("1", brand="a"), tombstone("1"), product("1", brand="b"), product("2"), tombstone("2")])
    feed.follow()
    assert brands(feed.table, "1", "2") == ["b", None]
    assert len(feed.table) == 1


def test_a_fact_that_says_nothing_or_has_a_nul_is_none() -> None:
    feed = feed_of([product("1", brand="", category="a\0b"), product("2", brand="b")])
    feed.follow()
    joined = feed.table.join(pa.array(["1", "2"]))
    assert joined.column("brand").to_pylist() == [None, "b"]
    assert joined.column("category").to_pylist() == [None, None]


def test_facts_outlive_the_rows_nobody_points_to() -> None:
    table = ProductTable()
    schema = pa.schema({"productId": pa.string(), "brand": pa.string(), "category": pa.string(), "price": pa.float64()})
    for turn in range(8):
        rows = [{"productId": str(number), "brand": f"{number}-{turn}"} for number in range(3_000)]
        table.upsert(pa.RecordBatch.from_pylist(rows, schema=schema))
        table.remove(str(turn))
        assert brands(table, "100", "2999", str(turn)) == [f"100-{turn}", f"2999-{turn}", None]
    assert len(table) == 2_999


def test_a_bad_product_record_is_counted_and_costs_no_other() -> None:
    rejected = metrics.PRODUCTS_REJECTED.labels(reason="not_framed")
    before = rejected._value.get()
    feed = feed_of([product("1", brand="a"), Message(Record(b"junk", b"2")), product("3", brand="c")])
    feed.follow()
    assert brands(feed.table, "1", "2", "3") == ["a", None, "c"]
    assert rejected._value.get() == before + 1


def test_a_passing_error_leaves_the_table_as_it_is() -> None:
    feed = feed_of([product("1", brand="a")], [Message(failure=KafkaError(KafkaError._ALL_BROKERS_DOWN))])
    feed.follow()
    feed.follow()
    assert brands(feed.table, "1") == ["a"]


def test_a_fatal_error_stops_the_service() -> None:
    feed = feed_of([Message(failure=KafkaError(KafkaError._FATAL, "gone", True))])  # noqa: FBT003
    with pytest.raises(FatalError, match="gone"):
        feed.follow()


@given(st.integers(0, 10**18 - 1))
def test_cents_are_exact(number: int) -> None:
    assert cents(pa.array([f"{number // 100}.{number % 100:02d}"])).to_pylist() == [number]


@given(st.lists(st.one_of(st.none(), st.text("0123456789.-e", max_size=6)), min_size=1), st.integers(0, 3))
def test_cents_of_a_slice_are_those_of_its_rows(amounts: list[str | None], start: int) -> None:
    def plain(text: str | None) -> int | None:
        whole, point, rest = (text or "").partition(".")
        good = whole.isdigit() and (rest.isdigit() and len(rest) <= 2 if point else True)
        return int(Decimal(text or "0") * 100) if good else None

    assert cents(pa.array(amounts, pa.string()).slice(start)).to_pylist() == [plain(text) for text in amounts[start:]]


@pytest.mark.parametrize(
    ("price", "expected"),
    [(None, None), (0.29, 29), (1.005, 100), (489.07, 48_907), (-0.01, None), (float("nan"), None), (1e300, None)],
)
def test_a_list_price_becomes_cents_or_nothing(price: float | None, expected: int | None) -> None:
    assert cents_of_price(price) == expected
