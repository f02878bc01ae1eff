"""The input contracts as framed Avro bytes.

A user event is the one record that is made 50,000 times a second, and for it a general encoder would take longer than
everything else together. So its parts are encoded by hand, and those that stay the same (a visit's ids and context, a
product's properties) are encoded once. The other subjects are few and go through the general encoder. A test decodes
what is written here with the schemas themselves.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from millrace_common.codec import RowEncoder, frame
from millrace_generator.traffic import EVENTS, KINDS, ORDERS, PRODUCTS, PROFILES, Event, Order, Record, SchemaIds
from millrace_generator.visitors import Visitor
from millrace_schemas import schema_text

_SHORT: Final = 64  # lengths and counts below it take one byte
_SMALL: Final = tuple(bytes((2 * n,)) for n in range(_SHORT))
_NULL: Final = b"\x00"
_NOT_NULL: Final = b"\x02"
_KIND_BYTES: Final = {kind: _SMALL[index] for index, kind in enumerate(KINDS)}


def long(value: int) -> bytes:
    """Return `value` as an Avro long: zigzag, then seven bits a byte, least significant first."""
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def string(text: str) -> bytes:
    """Return `text` as an Avro string."""
    return encoded_string(text.encode())


def encoded_string(data: bytes) -> bytes:
    """Return UTF-8 as an Avro string."""
    return (_SMALL[len(data)] if len(data) < _SHORT else long(len(data))) + data


def optional_string(text: str | None) -> bytes:
    """Return `text` as the Avro union of null and string, in this order."""
    return _NULL if text is None else _NOT_NULL + string(text)


def string_map(entries: Mapping[str, str]) -> bytes:
    """Return `entries` as an Avro map of one block."""
    if not entries:
        return _NULL
    return b"".join((long(len(entries)), *(string(k) + string(v) for k, v in entries.items()), _NULL))


def context(visitor: Visitor, referrer: str | None) -> bytes:
    """Return a visit's context, the last field of an event."""
    return device(visitor) + optional_string(referrer)


def device(visitor: Visitor) -> bytes:
    """Return the context without its last field, the referrer."""
    return string(visitor.user_agent) + string(visitor.ip) + string(visitor.platform)


def who(user_id: str | None, session_id: str) -> bytes:
    """Return userId and sessionId, two fields side by side: `optional_string` and `string`."""
    return optional_string(user_id) + string(session_id)


class EventEncoder:
    """Puts user events together from encoded parts."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Prepare the frame's header."""
        self._header = frame(schema_ids[EVENTS], b"")

    def encode(self, event: Event, visit: bytes, properties: bytes, surroundings: bytes) -> bytes:
        """Return the framed event; the parts come from `who`, `string_map` and `context`. Its time is not negative."""
        zigzag = event.time_ms << 1
        low_bytes = bytes((zigzag & 0x7F | 0x80, zigzag >> 7 & 0x7F | 0x80))
        return b"".join(
            (
                self._header,
                string(event.event_id),
                visit,
                _KIND_BYTES[event.kind],
                low_bytes,
                _varint(zigzag >> 14),  # the same for eight seconds, so mostly from the cache
                properties,
                surroundings,
            )
        )


class OrderItem(NamedTuple):
    """One line of an order."""

    product_id: str
    quantity: int
    price_cents: int
    category: str


class OrderEncoder:
    """Makes order records."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Prepare for the registered schema."""
        self._encoder = RowEncoder(schema_text(ORDERS), schema_ids[ORDERS])

    def record(self, order: Order, user_id: str, items: Sequence[OrderItem], payment_method: str, at_ms: int) -> Record:
        """Return one status of an order in US dollars, keyed by its id."""
        value = {
            "transactionId": order.transaction_id,
            "userId": user_id,
            "orderItems": [
                {
                    "productId": i.product_id,
                    "quantity": i.quantity,
                    "price": i.price_cents / 100,
                    "category": i.category,
                }
                for i in items
            ],
            "totalAmount": order.total_cents / 100,
            "currency": "USD",
            "paymentMethod": payment_method,
            "status": order.status,
            "timestamp": order.time_ms,
        }
        return Record(ORDERS, order.transaction_id.encode(), self._encoder.encode(value), at_ms, order)


class Product(NamedTuple):
    """The latest facts about a product."""

    product_id: str
    category: str | None
    brand: str | None
    price_cents: int
    updated_ms: int
    name: str | None = None


class ProductEncoder:
    """Makes product records."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Prepare for the registered schema."""
        self._encoder = RowEncoder(schema_text(PRODUCTS), schema_ids[PRODUCTS])

    def record(self, product: Product) -> Record:
        """Return the upsert of `product`, keyed by its id."""
        value = {
            "productId": product.product_id,
            "name": product.name,
            "brand": product.brand,
            "category": product.category,
            "price": product.price_cents / 100,
            "updatedAt": product.updated_ms,
        }
        return Record(PRODUCTS, product.product_id.encode(), self._encoder.encode(value), product.updated_ms)


class ProfileEncoder:
    """Makes user profile records."""

    def __init__(self, schema_ids: SchemaIds) -> None:
        """Prepare for the registered schema."""
        self._encoder = RowEncoder(schema_text(PROFILES), schema_ids[PROFILES])

    def record(self, user_id: str, visitor: Visitor, at_ms: int) -> Record:
        """Return the profile of a user who has just registered, keyed by the user's id."""
        value = {
            "userId": user_id,
            "country": visitor.country,
            "language": visitor.language,
            "registeredAt": at_ms,
            "updatedAt": at_ms,
        }
        return Record(PROFILES, user_id.encode(), self._encoder.encode(value), at_ms)


@lru_cache(maxsize=1 << 12)
def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
