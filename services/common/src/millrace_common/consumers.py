"""The Kafka consumer of a group member: how it is set up, and how it leaves."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_log = logging.getLogger(__name__)

OnCommit = Callable[[KafkaError | None, Sequence[TopicPartition]], None]
"""Called in a poll when a commit was answered or given up."""


def consumer_properties(
    client: Mapping[str, str | int], group: str, *, protocol: str, session_timeout_seconds: float
) -> dict[str, str | int]:
    """Return the librdkafka properties of a group member that reads committed records and commits nothing by itself."""
    properties: dict[str, str | int] = dict(client) | {
        "group.id": group,
        "group.protocol": protocol,
        "isolation.level": "read_committed",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        # Each assignment names its offsets, so a reset only ever means that input was lost.
        "auto.offset.reset": "error",
        "enable.partition.eof": "true",
        # The default of 1 s throttles catching up about tenfold.
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        # Bounds what waits in memory, whatever the number of partitions.
        "queued.max.messages.kbytes": 8_192,
        "fetch.max.bytes": 8_388_608,
        "fetch.message.max.bytes": 4_194_304,
    }
    if protocol == "classic":
        properties |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(session_timeout_seconds * 1000),
            "heartbeat.interval.ms": int(session_timeout_seconds * 1000 / 5),
        }
    return properties


def new_consumer(properties: dict[str, Any]) -> Consumer:
    """Return a consumer whose client logs as we do."""
    return Consumer(properties, logger=logging.getLogger("librdkafka"))


def close(consumer: Consumer) -> None:
    """Leave the group: partitions are handed over at once instead of after the session timeout."""
    try:
        consumer.close()
    except (KafkaException, RuntimeError) as error:
        _log.warning("the consumer did not close", extra={"error": str(error)})
