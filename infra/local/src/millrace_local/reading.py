"""Reading topics from their first record to their present end, for the proof and the report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from millrace_common.codec import Decoder
from millrace_common.records import Decoded, Partition, Polled, Span
from millrace_common.registry import SchemaRegistry
from millrace_local.errors import LocalStackError
from millrace_schemas import schema_text

_BATCH: Final = 20_000
# A dead letter wraps a record of the largest size.
_MAX_VALUE_BYTES: Final = 16_777_216
# A partition that has records, or none left, says so within a second; a broker that is being restarted needs more.
_SILENT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Library:
    """Where the books of one lane are kept.

    Attributes:
        bootstrap_servers: of the broker.
        registry_url: of the schema registry.
        lake: the folder of the Delta tables.
        lane: whose topics and groups; empty for the live lane.
        client: librdkafka properties that say how to get in.
    """

    bootstrap_servers: str
    registry_url: str
    lake: Path
    lane: str = ""
    client: Mapping[str, str | int] = field(default_factory=dict)


def runs(
    library: Library, partitions: Sequence[Partition], begin: int = OFFSET_BEGINNING
) -> Iterator[tuple[Partition, list[Message]]]:
    """Yield what `partitions` hold from offset `begin` on for a read_committed reader, as runs in offset order.

    Raises:
        KafkaException: a partition cannot be read, or the broker has said nothing for half a minute.
    """
    consumer = Consumer(
        dict(library.client)
        | {
            "bootstrap.servers": library.bootstrap_servers,
            "group.id": "millrace-reading",  # never joined, nothing is committed
            "isolation.level": "read_committed",
            "enable.auto.commit": "false",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": "true",
            "fetch.queue.backoff.ms": 5,
            "log_level": 0,  # it speaks through its exceptions
        }
    )
    unfinished = set(partitions)
    # Not offset 0: where retention has removed it, the client would warn on standard error.
    consumer.assign([TopicPartition(partition.topic, partition.index, begin) for partition in partitions])
    heard = time.monotonic()
    try:
        while unfinished:
            found: dict[Partition, list[Message]] = {}
            before = len(unfinished)
            for message in consumer.consume(_BATCH, 0.2):
                partition = Partition(message.topic() or "", message.partition())
                problem = message.error()
                if problem is None:
                    found.setdefault(partition, []).append(message)
                elif problem.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(partition)
                elif not problem.retriable() and problem.code() != KafkaError._ALL_BROKERS_DOWN:
                    raise KafkaException(problem)
            yield from found.items()
            if found or len(unfinished) < before:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_SECONDS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    finally:
        consumer.close()


def decoded(
    library: Library, registry: SchemaRegistry, subject: str, partitions: Sequence[Partition]
) -> Iterator[Decoded]:
    """Yield the same runs as columns of `subject`.

    Raises:
        KafkaException: a partition cannot be read.
        LocalStackError: the registry does not answer.
    """
    columns = decoder(registry, subject)
    for partition, messages in runs(library, partitions):
        yield columns.decode(Polled(Span(partition, 0, messages[0].offset(), messages[-1].offset() + 1), messages))


def decoder(registry: SchemaRegistry, subject: str) -> Decoder:
    """Return a decoder that raises LocalStackError where a service would wait for the registry."""
    return Decoder(registry, schema_text(subject), max_value_bytes=_MAX_VALUE_BYTES, wait=_refuse_to_wait)


def _refuse_to_wait(seconds: float) -> None:
    message = "the schema registry does not answer"
    raise LocalStackError(message)
