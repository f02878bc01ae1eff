from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from millrace_common.errors import StartupError
from millrace_common.ledger import LedgerRow
from millrace_common.records import Committed, Partition
from millrace_common.topology import refuse_lost_input
from millrace_lake.positions import LakePositions
from millrace_lake.tables import TableSpec
from millrace_lake.writer import Store, TableWriter

TOPIC = "session-metrics"
P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)
Ledger = Callable[..., LedgerRow]

NOW_MS = 1_772_366_400_000


class Group:
    """A consumer group with given offsets."""

    def __init__(self, offsets: Mapping[Partition, Committed] | None = None) -> None:
        self.offsets = offsets or {}

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed | None]:
        return {partition: self.offsets.get(partition) for partition in partitions}


@pytest.fixture
def writer(sessions: TableSpec, store: Store) -> TableWriter:
    return TableWriter(sessions, store)


def positions(writer: TableWriter, group: Group | None = None, topic_id: str = "topic-id") -> LakePositions:
    def topic_ids(topics: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(topics, topic_id)

    return LakePositions({TOPIC: writer}, topic_ids, group or Group())


def test_reading_begins_where_the_table_ends(writer: TableWriter, ledger_row: Ledger) -> None:
    positions(writer).committed([P0, P1])
    writer.append([], [ledger_row(0, 7)], NOW_MS)
    behind = Group({P0: Committed(3, topic_id="topic-id", brake=(10, 2))})
    assert positions(writer, behind).committed([P0, P1]) == {
        P0: Committed(7, topic_id="topic-id", brake=(10, 2)),
        P1: None,
    }


def test_dropped_table_is_refused_with_the_repair_command(writer: TableWriter) -> None:
    group = Group({P1: Committed(12, topic_id="topic-id")})
    command = r"`millrace reset lake --topic session-metrics --partition 1 --to earliest`"
    with pytest.raises(StartupError, match=rf"offset 12 .* table sessions .* {command}"):
        positions(writer, group).committed([P0, P1])


def test_dropped_table_of_several_partitions_is_repaired_by_one_command(writer: TableWriter) -> None:
    group = Group({place: Committed(12, topic_id="topic-id") for place in (P0, P1)})
    command = r"`millrace reset lake --topic session-metrics --to earliest`"
    with pytest.raises(StartupError, match=rf"session-metrics\[0\]: .* nor those of 1 more partitions: .* {command}"):
        positions(writer, group).committed([P0, P1])


def test_repair_command_leaves_partitions_alone_that_have_a_position(writer: TableWriter, ledger_row: Ledger) -> None:
    p2 = Partition(TOPIC, 2)
    positions(writer).committed([P0, P1, p2])
    writer.append([], [ledger_row(0, 7)], NOW_MS)
    group = Group({place: Committed(7, topic_id="topic-id") for place in (P0, P1, p2)})
    with pytest.raises(StartupError, match="--partition 1 --to earliest"):
        positions(writer, group).committed([P0, P1, p2])


def test_new_topic_with_an_old_name_starts_a_new_table_from_the_beginning(writer: TableWriter) -> None:
    group = Group({P0: Committed(12, topic_id="another id")})
    assert positions(writer, group).committed([P0]) == {P0: None}


def test_topic_created_again_is_refused(writer: TableWriter, ledger_row: Ledger) -> None:
    positions(writer).committed([P0])
    writer.append([], [ledger_row(0, 7)], NOW_MS)
    found = positions(writer, topic_id="new-id").committed([P0])[P0]
    assert found == Committed(7, topic_id="topic-id")
    with pytest.raises(StartupError, match="deleted and created again"):
        refuse_lost_input(P0, found, (0, 100), "new-id", "lake")


def test_position_behind_the_end_of_the_topic_is_refused(writer: TableWriter, ledger_row: Ledger) -> None:
    positions(writer).committed([P0])
    writer.append([], [ledger_row(0, 7)], NOW_MS)
    with pytest.raises(StartupError, match="behind the end 5"):
        refuse_lost_input(P0, positions(writer).committed([P0])[P0], (0, 5), "topic-id", "lake")


def test_nothing_assigned_asks_nobody(writer: TableWriter) -> None:
    def nobody(topics: Iterable[str]) -> Mapping[str, str]:
        raise AssertionError

    assert LakePositions({TOPIC: writer}, nobody, Group()).committed([]) == {}
