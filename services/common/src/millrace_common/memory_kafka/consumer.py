"""The client's side of a consumer group."""

from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from millrace_common.memory_kafka.broker import MemoryKafka, MemoryMessage, failure
from millrace_common.memory_kafka.group import Membership, MemoryGroup
from millrace_common.records import Partition

Rebalance = Callable[[Any, list[TopicPartition]], None]


class MemoryConsumer:
    """A read_committed consumer. Its group says when it gains and loses partitions; without one, a test does.

    Attributes:
        injected: returned by the next poll before anything else.
        positions: where each assigned partition is read next.
        most: records a poll returns at most, whatever is asked for.
        member_id: as its group knows it.
    """

    def __init__(self, kafka: MemoryKafka, group: MemoryGroup | None = None) -> None:
        """Read from `kafka`."""
        self.kafka = kafka
        self.positions: dict[Partition, int] = {}
        self.injected: list[MemoryMessage] = []
        self.most = 1_000_000
        self.closed = False
        self.member_id = "member-0"
        self._group = group
        self._ended: dict[Partition, int] = {}
        self._callbacks: dict[str, Rebalance] = {}
        self._coming: deque[tuple[str, list[Partition]]] = deque()

    def rebalance(self, kind: str, *partitions: Partition) -> None:
        """Have the next poll call `kind` ("assign", "revoke" or "lost") for `partitions`."""
        self._coming.append((kind, list(partitions)))

    def subscribe(self, topics: list[str], on_assign: Rebalance, on_revoke: Rebalance, on_lost: Rebalance) -> None:
        """Join the group."""
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        if self._group is not None:
            self.member_id = self._group.join(self)

    def consume(self, num_messages: int, timeout: float) -> list[MemoryMessage]:
        """Return injected messages, then records of the assigned partitions, an EOF event where one ends."""
        expelled = self._group is not None and self.member_id not in self._group.members()
        if expelled:
            self._coming = deque([("lost", list(self.positions))])
        before = self._read(num_messages) if self._coming and self._coming[0][0] != "assign" else []
        while self._coming:
            kind, partitions = self._coming.popleft()
            self._callbacks[kind](self, [TopicPartition(place.topic, place.index) for place in partitions])
            if kind == "assign":  # the client drops what it had of an assignment before
                before = [message for message in before if message.place not in partitions]
            if kind == "revoke" and self._group is not None:
                self._group.give_up(self.member_id, partitions)
        if expelled and self._group is not None:
            self.member_id = self._group.join(self)
        return before or self._read(num_messages)

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        """Begin to read."""
        for place in places:
            partition = Partition(place.topic, place.partition)
            self.positions[partition] = place.offset
            self._ended.pop(partition, None)

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        """Read no more."""
        for place in places:
            self.positions.pop(Partition(place.topic, place.partition), None)

    def seek(self, place: TopicPartition) -> None:
        """Read on from elsewhere."""
        partition = Partition(place.topic, place.partition)
        self.kafka.perform("seek", f"seek {partition} {place.offset}", lambda: None)
        self.positions[partition] = place.offset
        self._ended.pop(partition, None)

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Return committed offsets and metadata, -1001 where there are none, once no transaction holds them back."""
        asked = [Partition(place.topic, place.partition) for place in places]
        self.kafka.perform("committed", None, lambda: self.kafka.expire_all(asked))
        found = []
        for place in places:
            offset, metadata = self.kafka.committed.get(Partition(place.topic, place.partition), (-1001, ""))
            found.append(TopicPartition(place.topic, place.partition, offset, metadata))
        return found

    def offsets_for_times(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Return the first offset at or after each timestamp, -1 where there is none; as a broker, know no negative."""
        found = []
        for place in places:
            if place.offset < 0:
                raise failure(KafkaError.UNSUPPORTED_VERSION)
            log = self.kafka.read(Partition(place.topic, place.partition), 0, self.most)
            offset = next((message.at for message in log if message.stored_timestamp_ms >= place.offset), -1)
            found.append(TopicPartition(place.topic, place.partition, offset))
        return found

    def get_watermark_offsets(
        self, place: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        """Return the first offset kept and the offset behind the last one, or behind the last stable one if asked."""
        partition = Partition(place.topic, place.partition)
        end = self.kafka.ends[partition] if cached else self.kafka.last_stable(partition)
        return self.kafka.first_offsets[partition], end

    def consumer_group_metadata(self) -> Membership:
        """Return what the client's own thread knows: the generation may be newer than the last poll."""
        return Membership(self.member_id, self._group.generation if self._group is not None else 1)

    def close(self) -> None:
        """Give up what is assigned and leave the group."""
        if self.positions and self._callbacks:
            places = [TopicPartition(place.topic, place.index) for place in self.positions]
            expelled = self._group is not None and self.member_id not in self._group.members()
            self._callbacks["lost" if expelled else "revoke"](self, places)
        if self._group is not None:
            self._group.leave(self.member_id)
        self.closed = True

    def _read(self, at_most: int) -> list[MemoryMessage]:
        found, self.injected = self.injected, []
        room = min(at_most, self.most)
        for place, position in list(self.positions.items()):
            records = self.kafka.read(place, position, room)
            room -= len(records)
            found += records
            if records:
                self.positions[place] = records[-1].at + 1
            end = self.kafka.last_stable(place)
            is_waiting = bool(self.kafka.read(place, self.positions[place], 1))
            if not is_waiting and self._ended.get(place) != end and end >= self.positions[place]:
                self._ended[place] = self.positions[place] = end
                found.append(MemoryMessage(place, end, problem=KafkaError(KafkaError._PARTITION_EOF)))
        return found
