"""What is known of each product: the `products` topic as a table in memory, and the feed that keeps it current.

Every process holds the whole table: it reads all partitions, outside of any consumer group, to their end before the
first event, and takes in what is new before each run of events. So the join sees a product as it is when the event is
processed; unlike everything else here that is not a function of the event's own log.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Final, Protocol

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from millrace_common.codec import Decoder
from millrace_common.errors import FatalError
from millrace_common.records import Partition, Polled, RawRecord, Span
from millrace_enrich import metrics
from millrace_enrich.money import cents_of_price

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 5_000
_POLL_SECONDS: Final = 1.0
_FEWEST_TO_COMPACT: Final = 10_000


FACTS: Final = pa.schema({"brand": pa.string(), "category": pa.string(), "price_cents": pa.int64()})


class ProductTable:
    """The latest facts by product id, in columns: brand, category and price in cents, null where unknown."""

    def __init__(self) -> None:
        """Begin without products."""
        self._row_of: dict[str, int] = {}
        # Row 0 is that of unknown products. A row never changes: new facts get a new one.
        self._facts = pa.RecordBatch.from_pylist([{}], schema=FACTS)
        self._added: list[dict[str, str | int | None]] = []

    def __len__(self) -> int:
        """Return the number of products known."""
        return len(self._row_of)

    def upsert(self, columns: pa.RecordBatch) -> None:
        """Take in records of the products subject, later rows over earlier ones."""
        names = ("productId", "brand", "category", "price")
        rows = zip(*(columns.column(name).to_pylist() for name in names), strict=True)
        for product_id, brand, category, price in rows:
            self._row_of[product_id] = self._facts.num_rows + len(self._added)
            facts = {"brand": _fact(brand), "category": _fact(category), "price_cents": cents_of_price(price)}
            self._added.append(facts)

    def remove(self, product_id: str) -> None:
        """Forget a product; unknown ones are fine."""
        self._row_of.pop(product_id, None)

    def join(self, product_ids: pa.StringArray) -> pa.RecordBatch:
        """Return the FACTS for each of `product_ids` (null: no product); each distinct id is looked up once."""
        if self._added:
            self._settle()
        encoded = product_ids.dictionary_encode()
        rows = map(self._row_of.get, encoded.dictionary.to_pylist(), repeat(0))
        return self._facts.take(pa.array(rows, pa.int64()).take(encoded.indices))

    def _settle(self) -> None:
        """Put what was added into the columns; leave out rows nobody points to once they are the greater part."""
        added = pa.RecordBatch.from_pylist(self._added, schema=FACTS)
        self._facts, self._added = pa.concat_batches([self._facts, added]), []
        if self._facts.num_rows > _FEWEST_TO_COMPACT and self._facts.num_rows > 2 * len(self._row_of):
            self._facts = self._facts.take(pa.array([0, *self._row_of.values()]))
            self._row_of = {product_id: row for row, product_id in enumerate(self._row_of, start=1)}


def _fact(text: str | None) -> str | None:
    """Return `text` unless it says nothing, or has a NUL: ingest lets none pass in events, and no database takes it."""
    return text if text and "\0" not in text else None


class Messages(Protocol):
    """The one thing a feed needs of a consumer."""

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """Return up to `num_messages`, waiting up to `timeout` seconds for them."""


class ProductFeed:
    """Keeps a table current from the products topic. Nothing a product record says stops it: bad ones are counted."""

    def __init__(self, messages: Messages, decoder: Decoder, table: ProductTable, partitions: int) -> None:
        """Prepare to read; `messages` yields all `partitions` from their beginnings, and says where they end."""
        self._messages = messages
        self._decoder = decoder
        self.table = table
        self._unread = set(range(partitions))

    def read_to_end(self, going_on: Callable[[], None]) -> None:
        """Read until the end of each partition was reached once, however long the broker takes.

        `going_on` is called about once a second; what it raises ends the wait.
        """
        while self._unread:
            going_on()
            self._take_in(self._messages.consume(_MOST_AT_ONCE, _POLL_SECONDS))
        _log.info("products read", extra={"products": len(self.table)})

    def follow(self) -> None:
        """Take in what has come since, without waiting."""
        self._take_in(self._messages.consume(_MOST_AT_ONCE, 0))

    def _take_in(self, messages: Sequence[Message]) -> None:
        # Of several records of one product the last is the truth: they share a partition, so their order holds.
        latest: dict[bytes | None, Message] = {}
        for message in messages:
            error = message.error()
            if error is None:
                latest[message.key()] = message
            elif error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard(message.partition())
            elif error.fatal():
                text = f"products cannot be read any more: {error}"
                raise FatalError(text)
            else:  # the client goes on by itself; the table stays as it is meanwhile
                _log.warning("products cannot be read at the moment", extra={"error": str(error)})
        if latest:
            self._apply(list(latest.values()))

    def _apply(self, records: Sequence[RawRecord]) -> None:
        facts = [record for record in records if record.value() is not None]
        for record in records:
            key = record.key()
            if record.value() is None and key is not None:
                self.table.remove(key.decode(errors="replace"))
        if facts:
            decoded = self._decoder.decode(Polled(Span(Partition("products", 0), 0, 0, 0), facts))
            self.table.upsert(decoded.columns)
            for reject in decoded.rejects:
                metrics.PRODUCTS_REJECTED.labels(reason=reject.reason).inc()
                _log.warning(
                    "product record set aside",
                    extra={"offset": facts[reject.row].offset(), "reason": reject.reason, "detail": reject.detail},
                )
        metrics.PRODUCTS.set(len(self.table))


def product_consumer(client: Mapping[str, str | int], topic: str, partitions: int) -> Consumer:
    """Return a consumer of all `partitions` of `topic` from their beginnings; it joins no group and commits nothing."""
    consumer = Consumer(
        dict(client)
        | {
            "group.id": "millrace-enrich-products",  # librdkafka wants one
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 8_192,
        },
        logger=logging.getLogger("librdkafka"),
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    return consumer
