import json
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka
from millrace_common.positions import MAX_METADATA_BYTES, GroupPositions, metadata_text
from millrace_common.records import Committed, Partition

PLACE = Partition("in", 0)


def read_back(offset: int, metadata: str) -> Committed | None:
    kafka = MemoryKafka({"in": 1})
    kafka.committed[PLACE] = (offset, metadata)
    return GroupPositions(MemoryConsumer(kafka), 1.0).committed([PLACE])[PLACE]


@given(
    watermark_ms=st.none() | st.integers(-(2**63), 2**63 - 1),
    topic_id=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    brake=st.lists(st.integers(0, 10**9), max_size=24),
    dead_offset=st.none() | st.integers(0, 2**63 - 1),
)
def test_metadata_comes_back_as_it_was_committed(
    watermark_ms: int | None, topic_id: str | None, brake: list[int], dead_offset: int | None
) -> None:
    text = metadata_text(watermark_ms, topic_id, brake, dead_offset)
    assert text.isascii()
    assert len(text) <= MAX_METADATA_BYTES
    assert read_back(7, text) == Committed(7, watermark_ms, topic_id, tuple(brake), dead_offset)


@given(
    watermark_ms=st.integers(-(2**63), 2**63 - 1),
    brake=st.lists(st.integers(0, 2**63), max_size=1_000),
    foreign=st.binary(max_size=300),
)
def test_metadata_fits_the_broker_and_is_readable_whatever_was_counted(
    watermark_ms: int, brake: list[int], foreign: bytes
) -> None:
    counts = [*brake, *foreign] * 8
    text = metadata_text(watermark_ms, "topic-id-of-22-letters", counts, 2**63 - 1)
    assert len(text.encode()) <= MAX_METADATA_BYTES
    found = read_back(7, text)
    assert found is not None
    assert (found.watermark_ms, found.topic_id) == (watermark_ms, "topic-id-of-22-letters")
    assert found.dead_offset == 2**63 - 1
    kept = len(found.brake)
    assert list(found.brake) == counts[len(counts) - kept :]
    assert (len(counts) - kept) % 2 == 0
    assert kept == len(counts) or len(text) > MAX_METADATA_BYTES - 50


def test_watermark_zero_is_not_no_watermark() -> None:
    assert json.loads(metadata_text(0, None, ())) == {"w": 0}
    assert metadata_text(None, None, ()) == "{}"


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "set by hand",
        "[1, 2]",
        "null",
        "7",
        '"text"',
        '{"w": "soon"}',
        '{"b": 3}',
        '{"b": ["x"]}',
        '{"d": "7"}',
        "{",
        "\x7f\xff",
    ],
)
def test_metadata_of_another_tool_says_nothing_but_its_offset_counts(foreign: str) -> None:
    assert read_back(9, foreign) == Committed(9)


def test_a_partition_without_a_committed_offset_has_none() -> None:
    positions = GroupPositions(MemoryConsumer(MemoryKafka({"in": 2})), 1.0)
    assert positions.committed([Partition("in", 0), Partition("in", 1)]) == {
        Partition("in", 0): None,
        Partition("in", 1): None,
    }


def test_no_partition_is_no_question() -> None:
    class Silent(MemoryConsumer):
        def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            raise AssertionError

    assert GroupPositions(Silent(MemoryKafka({})), 1.0).committed([]) == {}


def test_a_partition_without_an_answer_is_not_one_without_a_commit() -> None:
    refused = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)

    class Unsure(MemoryConsumer):
        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[Any]:
            return [
                SimpleNamespace(topic=p.topic, partition=p.partition, offset=-1001, error=refused) for p in partitions
            ]

    with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
        GroupPositions(Unsure(MemoryKafka({"in": 1})), 1.0).committed([PLACE])
