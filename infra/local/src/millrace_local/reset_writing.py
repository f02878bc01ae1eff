"""Writing what a service would have written, while it is stopped: positions, ledger rows and dead letters."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from millrace_common.codec import RowEncoder
from millrace_common.dead_letters import dead_letter, kept_key
from millrace_common.ledger import LedgerRow
from millrace_common.positions import GroupPositions, metadata_text
from millrace_common.records import Counts, Partition, Reject
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_common.transactions import producer_properties
from millrace_local.reading import Library, runs
from millrace_local.reset import RESET, Move, Reason
from millrace_local.services import Service
from millrace_schemas import in_lane, schema_text

INSTANCE: Final = "reset"
CALL_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 60.0
"""A transaction that a dead process has left open is settled by then."""

# Dead letters in one transaction: a few seconds' work for the broker, whatever their size.
_SET_ASIDE_AT_ONCE: Final = 2_000
_QUEUE_FULL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cluster:
    """A broker and a registry, and how to get in.

    Attributes:
        client: librdkafka properties.
        registry: of a registry client; only consumer groups have their ledger in a topic.
        lane: whose ledger is written.
    """

    client: Mapping[str, str | int]
    registry: Mapping[str, str]
    lane: str

    @property
    def quiet_client(self) -> dict[str, str | int]:
        """The properties of a client that only speaks through its errors."""
        return {**self.client, "log_level": 0}

    def admin(self) -> AdminClient:
        """Return a new admin client."""
        return AdminClient(self.quiet_client)

    def producer(self, transactional_id: str) -> Producer:
        """Return a new transactional producer."""
        return Producer(producer_properties(self.quiet_client, transactional_id, SETTLE_SECONDS))


class Writer:
    """Writes what the service would have written, in transactions of its own id, while the service is stopped."""

    def __init__(
        self, cluster: Cluster, service: Service, topology: Topology, registry: SchemaRegistry, consumer: Consumer
    ) -> None:
        """Take over the transactional id of resets; `consumer` looks on at the group."""
        self._cluster = cluster
        self._service = service
        self._topology = topology
        self._consumer = consumer
        self._name = in_lane(INSTANCE, cluster.lane)
        self._ledger, self._letters = (in_lane(topic, cluster.lane) for topic in ("ledger", "dead-letters"))
        self._counts = topology.partition_counts([self._ledger, self._letters, *service.topics])
        self._encoders = {
            in_lane(subject, cluster.lane): RowEncoder(text, registry.schema_id(subject, text))
            for subject in ("ledger", "dead-letters")
            for text in [schema_text(subject)]
        }
        self._producer = cluster.producer(self._name)
        self._producer.init_transactions(SETTLE_SECONDS)

    def write(self, move: Move) -> None:
        """Bring a partition to where `move` says."""
        rows = move.rows(self._service.name, self._name, now_in_ms())
        dead_offset = move.found.dead_offset
        if move.aside is None:
            if dead_offset is not None:  # what is processed again has no outcome yet
                dead_offset = min(dead_offset, move.offset - 1)
            self._commit(rows, [_place(move, move.offset, dead_offset)])
            return
        first, end = move.aside
        for records in self._records(move.partition, first, end):
            following = (records[-1].offset() or 0) + 1
            row = self._row_of(move, first, following, len(records))
            dead_offset = following - 1
            self._commit([*rows, row], [_place(move, following, dead_offset)], records)
            rows, first = [], following
        # Control records behind the last one; and somebody has seen what the brake had counted.
        row = self._row_of(move, first, end, 0)
        self._commit([*rows, row], [_place(move, end, dead_offset), *self._without_brake(move.partition)])

    def _records(self, partition: Partition, first: int, end: int) -> Iterator[list[Message]]:
        """Yield the records from `first` to before `end`, as many at a time as fit a transaction."""
        client = self._cluster.client
        library = Library(str(client["bootstrap.servers"]), "", Path(), self._cluster.lane, client)
        for _, found in runs(library, [partition], first):
            records = [record for record in found if (record.offset() or 0) < end]
            for start in range(0, len(records), _SET_ASIDE_AT_ONCE):
                yield records[start : start + _SET_ASIDE_AT_ONCE]
            if len(records) < len(found):
                return

    def _row_of(self, move: Move, first: int, following: int, dead: int) -> LedgerRow:
        counts, emitted = Counts(read=dead, dead=dead), {self._letters: dead} if dead else {}
        topic_id, name = move.found.topic_id, self._name
        return LedgerRow(
            self._service.name, name, move.partition, topic_id, first, following, counts, emitted, now_in_ms()
        )

    def _without_brake(self, besides: Partition) -> list[TopicPartition]:
        """Return where the group stands in its other partitions, without the brake's counts; each of them has all."""
        others = [Partition(topic, index) for topic in self._service.topics for index in range(self._counts[topic])]
        committed = GroupPositions(self._consumer, SETTLE_SECONDS).committed(others)
        return [
            TopicPartition(
                partition.topic,
                partition.index,
                place.offset,
                metadata_text(place.watermark_ms, place.topic_id, (), place.dead_offset),
            )
            for partition, place in committed.items()
            if place is not None and place.brake and partition != besides
        ]

    def _commit(
        self, rows: Sequence[LedgerRow], offsets: list[TopicPartition], set_aside: Sequence[Message] = ()
    ) -> None:
        """Commit rows and offsets, with dead letters of the records of the last row that are set aside."""
        now_ms = now_in_ms()
        self._producer.begin_transaction()
        for number, record in enumerate(set_aside):
            reject = Reject(number, RESET, Reason.SKIPPED, "skipped by the operator")
            source = rows[-1].partition
            letter = dead_letter(self._service.name, source, record, reject, now_ms)
            self._produce(self._letters, source, kept_key(record), letter)
        for row in rows:
            self._produce(self._ledger, row.partition, row.key, row.as_record())
        self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), CALL_SECONDS)
        self._producer.commit_transaction(CALL_SECONDS)

    def _produce(self, topic: str, source: Partition, key: bytes | None, record: Mapping[str, object]) -> None:
        value, place = self._encoders[topic].encode(record), source.index % self._counts[topic]
        while True:
            try:
                self._producer.produce(topic, key=key, value=value, partition=place)
            except BufferError:  # the queue is full
                self._producer.poll(_QUEUE_FULL_SECONDS)
            else:
                return


def _place(move: Move, offset: int, dead_offset: int | None) -> TopicPartition:
    text = metadata_text(None, move.found.topic_id, (), dead_offset)
    return TopicPartition(move.partition.topic, move.partition.index, offset, text)


def now_in_ms() -> int:
    """Return the wall clock, epoch ms."""
    return time.time_ns() // 1_000_000
