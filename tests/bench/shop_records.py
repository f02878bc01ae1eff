"""What the numbers of shop_log look like as records: columns of user-events and user-events.enriched, keys, products.

The last twelve digits of an event's id are its number in the log, so a reader can tell which one it has. Ids are the
size of the product's, and as little alike.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_common import avro
from millrace_common.columns import Bools, Int64s
from millrace_schemas import schema_text
from shop_log import ADDRESSES, AGENTS, KINDS, PAGES, PRODUCTS, PURCHASE, SEARCH, Events

ID_BYTES: Final = 36
_HEX: Final = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_DASHES: Final = (8, 13, 18, 23)
_NUMBER_DIGITS: Final = 12
_QUERIES: Final = 1_000
_AMOUNTS: Final = 10_000
_DAY_MS: Final = 86_400_000

_WEBKIT: Final = "AppleWebKit/537.36 (KHTML, like Gecko)"
_SAFARI: Final = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
# Device and system of each agent, and the agent with a place for a version.
_AGENT_KINDS: Final = (
    ("desktop", "Windows", f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/{{}}.0.0.0 Safari/537.36"),
    (
        "desktop",
        "Mac OS X",
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/{{}}.1 Safari/605.1.15",
    ),
    (
        *("mobile", "iOS"),
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_SAFARI} Version/{{}}.0 Mobile/15E148 Safari/604.1",
    ),
    ("mobile", "Android", f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_WEBKIT} Chrome/{{}}.0.0.0 Mobile Safari/537.36"),
    ("tablet", "iOS", f"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) {_SAFARI} Version/{{}}.6 Safari/604.1"),
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products, by number.

    Attributes:
        ids, brands, categories: texts.
        prices_cents: list prices.
    """

    ids: pa.StringArray
    brands: pa.StringArray
    categories: pa.StringArray
    prices_cents: Int64s


def catalogue() -> Catalogue:
    """Return the shop's products; always the same."""
    numbers = np.arange(PRODUCTS)
    return Catalogue(
        ids=pa.array([str(1_000_000 + number) for number in numbers]),
        brands=pa.array([f"brand-{number * 7 % 500}" for number in numbers]),
        categories=pa.array([f"shelf.{number % 20}.{number % 100}" for number in numbers]),
        prices_cents=199 + numbers * 7_919 % 50_000,
    )


def event_ids(numbers: Int64s) -> pa.StringArray:
    """Return the ids of the events with these numbers in the log."""
    return _ids(numbers, 0x9E37_79B9_7F4A_7C15)


def session_ids(visits: Int64s) -> pa.StringArray:
    """Return the client session ids of visits."""
    return _ids(visits, 0xBF58_476D_1CE4_E5B9)


def numbers_of(ids: pa.StringArray) -> Int64s:
    """Return the numbers behind `ids`, -1 for what is none of ours."""
    found: Int64s = np.full(len(ids), -1, dtype=np.int64)
    lengths = np.diff(np.frombuffer(ids.buffers()[1], dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1])
    if not len(ids) or ids.null_count or not (lengths == ID_BYTES).all():
        whole = np.flatnonzero(lengths == ID_BYTES)
        if ids.null_count:
            whole = whole[np.asarray(ids.is_valid())[whole]]
        if len(whole):
            found[whole] = numbers_of(pa.concat_arrays([ids.take(pa.array(whole))]))
        return found
    begin = int(np.frombuffer(ids.buffers()[1], dtype=np.int32)[ids.offset])
    data = np.frombuffer(ids.buffers()[2], dtype=np.uint8)[begin : begin + ID_BYTES * len(ids)]
    digits = data.reshape(-1, ID_BYTES)[:, -_NUMBER_DIGITS:].astype(np.int64)
    digits = np.where(digits >= ord("a"), digits - ord("a") + 10, digits - ord("0"))
    good = ((digits >= 0) & (digits < 16)).all(axis=1)
    values = (digits << (4 * np.arange(_NUMBER_DIGITS - 1, -1, -1))).sum(axis=1)
    found[good] = values[good]
    return found


def _ids(numbers: Int64s, salt: int) -> pa.StringArray:
    with np.errstate(over="ignore"):  # splitmix64, https://prng.di.unimi.it/splitmix64.c
        mixed = numbers.astype(np.uint64) * np.uint64(salt) + np.uint64(salt)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
        mixed ^= mixed >> np.uint64(31)
    text = np.empty((len(numbers), ID_BYTES), dtype=np.uint8)
    text[:, _DASHES] = ord("-")
    places = [place for place in range(ID_BYTES) if place not in _DASHES]
    random, counted = places[:-_NUMBER_DIGITS], places[-_NUMBER_DIGITS:]
    for at, place in enumerate(random):
        text[:, place] = _HEX[(mixed >> np.uint64(4 * at) & np.uint64(15)).astype(np.intp)]
    for at, place in enumerate(reversed(counted)):
        text[:, place] = _HEX[numbers >> 4 * at & 15]
    bounds = pa.py_buffer(np.arange(0, ID_BYTES * len(numbers) + 1, ID_BYTES, dtype=np.int32))
    return pa.StringArray.from_buffers(len(numbers), bounds, pa.py_buffer(text))


def partitions(ids: pa.StringArray, count: int) -> npt.NDArray[np.int8]:
    """Return where `murmur2_random` puts the keys `ids`, all of ID_BYTES, in a topic of `count` partitions."""
    # The same as millrace_generator.partitions, for many keys at once.
    blocks = np.frombuffer(ids.buffers()[2], dtype="<u4").reshape(-1, ID_BYTES // 4)
    multiplier = np.uint32(0x5BD1_E995)
    digest = np.full(len(ids), 0x9747_B28C ^ ID_BYTES, dtype=np.uint32)
    with np.errstate(over="ignore"):
        for at in range(ID_BYTES // 4):
            block = blocks[:, at] * multiplier
            block = (block ^ block >> np.uint32(24)) * multiplier
            digest = digest * multiplier ^ block
        digest = (digest ^ digest >> np.uint32(13)) * multiplier
        digest ^= digest >> np.uint32(15)
    return ((digest & np.uint32(0x7FFF_FFFF)) % np.uint32(count)).astype(np.int8)


class Columns:
    """Makes columns of events; what repeats (agents, pages, prices) is made once."""

    def __init__(self) -> None:
        """Draw the shop."""
        self.products = catalogue()
        kinds = [_AGENT_KINDS[n % len(_AGENT_KINDS)] for n in range(AGENTS)]
        self._agents = pa.array([text.format(60 + n // 5) for n, (_, _, text) in enumerate(kinds)])
        self._devices = pa.array([device for device, _, _ in kinds])
        self._systems = pa.array([system for _, system, _ in kinds])
        self._addresses = pa.array(
            [f"81.{n % 200}.{n // 200}.{1 + n * 37 % 250}" for n in range(ADDRESSES)] + ["nowhere"]
        )
        self._referrers = pa.array(["https://search.example/", "https://news.example/today", None, None])
        self._kinds = pa.array(KINDS)
        self._prices = pa.array([_decimal(cents) for cents in self.products.prices_cents.tolist()])
        pages = [*PAGES, *(f"/product/{product}" for product in self.products.ids.to_pylist())]
        queries = [f"words {n}" for n in range(_QUERIES)]
        amounts = [_decimal(199 + n * 13) for n in range(_AMOUNTS)]
        self._pages = pa.array(pages)
        self._queries = pa.array(queries)
        # Every value a property can have, one list behind the other.
        parts = [self._pages, self.products.ids, self._prices, self._queries, pa.array(amounts)]
        self._values = pa.concat_arrays(parts)
        self._begins = np.cumsum([0, *(len(part) for part in parts)])[:-1]
        self._names = pa.array(["page", "productId", "price", "query", "amount"])
        self._raw = avro.arrow_schema(avro.parse(schema_text("user-events")))
        self._enriched = avro.arrow_schema(avro.parse(schema_text("user-events.enriched")))

    def raw(self, events: Events, first: int, epoch_ms: int, bad: Bools) -> pa.RecordBatch:
        """Return `events` as columns of subject user-events; the first one has the number `first`.

        Those that are `bad` have an address that is none.
        """
        context = self._raw.field("context").type
        surroundings = [
            self._agents.take(pa.array(events.visit % AGENTS)),
            self._addresses.take(pa.array(np.where(bad, ADDRESSES, events.visit % ADDRESSES))),
            pa.repeat("web", len(events)),
            self._referrers.take(pa.array(events.visit % 4)),
        ]
        columns = {
            "eventId": event_ids(np.arange(first, first + len(events))),
            "userId": _users(events.visit),
            "sessionId": session_ids(events.visit),
            "eventType": self._kinds.take(pa.array(events.kind)),
            "timestamp": pa.array(epoch_ms + events.time_ms),
            "properties": self._properties(events),
            "context": pa.StructArray.from_arrays(surroundings, fields=list(context)),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in self._raw.names], schema=self._raw)

    def enriched(self, events: Events, first: int, epoch_ms: int) -> pa.RecordBatch:
        """Return `events` as columns of subject user-events.enriched; the first one has the number `first`."""
        times = epoch_ms + events.time_ms
        stamps = pa.array(times).view(pa.timestamp("ms"))
        product = pa.array(events.product, mask=events.product < 0)
        nothing = pa.nulls(len(events), pa.string())
        agents = pa.array(events.visit % AGENTS)
        columns = {
            "event_id": event_ids(np.arange(first, first + len(events))),
            "event_type": self._kinds.take(pa.array(events.kind)),
            "event_time": stamps,
            "event_date": pa.array((times // _DAY_MS).astype(np.int32)).view(pa.date32()),
            "received_at": stamps,
            "client_session_id": session_ids(events.visit),
            "user_id": _users(events.visit),
            "page": self._pages.take(pa.array(_page(events))),
            "product_id": self.products.ids.take(product),
            "product_brand": self.products.brands.take(product),
            "product_category": self.products.categories.take(product),
            "product_price_cents": pa.array(self.products.prices_cents).take(product),
            "amount_cents": pa.array(199 + _amount(events) * 13, mask=events.kind != PURCHASE),
            "search_query": self._queries.take(pa.array(_query(events), mask=events.kind != SEARCH)),
            "properties": self._properties(events),
            "platform": pa.repeat("web", len(events)),
            "referrer": self._referrers.take(pa.array(events.visit % 4)),
            "device_type": self._devices.take(agents),
            "os": self._systems.take(agents),
            "browser": nothing,
            "is_bot": pa.repeat(False, len(events)),  # noqa: FBT003
            "country_code": nothing,
            "region": nothing,
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in self._enriched.names], schema=self._enriched)

    def _properties(self, events: Events) -> pa.MapArray:
        product = events.product
        chosen = np.stack([_page(events), product, product, _query(events), _amount(events)], axis=1) + self._begins
        given = np.stack(
            [
                np.ones(len(events), dtype=np.bool_),
                product >= 0,
                product >= 0,
                events.kind == SEARCH,
                events.kind == PURCHASE,
            ],
            axis=1,
        )
        names = np.broadcast_to(np.arange(len(self._names)), given.shape)[given]
        bounds = np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int32)
        return pa.MapArray.from_arrays(
            pa.array(bounds),
            self._names.take(pa.array(names)),
            self._values.take(pa.array(chosen[given])),
            type=self._raw.field("properties").type,
        )


def _users(visits: Int64s) -> pa.StringArray:
    known = np.flatnonzero(visits % 5 != 0)
    texts = np.char.add("user-", (visits[known] % 1_000_000).astype(np.str_))
    of_row = np.zeros(len(visits), dtype=np.int64)
    of_row[known] = np.arange(len(known))
    return pa.array(texts, pa.string()).take(pa.array(of_row, mask=visits % 5 == 0))


def _page(events: Events) -> Int64s:
    return np.where(events.product >= 0, len(PAGES) + events.product, events.page)


def _query(events: Events) -> Int64s:
    return events.time_ms % _QUERIES


def _amount(events: Events) -> Int64s:
    return events.time_ms % _AMOUNTS


def _decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
