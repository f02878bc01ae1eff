"""The Bytewax source over a Kafka consumer group: runs of records per partition, restored state first.

Delivery: each record between the committed offset and the end is emitted once per generation of its partition, in
offset order. What a sink commits decides what is read again; nothing is committed here.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import bytewax.inputs
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millrace_common import metrics
from millrace_common.assignments import Assignments
from millrace_common.consumers import OnCommit, new_consumer
from millrace_common.errors import FencedError, StartupError
from millrace_common.positions import Positions
from millrace_common.records import (
    Assigned,
    Committed,
    Partition,
    Polled,
    RawRecord,
    Replayed,
    Revoked,
    SourceItem,
    Span,
    Tick,
)
from millrace_common.restoring import Replay, Restorer
from millrace_common.topology import Topology
from millrace_common.traces import Traces

_log = logging.getLogger(__name__)

# How long one poll collects records before it hands out what there is: the price of a batch in latency.
POLL_SECONDS: Final = 0.02
TICK_SECONDS: Final = 1.0
# For the broker to confirm that partitions are idle.
CONFIRM_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """What the source reads and how.

    Attributes:
        client: librdkafka properties, group.id among them.
        service: its name in messages.
        topics: input topics.
        batch_max_records: the most one poll returns.
    """

    client: Mapping[str, str | int]
    service: str
    topics: tuple[str, ...]
    batch_max_records: int


@dataclass(slots=True)
class _Cursor:
    """Where one owned partition stands."""

    generation: int
    next_offset: int
    committed: Committed | None
    muted_until: int
    replaying: bool = True
    end_offset: int = -1  # the end that a poll has reached; records after it may have come since
    changed_at: float = 0.0
    ticked_at: float = 0.0
    snapshot_at: float = 0.0
    replay_from: int = 0
    replay_began: float = 0.0
    dead: Mapping[int, int] | None = None  # records of the replay, timestamps by offset; None: not asked for yet
    held_back: tuple[int, float] | None = None  # by an open transaction: at which offset, and since when


@dataclass(slots=True)
class GroupSource(bytewax.inputs.DynamicSource[SourceItem]):
    """A single-worker source over a consumer group."""

    config: GroupConfig
    assignments: Assignments
    topology: Topology
    make_positions: Callable[[Consumer], Positions]
    stopping: Callable[[], bool]
    replay: Replay | None = None
    traces: Traces | None = None
    clock: Callable[[], float] = time.time
    make_consumer: Callable[[dict[str, Any]], Consumer] = new_consumer
    on_commit: OnCommit | None = None
    consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        """Create the consumer; it joins its group when the flow is built."""
        properties: dict[str, Any] = dict(self.config.client)
        if self.on_commit is not None:
            properties["on_commit"] = self.on_commit
        self.consumer = self.make_consumer(properties)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_GroupPartition":
        """Join the group.

        Raises:
            StartupError: the flow has more than one worker; processes scale, threads do not.
        """
        if worker_count != 1:
            message = f"a flow over a consumer group has one worker a process, not {worker_count}"
            raise StartupError(message)
        return _GroupPartition(self)


class _GroupPartition(bytewax.inputs.StatelessSourcePartition[SourceItem]):
    """The consumer's loop, one poll a call."""

    def __init__(self, source: GroupSource) -> None:
        self._source = source
        self._consumer = source.consumer
        self._assignments = source.assignments
        self._restorer = Restorer(
            source.config.service,
            source.config.topics,
            source.consumer,
            source.make_positions(source.consumer),
            source.topology,
            source.replay,
            source.traces,
        )
        self._cursors: dict[Partition, _Cursor] = {}
        self._ahead: list[Assigned | Replayed | Revoked] = []  # emitted before anything polled
        self._restart = source.replay.restart if source.replay is not None else None
        self._polled = 0  # records, by the last poll
        self._confirmed_at = 0.0
        self._confirmed_ends: dict[Partition, int] = {}
        self._single = source.config.topics[0] if len(source.config.topics) == 1 else None
        self._consumer.subscribe(
            list(source.config.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def next_batch(self) -> Iterable[SourceItem]:
        """Return what one poll brought, as items.

        Raises:
            StopIteration: the process was told to stop.
            StartupError: a partition cannot be processed from where its group stopped.
        """
        if self._source.stopping():
            raise StopIteration
        began = self._source.clock()
        metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(began)
        if self._restart is not None:
            self._restart.worked(began, self._polled)
        self._assignments.on_poll(self._polled == 0)
        reason = self._assignments.take_rewind_request()
        if reason is not None:
            self._rewind(reason)
        messages = self._consumer.consume(self._source.config.batch_max_records, POLL_SECONDS)
        now = self._source.clock()
        items = self._take_ahead()
        runs = self._by_partition(messages, now)
        self._polled = sum(map(len, runs.values()))
        for partition, records in runs.items():
            items += self._advance(partition, records, now)
        for partition, cursor in self._cursors.items():
            items += self._at_end(partition, cursor, now)
        if self._restart is not None:
            self._restart.polled(now)
        return items

    def next_awake(self) -> None:
        """Poll again at once; a poll waits by itself.

        Not the time it is now: Bytewax 0.21 counts from before the poll and would sleep for as long as the poll took.
        """

    def _by_partition(self, messages: Sequence[Message], now: float) -> dict[Partition, list[Message]]:
        metrics.BATCH_RECORDS.set(len(messages))
        # Each call to a message is a good part of what a record costs here, and loops over one call are the fastest.
        failed = [message for message in messages if message.error() is not None]
        if failed:
            for message in failed:
                self._note(message, now)
            messages = [message for message in messages if message.error() is None]
        if not messages:
            return {}
        indexes = [message.partition() for message in messages]
        topics = [message.topic() for message in messages] if self._single is None else [self._single] * len(messages)
        if indexes.count(indexes[0]) == len(indexes) and topics.count(topics[0]) == len(topics):  # mostly so in a drain
            return {Partition(topics[0] or "", indexes[0]): list(messages)}
        runs: defaultdict[tuple[str | None, int], list[Message]] = defaultdict(list)
        for place, message in zip(zip(topics, indexes, strict=True), messages, strict=True):
            runs[place].append(message)
        return {Partition(topic or "", index): run for (topic, index), run in runs.items()}

    def _note(self, message: Message, now: float) -> None:
        """Handle what a poll returned in place of a record."""
        error = message.error()
        partition = Partition(message.topic() or "", message.partition())
        if error.code() == KafkaError._PARTITION_EOF:
            cursor = self._cursors.get(partition)
            if cursor is not None:
                cursor.end_offset = message.offset()
        elif error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
            message_text = (
                f"{self._source.config.service} cannot go on at {partition}: {error.str()}. Nothing was skipped. To "
                f"accept the gap: `millrace reset {self._source.config.service} --topic {partition.topic} "
                f"--partition {partition.index} --to earliest`"
            )
            raise StartupError(message_text)
        elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            message_text = f"{partition}: {error.str()}; the topic is gone. Run `millrace topics apply`"
            raise StartupError(message_text)
        elif error.fatal():
            message_text = f"the consumer failed: {error.str()}"
            raise FencedError(message_text)
        else:
            _log.warning("the consumer reports an error and goes on", extra={"error": error.str()})

    def _advance(self, partition: Partition, records: list[Message], now: float) -> list[SourceItem]:
        cursor = self._cursors.get(partition)
        if cursor is None:  # read before the partition was revoked in the same poll
            return []
        if records[0].offset() < cursor.next_offset:
            self._assignments.request_rewind("offsets went back")
            return []
        cursor.changed_at = now
        items: list[SourceItem] = []
        if cursor.replaying:
            replayed = sum(record.offset() < cursor.muted_until for record in records)
            if replayed:
                run = self._run(partition, cursor, records[:replayed], muted=True)
                items.append(replace(run, records=self._alive(cursor, run)))
            if replayed < len(records) or cursor.next_offset >= cursor.muted_until:
                items.append(self._finish_replay(partition, cursor, now))
                cursor.dead = None
            records = records[replayed:]
        if records:
            items.append(self._run(partition, cursor, records, snapshot_due=self._snapshot_due(cursor, now)))
        return items

    def _run(
        self,
        partition: Partition,
        cursor: _Cursor,
        records: list[Message],
        *,
        muted: bool = False,
        snapshot_due: bool = False,
    ) -> Polled:
        first, cursor.next_offset = cursor.next_offset, records[-1].offset() + 1
        return Polled(
            Span(partition, cursor.generation, first, cursor.next_offset, muted=muted, snapshot_due=snapshot_due),
            records,
        )

    def _alive(self, cursor: _Cursor, run: Polled) -> Sequence[RawRecord]:
        """Leave out what was dead when it was processed, whatever would become of it today."""
        replay, committed = self._source.replay, cursor.committed
        latest = committed.dead_offset if committed is not None else None
        if replay is None or replay.dead_records is None or latest is None or latest < cursor.replay_from:
            return run.records
        if cursor.dead is None:
            cursor.dead = replay.dead_records.of(run.span.partition, run.records[0].timestamp()[1], latest)
        dead = cursor.dead
        return [record for record in run.records if dead.get(record.offset()) != record.timestamp()[1]]

    def _at_end(self, partition: Partition, cursor: _Cursor, now: float) -> list[SourceItem]:
        """Return what the passing of time brings: the end of a replay, a tick."""
        items: list[SourceItem] = []
        at_end = cursor.end_offset >= cursor.next_offset
        if at_end:  # past the control records that end the log
            cursor.next_offset = cursor.end_offset
        if cursor.replaying and (cursor.next_offset >= cursor.muted_until or at_end):
            items.append(self._finish_replay(partition, cursor, now))
        if not cursor.replaying and now - cursor.ticked_at >= TICK_SECONDS:
            cursor.ticked_at = now
            self._report(partition, cursor, now)
            idle_ms = self._idle_ms(partition, cursor, now) if at_end else 0
            items.append(Tick(partition, cursor.generation, cursor.next_offset, int(now * 1000), idle_ms))
        return items

    def _idle_ms(self, partition: Partition, cursor: _Cursor, now: float) -> int:
        """Return for how long the partition has had nothing new.

        An end that was reached says little when the leader cannot be reached any more, or when an open transaction
        holds records back. Where state depends on it, the broker has to confirm that there is nothing behind the end.
        """
        if self._source.replay is None:
            return int((now - cursor.changed_at) * 1000)
        if now - self._confirmed_at >= TICK_SECONDS:
            self._confirmed_at, self._confirmed_ends = now, self._ask_for_ends()
        if self._confirmed_ends.get(partition, cursor.next_offset + 1) > cursor.next_offset:
            cursor.changed_at = now
        return max(0, int((self._confirmed_at - cursor.changed_at) * 1000))

    def _ask_for_ends(self) -> dict[Partition, int]:
        """Return the ends of all partitions, in one request; empty if the broker does not answer."""
        try:
            return self._source.topology.ends(list(self._cursors), CONFIRM_SECONDS)
        except KafkaException as error:
            _log.warning("nobody can say whether partitions are idle", extra={"error": error.args[0].str()})
            return {}

    def _report(self, partition: Partition, cursor: _Cursor, now: float) -> None:
        """Export how far behind the partition is, what holds it back, and how long a restart would take now."""
        labels = {"topic": partition.topic, "partition": partition.index}
        place = TopicPartition(partition.topic, partition.index)
        _, end = self._consumer.get_watermark_offsets(
            place, cached=True
        )  # as the last fetch saw it; negative: none yet
        metrics.CONSUMER_LAG.labels(**labels).set(max(0, end - cursor.next_offset))
        # At its end for a read_committed reader, and not at the end of what is written.
        if not cursor.next_offset <= cursor.end_offset < end:
            cursor.held_back = None
        elif cursor.held_back is None or cursor.held_back[0] != cursor.end_offset:
            cursor.held_back = (cursor.end_offset, now)
        held_seconds = 0.0 if cursor.held_back is None else now - cursor.held_back[1]
        metrics.HELD_BACK_SECONDS.labels(**labels).set(held_seconds)
        if self._restart is not None:
            positions = {owned: other.next_offset for owned, other in self._cursors.items()}
            metrics.PREDICTED_RESTART_SECONDS.set(self._restart.seconds(positions))

    def _finish_replay(self, partition: Partition, cursor: _Cursor, now: float) -> Replayed:
        cursor.replaying = False
        cursor.changed_at = now
        if self._source.replay is not None:
            cursor.snapshot_at = now - self._source.replay.snapshot_interval.total_seconds() * partition.phase
        cursor.next_offset = max(cursor.next_offset, cursor.muted_until)
        committed = cursor.committed
        replayed, seconds = cursor.muted_until - cursor.replay_from, now - cursor.replay_began
        if replayed:
            _log.info(
                "state replayed",
                extra={"partition": str(partition), "offsets": replayed, "seconds": round(seconds, 3)},
            )
        return Replayed(
            partition, cursor.generation, cursor.muted_until, committed.watermark_ms if committed is not None else None
        )

    def _snapshot_due(self, cursor: _Cursor, now: float) -> bool:
        replay = self._source.replay
        if replay is None or now - cursor.snapshot_at < replay.snapshot_interval.total_seconds():
            return False
        cursor.snapshot_at = now
        return True

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        starts = self._begin([Partition(place.topic, place.partition) for place in places])
        consumer.incremental_assign(
            [TopicPartition(partition.topic, partition.index, offset) for partition, offset in starts.items()]
        )

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = [Partition(place.topic, place.partition) for place in places]
        self._assignments.on_revoke(partitions)
        self._drop(partitions)
        consumer.incremental_unassign(places)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = [Partition(place.topic, place.partition) for place in places]
        _log.warning("partitions were lost", extra={"partitions": [str(partition) for partition in partitions]})
        self._assignments.on_lost(partitions)
        self._drop(partitions)
        consumer.incremental_unassign(places)

    def _drop(self, partitions: Sequence[Partition]) -> None:
        self._assignments.end(partitions)
        for partition in partitions:
            self._cursors.pop(partition, None)
            self._ahead.append(Revoked(partition))
            for gauge in (metrics.CONSUMER_LAG, metrics.HELD_BACK_SECONDS):
                gauge.remove_by_labels({"topic": partition.topic, "partition": str(partition.index)})
        metrics.ASSIGNED_PARTITIONS.set(len(self._cursors))
        if not self._cursors:
            metrics.PREDICTED_RESTART_SECONDS.set(0)

    def _rewind(self, reason: str) -> None:
        _log.warning("going back to the committed offsets", extra={"reason": reason})
        metrics.REWINDS.labels(reason=reason).inc()
        self._assignments.on_rewind()
        places = [
            TopicPartition(p.topic, p.index, start) for p, start in self._begin(self._assignments.owned()).items()
        ]
        for place in places:
            try:
                self._consumer.seek(place)
            except KafkaException as failure:
                if failure.args[0].code() != KafkaError._STATE:
                    raise
                # Assigned only just now, it is not fetched yet and cannot be sought.
                self._consumer.incremental_unassign([place])
                self._consumer.incremental_assign([place])

    def _begin(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Start a generation of each partition and return the offsets to read from."""
        if not partitions:
            return {}
        began = self._source.clock()
        beginnings, self._assignments.topic_ids = self._restorer.beginnings(partitions)
        generations = self._assignments.begin({partition: begin.committed for partition, begin in beginnings.items()})
        self._ahead = [item for item in self._ahead if item.partition not in generations]
        now = self._source.clock()
        for partition, begin in beginnings.items():
            self._cursors[partition] = _Cursor(
                generation=generations[partition],
                next_offset=begin.start_offset,
                committed=begin.committed,
                muted_until=begin.resume_offset,
                changed_at=now,
                replay_from=begin.start_offset,
                replay_began=now,
            )
            state = begin.snapshot.state if begin.snapshot is not None else None
            if self._restart is not None:
                self._restart.begun(partition, begin.start_offset, state)
            self._ahead.append(Assigned(partition, generations[partition], state))
            if begin.start_offset == begin.resume_offset:
                self._ahead.append(self._finish_replay(partition, self._cursors[partition], now))
        if self._restart is not None:
            self._restart.fetched(now - began)
        metrics.ASSIGNED_PARTITIONS.set(len(self._cursors))
        starts = {partition: begin.start_offset for partition, begin in beginnings.items()}
        _log.info(
            "partitions assigned",
            extra={"starts": {str(partition): offset for partition, offset in sorted(starts.items())}},
        )
        return starts

    def _take_ahead(self) -> list[SourceItem]:
        items: list[SourceItem] = list(self._ahead)
        self._ahead.clear()
        return items
