"""The Bytewax sink that gathers rows for each table and commits them.

Delivery: exactly once. For one commit the order of effects is: dead letters with their own position (a Kafka
transaction), then rows with the positions behind them (a Delta commit, which decides), then the group's offsets (for
lag tools only). A crash between any two leads to the same tables and the same dead letters.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import bytewax.outputs
import pyarrow as pa

from millrace_common import metrics as common_metrics
from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.errors import FatalError
from millrace_common.ledger import LedgerRow
from millrace_common.records import Assigned, Committed, Counts, Partition, Replayed, Revoked, Tick
from millrace_lake import metrics
from millrace_lake.compaction import SIZE_CLASSES_BYTES, compact
from millrace_lake.conversion import Reason
from millrace_lake.dead_letters import Burial, DeadLetterSink, DeadRecord
from millrace_lake.ledger import SERVICE
from millrace_lake.loading import Loaded, LoadedItem
from millrace_lake.pacing import Limits, Pace
from millrace_lake.writer import TableSchemaError, TableWriter

_log = logging.getLogger(__name__)

DEAD_LETTERS_TABLE: Final = "dead_letters"


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """How the sink commits.

    Attributes:
        instance: this process, in ledger rows.
        dead_letters_topic: where dead letters go.
        limits: for the rows of one table that wait for a commit; `size_bytes` is for all tables together.
        merge_small_files: merge a day's small files when there are as many more of them; 0: never.
    """

    instance: str
    dead_letters_topic: str
    limits: Limits
    merge_small_files: int


@dataclass(slots=True)
class _Part:
    """What waits of one partition."""

    generation: int
    first_offset: int
    next_offset: int
    counts: Counts = Counts()
    rows: list[pa.RecordBatch] = field(default_factory=list)
    size_bytes: int = 0
    dead: list[DeadRecord] = field(default_factory=list)
    oldest_ms: int | None = None


@dataclass(slots=True)
class _Table:
    """One table and what waits for it."""

    writer: TableWriter
    pace: Pace
    parts: dict[Partition, _Part] = field(default_factory=dict)
    waiting_since: float = 0.0
    checked_files: Counter[date] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.writer.spec.name

    def rows(self) -> int:
        return sum(part.counts.read for part in self.parts.values())

    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts.values())


@dataclass(slots=True)
class LakeSink(bytewax.outputs.DynamicSink[LoadedItem]):
    """A single-worker sink over all tables of the process.

    Attributes:
        config: how to commit.
        assignments: shared with the source.
        writers: a table's writer, by the topic that feeds it.
        dead_letters: makes dead letters durable.
        commit_group: tells Kafka what was committed; best effort.
        brake: stops the service when most records are dead.
        clock: seconds, Unix time.
    """

    config: SinkConfig
    assignments: Assignments
    writers: Mapping[str, TableWriter]
    dead_letters: DeadLetterSink
    commit_group: Callable[[Mapping[Partition, Committed]], None]
    brake: Brake
    clock: Callable[[], float] = time.time
    commits: "Commits" = field(init=False)

    def __post_init__(self) -> None:
        """Take part in rebalances: what is done is committed before partitions go."""
        self.commits = Commits(self)
        self.assignments.on_revoke = self.commits.commit_before_revoke
        self.assignments.on_lost = self.commits.forget
        self.assignments.on_poll = lambda nothing_waits: self.commits.commit_due()

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_LakePartition":
        """Return the one partition."""
        return _LakePartition(self.commits)


class _LakePartition(bytewax.outputs.StatelessSinkPartition[LoadedItem]):
    def __init__(self, commits: "Commits") -> None:
        self._commits = commits

    def write_batch(self, items: list[LoadedItem]) -> None:
        """Gather rows and commit the tables that are due."""
        for item in items:
            self._commits.take(item)
        self._commits.commit_due()


class Commits:
    """The tables with what waits for them."""

    def __init__(self, sink: LakeSink) -> None:
        """Begin with nothing waiting."""
        self._sink = sink
        self._config = sink.config
        self._assignments = sink.assignments
        self._tables = {topic: _Table(writer, Pace(sink.config.limits)) for topic, writer in sink.writers.items()}
        self._positions: dict[Partition, int] = {}  # where the next range begins
        self._standing: dict[Partition, Committed] = {}  # in the table, of partitions that have a position there
        self._dead_positions: dict[Partition, int] = {}  # below it, dead letters are produced

    def take(self, item: LoadedItem) -> None:
        """Let `item` wait for the commit of its table; what an older generation left behind is dropped.

        Raises:
            BrakeError: too many of the recent records are dead.
            FatalError: a run begins before the position: its rows would be doubled.
        """
        match item:
            case Loaded() if self._assignments.is_current(item.span.partition, item.span.generation):
                self._add(item)
            case Replayed() if self._assignments.is_current(item.partition, item.generation):
                self._begin(item)
            case Tick() if self._assignments.is_current(item.partition, item.generation):
                self._settle(item)
            case Assigned() | Revoked():
                self.forget([item.partition])
            case Loaded() | Replayed() | Tick():
                pass

    def commit_due(self) -> None:
        """Commit each table that waited long enough, and the largest ones while all together are too large."""
        now = self._sink.clock()
        for table in self._tables.values():
            if table.parts and table.pace.due(table.rows(), table.size_bytes(), now - table.waiting_since):
                self._commit(table)
        while sum(table.size_bytes() for table in self._tables.values()) >= self._config.limits.size_bytes:
            self._commit(max(self._tables.values(), key=_Table.size_bytes))
        metrics.WAITING_BYTES.set(sum(table.size_bytes() for table in self._tables.values()))

    def commit_before_revoke(self, partitions: Collection[Partition]) -> None:
        """Make durable what is done for partitions that go to another process, which may begin there at once."""
        for table in self._tables.values():
            if any(partition in table.parts for partition in partitions):
                self._commit(table)
        self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Drop what waits for `partitions`: it is not ours, or will be read again."""
        for partition in partitions:
            self._tables[partition.topic].parts.pop(partition, None)
            self._positions.pop(partition, None)
            self._standing.pop(partition, None)
            self._dead_positions.pop(partition, None)

    def close(self) -> None:
        """Commit what waits."""
        for table in self._tables.values():
            if table.parts:
                self._commit(table)

    def _begin(self, replayed: Replayed) -> None:
        partition = replayed.partition
        self._positions[partition] = replayed.offset
        committed = self._assignments.committed[partition]
        if committed is None:
            # Without a position in the table, records that are deleted before its first row would be missed by nobody.
            self._part(partition, replayed.generation)
            return
        self._sink.brake.restore(committed.brake)
        committed = self._standing[partition] = replace(committed, brake=self._sink.brake.counts())
        # A predecessor may have died between the table and the group; without this, an idle topic would show lag.
        self._sink.commit_group({partition: committed})

    def _add(self, loaded: Loaded) -> None:
        span = loaded.span
        part = self._part(span.partition, span.generation)
        if span.first_offset < part.next_offset:
            message = f"{span.partition} was read from {span.first_offset} again, its position is {part.next_offset}"
            raise FatalError(message)
        reasons = Counter(str(dead.reject.reason) for dead in loaded.dead)
        self._sink.brake.add(loaded.counts.read, loaded.counts.dead, max(reasons, key=reasons.__getitem__, default=""))
        part.next_offset = span.next_offset
        part.counts = part.counts + loaded.counts
        part.dead += loaded.dead
        part.size_bytes += sum(len(dead.record.value() or b"") for dead in loaded.dead)
        part.oldest_ms = loaded.oldest_ms if part.oldest_ms is None else min(part.oldest_ms, loaded.oldest_ms)
        if loaded.rows.num_rows:
            part.rows.append(loaded.rows)
            part.size_bytes += loaded.rows.nbytes

    def _settle(self, tick: Tick) -> None:
        """Move past control records at the end of an idle log, so that nobody takes them for lag."""
        position = self._positions.get(tick.partition)
        if position is None:
            return
        waits = tick.partition in self._tables[tick.partition.topic].parts
        if waits or tick.idle_ms >= self._config.limits.interval_seconds * 1_000:
            reached = max(position, tick.offset)
            if waits or reached > position:
                part = self._part(tick.partition, tick.generation)
                part.next_offset = max(part.next_offset, reached)

    def _part(self, partition: Partition, generation: int) -> _Part:
        table = self._tables[partition.topic]
        part = table.parts.get(partition)
        if part is None:
            if not table.parts:
                table.waiting_since = self._sink.clock()
            position = self._positions[partition]
            part = table.parts[partition] = _Part(generation, position, position)
        return part

    def _commit(self, table: _Table) -> None:
        parts = {
            partition: part
            for partition, part in table.parts.items()
            if self._assignments.is_current(partition, part.generation)
        }
        table.parts = {}
        if not parts:
            return
        began = time.perf_counter()
        now_ms = int(self._sink.clock() * 1_000)
        self._bury(table, parts, now_ms)
        rows = [batch for part in parts.values() for batch in part.rows]
        ledger = [self._ledger_row(partition, part, now_ms) for partition, part in sorted(parts.items())]
        table.writer.append(rows, ledger, now_ms)
        seconds = time.perf_counter() - began
        table.pace.committed(seconds)
        brake = self._sink.brake.counts()
        self._positions |= {row.partition: row.next_offset for row in ledger}
        standing = {row.partition: Committed(row.next_offset, topic_id=row.topic_id, brake=brake) for row in ledger}
        self._standing |= standing
        self._sink.commit_group(standing)
        self._count(table, parts, seconds)
        self._merge_small_files(table)

    def _bury(self, table: _Table, parts: Mapping[Partition, _Part], now_ms: int) -> None:
        """Produce the dead letters of `parts` that no earlier attempt has produced."""
        dying = {partition: part for partition, part in parts.items() if part.dead}
        if not dying:
            return
        if table.name == DEAD_LETTERS_TABLE and any(
            dead.reject.reason == Reason.SCHEMA_MISMATCH for part in dying.values() for dead in part.dead
        ):  # each of them would come back as another one
            message = f"dead letters do not fit their own table: {table.writer.conflict}"
            raise TableSchemaError(message)
        unknown = [partition for partition in dying if partition not in self._dead_positions]
        if unknown:
            self._dead_positions |= dict.fromkeys(unknown, 0) | dict(self._sink.dead_letters.positions(unknown))
        letters = [
            dead
            for partition, part in dying.items()
            for dead in part.dead
            if dead.record.offset() >= self._dead_positions[partition]
        ]
        if letters:
            positions = {partition: part.next_offset for partition, part in dying.items()}
            brake = self._sink.brake.counts()
            committed = {
                partition: Committed(place.offset, topic_id=place.topic_id, brake=brake)
                for partition in dying
                if (place := self._standing.get(partition)) is not None
            }
            self._sink.dead_letters.commit(Burial(letters, positions, committed, now_ms))
            self._dead_positions |= positions
            _log.warning("records set aside", extra={"table": table.name, "records": len(letters)})

    def _ledger_row(self, partition: Partition, part: _Part, now_ms: int) -> LedgerRow:
        return LedgerRow(
            service=SERVICE,
            instance=self._config.instance,
            partition=partition,
            topic_id=self._assignments.topic_ids[partition.topic],
            first_offset=part.first_offset,
            next_offset=part.next_offset,
            counts=part.counts,
            emitted={self._config.dead_letters_topic: part.counts.dead} if part.counts.dead else {},
            committed_at_ms=now_ms,
        )

    def _merge_small_files(self, table: _Table) -> None:
        """Merge small files of the days that got many since they were looked at; failing at it does no harm."""
        fan_in = self._config.merge_small_files
        if not fan_in:
            return
        files = table.writer.live_files
        for day in [day for day, count in files.items() if count - table.checked_files[day] >= fan_in]:
            # A merge may fill the next size class, whose turn would else never come: the lowest is full each time. But
            # no more than once a class: whoever finds a thousand files has to poll in between.
            for _ in SIZE_CLASSES_BYTES:
                if not self._merge(table, day, fan_in):
                    break
            table.checked_files[day] = table.writer.live_files[day]

    def _merge(self, table: _Table, day: date, fan_in: int) -> bool:
        """Merge files of one size class of `day`; return whether there were enough and it could be done."""
        try:
            merged = compact(table.writer, day, fan_in, int(self._sink.clock() * 1_000))
        except (OSError, pa.ArrowException) as error:  # vacuumed meanwhile, or written by somebody in other types
            _log.warning("files were not merged", extra={"table": table.name, "error": str(error)})
            return False
        if merged is not None:
            metrics.MERGED_FILES.labels(table=table.name).inc(merged.files)
        return merged is not None

    def _count(self, table: _Table, parts: Mapping[Partition, _Part], seconds: float) -> None:
        name = table.name
        metrics.COMMIT_SECONDS.labels(table=name).observe(seconds)
        metrics.ROWS.labels(table=name).inc(sum(part.counts.forwarded for part in parts.values()))
        metrics.LIVE_FILES.labels(table=name).set(sum(table.writer.live_files.values()))
        metrics.TABLE_VERSION.labels(table=name).set(table.writer.version)
        oldest_ms = [part.oldest_ms for part in parts.values() if part.oldest_ms is not None]
        if oldest_ms:
            metrics.FRESHNESS_SECONDS.labels(table=name).set(self._sink.clock() - min(oldest_ms) / 1_000)
        for partition, part in parts.items():
            labels = {"topic": partition.topic, "partition": partition.index}
            common_metrics.RECORDS_IN.labels(**labels).inc(part.counts.read)
            for dead in part.dead:
                common_metrics.RECORDS_DEAD.labels(stage=dead.reject.stage, reason=dead.reject.reason).inc()
