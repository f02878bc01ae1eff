"""A shop whose visitors do what shop visitors do, as a plan.

The sequence of records is a pure function of seed, start, end and rate. The rate is exact, because the clock asks for
events and visitors answer: at each instant the visitor who has waited longest acts, and if nobody is ready somebody
hurries or somebody new comes. All that is kept are the visitors of the moment.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from millrace_generator.catalogue import Catalogue, make_catalogue
from millrace_generator.rates import RateAt, expected_events, instants
from millrace_generator.traffic import EVENTS, Order, Plan, Record, SchemaIds
from millrace_generator.visits import Visit, Visitors
from millrace_generator.wire import (
    EventEncoder,
    OrderEncoder,
    OrderItem,
    ProductEncoder,
    ProfileEncoder,
    string_map,
)

_PATIENCE_MS: Final = 60_000  # after a spike there are more visitors than events: who has to wait this long leaves
_HURRY_MS: Final = 30_000  # how much of a pause a visitor may save
_HURRY_SHARE: Final = 0.6  # of the times when nobody is ready
_LEAVING_AT_ONCE: Final = 8  # visitors per event, so that a crowd that goes does not hold up the clock
_CANCELLED_SHARE: Final = 0.05
_SHORTEST_SETTLING_MS: Final = 5_000
_LONGEST_SETTLING_MS: Final = 180_000
_PAYMENT_METHODS: Final = ("card", "card", "card", "paypal", "bank_transfer")


@dataclass(frozen=True, slots=True)
class Shop:
    """What a shop's traffic is a function of.

    Attributes:
        title: a few words for the progress bar.
        seed: another seed, other visitors.
        start_ms: epoch milliseconds, UTC; inclusive.
        end_ms: exclusive.
        rate: good events a second of the shop's time.
    """

    title: str
    seed: int
    start_ms: int
    end_ms: int
    rate: RateAt


def shop_plan(shop: Shop, **facts: object) -> Plan:
    """Return the plan of `shop`; `facts` join its seed, start and end in the truth's first line."""
    catalogue = make_catalogue(shop.seed, shop.start_ms)
    return Plan(
        title=shop.title,
        expected_events=expected_events(shop.rate, shop.start_ms, shop.end_ms),
        upserts=partial(_upserts, catalogue),
        records=partial(_records, shop, catalogue),
        facts={"source": "shop", "seed": shop.seed, "start_ms": shop.start_ms, "end_ms": shop.end_ms, **facts},
    )


def _upserts(catalogue: Catalogue, schema_ids: SchemaIds) -> Iterator[Record]:
    encoder = ProductEncoder(schema_ids)
    return (encoder.record(product) for product in catalogue.products)


def _records(shop: Shop, catalogue: Catalogue, schema_ids: SchemaIds) -> Iterator[Record]:
    chance = Random(f"visitors {shop.seed} {shop.start_ms} {shop.end_ms}")  # noqa: S311 - reproducible, not secret
    visitors, encoder, till = Visitors(catalogue, chance), EventEncoder(schema_ids), _Till(schema_ids, chance)
    waiting: list[tuple[int, int, Visit]] = [(shop.start_ms, 0, visitors.monitor())]
    arrivals = 0
    last_instant_ms = shop.start_ms - 1
    for instant_ms in instants(shop.rate, shop.start_ms, shop.end_ms):
        if till.next_ms <= instant_ms:
            yield from till.settled(instant_ms)
        _let_go(waiting, instant_ms)
        if waiting and (waiting[0][0] <= instant_ms or _hurries(waiting[0], instant_ms, chance)):
            due_ms, number, visit = heapq.heappop(waiting)
            # A visitor acts at its own time, to the millisecond, unless somebody has acted since.
            time_ms = due_ms if last_instant_ms < due_ms <= instant_ms else instant_ms
        else:
            arrivals += 1
            number, visit, time_ms = arrivals, visitors.arrive(), instant_ms
        last_instant_ms = instant_ms
        if visit.action == "checkout" and not visit.signed_in:
            yield from till.register(visit, time_ms, instant_ms)
        if visit.action == "purchase":
            yield from till.buy(visit, time_ms, instant_ms)
        else:
            page = visitors.look(visit)
            if visit.action == "add_to_cart" and page.product is not None:
                visit.basket.append(page.product)
            event = visit.event(time_ms, page.path, page.product)
            value = encoder.encode(event, visit.opening, page.properties, visit.surroundings)
            yield Record(EVENTS, visit.key, value, instant_ms, event)
        pause_ms = visitors.pause_ms(visit)
        if pause_ms is not None:
            heapq.heappush(waiting, (time_ms + pause_ms, number, visit))


def _hurries(next_one: tuple[int, int, Visit], instant_ms: int, chance: Random) -> bool:
    """Return whether the visitor who is due next acts before its time, so that a rush is not only new visitors."""
    due_ms, _, visit = next_one
    return due_ms - instant_ms <= _HURRY_MS and not visit.away and chance.random() < _HURRY_SHARE


def _let_go(waiting: list[tuple[int, int, Visit]], instant_ms: int) -> None:
    for _ in range(_LEAVING_AT_ONCE):
        if not waiting or instant_ms - waiting[0][0] <= _PATIENCE_MS or waiting[0][2].tireless:
            return
        heapq.heappop(waiting)


class _Till:
    """Where visitors sign in and pay. An order is pending first; some minutes later it is completed or cancelled."""

    def __init__(self, schema_ids: SchemaIds, chance: Random) -> None:
        self._chance = chance
        self._events = EventEncoder(schema_ids)
        self._orders = OrderEncoder(schema_ids)
        self._profiles = ProfileEncoder(schema_ids)
        self._registered: set[str] = set()
        self._pending: list[tuple[int, str, str, tuple[OrderItem, ...], str]] = []  # heap: when, which order, whose

    def register(self, visit: Visit, time_ms: int, at_ms: int) -> Iterator[Record]:
        """Sign a visitor in, and yield its profile if it is the first time."""
        visit.sign_in()
        if visit.user_id not in self._registered:
            self._registered.add(visit.user_id)
            yield self._profiles.record(visit.user_id, visit.visitor, time_ms)._replace(at_ms=at_ms)

    def buy(self, visit: Visit, time_ms: int, at_ms: int) -> Iterator[Record]:
        """Yield the purchase of all that is in the basket, and its order."""
        pieces = Counter(visit.basket)
        items = tuple(OrderItem(p.product_id, n, p.price_cents, p.category or "unknown") for p, n in pieces.items())
        cents = sum(item.quantity * item.price_cents for item in items)
        bits = f"{self._chance.getrandbits(128):032x}"
        order_id = f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-8{bits[17:20]}-{bits[20:]}"
        page, first = "/checkout/done", visit.basket[0]
        visit.basket.clear()
        properties = {
            "page": page,
            "productId": first.product_id,
            "amount": f"{cents // 100}.{cents % 100:02}",
            "orderId": order_id,
        }
        event = visit.event(time_ms, page, first, cents)
        value = self._events.encode(event, visit.opening, string_map(properties), visit.surroundings)
        yield Record(EVENTS, visit.key, value, at_ms, event)
        method = _PAYMENT_METHODS[int(self._chance.random() * len(_PAYMENT_METHODS))]
        yield self._orders.record(Order(order_id, "pending", time_ms, cents), visit.user_id, items, method, at_ms)
        span_ms = _LONGEST_SETTLING_MS - _SHORTEST_SETTLING_MS
        due_ms = time_ms + _SHORTEST_SETTLING_MS + int(self._chance.random() * span_ms)
        heapq.heappush(self._pending, (due_ms, order_id, visit.user_id, items, method))

    @property
    def next_ms(self) -> float:
        """When the next order is settled."""
        return self._pending[0][0] if self._pending else math.inf

    def settled(self, at_ms: int) -> Iterator[Record]:
        """Yield the last status of every order that is settled by now."""
        while self._pending and self._pending[0][0] <= at_ms:
            due_ms, order_id, user_id, items, method = heapq.heappop(self._pending)
            status = "cancelled" if self._chance.random() < _CANCELLED_SHARE else "completed"
            cents = sum(item.quantity * item.price_cents for item in items)
            yield self._orders.record(Order(order_id, status, due_ms, cents), user_id, items, method, at_ms)
