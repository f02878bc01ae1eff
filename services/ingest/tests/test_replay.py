"""A restart: what ingest remembers is what it had made of its input, not what it would make of it today."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import pytest
from confluent_kafka import Consumer

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import Decoder, RowEncoder
from millrace_common.dead_records import DeadRecords, letter_decoder
from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka, MemoryProducer, MemoryTopology
from millrace_common.positions import GroupPositions
from millrace_common.records import Partition
from millrace_common.restoring import Replay
from millrace_common.sink import SinkConfig, TransactionalSink
from millrace_common.snapshots import SnapshotStore, SnapshotWriter
from millrace_common.source import GroupConfig, GroupSource
from millrace_common.testing import InMemorySchemas, avro_value
from millrace_ingest import events
from millrace_ingest.checks import Limits
from millrace_ingest.processor import IngestProcessor, Stream
from millrace_schemas import schema_text

PLACE: Final = Partition("user-events", 0)
KNOWN, NEW, LETTERS = 1, 7, 8
T0_MS: Final = 1_760_000_000_000
POLLS_AT_MOST: Final = 50


def value(event_id: str, schema_id: int = KNOWN) -> bytes:
    context = {"userAgent": "", "ip": "10.0.0.1", "platform": "web", "referrer": None}
    fields = {"eventId": event_id, "userId": None, "sessionId": "s-1", "eventType": "click", "timestamp": T0_MS}
    return avro_value(schema_text("user-events"), schema_id, {**fields, "properties": {}, "context": context})


def ask_nobody(seconds: float) -> None:
    message = "the registry always answers here"
    raise AssertionError(message)


@dataclass
class Bench:
    """An ingest that can be started again and again, on a Kafka in memory and with a registry that learns."""

    folder: Path
    schemas: dict[int, str] = field(
        default_factory=lambda: {KNOWN: schema_text("user-events"), LETTERS: schema_text("dead-letters")}
    )
    now: float = T0_MS / 1000
    kafka: MemoryKafka = field(
        default_factory=lambda: MemoryKafka(
            dict.fromkeys(("user-events", "user-events.valid", "dead-letters", "ledger"), 1)
        )
    )

    def send(self, *values: bytes) -> None:
        self.kafka.append(PLACE, *values, key=b"s-1", timestamp_ms=int(self.now * 1000))

    def run(self) -> None:
        """Start, process everything and commit it, then end as a kill does."""
        registry = InMemorySchemas(self.schemas)
        assignments, consumer = Assignments(), MemoryConsumer(self.kafka)
        topology = MemoryTopology(self.kafka)
        store = SnapshotStore(str(self.folder), "ingest", 1)
        decoder = Decoder(registry, schema_text("user-events"), max_value_bytes=262_144, wait=ask_nobody)
        dead = DeadRecords(
            "ingest",
            "dead-letters",
            topology,
            letter_decoder(registry, ask_nobody),
            lambda: cast("Consumer", MemoryConsumer(self.kafka)),
        )
        source = GroupSource(
            config=GroupConfig({}, "ingest", ("user-events",), 1_000),
            assignments=assignments,
            topology=topology,
            make_positions=lambda consumer: GroupPositions(consumer, 1.0),
            stopping=lambda: False,
            replay=Replay(store, None, timedelta(hours=1), dead),
            clock=lambda: self.now,
            make_consumer=lambda properties: cast("Consumer", consumer),
        )
        writer = TransactionalSink(
            config=SinkConfig("ingest", "ingest-0", "dead-letters", "ledger", 0.1, 1_000_000),
            assignments=assignments,
            make_producer=lambda: MemoryProducer(self.kafka),
            group_metadata=lambda: "group",
            partition_counts=self.kafka.counts,
            dead_letter_encoder=RowEncoder(schema_text("dead-letters"), LETTERS),
            ledger_encoder=RowEncoder(schema_text("ledger"), 9),
            brake=Brake(10_000, 1.0),
            snapshots=SnapshotWriter(store),
            stopping=lambda: False,
            clock=lambda: self.now,
        ).writer
        stream = Stream("user-events", "user-events.valid", decoder, events.RULES, events.identify)
        processor = IngestProcessor({"user-events": stream}, Limits(300_000, 0, 1_000), timedelta(hours=1))
        flow = source.build("read", 0, 1)
        consumer.rebalance("assign", PLACE)
        for _ in range(POLLS_AT_MOST):
            self.now += 0.06
            self.kafka.now_ms = int(self.now * 1000)
            for item in flow.next_batch():
                writer.take(processor.drop_duplicates(processor.validate(processor.decode(item))))
            writer.commit_if_due()
            if self.kafka.committed.get(PLACE, (0, ""))[0] == self.kafka.ends[PLACE]:
                return
        message = "ingest does not come to the end"
        raise AssertionError(message)

    def forwarded(self) -> list[bytes | None]:
        return self._values("user-events.valid")

    def dead(self) -> int:
        return len(self._values("dead-letters"))

    def _values(self, topic: str) -> list[bytes | None]:
        return [record.value for record in self.kafka.visible if record.place.topic == topic]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)


def test_a_record_that_died_of_its_schema_and_is_sent_again_is_no_duplicate(bench: Bench) -> None:
    bench.send(value("before"), value("early", NEW), value("after"))
    bench.run()
    assert (bench.forwarded(), bench.dead()) == ([value("before"), value("after")], 1)

    bench.schemas[NEW] = schema_text("user-events")
    bench.run()  # reads all of it again to get its state back
    bench.send(value("early", NEW), value("after"))
    bench.run()
    assert bench.forwarded() == [value("before"), value("after"), value("early", NEW)]
    assert bench.dead() == 1

    bench.send(value("early", NEW))
    bench.run()
    assert bench.forwarded()[3:] == []


def test_records_behind_the_last_dead_one_count_as_before(bench: Bench) -> None:
    bench.send(value("early", NEW))
    bench.run()
    bench.schemas[NEW] = schema_text("user-events")
    bench.send(value("new", NEW))
    bench.run()
    bench.send(value("new", NEW), value("early", NEW))
    bench.run()
    assert bench.forwarded() == [value("new", NEW), value("early", NEW)]
