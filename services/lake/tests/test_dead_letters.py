"""The transaction of dead letters, call by call."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from millrace_common import failpoints
from millrace_common.codec import RowEncoder
from millrace_common.errors import FatalError
from millrace_common.records import Committed, Partition, Reject
from millrace_common.testing import Record, avro_datum
from millrace_lake.dead_letters import Burial, DeadRecord, KafkaDeadLetters
from millrace_schemas import schema_text

SCHEMA = schema_text("dead-letters")
P5 = Partition("session-metrics", 5)
BURIAL = Burial(
    letters=[DeadRecord(P5, Record(b"\xff", b"k", 7, 1_000), Reject(0, "decode", "undecodable", "why"))],
    positions={P5: 9},
    committed={P5: Committed(4, topic_id="id", brake=(10, 1))},
    now_ms=2_000,
)


class Client:
    """A producer and a consumer of nothing, which note what is asked of them."""

    def __init__(self, fail_at: str | None = None, full_queues: int = 0) -> None:
        self.calls: list[Any] = []
        self.values: list[bytes] = []
        self.fail_at = fail_at
        self.full_queues = full_queues
        self.offset = 9

    def _note(self, call: str, *details: Any) -> None:
        self.calls.append((call, *details))
        if call == self.fail_at:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def init_transactions(self, timeout: float) -> None:
        self._note("init")

    def begin_transaction(self) -> None:
        self._note("begin")

    def produce(self, topic: str, *, key: bytes | None, value: bytes, partition: int) -> None:
        if self.full_queues:
            self.full_queues -= 1
            raise BufferError
        self.values.append(value)
        self._note("produce", topic, key, partition)

    def poll(self, timeout: float) -> None:
        self._note("poll")

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], group: object, timeout: float) -> None:
        self._note("offsets", group, [(place.topic, place.partition, place.offset) for place in offsets])

    def commit_transaction(self, timeout: float) -> None:
        self._note("commit")

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._note("committed")
        return [TopicPartition(place.topic, place.partition, self.offset) for place in places]

    def consumer_group_metadata(self) -> object:
        return "dead letters group"

    def close(self) -> None:
        self._note("close")


def sink(client: Client) -> KafkaDeadLetters:
    return KafkaDeadLetters(
        "dead-letters",
        4,
        RowEncoder(SCHEMA, 3),
        make_producer=lambda: client,
        make_consumer=lambda: client,
        membership=lambda: "reading group",
    )


def test_one_transaction_has_letters_their_position_and_an_offset_of_the_reading_group() -> None:
    client = Client()
    sink(client).commit(BURIAL)
    assert client.calls == [
        ("init",),
        ("begin",),
        ("produce", "dead-letters", b"k", 1),
        ("offsets", "dead letters group", [("session-metrics", 5, 9)]),
        ("offsets", "reading group", [("session-metrics", 5, 4)]),
        ("commit",),
    ]
    letter = avro_datum(SCHEMA, client.values[0])
    assert letter == {
        "service": "lake",
        "stage": "decode",
        "reason": "undecodable",
        "detail": "why",
        "source_topic": "session-metrics",
        "source_partition": 5,
        "source_offset": 7,
        "source_timestamp": 1_000,
        "key": b"k",
        "value": b"\xff",
        "occurred_at": 2_000,
    }


def test_failpoints_stand_on_both_sides_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(failpoints, "reach", lambda failpoint: client.calls.append((str(failpoint),)))
    sink(client).commit(BURIAL)
    assert [name for name, *_ in client.calls] == [
        *("init", "begin", "produce.before", "produce", "produce.after"),
        *("send_offsets.before", "offsets", "send_offsets.after", "offsets"),
        *("commit_transaction.before", "commit", "commit_transaction.after"),
    ]


def test_full_queue_is_back_pressure() -> None:
    client = Client(full_queues=3)
    sink(client).commit(BURIAL)
    assert [call for (call, *_) in client.calls].count("poll") == 3
    assert len(client.values) == 1


@pytest.mark.parametrize("call", ["init", "begin", "offsets", "commit"])
def test_failed_transaction_stops_the_process(call: str) -> None:
    with pytest.raises(FatalError, match="dead letters"):
        sink(Client(fail_at=call)).commit(BURIAL)


def test_partition_without_dead_letters_has_no_position() -> None:
    client = Client()
    assert sink(client).positions([P5]) == {P5: 9}
    client.offset = -1001
    assert sink(client).positions([P5]) == {}


def test_nothing_is_connected_before_the_first_dead_record() -> None:
    client = Client()
    sink(client).close()
    assert client.calls == []
