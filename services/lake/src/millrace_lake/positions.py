"""Where reading begins: in the table, not in Kafka. The group's offsets are only held against it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from millrace_common.errors import StartupError
from millrace_common.positions import Positions
from millrace_common.records import Committed, Partition
from millrace_lake.ledger import app_id
from millrace_lake.writer import TableWriter


class LakePositions:
    """Answers the source with positions of the tables."""

    def __init__(
        self,
        writers: Mapping[str, TableWriter],
        topic_ids: Callable[[Iterable[str]], Mapping[str, str]],
        group: Positions,
    ) -> None:
        """Look into `writers`, by topic; `group` is where lag tools look."""
        self._writers = writers
        self._topic_ids = topic_ids
        self._group = group

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed | None]:
        """Return the position of each partition in its table; None: it has no row there yet.

        A position of a topic that was deleted and created again comes with the old id: the source refuses it.

        Raises:
            StartupError: a table lost its positions: it was dropped.
            TableUnavailableError: the store does not answer.
        """
        grouped = self._group.committed(partitions)
        found: dict[Partition, Committed | None] = {}
        ids = self._topic_ids({partition.topic for partition in partitions}) if partitions else {}
        for topic, topic_id in ids.items():
            writer = self._writers[topic]
            fed_from = writer.topic_id(topic)
            if fed_from is None:
                writer.remember_topic_id(topic, topic_id)
            known_id = topic_id if fed_from is None else fed_from
            members = [partition for partition in partitions if partition.topic == topic]
            positions = writer.positions([app_id(known_id, partition.index) for partition in members])
            begins = {
                partition: begin(positions[app_id(known_id, partition.index)], known_id, topic_id, grouped[partition])
                for partition in members
            }
            refuse_dropped_table(begins, grouped, topic_id, writer.spec.name)
            found |= begins
        return found


def begin(position: int | None, fed_from: str, topic_id: str, grouped: Committed | None) -> Committed | None:
    """Decide where reading of a partition begins.

    Args:
        position: in the table, under the topic id `fed_from`.
        fed_from: id of the topic that the table was fed from so far.
        topic_id: the topic's id now.
        grouped: what the consumer group says; it is always committed after the table.
    """
    brake = grouped.brake if grouped is not None else ()
    if fed_from != topic_id:
        return Committed(position or 0, topic_id=fed_from, brake=brake)
    return None if position is None else Committed(position, topic_id=topic_id, brake=brake)


def refuse_dropped_table(
    begins: Mapping[Partition, Committed | None],
    grouped: Mapping[Partition, Committed | None],
    topic_id: str,
    table: str,
) -> None:
    """Check that the table has a position for each partition of one topic that its group has one for.

    Raises:
        StartupError: the group got further than a table without positions: the table was dropped or replaced.
    """
    lost = [
        (partition, place.offset)
        for partition, position in sorted(begins.items())
        if position is None and (place := grouped[partition]) is not None and place.topic_id in (None, topic_id)
    ]
    if not lost:
        return
    (first, offset), *more = lost
    # A table is dropped with all its positions; where it still has some, a command for the whole topic would move them.
    whole = bool(more) and not any(begins.values())
    where = f"--topic {first.topic}" if whole else f"--topic {first.topic} --partition {first.index}"
    message = (
        f"lake cannot go on at {first}: rows up to offset {offset} were committed before, but table {table} has none "
        f"of them{f', nor those of {len(more)} more partitions' if more else ''}: it was dropped or replaced. Put it "
        f"back, or fill it again from the topic: `millrace reset lake {where} --to earliest`"
    )
    raise StartupError(message)
