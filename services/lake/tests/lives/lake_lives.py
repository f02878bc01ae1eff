"""Lives of lake with a real table, a broker that outlives them, and a clock that is set by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.records import Assigned, Committed, Partition, Reject, Replayed, Span
from millrace_common.testing import Record
from millrace_lake.dead_letters import Burial, DeadRecord
from millrace_lake.loading import Loaded
from millrace_lake.pacing import Limits
from millrace_lake.sink import Commits, LakeSink, SinkConfig
from millrace_lake.tables import TableSpec
from millrace_lake.writer import Store, TableWriter

TOPIC = "session-metrics"
TOPIC_ID = "topic-id"
P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)

Rows = Callable[..., pa.RecordBatch]


class CrashError(Exception):
    """The process died here."""


@dataclass
class Broker:
    """What outlives a process: dead letters, their positions, the group's offsets; and the effects in their order."""

    letters: list[int] = field(default_factory=list)
    letter_positions: dict[Partition, int] = field(default_factory=dict)
    group: dict[Partition, Committed] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    crash_at: str | None = None

    def edge(self, name: str) -> None:
        if name == self.crash_at:
            self.crash_at = None
            raise CrashError(name)

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {place: self.letter_positions[place] for place in partitions if place in self.letter_positions}

    def commit(self, burial: Burial) -> None:
        self.edge("before dead letters")
        self.group |= burial.committed
        self.letters += [letter.record.offset() for letter in burial.letters]
        self.letter_positions |= burial.positions
        self.effects.append("dead letters")
        self.edge("after dead letters")

    def commit_group(self, committed: Mapping[Partition, Committed]) -> None:
        self.edge("before group offsets")
        self.group |= committed
        self.effects.append("group offsets")


@dataclass
class Clock:
    now: float = 1_772_366_400.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    """One life of lake: fresh handle, fresh memory."""

    sink: LakeSink
    writer: TableWriter
    clock: Clock

    @property
    def commits(self) -> Commits:
        return self.sink.commits


def start(
    spec: TableSpec,
    store: Store,
    broker: Broker,
    *,
    limits: Limits = Limits(100, 1_000_000, 2.0),  # noqa: B008  # frozen
    merge_small_files: int = 0,
    brake: Brake | None = None,
) -> Process:
    writer = TableWriter(spec, store)
    append = writer.append

    def recorded(*arguments: object) -> None:
        broker.edge("before Delta commit")
        append(*arguments)  # type: ignore[arg-type]
        broker.effects.append("rows")
        broker.edge("after Delta commit")

    writer.append = recorded  # type: ignore[method-assign, assignment]
    clock = Clock()
    assignments = Assignments()
    assignments.topic_ids = {TOPIC: TOPIC_ID}
    sink = LakeSink(
        config=SinkConfig("lake-0", "dead-letters", limits, merge_small_files),
        assignments=assignments,
        writers={TOPIC: writer},
        dead_letters=broker,
        commit_group=broker.commit_group,
        brake=brake or Brake(1_000_000, 1.0),
        clock=clock,
    )
    return Process(sink, writer, clock)


def assign(process: Process, *partitions: Partition) -> dict[Partition, int]:
    """Assign partitions as the source does and return where reading begins."""
    found = process.writer.positions([f"{TOPIC_ID}-{partition.index}" for partition in partitions])
    begin = {partition: found[f"{TOPIC_ID}-{partition.index}"] for partition in partitions}
    generations = process.sink.assignments.begin(
        {partition: None if at is None else Committed(at, topic_id=TOPIC_ID) for partition, at in begin.items()}
    )
    for partition in partitions:
        process.commits.take(Assigned(partition, generations[partition], None))
        process.commits.take(Replayed(partition, generations[partition], begin[partition] or 0, None))
    return {partition: at or 0 for partition, at in begin.items()}


def run(rows: Rows, partition: Partition, first: int, end: int, generation: int = 1, dead: int = 0) -> Loaded:
    """Return offsets first to end of a partition as loaded; each `dead`-th record is dead."""
    offsets = range(first, end)
    good = [f"{partition.index}-{offset}" for offset in offsets if not dead or offset % dead]
    bad = [
        DeadRecord(partition, Record(b"x", None, offset), Reject(offset - first, "decode", "undecodable", "no"))
        for offset in offsets
        if dead and not offset % dead
    ]
    return Loaded(Span(partition, generation, first, end), rows(good), tuple(bad), 1_772_366_399_000)


def ids(writer: TableWriter) -> list[str]:
    return sorted(pl.scan_delta(writer.uri).select("session_id").collect()["session_id"].to_list())


def generation(process: Process, partition: Partition) -> int:
    return process.sink.assignments._generations[partition]
