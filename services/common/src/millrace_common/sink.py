"""The Bytewax sink that makes outcomes durable: one Kafka transaction for records, dead letters, ledger and offsets.

Delivery: exactly once. Effects of a span become visible to read_committed readers together with the offset behind it,
or not at all. Whatever ends a transaction otherwise takes every partition back to its committed offset.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import bytewax.outputs
from confluent_kafka import Producer, TopicPartition

from millrace_common import metrics
from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import RowEncoder
from millrace_common.dead_letters import dead_letter, kept_key
from millrace_common.errors import FatalError
from millrace_common.ledger import LedgerRow
from millrace_common.positions import metadata_text
from millrace_common.records import (
    Assigned,
    Committed,
    Counts,
    Outcome,
    Output,
    Partition,
    Replayed,
    Revoked,
    SinkItem,
    Tick,
)
from millrace_common.snapshots import Snapshot, SnapshotWriter
from millrace_common.transactions import AbandonedError, TransactionalProducer

# Control records at the end of an idle log are committed after this, so that lag reads 0.
SETTLE_SECONDS: Final = 1.0
# So many transactions given up in a row mean that trying again does not help.
MOST_GIVEN_UP: Final = 10


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """How and where the sink commits.

    Attributes:
        service: name in the ledger and in dead letters.
        instance: this process's transactional id.
        dead_letters_topic: where rejects go.
        ledger_topic: where ledger rows go.
        commit_interval_seconds: the longest an outcome waits.
        commit_max_records: input records after which a commit does not wait for the interval.
    """

    service: str
    instance: str
    dead_letters_topic: str
    ledger_topic: str
    commit_interval_seconds: float
    commit_max_records: int


@dataclass(slots=True)
class _Range:
    """What the open transaction holds of one partition."""

    first_offset: int
    next_offset: int
    counts: Counts = Counts()
    emitted: Counter[str] = field(default_factory=Counter)
    watermark_ms: int | None = None
    dead_offset: int | None = None
    state: Snapshot | None = None
    opens_books: bool = False  # the partition's first row, even if it is about no record


@dataclass(slots=True)
class TransactionalSink(bytewax.outputs.DynamicSink[SinkItem]):
    """A single-worker sink with one transactional producer."""

    config: SinkConfig
    assignments: Assignments
    make_producer: Callable[[], Producer]
    group_metadata: Callable[[], object]
    partition_counts: dict[str, int]
    dead_letter_encoder: RowEncoder
    ledger_encoder: RowEncoder
    brake: Brake
    snapshots: SnapshotWriter
    stopping: Callable[[], bool]
    clock: Callable[[], float] = time.time
    take_over: Callable[[str, Callable[[], Producer], Callable[[], bool]], TransactionalProducer] = (
        TransactionalProducer
    )
    writer: "Transactions" = field(init=False)

    def __post_init__(self) -> None:
        """Take over the transactional id: an open transaction of a predecessor is aborted before offsets are read."""
        self.writer = Transactions(self)
        self.assignments.on_revoke = self.writer.commit_before_revoke
        self.assignments.on_lost = self.writer.abort_lost
        self.assignments.on_poll = self.writer.commit_if_due
        self.assignments.on_rewind = self.writer.commit

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_TransactionalPartition":
        """Return the one partition."""
        return _TransactionalPartition(self.writer)


class _TransactionalPartition(bytewax.outputs.StatelessSinkPartition[SinkItem]):
    def __init__(self, writer: "Transactions") -> None:
        self._writer = writer

    def write_batch(self, items: list[SinkItem]) -> None:
        """Put outcomes into the open transaction and commit it when it is due."""
        for item in items:
            self._writer.take(item)
        self._writer.commit_if_due()


class Transactions:
    """The producer and its open transaction."""

    def __init__(self, sink: TransactionalSink) -> None:
        """Create the producer and take over the transactional id."""
        self._sink = sink
        self._config = sink.config
        self._assignments = sink.assignments
        self._producer = sink.take_over(sink.config.instance, sink.make_producer, sink.stopping)
        self._given_up = 0  # in a row
        self._open: dict[Partition, _Range] = {}
        self._begun_at: float | None = None
        self._committed_at = -math.inf
        self._records = 0
        self._positions: dict[Partition, int] = {}  # committed; where the next ledger row begins
        self._watermarks: dict[Partition, int | None] = {}
        self._dead_offsets: dict[Partition, int | None] = {}
        self._rejected: Counter[tuple[str, str]] = Counter()

    def take(self, item: SinkItem) -> None:
        """Put the effects of `item` into the open transaction; what is out of date is dropped."""
        try:
            match item:
                case Outcome() if self._assignments.is_current(item.span.partition, item.span.generation):
                    if not item.span.muted:
                        self._add(item)
                case Replayed() if self._assignments.is_current(item.partition, item.generation):
                    self._positions[item.partition] = item.offset
                    self._watermarks[item.partition] = item.watermark_ms
                    committed = self._assignments.committed[item.partition]
                    self._dead_offsets[item.partition] = committed.dead_offset if committed is not None else None
                    self._resume(item.partition, committed)
                case Tick() if self._assignments.is_current(item.partition, item.generation):
                    self._settle(item)
                case Outcome() | Replayed() | Tick() | Assigned() | Revoked():
                    pass
        except AbandonedError as error:
            self._go_back(str(error))

    def commit_if_due(self, nothing_waits: bool = False) -> None:
        """Commit the open transaction if it is old or large enough.

        If `nothing_waits` behind it, the last commit only has to be that old: what the service before this one commits
        comes all at once, and to wait for more would be to wait for its next commit.
        """
        if self._begun_at is None:
            return
        since = self._sink.clock() - (self._committed_at if nothing_waits else self._begun_at)
        if since >= self._config.commit_interval_seconds or self._records >= self._config.commit_max_records:
            self.commit()

    def commit(self) -> bool:
        """Commit the open transaction if there is one; return whether everything taken so far is durable.

        Raises:
            FencedError: another process has taken over the transactional id.
        """
        if self._begun_at is None:
            return True
        began = time.perf_counter()
        try:
            self._commit_open()
        except AbandonedError as error:
            self._go_back(str(error))
            return False
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - began)
        return True

    def commit_before_revoke(self, partitions: Collection[Partition]) -> None:
        """Make durable what is done for partitions that go to another process, which may begin there at once."""
        self.commit()
        self._forget(partitions)

    def abort_lost(self, partitions: Collection[Partition]) -> None:
        """Give up the open transaction: another process may be working on `partitions` already."""
        if self._begun_at is not None:
            try:
                self._producer.abort("partitions lost")
            except AbandonedError as error:
                self._go_back(str(error))
        self._forget(partitions)

    def close(self) -> None:
        """Finish: commit what is open and wait for the snapshot under way."""
        self.commit()
        self._sink.snapshots.close()

    def _add(self, outcome: Outcome) -> None:
        self._begin()
        span = outcome.span
        held = self._range(span.partition)
        held.next_offset = max(held.next_offset, span.next_offset)
        held.counts = held.counts + outcome.counts
        if outcome.watermark_ms is not None:
            held.watermark_ms = outcome.watermark_ms
        self._records += outcome.counts.read
        if outcome.counts.read:
            self._brake(outcome)
        for output in outcome.outputs:
            if output.values:
                self._produce(span.partition, output, held)
        if outcome.rejects:
            self._produce(span.partition, self._dead_letters(outcome), held)
            held.dead_offset = max(outcome.records[reject.row].offset() for reject in outcome.rejects)
            self._rejected.update((reject.stage, reject.reason) for reject in outcome.rejects)
        if outcome.state is not None:
            held.state = Snapshot(
                partition=span.partition,
                offset=span.next_offset,
                topic_id=self._assignments.topic_ids[span.partition.topic],
                watermark_ms=held.watermark_ms,
                state=outcome.state,
            )
        if outcome.sealed and held.state is not None and self.commit():
            self._sink.snapshots.wait_until_written(held.state, self._sink.stopping)

    def _resume(self, partition: Partition, committed: Committed | None) -> None:
        """Go on where the group stopped; a partition that never committed gets a position at once.

        Without one, records that are deleted before the first commit would be missed by nobody.
        """
        if committed is None:
            self._begin()
            self._range(partition).opens_books = True
            return
        self._sink.brake.restore(committed.brake)
        if committed.brake and not self._sink.brake.counts():
            # The brake is off. A partition without traffic would keep the counts, and bring them back when it is on.
            self._begin()
            self._range(partition)

    def _brake(self, outcome: Outcome) -> None:
        reasons = Counter(str(reject.reason) for reject in outcome.rejects)
        commonest = max(reasons, key=reasons.__getitem__, default="")
        self._sink.brake.add(outcome.counts.read, outcome.counts.dead, commonest)

    def _settle(self, tick: Tick) -> None:
        """Move past control records at the end of an idle log, so that nobody takes them for lag."""
        position = self._positions.get(tick.partition)
        if position is None or tick.idle_ms < SETTLE_SECONDS * 1000:
            return
        held = self._open.get(tick.partition)
        if tick.offset > (held.next_offset if held is not None else position):
            self._begin()
            self._range(tick.partition).next_offset = tick.offset

    def _range(self, partition: Partition) -> _Range:
        held = self._open.get(partition)
        if held is None:
            position = self._positions[partition]
            held = self._open[partition] = _Range(
                position,
                position,
                watermark_ms=self._watermarks[partition],
                dead_offset=self._dead_offsets[partition],
            )
        return held

    def _begin(self) -> None:
        if self._begun_at is None:
            self._producer.begin()
            self._begun_at = self._sink.clock()

    def _dead_letters(self, outcome: Outcome) -> Output:
        now_ms = int(self._sink.clock() * 1000)
        records = [outcome.records[reject.row] for reject in outcome.rejects]
        values = [
            self._sink.dead_letter_encoder.encode(
                dead_letter(self._config.service, outcome.span.partition, record, reject, now_ms)
            )
            for record, reject in zip(records, outcome.rejects, strict=True)
        ]
        return Output(self._config.dead_letters_topic, [kept_key(record) for record in records], values)

    def _produce(self, source: Partition, output: Output, held: _Range) -> None:
        held.emitted[output.topic] += len(output.values)
        self._producer.produce(output, source.index % self._sink.partition_counts[output.topic])

    def _commit_open(self) -> None:
        now_ms = int(self._sink.clock() * 1000)
        topic_ids = self._assignments.topic_ids
        rows = [
            LedgerRow(
                service=self._config.service,
                instance=self._config.instance,
                partition=partition,
                topic_id=topic_ids[partition.topic],
                first_offset=held.first_offset,
                next_offset=held.next_offset,
                counts=held.counts,
                emitted=dict(held.emitted),
                committed_at_ms=now_ms,
            )
            for partition, held in self._open.items()
            if held.next_offset > held.first_offset or held.emitted or held.opens_books
        ]
        for row in rows:
            self._write_ledger_row(row)
        brake = self._sink.brake.counts()
        offsets = [
            TopicPartition(
                partition.topic,
                partition.index,
                held.next_offset,
                metadata_text(held.watermark_ms, topic_ids[partition.topic], brake, held.dead_offset),
            )
            for partition, held in self._open.items()
        ]
        self._producer.commit(offsets, self._sink.group_metadata())
        self._given_up = 0
        self._committed_at = self._sink.clock()
        self._count(rows)
        self._sink.brake.keep()
        for partition, held in self._open.items():
            self._positions[partition] = held.next_offset
            self._watermarks[partition] = held.watermark_ms
            self._dead_offsets[partition] = held.dead_offset
            if held.state is not None:
                self._sink.snapshots.submit(held.state)
        self._reset()

    def _write_ledger_row(self, row: LedgerRow) -> None:
        output = Output(self._config.ledger_topic, [row.key], [self._sink.ledger_encoder.encode(row.as_record())])
        self._produce(row.partition, output, self._open[row.partition])

    def _count(self, rows: Sequence[LedgerRow]) -> None:
        for row in rows:
            partition = row.partition
            metrics.RECORDS_IN.labels(topic=partition.topic, partition=partition.index).inc(row.counts.read)
            for topic, count in row.emitted.items():
                metrics.RECORDS_OUT.labels(topic=topic).inc(count)
            metrics.RECORDS_DUPLICATE.inc(row.counts.duplicate)
            metrics.RECORDS_LATE.inc(row.counts.late)
            watermark_ms = self._open[partition].watermark_ms
            if watermark_ms is not None:
                metrics.EVENT_TIME_LAG_SECONDS.labels(topic=partition.topic, partition=partition.index).set(
                    (row.committed_at_ms - watermark_ms) / 1000
                )
        metrics.RECORDS_OUT.labels(topic=self._config.ledger_topic).inc(len(rows))
        for (stage, reason), count in self._rejected.items():
            metrics.RECORDS_DEAD.labels(stage=stage, reason=reason).inc(count)

    def _go_back(self, reason: str) -> None:
        """Forget the transaction that was given up and have the source rewind.

        Raises:
            FatalError: that happens again and again, without a commit in between.
        """
        self._reset()
        self._sink.brake.go_back()
        self._assignments.request_rewind(reason)
        self._given_up += 1
        if self._given_up >= MOST_GIVEN_UP:
            message = f"{self._given_up} transactions in a row were given up, the last one because of: {reason}"
            raise FatalError(message)

    def abandon(self) -> None:
        """Give up what is open, on the way out."""
        if self._begun_at is not None:
            self._producer.abort_on_the_way_out()
            self._reset()

    def _reset(self) -> None:
        self._open.clear()
        self._rejected.clear()
        self._begun_at = None
        self._records = 0

    def _forget(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._watermarks.pop(partition, None)
            self._dead_offsets.pop(partition, None)
