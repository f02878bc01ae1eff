from dataclasses import dataclass, field
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka, MemoryMessage, MemoryTopology, Produced
from millrace_common.records import Partition
from millrace_common.traces import Traces

INPUT, OUTPUT = Partition("in", 1), Partition("out", 1)


class LoneConsumer(MemoryConsumer):
    """A consumer without a group."""

    def assign(self, places: list[TopicPartition]) -> None:
        self.incremental_assign(places)

    def close(self) -> None:
        self.closed = True


@dataclass
class Bench:
    kafka: MemoryKafka = field(default_factory=lambda: MemoryKafka({"in": 2, "out": 2}))
    consumers: list[LoneConsumer] = field(default_factory=list)
    injected: list[MemoryMessage] = field(default_factory=list)

    def found(self, partition: Partition = INPUT) -> Partition | None:
        traces = Traces({"in": "out"}, MemoryTopology(self.kafka), self.consumer)
        found = traces.of(partition)
        assert all(consumer.closed for consumer in self.consumers)
        return found

    def consumer(self) -> Consumer:
        consumer = LoneConsumer(self.kafka)
        consumer.injected = self.injected
        self.consumers.append(consumer)
        return cast("Consumer", consumer)


def test_an_empty_output_is_no_trace_and_nobody_reads_it() -> None:
    bench = Bench()
    bench.kafka.append(Partition("out", 0), b"of another partition")
    assert bench.found() is None
    assert not bench.consumers


def test_a_record_in_the_output_is_a_trace() -> None:
    bench = Bench()
    bench.kafka.append(OUTPUT, b"record")
    assert bench.found() == OUTPUT


def test_records_that_were_aborted_are_no_trace() -> None:
    bench = Bench()
    epoch = bench.kafka.take_over("killed at its first start")
    bench.kafka.write("killed at its first start", epoch, OUTPUT, [Produced(OUTPUT, None, b"unseen")])
    assert bench.found() is None
    bench.kafka.end("killed at its first start", epoch, commit=False)
    assert bench.found() is None


def test_output_that_retention_has_removed_is_a_trace() -> None:
    bench = Bench()
    bench.kafka.append(OUTPUT, b"record")
    bench.kafka.delete_before(OUTPUT, 1)
    assert bench.found() == OUTPUT


def test_an_input_whose_output_is_not_known_has_no_trace() -> None:
    assert Bench().found(Partition("elsewhere", 0)) is None


def test_an_output_that_cannot_be_read_is_not_taken_for_empty() -> None:
    bench = Bench(injected=[MemoryMessage(OUTPUT, 0, problem=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))])
    bench.kafka.append(OUTPUT, b"record")
    with pytest.raises(KafkaException):
        bench.found()
    assert all(consumer.closed for consumer in bench.consumers)
