"""Replays a REES46 file as shop traffic.

The file is read twice: once for what must be known before the first event (products, row counts, how far rows are out
of order), once to send. Between the two nothing is kept but the products; while sending, only the seconds that may
still get rows, which for a file sorted by time is one.
"""

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from millrace_generator.rees46 import Row, cents, read_rows
from millrace_generator.traffic import EVENTS, Event, Fault, FaultKind, Order, Plan, Record, SchemaIds
from millrace_generator.visitors import visitor_of
from millrace_generator.wire import (
    EventEncoder,
    OrderEncoder,
    OrderItem,
    Product,
    ProductEncoder,
    context,
    string_map,
    who,
)

EVENT_IDS: Final = UUID("6f1d0f0a-6f0b-5c58-9f0a-5a8f6a3f1a01")
"""Namespace of event ids; changing it makes every replayed event a new one."""
ORDER_IDS: Final = UUID("0c7be0d5-5a4e-5d0c-8b56-3f2a9d8c4e02")
"""Namespace of transaction ids."""

_PAYMENT_METHODS: Final = ("card", "card", "card", "paypal", "bank_transfer", "cash_on_delivery")
# Some of the published files have purchases at negative prices. The pipeline refuses them, and the truth expects that.
_REFUND: Final = Fault(FaultKind.INVALID, "validate", "invalid_amount")
_REFUND_ITEM: Final = Fault(FaultKind.INVALID, "validate", "negative_price")
_HASH_STATE: Final = hashlib.sha1(EVENT_IDS.bytes, usedforsecurity=False)
_VARIANTS: Final = "89ab"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first reading of a file says.

    Attributes:
        path: the file.
        events: usable rows.
        skipped: the other rows, by reason.
        products: the latest facts about every product of a usable row.
        disorder: how far, at most, a row's time lies behind the largest one above it.
        first_ms: earliest event time, epoch milliseconds, UTC; 0 if there is no usable row.
        last_ms: latest event time.
    """

    path: Path
    events: int
    skipped: Counter[str]
    products: dict[str, Product]
    disorder: timedelta
    first_ms: int
    last_ms: int


def survey(path: Path, progress: Callable[[int], None] = lambda rows: None) -> Survey:
    """Read the file at `path` once. `progress` gets the number of usable rows read, now and then.

    Raises:
        InputError: the file cannot be read or has another format.
    """
    skipped: Counter[str] = Counter()
    products: dict[str, Product] = {}
    events = first_ms = largest_ms = disorder_ms = 0
    for row in read_rows(path, skipped):
        time_ms = row.time_ms
        if events == 0:
            first_ms = largest_ms = time_ms
        elif time_ms > largest_ms:
            largest_ms = time_ms
        else:
            disorder_ms = max(disorder_ms, largest_ms - time_ms)
            first_ms = min(first_ms, time_ms)
        events += 1
        product = Product(row.product_id, row.category_code or None, row.brand or None, cents(row.price) or 0, time_ms)
        known = products.get(row.product_id)
        if known is None or _newness(product) > _newness(known):
            products[row.product_id] = product
        if events % 100_000 == 0:
            progress(events)
    return Survey(path, events, skipped, products, timedelta(milliseconds=disorder_ms), first_ms, largest_ms)


def replay_plan(path: Path, progress: Callable[[int], None] = lambda rows: None) -> Plan:
    """Return the plan that replays the REES46 file at `path`, after a first reading of it.

    Sending it again, also rows of the file in another order, makes records with the same ids.

    Raises:
        InputError: the file cannot be read or has another format.
    """
    surveyed = survey(path, progress)
    return Plan(
        title=f"replay {path.name}",
        expected_events=surveyed.events,
        upserts=partial(_upserts, surveyed),
        records=partial(_records, surveyed),
        disorder=surveyed.disorder,
        facts={
            "source": "replay",
            "file": path.name,
            "rows_used": surveyed.events,
            "rows_skipped": dict(sorted(surveyed.skipped.items())),
            "products": len(surveyed.products),
            "disorder_seconds": surveyed.disorder.total_seconds(),
        },
    )


def event_id(content: str, index: int) -> str:
    """Return the UUIDv5 of a row's content and its index among identical rows, from 0."""
    # As uuid.uuid5, at a quarter of its time: it is the dearest part of a replayed event.
    state = _HASH_STATE.copy()
    state.update(f"{content}#{index}".encode())
    digits = state.hexdigest()
    variant = _VARIANTS[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def _newness(product: Product) -> tuple[int, int, str, str]:
    """Order facts about a product by time, within a second by content: a shuffled file must give the same product."""
    return product.updated_ms, product.price_cents, product.category or "", product.brand or ""


def _upserts(surveyed: Survey, schema_ids: SchemaIds) -> Iterator[Record]:
    encoder = ProductEncoder(schema_ids)
    return (encoder.record(product) for product in surveyed.products.values())


@dataclass(slots=True)
class _Second:
    """What must be remembered of one second of event time until no row of it can come any more."""

    identical: Counter[str] = field(default_factory=Counter)
    purchases: defaultdict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))


def _records(surveyed: Survey, schema_ids: SchemaIds) -> Iterator[Record]:
    encoder, orders = EventEncoder(schema_ids), OrderEncoder(schema_ids)
    disorder_ms = surveyed.disorder // timedelta(milliseconds=1)
    seconds: dict[int, _Second] = {}
    open_seconds: list[int] = []  # heap
    newest_ms = surveyed.first_ms
    for row in read_rows(surveyed.path, Counter()):
        if row.time_ms > newest_ms:
            newest_ms = row.time_ms
            while open_seconds and open_seconds[0] < newest_ms - disorder_ms:
                over = heapq.heappop(open_seconds)
                yield from _orders(seconds.pop(over), over, newest_ms, orders)
        second = seconds.get(row.time_ms)
        if second is None:
            second = seconds[row.time_ms] = _Second()
            heapq.heappush(open_seconds, row.time_ms)
        index = second.identical[row.content]
        second.identical[row.content] = index + 1
        if row.kind == "purchase":
            second.purchases[row.user_session].append(row)
        yield _event(row, index, newest_ms, encoder)
    for over in sorted(open_seconds):
        yield from _orders(seconds[over], over, newest_ms, orders)


def _event(row: Row, index: int, at_ms: int, encoder: EventEncoder) -> Record:
    page = f"/product/{row.product_id}"
    bought = row.kind == "purchase"
    amount_cents = cents(row.price) if bought else None
    event = Event(
        event_id(row.content, index),
        row.user_id or None,
        row.user_session,
        row.kind,
        row.time_ms,
        row.product_id,
        page,
        amount_cents,
    )
    visit, surroundings = _visit(event.user_id, row.user_session)
    properties = _properties(row.product_id, row.category_code, row.brand, row.price, bought)
    return Record(
        EVENTS, row.user_session.encode(), encoder.encode(event, visit, properties, surroundings), at_ms, event
    )


# A product is seen and a client acts many times in a row: the encoded parts of both are kept for a while.


@lru_cache(maxsize=1 << 16)
def _properties(product_id: str, category_code: str, brand: str, price: str, bought: bool) -> bytes:
    properties = {"productId": product_id, "price": price, "page": f"/product/{product_id}"}
    if category_code:
        properties["category"] = category_code
    if brand:
        properties["brand"] = brand
    if bought:
        properties["amount"] = _money(cents(price) or 0)
    return string_map(properties)


@lru_cache(maxsize=1 << 14)
def _visit(user_id: str | None, user_session: str) -> tuple[bytes, bytes]:
    return who(user_id, user_session), context(visitor_of(user_id or user_session), None)


def _orders(second: _Second, time_ms: int, at_ms: int, encoder: OrderEncoder) -> Iterator[Record]:
    """Yield one order for each client session that bought something in this second."""
    for user_session, rows in second.purchases.items():
        # A shuffled file must give the same order, so its items are sorted. One product at two prices makes two items.
        pieces = Counter((row.product_id, cents(row.price) or 0, row.category_code or "unknown") for row in rows)
        items = [OrderItem(product, n, price, category) for (product, price, category), n in sorted(pieces.items())]
        user_id = min(row.user_id for row in rows) or user_session  # without a user it is a guest's order
        order = Order(
            transaction_id=str(uuid5(ORDER_IDS, f"{user_session}#{time_ms}")),
            status="completed",
            time_ms=time_ms,
            total_cents=sum(item.quantity * item.price_cents for item in items),
        )
        method = _PAYMENT_METHODS[sum(user_id.encode()) % len(_PAYMENT_METHODS)]
        record = encoder.record(order, user_id, items, method, at_ms)
        yield record._replace(fault=_REFUND_ITEM) if any(item.price_cents < 0 for item in items) else record


def _money(amount_cents: int) -> str:
    return f"{'-' if amount_cents < 0 else ''}{abs(amount_cents) // 100}.{abs(amount_cents) % 100:02}"
