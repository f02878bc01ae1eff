"""Where a group stands: committed offsets and the metadata that a transaction stores beside them."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from millrace_common.records import Committed, Partition

# The broker's offset.metadata.max.bytes.
MAX_METADATA_BYTES = 4_096


class Positions(Protocol):
    """Answers where processing of each partition has to begin."""

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed | None]:
        """Return what is committed for each of `partitions`; None: nothing ever was."""


class GroupPositions:
    """The committed offsets of a consumer group, open transactions settled first (the consumer is read_committed)."""

    def __init__(self, consumer: Consumer, timeout_seconds: float) -> None:
        """Ask through `consumer`, each time for at most `timeout_seconds`."""
        self._consumer = consumer
        self._timeout_seconds = timeout_seconds

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed | None]:
        """Return what the group has committed.

        Raises:
            KafkaException: the coordinator did not answer in time, or not for each partition.
        """
        asked = [TopicPartition(partition.topic, partition.index) for partition in partitions]
        answers = self._consumer.committed(asked, timeout=self._timeout_seconds) if asked else []
        for answer in answers:
            if answer.error is not None:  # no answer is not "nothing committed": that would mean to begin again
                raise KafkaException(answer.error)
        return {Partition(answer.topic, answer.partition): _committed(answer) for answer in answers}


def metadata_text(
    watermark_ms: int | None, topic_id: str | None, brake: Sequence[int], dead_offset: int | None = None
) -> str:
    """Return commit metadata: JSON with watermark `w` (epoch ms), topic id `t`, brake `b`, dead offset `d`; ASCII.

    It is never cut in the middle: nobody could read that. What does not fit are the brake's oldest blocks; its own
    counts always do, but those it was restored with may be another tool's. librdkafka has corrupted binary metadata
    (confluentinc/librdkafka#4649).
    """
    counts = list(brake)
    fields = {"w": watermark_ms, "t": topic_id, "b": counts, "d": dead_offset}
    while len(text := _json(fields)) > MAX_METADATA_BYTES and counts:
        del counts[:2]
    return text


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps({name: value for name, value in fields.items() if value not in (None, [])}, separators=(",", ":"))


def _committed(answer: TopicPartition) -> Committed | None:
    if answer.offset < 0:
        return None
    try:
        fields = json.loads(answer.metadata or "{}")
    except ValueError:  # set by another tool: the offset counts, what is beside it says nothing
        fields = {}
    if not isinstance(fields, dict):
        fields = {}
    watermark, brake, dead_offset = fields.get("w"), fields.get("b", []), fields.get("d")
    return Committed(
        offset=answer.offset,
        watermark_ms=watermark if isinstance(watermark, int) else None,
        topic_id=str(fields["t"]) if "t" in fields else None,
        brake=tuple(count for count in brake if isinstance(count, int)) if isinstance(brake, list) else (),
        dead_offset=dead_offset if isinstance(dead_offset, int) else None,
    )
