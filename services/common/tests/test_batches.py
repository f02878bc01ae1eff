import ctypes
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Producer
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.batches import Dictionaries, Structs, batches_of
from millrace_common.columns import Binaries


class Message(ctypes.Structure):
    """rd_kafka_message_t, as rdkafka.h has it."""

    _fields_ = (
        ("err", ctypes.c_int),
        ("rkt", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("_private", ctypes.c_void_p),
    )


class Reader:
    """Reads what is handed to librdkafka, as that does."""

    def __init__(self) -> None:
        self.read: list[tuple[bytes | None, bytes | None]] = []

    def rd_kafka_topic_new(self, handle: int, topic: bytes, settings: None) -> int:
        return 1

    def rd_kafka_topic_destroy(self, topic: int) -> None:
        pass

    def rd_kafka_produce_batch(self, topic: int, partition: int, flags: int, messages: int, count: int) -> int:
        for message in (Message * count).from_address(messages):
            key = ctypes.string_at(message.key, message.key_len) if message.key else None
            value = ctypes.string_at(message.payload, message.len) if message.payload else None
            self.read.append((key, value))
        return count


@pytest.fixture
def producer() -> Producer:
    # Nobody listens there; what is produced stays in the queue.
    return Producer(
        {"bootstrap.servers": "127.0.0.1:1", "client.id": "ingest-0", "queue.buffering.max.messages": 8, "log_level": 0}
    )


parts = st.none() | st.binary(max_size=9)


@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=20))
def test_librdkafka_reads_each_record_as_it_is(records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
    reader = Reader()
    structs = Structs(cast(Producer, SimpleNamespace()), cast(Any, reader), 0)
    codes = structs.produce("t", [key for key, _ in records], [value for _, value in records], 0)
    assert reader.read == records
    assert not codes.any()


@given(st.lists(st.binary(max_size=9), max_size=20), st.integers(min_value=0, max_value=3))
def test_librdkafka_reads_each_row_of_a_column_as_it_is(values: list[bytes], skipped: int) -> None:
    reader = Reader()
    structs = Structs(cast(Producer, SimpleNamespace()), cast(Any, reader), 0)
    column = Binaries(pa.array(values, pa.binary()))[skipped:]
    structs.produce("t", [None] * len(column), column, 0)
    assert [value for _, value in reader.read] == values[skipped:]


def test_both_ways_say_the_same_of_a_full_queue(producer: Producer) -> None:
    structs = batches_of(producer, "ingest-0")
    assert isinstance(structs, Structs)
    full = KafkaError._QUEUE_FULL
    assert structs.produce("t", [b"k", None] * 3, [b"v"] * 6, 0).tolist() == [0] * 6
    assert structs.produce("t", [b"k"] * 3, [b"v"] * 3, 0).tolist() == [0, 0, full]
    producer.purge()
    while len(producer):
        producer.poll(0.1)
    dictionaries = Dictionaries(producer)
    assert dictionaries.produce("t", [b"k", None] * 3, [b"v"] * 6, 0).tolist() == [0] * 6
    assert dictionaries.produce("t", [b"k"] * 3, [b"v"] * 3, 0).tolist() == [0, 0, full]


def test_both_ways_say_the_same_of_a_record_that_is_too_large(producer: Producer) -> None:
    values = [b"v", b"v" * 2_000_000, b"v"]
    for batches in (batches_of(producer, "ingest-0"), Dictionaries(producer)):
        assert batches.produce("t", [b"k"] * 3, values, 0).tolist() == [0, KafkaError.MSG_SIZE_TOO_LARGE, 0]


def test_a_handle_that_librdkafka_names_otherwise_is_not_used(
    producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(batches_of(producer, "ingest"), Dictionaries)
    assert "handle was not found" in caplog.text
