from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
from confluent_kafka import Consumer, KafkaError

from millrace_common import dead_records
from millrace_common.codec import RowEncoder
from millrace_common.dead_letters import dead_letter
from millrace_common.dead_records import DeadRecords, letter_decoder
from millrace_common.errors import UnavailableError
from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka, MemoryMessage, MemoryTopology, Produced
from millrace_common.records import Partition, Reject
from millrace_common.testing import InMemorySchemas, Record
from millrace_schemas import schema_text

INPUT: Final = Partition("in", 3)
PLACE: Final = Partition("dead-letters", 1)  # 3 modulo 2
SCHEMA_ID: Final = 8
HOUR_MS: Final = 3_600_000
NOW_MS: Final = 100 * HOUR_MS
ENCODER: Final = RowEncoder(schema_text("dead-letters"), SCHEMA_ID)


class Reader(MemoryConsumer):
    """A consumer during whose first poll something happens."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def consume(self, num_messages: int, timeout: float) -> list[MemoryMessage]:
        messages = super().consume(num_messages, timeout)
        happen, self.meanwhile = self.meanwhile, lambda: None
        happen()
        return messages


def letter(offset: int, *, service: str = "ingest", source: Partition = INPUT, timestamp_ms: int = NOW_MS) -> bytes:
    record = Record(b"bad", b"k", offset, timestamp_ms)
    return ENCODER.encode(dead_letter(service, source, record, Reject(0, "decode", "undecodable", ""), NOW_MS))


@dataclass
class Bench:
    kafka: MemoryKafka = field(default_factory=lambda: MemoryKafka({"in": 4, "dead-letters": 2}))
    readers: list[Reader] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    injected: Sequence[MemoryMessage] = ()

    def __post_init__(self) -> None:
        self.kafka.now_ms = NOW_MS

    def write(self, *values: bytes, at_ms: int = NOW_MS) -> None:
        self.kafka.append(PLACE, *values, timestamp_ms=at_ms)

    def of(self, latest: int, since_ms: int = NOW_MS) -> dict[int, int]:
        decoder = letter_decoder(InMemorySchemas({SCHEMA_ID: schema_text("dead-letters")}), lambda seconds: None)
        topology: Any = MemoryTopology(self.kafka)
        found = DeadRecords("ingest", "dead-letters", topology, decoder, self.reader).of(INPUT, since_ms, latest)
        assert all(reader.closed for reader in self.readers)
        return dict(found)

    def reader(self) -> Consumer:
        reader = Reader(self.kafka)
        reader.meanwhile, reader.injected = self.meanwhile, list(self.injected)
        self.readers.append(reader)
        return cast("Consumer", reader)


def test_letters_of_the_partition_are_found_by_offset_with_their_timestamps() -> None:
    bench = Bench()
    bench.write(letter(5), letter(6, source=Partition("in", 1)), letter(7, service="enrich"), letter(9, timestamp_ms=1))
    assert bench.of(9) == {5: NOW_MS, 9: 1}


def test_reading_ends_with_the_latest_letter() -> None:
    bench = Bench()
    bench.write(letter(5))
    bench.kafka.write("a stranger", bench.kafka.take_over("a stranger"), PLACE, [Produced(PLACE, None, b"for ever")])
    assert bench.of(5) == {5: NOW_MS}


def test_a_letter_whose_transaction_is_committed_only_now_is_waited_for() -> None:
    bench = Bench()
    bench.write(letter(5))
    epoch = bench.kafka.take_over("ingest-0")
    bench.kafka.write("ingest-0", epoch, PLACE, [Produced(PLACE, None, letter(8))])
    bench.meanwhile = lambda: bench.kafka.end("ingest-0", epoch, commit=True)
    assert sorted(bench.of(8)) == [5, 8]


def test_the_only_letter_is_found_even_if_it_is_not_visible_yet() -> None:
    bench = Bench()
    bench.write(letter(1), at_ms=NOW_MS - HOUR_MS)
    epoch = bench.kafka.take_over("ingest-0")
    bench.kafka.write("ingest-0", epoch, PLACE, [Produced(PLACE, None, letter(8))])
    bench.meanwhile = lambda: bench.kafka.end("ingest-0", epoch, commit=True)
    assert sorted(bench.of(8)) == [8]


def test_letters_from_long_before_the_replay_are_not_read() -> None:
    bench = Bench()
    bench.write(b"not even a letter", at_ms=NOW_MS - HOUR_MS)
    bench.write(letter(5), at_ms=NOW_MS - HOUR_MS // 12)  # a clock that is five minutes behind
    assert bench.of(5) == {5: NOW_MS}


def test_a_letter_that_is_no_longer_kept_is_reported_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.write(letter(5))
    assert bench.of(8) == {5: NOW_MS}
    (record,) = caplog.records
    assert (record.message, vars(record)["offset"]) == ("a dead letter is missing: its record is judged anew", 8)


def test_a_letter_that_is_held_back_for_too_long_is_not_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_records, "_TIMEOUT_SECONDS", 0.0)
    bench = Bench()
    bench.kafka.write("a stranger", bench.kafka.take_over("a stranger"), PLACE, [Produced(PLACE, None, b"for ever")])
    with pytest.raises(UnavailableError, match=r"the dead letters of in\[3\] cannot be read"):
        bench.of(8)


def test_a_broker_that_refuses_is_not_taken_for_one_without_letters() -> None:
    bench = Bench(injected=[MemoryMessage(PLACE, 0, problem=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))])
    bench.write(letter(5))
    with pytest.raises(UnavailableError):
        bench.of(5)
