"""Everything a producer can do wrong, sent to the real broker: each record is one dead letter with its exact bytes."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer

from millrace_common.codec import RowEncoder, frame
from millrace_common.dead_letters import MOST_KEY_BYTES, MOST_VALUE_BYTES
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_local.audit import audit
from millrace_local.draining import wait_until_through
from millrace_local.evidence import gather
from millrace_local.reading import Library, decoded, runs
from millrace_local.services import SERVICES
from millrace_local.stack import Stack
from millrace_schemas import schema_text

pytestmark = pytest.mark.broker

NOW_MS = int(time.time() * 1000)
PARTITIONS = 4
YEAR_9999_MS = 253_370_764_800_000
# The broker's message.max.bytes less what it counts besides key and value: batch header 61, record header 13.
LARGEST_BYTES = 1_048_588 - 61 - 13


@dataclass(frozen=True)
class Wrong:
    """A record nobody should send, and what ingest must say of it."""

    name: str
    value: bytes | None
    reason: str
    topic: str = "user-events"
    key: bytes | None = None


@dataclass(frozen=True)
class Sent:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str | None


class Shop:
    """Encodes events and orders the way a producer with the registered schemas does."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self.ids = {
            name: registry.schema_id(name, schema_text(name)) for name in ("user-events", "transactions", "products")
        }
        self._events = RowEncoder(schema_text("user-events"), self.ids["user-events"])
        self._orders = RowEncoder(schema_text("transactions"), self.ids["transactions"])
        self._products = RowEncoder(schema_text("products"), self.ids["products"])

    def event(self, **fields: Any) -> bytes:
        context = {"userAgent": "Mozilla/5.0", "ip": "81.2.69.142", "platform": "web", "referrer": None}
        known = {
            "eventId": str(uuid.uuid4()),
            "userId": "u-1",
            "sessionId": "s-1",
            "eventType": "page_view",
            "timestamp": NOW_MS,
            "properties": {"page": "/"},
        }
        return self._events.encode({**known, **fields, "context": {**context, **fields.get("context", {})}})

    def order(self, **fields: Any) -> bytes:
        item = {"productId": "p-1", "quantity": 2, "price": 10.5, "category": "books"}
        known = {
            "transactionId": str(uuid.uuid4()),
            "userId": "u-1",
            "orderItems": [item],
            "totalAmount": 21.0,
            "currency": "USD",
            "paymentMethod": "card",
            "status": "completed",
            "timestamp": NOW_MS,
        }
        return self._orders.encode({**known, **fields})

    def product(self) -> bytes:
        names = ("name", "brand", "category", "price")
        return self._products.encode({"productId": "p-1", "updatedAt": NOW_MS, **dict.fromkeys(names)})


def wrong_records(shop: Shop) -> list[Wrong]:
    event_id = shop.ids["user-events"]
    event = shop.event()
    item = {"productId": "p-1", "quantity": 1, "price": 1.0, "category": "books"}
    huge_map = {f"k{number:06}": "v" for number in range(100_000)}
    records = [
        Wrong("null value", None, "empty_value"),
        Wrong("empty value", b"", "empty_value"),
        Wrong("one byte", b"\x00", "not_framed"),
        Wrong("wrong magic byte", b"\x01" + event[1:], "not_framed"),
        Wrong("unknown schema id", frame(999_999, event[5:]), "unknown_schema"),
        Wrong("valid Avro of another subject", shop.product(), "wrong_subject"),
        Wrong("cut off", event[:-4], "undecodable"),
        Wrong("garbage", frame(event_id, b"\xff" * 64), "undecodable"),
        Wrong("length of 2**62", frame(event_id, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01abc"), "undecodable"),
        Wrong("trailing bytes", event + b"\x00", "trailing_bytes"),
        Wrong(
            "invalid UTF-8",
            shop.event(sessionId="s-abcdef").replace(b"s-abcdef", b"s-\xff\xfe\xfd\xfcf"),
            "invalid_utf8",
        ),
        Wrong("NUL in a string", shop.event(sessionId="s-\x00"), "nul_in_string"),
        Wrong("near the broker's limit", shop.event(properties={"page": "x" * 1_000_000}), "too_large"),
        Wrong("as large as the broker takes", b"\0" + random_bytes(LARGEST_BYTES - 7), "too_large", key=b"largest"),
        Wrong("a key as large as the broker takes", b"", "empty_value", key=random_bytes(LARGEST_BYTES)),
        Wrong("larger than any topic takes, when unpacked", bytes(24_000_000), "too_large"),
        Wrong("a key larger than any topic takes, when unpacked", b"", "empty_value", key=bytes(24_000_000)),
        Wrong("a map of 100,000 entries", shop.event(properties=huge_map)[:1_000_000], "too_large"),
        Wrong(
            "too many properties", shop.event(properties={f"k{n}": "v" for n in range(5_000)}), "too_many_properties"
        ),
        Wrong("empty event id", shop.event(eventId=""), "empty_id"),
        Wrong("empty session id", shop.event(sessionId=""), "empty_id"),
        Wrong("timestamp 0", shop.event(timestamp=0), "timestamp_too_old"),
        Wrong("negative timestamp", shop.event(timestamp=-1), "timestamp_too_old"),
        Wrong("smallest timestamp", shop.event(timestamp=-(2**63)), "timestamp_too_old"),
        Wrong("eight days ago", shop.event(timestamp=NOW_MS - 8 * 86_400_000), "timestamp_too_old"),
        Wrong("an hour ahead", shop.event(timestamp=NOW_MS + 3_600_000), "timestamp_in_future"),
        Wrong("year 9999", shop.event(timestamp=YEAR_9999_MS), "timestamp_in_future"),
        Wrong("largest timestamp", shop.event(timestamp=2**63 - 1), "timestamp_in_future"),
        Wrong("bad IP", shop.event(context={"ip": "300.1.1.1"}), "invalid_ip"),
        Wrong("purchase without an amount", shop.event(eventType="purchase"), "invalid_amount"),
        Wrong("purchase of nan", shop.event(eventType="purchase", properties={"amount": "nan"}), "invalid_amount"),
        Wrong("order without items", shop.order(orderItems=[], totalAmount=0.0), "no_items", "transactions"),
        Wrong("quantity 0", shop.order(orderItems=[{**item, "quantity": 0}]), "invalid_quantity", "transactions"),
        Wrong("negative price", shop.order(orderItems=[{**item, "price": -1.0}]), "negative_price", "transactions"),
        Wrong("total 2 cents off", shop.order(totalAmount=21.02), "total_mismatch", "transactions"),
        Wrong("unknown currency", shop.order(currency="XXQ"), "unknown_currency", "transactions"),
        Wrong("empty order", b"", "empty_value", "transactions"),
    ]
    assert len({record.name for record in records}) == len(records)
    return records


def test_each_bad_record_is_one_dead_letter_with_its_exact_bytes(local_stack: Stack) -> None:
    registry = SchemaRegistry({"url": local_stack.registry_url})
    shop = Shop(registry)
    sent = send(local_stack, shop, wrong_records(shop))
    local_stack.set_services([service for service in SERVICES if service.name in ("ingest", "lake")])
    try:
        local_stack.wait_ready()
        wait_until_through(local_stack, [service for service in SERVICES if service.name in ("ingest", "lake")])
        restarts = {state.spec.name: state.restarts for state in local_stack.states()}
        library = Library(local_stack.bootstrap_servers, local_stack.registry_url, local_stack.lake)
        verdict = audit(gather(library))
        letters = dead_letters(library, registry)
    finally:
        local_stack.set_services([])
    assert not any(restarts.values()), "a bad record stopped a service"
    assert verdict.balanced, verdict.problems
    bad = [record for record in sent if record.reason is not None]
    expected = {(r.topic, r.partition, r.offset): (r.reason, *kept(r)) for r in bad}
    found = {place: letter for place, letter in letters if place in expected}
    assert found == expected
    assert sum(place in expected for place, _ in letters) == len(expected), "a dead letter is there twice"
    good = [record.value for record in sent if record.reason is None]
    forwarded = [
        message.value()
        for topic in ("user-events.valid", "transactions.valid")
        for _, messages in runs(library, [Partition(topic, index) for index in range(PARTITIONS)])
        for message in messages
    ]
    assert sorted(value for value in forwarded if value in set(good)) == sorted(value for value in good if value)


def random_bytes(count: int) -> bytes:
    """Return bytes that nothing makes smaller."""
    return random.Random(4).randbytes(count)


def kept(record: Sent) -> tuple[bytes | None, bytes | None]:
    """Return key and value as a dead letter has them: whole, up to what can be sent on."""
    key, value = record.key, record.value
    return key[:MOST_KEY_BYTES] if key else key, value[:MOST_VALUE_BYTES] if value else value


def send(stack: Stack, shop: Shop, wrong: list[Wrong]) -> list[Sent]:
    """Send every wrong record with a good one before and behind it, and return where each went."""
    producer = Producer(
        {
            "bootstrap.servers": stack.bootstrap_servers,
            "enable.idempotence": True,
            "message.max.bytes": 32_000_000,
            "compression.type": "zstd",
        }
    )
    sent: list[Sent] = []
    for number, record in enumerate(wrong):
        make_good: Callable[[], bytes] = shop.order if record.topic == "transactions" else shop.event
        for value, reason in ((make_good(), None), (record.value, record.reason), (make_good(), None)):

            def note(error: object, message: Any, value: bytes | None = value, reason: str | None = reason) -> None:
                assert error is None, error
                place = (message.topic(), message.partition(), message.offset())
                sent.append(Sent(*place, message.key(), value, reason))

            # A compacted topic refuses a record without a key itself.
            key = f"key-{number}".encode() if number % 3 or record.topic == "transactions" else None
            if reason is not None and record.key is not None:
                key = record.key
            producer.produce(record.topic, value, key, number % PARTITIONS, on_delivery=note)
            # Each in a batch of its own: the broker bounds batches.
            assert producer.flush(30) == 0
    return sent


def dead_letters(
    library: Library, registry: SchemaRegistry
) -> list[tuple[tuple[str, int, int], tuple[str, bytes | None, bytes | None]]]:
    partitions = [Partition("dead-letters", index) for index in range(PARTITIONS)]
    return [
        (
            (row["source_topic"], row["source_partition"], row["source_offset"]),
            (row["reason"], row["key"], row["value"]),
        )
        for run in decoded(library, registry, "dead-letters", partitions)
        for row in run.columns.to_pylist()
        if row["service"] == "ingest"
    ]
