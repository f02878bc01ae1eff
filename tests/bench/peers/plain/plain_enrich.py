"""The job enrich: device type by the agent, product by the product table, one record in, one record out."""

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from plain_loop import Emit, decode, encode, header, new_consumer, parsed, run

Product = tuple[str | None, str | None, int | None]
"""Brand, category and price in cents."""

UNKNOWN: Final[Product] = (None, None, None)


@lru_cache(maxsize=16_384)
def device_type(agent: str) -> str:
    """Return the kind of device an agent string speaks of."""
    agent = agent.lower()
    if "bot" in agent:
        return "bot"
    if "ipad" in agent or "tablet" in agent:
        return "tablet"
    if "mobi" in agent:
        return "mobile"
    return "desktop" if "windows" in agent or "macintosh" in agent or "linux" in agent else "other"


def read_products() -> dict[str, Product]:
    """Return every product by its id."""
    topic, schema = os.environ["BENCH_PRODUCTS"], parsed("BENCH_PRODUCTS_SCHEMA")
    consumer = new_consumer(os.environ["BENCH_GROUP"] + "-products", says_end=True)
    partitions = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    products, unread = {}, set(partitions)
    while unread:
        for message in consumer.consume(1_000, 1.0):
            error = message.error()
            if error is None:
                product: dict[str, Any] = decode(schema, message.value())
                price = product["price"]
                cents = None if price is None else round(price * 100)
                products[product["productId"]] = (product["brand"], product["category"], cents)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
    consumer.close()
    return products


def enriched(event: dict[str, Any], products: Mapping[str, Product]) -> dict[str, Any] | None:
    """Return the output for a user event, None if that has no ids."""
    if not event["eventId"] or not event["sessionId"]:
        return None
    product_id = event["properties"].get("productId")
    brand, category, price_cents = products.get(product_id, UNKNOWN)
    return {
        "event_id": event["eventId"],
        "client_session_id": event["sessionId"],
        "user_id": event["userId"],
        "event_type": event["eventType"],
        "event_time": event["timestamp"],
        "device_type": device_type(event["context"]["userAgent"]),
        "product_id": product_id,
        "product_brand": brand,
        "product_category": category,
        "product_price_cents": price_cents,
    }


def main() -> None:
    """Enrich until told to stop."""
    reads, writes, frame = parsed("BENCH_INPUT_SCHEMA"), parsed("BENCH_OUTPUT_SCHEMA"), header()
    products = read_products()

    def enrich(message: Message, emit: Emit) -> None:
        event = enriched(decode(reads, message.value()), products)
        if event is not None:
            emit(message.key(), encode(frame, writes, event))

    run(enrich)


if __name__ == "__main__":
    main()
