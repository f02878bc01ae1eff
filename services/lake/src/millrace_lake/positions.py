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
            for partition in members:
                found[partition] = begin(
                    partition,
                    position=positions[app_id(known_id, partition.index)],
                    fed_from=known_id,
                    topic_id=topic_id,
                    grouped=grouped[partition],
                    table=writer.spec.name,
                )
        return found


def begin(
    partition: Partition,
    *,
    position: int | None,
    fed_from: str,
    topic_id: str,
    grouped: Committed | None,
    table: str,
) -> Committed | None:
    """Decide where reading of `partition` begins.

    Args:
        partition: to be read.
        position: in the table, under the topic id `fed_from`.
        fed_from: id of the topic that the table was fed from so far.
        topic_id: the topic's id now.
        grouped: what the consumer group says; it is always committed after the table.
        table: its name.

    Raises:
        StartupError: the group got further than a table without a position: the table was dropped or replaced.
    """
    brake = grouped.brake if grouped is not None else ()
    if fed_from != topic_id:
        return Committed(position or 0, topic_id=fed_from, brake=brake)
    if position is not None:
        return Committed(position, topic_id=topic_id, brake=brake)
    if grouped is None or grouped.topic_id not in (None, topic_id):
        return None
    message = (
        f"lake cannot go on at {partition}: rows up to offset {grouped.offset} were committed before, but table "
        f"{table} has none of them: it was dropped or replaced. Put it back, or fill it again from the topic: "
        f"`millrace reset lake --topic {partition.topic} --partition {partition.index} --to earliest`"
    )
    raise StartupError(message)
