"""Dead letters of lake, exactly once although a Delta commit is no part of a Kafka transaction.

Before the Delta commit, one Kafka transaction carries the dead letters together with the offsets behind them, under a
consumer group of their own. After a restart the same records are read again, as the table has not moved; those below
that group's offset are not produced again. A lake that lost its partitions without noticing is refused by the broker:
the transaction also carries an offset of the group it reads with, which only a current member may commit.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from millrace_common import failpoints
from millrace_common.codec import RowEncoder
from millrace_common.dead_letters import dead_letter, kept_key
from millrace_common.errors import FatalError
from millrace_common.failpoints import Failpoint
from millrace_common.positions import metadata_text
from millrace_common.records import Committed, Partition, RawRecord, Reject
from millrace_lake.ledger import SERVICE

_log = logging.getLogger(__name__)

GROUP: Final = "lake-dead-letters"
_CALL_SECONDS: Final = 10.0
# Longer than a dead predecessor's transaction can stay open.
_SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that did not become a row, and why."""

    partition: Partition
    record: RawRecord
    reject: Reject


@dataclass(frozen=True, slots=True)
class Burial:
    """What one transaction of dead letters holds.

    Attributes:
        letters: in log order within each partition.
        positions: for each partition, the offset below which its dead letters are then produced.
        committed: where partitions stand in the table: what the reading group may be told already.
        now_ms: when the letters were written, epoch ms.
    """

    letters: Sequence[DeadRecord]
    positions: Mapping[Partition, int]
    committed: Mapping[Partition, Committed]
    now_ms: int


class DeadLetterSink(Protocol):
    """Makes dead letters durable together with a position of their own."""

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return the offset below which dead letters are produced; partitions without any are left out."""

    def commit(self, burial: "Burial") -> None:
        """Produce the letters and move to the positions, both or neither.

        Raises:
            FatalError: it failed, or whether it did is unknown; a restart finds out.
        """


class KafkaDeadLetters:
    """A transactional producer that is only created when the first record dies."""

    def __init__(
        self,
        topic: str,
        partition_count: int,
        encoder: RowEncoder,
        make_producer: Callable[[], Producer],
        make_consumer: Callable[[], Consumer],
        membership: Callable[[], object],
    ) -> None:
        """Connect nothing yet.

        Args:
            topic: of the dead letters.
            partition_count: of `topic`.
            encoder: for the subject dead-letters.
            make_producer: with this process's transactional id.
            make_consumer: a read_committed member of the group GROUP that never subscribes.
            membership: group metadata of the consumer that reads.
        """
        self._topic = topic
        self._partition_count = partition_count
        self._encoder = encoder
        self._make_producer = make_producer
        self._make_consumer = make_consumer
        self._membership = membership
        self._connected: tuple[Producer, Consumer] | None = None

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return the offset below which each partition's dead letters are produced, open transactions settled first."""
        _, consumer = self._connect()
        asked = [TopicPartition(partition.topic, partition.index) for partition in partitions]
        try:
            answers = consumer.committed(asked, timeout=_SETTLE_SECONDS)
        except KafkaException as error:
            message = f"the positions of dead letters cannot be read: {error}"
            raise FatalError(message) from error
        return {Partition(answer.topic, answer.partition): answer.offset for answer in answers if answer.offset >= 0}

    def commit(self, burial: Burial) -> None:
        """Produce the letters and move to the positions in one transaction."""
        producer, consumer = self._connect()
        offsets = [TopicPartition(place.topic, place.index, offset) for place, offset in burial.positions.items()]
        membership = group_offsets(burial.committed)
        try:
            producer.begin_transaction()
            for letter in burial.letters:
                record = dead_letter(SERVICE, letter.partition, letter.record, letter.reject, burial.now_ms)
                failpoints.reach(Failpoint.PRODUCE_BEFORE)
                self._produce(producer, letter, self._encoder.encode(record))
                failpoints.reach(Failpoint.PRODUCE_AFTER)
            failpoints.reach(Failpoint.SEND_OFFSETS_BEFORE)
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), _CALL_SECONDS)
            failpoints.reach(Failpoint.SEND_OFFSETS_AFTER)
            if membership:
                producer.send_offsets_to_transaction(membership, self._membership(), _CALL_SECONDS)
            failpoints.reach(Failpoint.COMMIT_TRANSACTION_BEFORE)
            producer.commit_transaction(_CALL_SECONDS)
            failpoints.reach(Failpoint.COMMIT_TRANSACTION_AFTER)
        except KafkaException as error:
            message = f"{len(burial.letters)} dead letters could not be produced: {error}"
            raise FatalError(message) from error

    def close(self) -> None:
        """Leave nothing behind; an open transaction is aborted by the broker's timeout or by the next start."""
        if self._connected is not None:
            self._connected[1].close()
            self._connected = None

    def _produce(self, producer: Producer, letter: DeadRecord, value: bytes) -> None:
        while True:
            try:
                producer.produce(
                    self._topic,
                    key=kept_key(letter.record),
                    value=value,
                    partition=letter.partition.index % self._partition_count,
                )
            except BufferError:  # the queue is full: waiting is the back-pressure
                producer.poll(0.1)
            else:
                return

    def _connect(self) -> tuple[Producer, Consumer]:
        if self._connected is None:
            producer = self._make_producer()
            try:
                producer.init_transactions(_SETTLE_SECONDS)
            except KafkaException as error:
                message = f"dead letters cannot be produced: {error}"
                raise FatalError(message) from error
            self._connected = producer, self._make_consumer()
        return self._connected


def group_offsets(committed: Mapping[Partition, Committed]) -> list[TopicPartition]:
    """Return positions as the client commits them, with topic id and brake counts as metadata."""
    return [
        TopicPartition(
            partition.topic,
            partition.index,
            place.offset,
            metadata_text(None, place.topic_id, place.brake),
        )
        for partition, place in committed.items()
    ]
