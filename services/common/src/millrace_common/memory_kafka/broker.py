"""A Kafka in memory, as one consumer and one transactional producer see it; for tests only.

It keeps what exactly-once rests on: read_committed logs with offsets nobody sees, committed offsets with metadata,
transactions that become visible whole or not at all, a transactional id whose newest producer fences the others, and
calls that fail before or after they took effect. `effects` lists, in order, everything that was done to it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from millrace_common.errors import StartupError
from millrace_common.records import Partition
from millrace_common.topology import Topology

Rebalance = Callable[[Any, list[TopicPartition]], None]


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """What a poll returns: a record, or an event in place of one."""

    place: Partition
    at: int
    stored_value: bytes | None = None
    stored_key: bytes | None = None
    stored_timestamp_ms: int = 0
    problem: KafkaError | None = None

    def topic(self) -> str:
        """Return the topic."""
        return self.place.topic

    def partition(self) -> int:
        """Return the partition number."""
        return self.place.index

    def offset(self) -> int:
        """Return the offset."""
        return self.at

    def key(self) -> bytes | None:
        """Return the key's bytes."""
        return self.stored_key

    def value(self) -> bytes | None:
        """Return the value's bytes."""
        return self.stored_value

    def timestamp(self) -> tuple[int, int]:
        """Return (log append time, epoch ms)."""
        return 2, self.stored_timestamp_ms

    def error(self) -> KafkaError | None:
        """Return the event, None for a record."""
        return self.problem


@dataclass(frozen=True, slots=True)
class Produced:
    """A record of a committed transaction."""

    place: Partition
    key: bytes | None
    value: bytes | None


def failure(code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False) -> KafkaException:
    """Return the exception a client call raises for `code`."""
    return KafkaException(
        KafkaError(code, "scripted", fatal=fatal, retriable=retriable, txn_requires_abort=abort),
    )


class MemoryKafka:
    """The broker's side: logs, committed offsets and what transactions made visible."""

    def __init__(self, counts: dict[str, int]) -> None:
        """Have topics with these numbers of partitions, all empty."""
        self.counts = counts
        self.topic_ids = {topic: f"id-of-{topic}" for topic in counts}
        self.logs: dict[Partition, list[MemoryMessage]] = {
            Partition(topic, index): [] for topic, count in counts.items() for index in range(count)
        }
        self.first_offsets = dict.fromkeys(self.logs, 0)
        self.leaderless = False
        self.ends = dict.fromkeys(self.logs, 0)
        self.committed: dict[Partition, tuple[int, str]] = {}
        self.visible: list[Produced] = []
        self.effects: list[str] = []
        self.newest_producer: MemoryProducer | None = None
        self.queue_room: int | None = None
        self._failures: dict[str, deque[tuple[KafkaException, bool]]] = {}

    def append(self, place: Partition, *values: bytes | None, key: bytes | None = None, timestamp_ms: int = 0) -> None:
        """Put records behind the end of the log."""
        for value in values:
            self.logs[place].append(MemoryMessage(place, self.ends[place], value, key, timestamp_ms))
            self.ends[place] += 1

    def append_unseen(self, place: Partition, offsets: int = 1) -> None:
        """Use up offsets that no consumer sees: commit markers, aborted records, records compacted away."""
        self.ends[place] += offsets

    def delete_before(self, place: Partition, offset: int) -> None:
        """Delete records as retention does."""
        self.first_offsets[place] = offset
        self.logs[place] = [message for message in self.logs[place] if message.at >= offset]

    def fail(self, call: str, error: KafkaException, *, effective: bool = False) -> None:
        """Let the next `call` raise `error`; if `effective`, after it has done its work: only the answer is lost."""
        self._failures.setdefault(call, deque()).append((error, effective))

    def take_failure(self, call: str) -> tuple[KafkaException, bool] | None:
        """Return the next scripted failure of `call` and whether it takes effect, once."""
        waiting = self._failures.get(call)
        return waiting.popleft() if waiting else None

    def perform(self, call: str, effect: str, work: Callable[[], None]) -> None:
        """Do `work` and note `effect`, unless `call` is scripted to fail."""
        error, effective = self.take_failure(call) or (None, True)
        if effective:
            self.effects.append(effect)
            work()
        if error is not None:
            self.effects.append(f"{call} failed")
            raise error


class MemoryTopology(Topology):
    """Answers from a MemoryKafka."""

    def __init__(self, kafka: MemoryKafka) -> None:
        """Ask `kafka`."""
        self._kafka = kafka

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each topic."""
        return {topic: self._kafka.topic_ids[topic] for topic in topics}

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each topic."""
        try:
            return {topic: self._kafka.counts[topic] for topic in topics}
        except KeyError as error:
            message = f"topic {error} does not exist"
            raise StartupError(message) from error

    def ranges(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset kept and the offset behind the last one."""
        return {place: (self._kafka.first_offsets[place], self._kafka.ends[place]) for place in partitions}

    def ends(self, partitions: Sequence[Partition], timeout_seconds: float) -> dict[Partition, int]:
        """Return the offset behind the last record of each partition."""
        if self._kafka.leaderless:
            raise failure(KafkaError._TIMED_OUT)
        return {place: self._kafka.ends[place] for place in partitions}


class MemoryConsumer:
    """The only member of its group; a test says when it gains and loses partitions.

    Attributes:
        injected: returned by the next poll before anything else.
        positions: where each assigned partition is read next.
        most: records a poll returns at most, whatever is asked for.
    """

    def __init__(self, kafka: MemoryKafka) -> None:
        """Read from `kafka`."""
        self.kafka = kafka
        self.positions: dict[Partition, int] = {}
        self.injected: list[MemoryMessage] = []
        self.most = 1_000_000
        self.closed = False
        self._ended: dict[Partition, int] = {}
        self._callbacks: dict[str, Rebalance] = {}
        self._coming: deque[tuple[str, list[Partition]]] = deque()

    def rebalance(self, kind: str, *partitions: Partition) -> None:
        """Have the next poll call `kind` ("assign", "revoke" or "lost") for `partitions`."""
        self._coming.append((kind, list(partitions)))

    def subscribe(self, topics: list[str], on_assign: Rebalance, on_revoke: Rebalance, on_lost: Rebalance) -> None:
        """Remember the callbacks."""
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}

    def consume(self, num_messages: int, timeout: float) -> list[MemoryMessage]:
        """Return injected messages, then records of the assigned partitions, an EOF event where one ends."""
        before = self._read(num_messages) if self._coming and self._coming[0][0] != "assign" else []
        while self._coming:
            kind, partitions = self._coming.popleft()
            self._callbacks[kind](self, [TopicPartition(place.topic, place.index) for place in partitions])
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
        """Return committed offsets and metadata, -1001 where there are none."""
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
            log = self.kafka.logs[Partition(place.topic, place.partition)]
            offset = next((message.at for message in log if message.stored_timestamp_ms >= place.offset), -1)
            found.append(TopicPartition(place.topic, place.partition, offset))
        return found

    def get_watermark_offsets(self, place: TopicPartition, cached: bool) -> tuple[int, int]:
        """Return the first offset kept and the offset behind the last one."""
        partition = Partition(place.topic, place.partition)
        return self.kafka.first_offsets[partition], self.kafka.ends[partition]

    def consumer_group_metadata(self) -> object:
        """Return something opaque."""
        return "member-1"

    def close(self) -> None:
        """Give up what is assigned."""
        if self.positions:
            places = [TopicPartition(place.topic, place.index) for place in self.positions]
            self._callbacks["revoke"](self, places)
        self.closed = True

    def _read(self, at_most: int) -> list[MemoryMessage]:
        found, self.injected = self.injected, []
        room = min(at_most, self.most)
        for place, position in list(self.positions.items()):
            records = [message for message in self.kafka.logs[place] if message.at >= position][: max(room, 0)]
            room -= len(records)
            found += records
            if records:
                self.positions[place] = records[-1].at + 1
            waiting = any(message.at >= self.positions[place] for message in self.kafka.logs[place])
            end = self.kafka.ends[place]
            if not waiting and self._ended.get(place) != end:
                self._ended[place] = self.positions[place] = end
                found.append(MemoryMessage(place, end, problem=KafkaError(KafkaError._PARTITION_EOF)))
        return found


class MemoryProducer:
    """A transactional producer; all of them share one transactional id."""

    def __init__(self, kafka: MemoryKafka) -> None:
        """Write to `kafka`."""
        self._kafka = kafka
        self._produced: list[Produced] = []
        self._offsets: dict[Partition, tuple[int, str]] = {}
        self._room = kafka.queue_room

    def init_transactions(self, timeout: float) -> None:
        """Take over the transactional id."""

        def take_over() -> None:
            self._kafka.newest_producer = self

        self._kafka.perform("init_transactions", "init", take_over)

    def begin_transaction(self) -> None:
        """Open a transaction."""
        self._check()
        self._kafka.perform("begin_transaction", "begin", lambda: None)

    def produce_batch(self, topic: str, messages: list[dict[str, Any]], partition: int) -> int:
        """Queue what there is room for, mark the rest, and raise nothing: the client's own does not either."""
        queued = len(messages) if self._room is None else min(self._room, len(messages))
        code = KafkaError._QUEUE_FULL
        if self._kafka.newest_producer is not self:
            queued, code = 0, KafkaError._FATAL
        else:
            scripted = self._kafka.take_failure("produce_batch")
            if scripted is not None:
                queued, code = 0, scripted[0].args[0].code()
        for message in messages[queued:]:
            message["_error"] = KafkaError(code)
        if self._room is not None:
            self._room -= queued
        place = Partition(topic, partition)
        self._produced += (Produced(place, message["key"], message["value"]) for message in messages[:queued])
        self._kafka.effects.append(f"produce {place} {queued}")
        return queued

    def poll(self, timeout: float) -> int:
        """Deliver what is queued."""
        self._room = self._kafka.queue_room
        return 0

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], metadata: object, timeout: float) -> None:
        """Put offsets into the transaction."""
        self._check()
        sent = {Partition(place.topic, place.partition): (place.offset, place.metadata) for place in offsets}
        listed = ", ".join(f"{place} {offset}" for place, (offset, _) in sorted(sent.items()))
        self._kafka.perform("send_offsets", f"send_offsets {listed}", lambda: self._offsets.update(sent))

    def commit_transaction(self, timeout: float) -> None:
        """Make everything visible."""
        self._check()

        def commit() -> None:
            self._kafka.visible += self._produced
            self._kafka.committed |= self._offsets
            self._clear()

        self._kafka.perform("commit_transaction", "commit", commit)

    def abort_transaction(self, timeout: float) -> None:
        """Forget everything since the beginning of the transaction."""
        self._check()
        self._kafka.perform("abort_transaction", "abort", self._clear)

    def purge(self) -> None:
        """Forget what is queued."""
        self._kafka.effects.append("purge")

    def _clear(self) -> None:
        self._produced, self._offsets, self._room = [], {}, self._kafka.queue_room

    def _check(self) -> None:
        if self._kafka.newest_producer is not self:
            raise failure(KafkaError._FENCED, fatal=True)
