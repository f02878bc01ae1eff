"""Which records of a replay are dead: their dead letters say so, and not what would become of them today.

Since they were processed a schema may have been registered, a limit raised, or the operator has skipped them. A state
that took them in on a replay would not be the one that was there before, and ingest would take a dead letter that is
sent again for a duplicate.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millrace_common.codec import Decoder
from millrace_common.dead_letters import MOST_LETTER_BYTES
from millrace_common.errors import UnavailableError
from millrace_common.records import Partition, Polled, Span
from millrace_common.registry import Schemas
from millrace_common.topology import Topology
from millrace_schemas import schema_text

_log = logging.getLogger(__name__)

# A letter has the time of its service's clock, its record that of the broker's.
_CLOCKS_DIFFER_MS: Final = 600_000
_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_BATCH_RECORDS: Final = 500


def letter_decoder(registry: Schemas, wait: Callable[[float], None]) -> Decoder:
    """Return a decoder of dead letters that calls `wait` with seconds while the registry does not answer."""
    return Decoder(registry, schema_text("dead-letters"), max_value_bytes=MOST_LETTER_BYTES, wait=wait)


@dataclass(frozen=True, slots=True)
class DeadRecords:
    """Finds the dead letters of one service, for a replay.

    Those of an input partition are in one partition, in the order of their records: each transaction commits the
    offsets as well.

    Attributes:
        service: whose dead letters count.
        topic: of the dead letters.
        topology: says where they end.
        decoder: reads them.
        make_consumer: returns a new read_committed consumer that reports the end of a partition.
    """

    service: str
    topic: str
    topology: Topology
    decoder: Decoder
    make_consumer: Callable[[], Consumer]

    def of(self, partition: Partition, since_ms: int, latest: int) -> Mapping[int, int]:
        """Return the timestamp (epoch ms) by offset of the records of `partition` that are dead.

        Reads until it has seen the letter of offset `latest`, which the group's commit says is the last one. If that
        one is no longer kept, or was in another partition, what was found is returned and the log says so.

        Args:
            partition: of the input.
            since_ms: the timestamp of the first record that matters.
            latest: the offset of the last record of it that became a dead letter.

        Raises:
            UnavailableError: the broker does not answer, or an open transaction holds the letter back.
        """
        found: dict[int, int] = {}
        try:
            for letters in self._letters(partition, since_ms):
                found |= letters
                if latest in found:
                    return found
        except KafkaException as error:
            message = f"the dead letters of {partition} cannot be read: {error.args[0].str()}"
            raise UnavailableError(message) from error
        _log.warning(
            "a dead letter is missing: its record is judged anew",
            extra={"partition": str(partition), "offset": latest, "found": len(found)},
        )
        return found

    def _letters(self, partition: Partition, since_ms: int) -> Iterator[Mapping[int, int]]:
        count = self.topology.partition_counts([self.topic])[self.topic]
        place = Partition(self.topic, partition.index % count)
        consumer = self.make_consumer()
        try:
            for records in _read(consumer, place, since_ms, self.topology.ends([place], _TIMEOUT_SECONDS)[place]):
                span = Span(place, 0, records[0].offset() or 0, (records[-1].offset() or 0) + 1)
                yield _of_record(self.decoder.decode(Polled(span, records)).columns, self.service, partition)
        finally:
            consumer.close()


def _read(consumer: Consumer, place: Partition, since_ms: int, end: int) -> Iterator[Sequence[Message]]:
    """Yield what `place` holds up to `end`, as far back as letters of records since then can be."""
    # Asked before the time: a letter that becomes visible in between has this offset, or a higher one.
    _, stable = consumer.get_watermark_offsets(TopicPartition(place.topic, place.index), timeout=_TIMEOUT_SECONDS)
    asked = TopicPartition(place.topic, place.index, max(0, since_ms - _CLOCKS_DIFFER_MS))
    begin = consumer.offsets_for_times([asked], timeout=_TIMEOUT_SECONDS)[0]
    if begin.error is not None:
        raise KafkaException(begin.error)
    position = begin.offset if begin.offset >= 0 else stable
    consumer.incremental_assign([TopicPartition(place.topic, place.index, position)])
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while position < end:
        records = []
        for message in consumer.consume(_BATCH_RECORDS, _POLL_SECONDS):
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                position = message.offset() or 0
            elif not error.retriable():
                raise KafkaException(error)
        if records:
            position = (records[-1].offset() or 0) + 1
            deadline = time.monotonic() + _TIMEOUT_SECONDS
            yield records
        elif time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def _of_record(letters: pa.RecordBatch, service: str, partition: Partition) -> dict[int, int]:
    mine = pc.and_(
        pc.equal(letters["service"], service),
        pc.and_(
            pc.equal(letters["source_topic"], partition.topic), pc.equal(letters["source_partition"], partition.index)
        ),
    )
    kept = letters.filter(mine)
    times_ms = kept["source_timestamp"].cast(pa.int64())
    return dict(zip(kept["source_offset"].to_pylist(), times_ms.to_pylist(), strict=True))
