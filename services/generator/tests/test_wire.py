import io
from collections.abc import Callable
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.avro import parse
from millrace_generator import wire
from millrace_generator.traffic import EVENTS, KINDS, TOPICS, Event, Kind, Order, Record
from millrace_generator.visitors import Visitor, visitor_of
from millrace_schemas import schema_text

Decode = Callable[[Record], dict[str, Any]]

EVENT_SCHEMA = fastavro.parse_schema(parse(schema_text(EVENTS)))
texts = st.text(max_size=200)


@given(
    ids=st.tuples(texts, st.none() | texts, texts),
    kind=st.sampled_from(KINDS),
    time_ms=st.integers(0, 253_402_300_799_999),
    properties=st.dictionaries(texts, texts, max_size=70),
    surroundings=st.tuples(texts, texts, texts, st.none() | texts),
)
def test_hand_encoded_event_is_read_back_by_its_schema(
    ids: tuple[str, str | None, str],
    kind: Kind,
    time_ms: int,
    properties: dict[str, str],
    surroundings: tuple[str, str, str, str | None],
) -> None:
    event_id, user_id, session_id = ids
    user_agent, ip, platform, referrer = surroundings
    value = wire.EventEncoder(dict.fromkeys(TOPICS, 7)).encode(
        Event(event_id, user_id, session_id, kind, time_ms),
        wire.who(user_id, session_id),
        wire.string_map(properties),
        wire.context(Visitor(user_agent, ip, platform, "DE", "de-DE"), referrer),
    )
    data = io.BytesIO(value)
    assert data.read(5) == b"\x00\x00\x00\x00\x07"
    assert fastavro.schemaless_reader(data, EVENT_SCHEMA, None) == {
        "eventId": event_id,
        "userId": user_id,
        "sessionId": session_id,
        "eventType": kind,
        "timestamp": time_ms,
        "properties": properties,
        "context": {"userAgent": user_agent, "ip": ip, "platform": platform, "referrer": referrer},
    }
    assert data.read() == b""


@given(st.integers(-(2**63), 2**63 - 1))
def test_long_is_read_back(value: int) -> None:
    assert fastavro.schemaless_reader(io.BytesIO(wire.long(value)), "long", None) == value


def test_money_of_an_order_is_the_nearest_double(schema_ids: dict[str, int], decode: Decode) -> None:
    order = Order("t-1", "completed", 1_569_888_000_000, 3 * 1999 + 7)
    items = [wire.OrderItem("a", 3, 1999, "x"), wire.OrderItem("b", 1, 7, "unknown")]
    record = wire.OrderEncoder(schema_ids).record(order, "u", items, "card", 5)
    value = decode(record)
    assert (record.key, record.at_ms, record.about) == (b"t-1", 5, order)
    assert value["totalAmount"] == 60.04
    assert [item["price"] for item in value["orderItems"]] == [19.99, 0.07]


def test_product_and_profile_are_keyed_by_their_ids(schema_ids: dict[str, int], decode: Decode) -> None:
    product = wire.ProductEncoder(schema_ids).record(wire.Product("p", None, "hp", 46307, 9))
    profile = wire.ProfileEncoder(schema_ids).record("u", visitor_of("u"), 11)
    assert (product.key, profile.key) == (b"p", b"u")
    facts = {"productId": "p", "name": None, "brand": "hp", "category": None, "price": 463.07, "updatedAt": 9}
    assert decode(product) == facts
    assert decode(profile)["registeredAt"] == 11
