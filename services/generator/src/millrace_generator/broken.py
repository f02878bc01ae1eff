"""Makes records that the pipeline must refuse, and says what for.

Each is made from a good record and keyed like it. An invalid record has an id of its own, so that it can never be taken
for the good one.
"""

import io
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, TypeVar
from uuid import UUID, uuid5

import fastavro

from millrace_common.avro import parse
from millrace_common.codec import HEADER_BYTES, RowEncoder, frame
from millrace_generator.traffic import EVENTS, ORDERS, Fault, FaultKind, Record, SchemaIds
from millrace_generator.wire import Product, ProductEncoder
from millrace_schemas import schema_text

BROKEN_IDS: Final = UUID("3b6a8f0e-5d5b-5b0c-9a57-7f1d2c4e6a03")
"""Namespace of the ids of invalid records."""

DECODE: Final = "decode"
VALIDATE: Final = "validate"

_UNKNOWN_SCHEMA_ID: Final = 2_000_000_000
_TOO_LARGE_BYTES: Final = 300_000  # the services take 262,144
_TOO_MANY_PROPERTIES: Final = 1_200  # the services take 1,000
_TOO_LARGE_SHARE: Final = 0.02  # of the malformed: they weigh a thousand times as much as others

# Refused at any time and with any settings: after the year 2099, and before the year 2000.
_FUTURE_MS: Final = (4_102_444_800_000, 253_402_300_799_000)
_PAST_MS: Final = (0, -1, -62_135_596_800_000, 946_684_799_999)
_NO_ADDRESSES: Final = ("", "localhost", "999.1.2.3", "1.2.3", "2001:db8::g")
_NO_AMOUNTS: Final = ("", "abc", "-1.00", "1,000.00", "NaN", "9.999")

T = TypeVar("T")
Value = dict[str, Any]
Change = Callable[[Value, Random], None]


class Breaker:
    """Makes malformed and invalid records."""

    def __init__(self, schema_ids: SchemaIds, chance: Random) -> None:
        """Prepare; every choice is drawn from `chance`."""
        self._chance = chance
        schemas = {topic: schema_text(topic) for topic in (EVENTS, ORDERS)}
        self._encoders = {topic: RowEncoder(text, schema_ids[topic]) for topic, text in schemas.items()}
        self._schemas = {topic: fastavro.parse_schema(parse(text)) for topic, text in schemas.items()}
        self._other_subject = ProductEncoder(schema_ids).record(Product("none", None, None, 0, 0)).value

    def malformed(self, good: Record) -> Record:
        """Return a record whose value cannot be decoded."""
        if self._chance.random() < _TOO_LARGE_SHARE:
            return _refused(good, good.value + bytes(_TOO_LARGE_BYTES), FaultKind.MALFORMED, DECODE, "too_large")
        reason, change = _one_of(self._chance, _MALFORMED)
        return _refused(good, change(self, good.value), FaultKind.MALFORMED, DECODE, reason)

    def invalid(self, good: Record) -> Record:
        """Return a record that decodes and breaks exactly one rule."""
        value = fastavro.schemaless_reader(io.BytesIO(good.value[HEADER_BYTES:]), self._schemas[good.topic], None)
        if not isinstance(value, dict):
            message = f"a record of {good.topic} is no Avro record"
            raise TypeError(message)
        identity = "eventId" if good.topic == EVENTS else "transactionId"
        value[identity] = str(uuid5(BROKEN_IDS, value[identity]))
        reason, change = _one_of(self._chance, _INVALID_EVENTS if good.topic == EVENTS else _INVALID_ORDERS)
        change(value, self._chance)
        return _refused(good, self._encoders[good.topic].encode(value), FaultKind.INVALID, VALIDATE, reason)

    def cut(self, value: bytes) -> bytes:
        """Return the beginning of `value`: a datum is read to its last byte, so any cut is noticed."""
        return value[: HEADER_BYTES + int(self._chance.random() * (len(value) - HEADER_BYTES))]

    def of_another_subject(self, value: bytes) -> bytes:
        """Return a faultless record of `products`."""
        return self._other_subject


def _refused(good: Record, value: bytes, kind: FaultKind, stage: str, reason: str) -> Record:
    return good._replace(value=value, about=None, fault=Fault(kind, stage, reason))


def _one_of(chance: Random, options: Sequence[T]) -> T:
    return options[int(chance.random() * len(options))]


def _no_event_id(value: Value, chance: Random) -> None:
    value[_one_of(chance, ("eventId", "sessionId", "userId"))] = ""


def _no_order_id(value: Value, chance: Random) -> None:
    nobody = _one_of(chance, ("transactionId", "userId", "productId"))
    (value["orderItems"][0] if nobody == "productId" else value)[nobody] = ""


def _nul_in_query(value: Value, chance: Random) -> None:
    value["properties"]["query"] = "red\0shoes"


def _nul_in_method(value: Value, chance: Random) -> None:
    value["paymentMethod"] += "\0"


def _many_properties(value: Value, chance: Random) -> None:
    value["properties"] |= {f"p{n}": "" for n in range(_TOO_MANY_PROPERTIES)}


def _future(value: Value, chance: Random) -> None:
    value["timestamp"] = _one_of(chance, _FUTURE_MS)


def _past(value: Value, chance: Random) -> None:
    value["timestamp"] = _one_of(chance, _PAST_MS)


def _no_address(value: Value, chance: Random) -> None:
    value["context"]["ip"] = _one_of(chance, _NO_ADDRESSES)


def _no_amount(value: Value, chance: Random) -> None:
    value["eventType"] = "purchase"
    value["properties"].pop("amount", None)
    amount = _one_of(chance, (None, *_NO_AMOUNTS))
    if amount is not None:
        value["properties"]["amount"] = amount


def _no_items(value: Value, chance: Random) -> None:
    value |= {"orderItems": [], "totalAmount": 0.0}


def _no_quantity(value: Value, chance: Random) -> None:
    value["orderItems"][0]["quantity"] = _one_of(chance, (0, -1))


def _negative_price(value: Value, chance: Random) -> None:
    value["orderItems"][0]["price"] = -0.01


def _wrong_total(value: Value, chance: Random) -> None:
    value["totalAmount"] += _one_of(chance, (-0.05, 0.02, 100.0))


def _no_currency(value: Value, chance: Random) -> None:
    value["currency"] = _one_of(chance, ("", "usd", "ZZZ", "DOLLAR"))


_MALFORMED: Final[tuple[tuple[str, Callable[[Breaker, bytes], bytes]], ...]] = (
    ("empty_value", lambda breaker, value: b""),
    ("not_framed", lambda breaker, value: b"\x00"),
    ("not_framed", lambda breaker, value: b"\x01" + value[1:]),
    ("unknown_schema", lambda breaker, value: frame(_UNKNOWN_SCHEMA_ID, value[HEADER_BYTES:])),
    ("wrong_subject", Breaker.of_another_subject),
    ("undecodable", Breaker.cut),
    ("trailing_bytes", lambda breaker, value: value + b"\x00\x00"),
    # The first field is an id, one byte of length and ASCII.
    ("invalid_utf8", lambda breaker, value: value[: HEADER_BYTES + 1] + b"\xff\xfe" + value[HEADER_BYTES + 3 :]),
)
_INVALID_EVENTS: Final[tuple[tuple[str, Change], ...]] = (
    ("empty_id", _no_event_id),
    ("nul_in_string", _nul_in_query),
    ("too_many_properties", _many_properties),
    ("timestamp_in_future", _future),
    ("timestamp_too_old", _past),
    ("invalid_ip", _no_address),
    ("invalid_amount", _no_amount),
)
_INVALID_ORDERS: Final[tuple[tuple[str, Change], ...]] = (
    ("empty_id", _no_order_id),
    ("nul_in_string", _nul_in_method),
    ("timestamp_in_future", _future),
    ("timestamp_too_old", _past),
    ("no_items", _no_items),
    ("invalid_quantity", _no_quantity),
    ("negative_price", _negative_price),
    ("total_mismatch", _wrong_total),
    ("unknown_currency", _no_currency),
)
