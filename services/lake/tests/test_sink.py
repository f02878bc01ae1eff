from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.errors import BrakeError, FatalError, FencedError
from millrace_common.records import Assigned, Committed, Partition, Reject, Replayed, Span, Tick
from millrace_common.testing import Record
from millrace_lake import compaction, history
from millrace_lake.dead_letters import Burial, DeadRecord
from millrace_lake.loading import Loaded
from millrace_lake.pacing import Limits
from millrace_lake.sink import Commits, LakeSink, SinkConfig
from millrace_lake.tables import TableSpec, tables
from millrace_lake.writer import Store, TableSchemaError, TableWriter

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


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def process(sessions: TableSpec, store: Store, broker: Broker) -> Process:
    process = start(sessions, store, broker)
    assign(process, P0, P1)
    return process


def test_effects_come_in_the_order_that_survives_a_crash(process: Process, broker: Broker, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 10, generation(process, P0), dead=5))
    process.commits.close()
    assert broker.effects == ["dead letters", "rows", "group offsets"]
    assert broker.letters == [0, 5]
    assert broker.group[P0].offset == 10


def test_rows_wait_until_the_interval_is_over(process: Process, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 3, generation(process, P0)))
    process.commits.commit_due()
    assert ids(process.writer) == []
    process.clock.now += 2.0
    process.commits.commit_due()
    assert ids(process.writer) == ["0-0", "0-1", "0-2"]


def test_full_batch_does_not_wait(process: Process, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 60, generation(process, P0)))
    process.commits.commit_due()
    process.commits.take(run(session_rows, P1, 0, 40, generation(process, P1)))
    process.commits.commit_due()
    assert len(ids(process.writer)) == 100


def test_memory_is_bounded_by_bytes(sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows) -> None:
    process = start(sessions, store, broker, limits=Limits(1_000_000, 20_000, 1e9))
    assign(process, P0)
    held = 0
    for first in range(0, 1_000, 20):
        process.commits.take(run(session_rows, P0, first, first + 20, generation(process, P0)))
        process.commits.commit_due()
        held = max(held, sum(table.size_bytes() for table in process.commits._tables.values()))
    assert 0 < held < 20_000
    assert len(ids(process.writer)) > 800


def test_dead_records_count_for_memory(sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows) -> None:
    process = start(sessions, store, broker, limits=Limits(1_000_000, 1_000, 1e9))
    assign(process, P0)
    letter = DeadRecord(P0, Record(b"x" * 2_000, None, 0), Reject(0, "decode", "undecodable", "no"))
    process.commits.take(Loaded(Span(P0, 1, 0, 1), session_rows([]), (letter,), 0))
    process.commits.commit_due()
    assert broker.letters == [0]


def test_stale_generation_is_dropped(process: Process, session_rows: Rows) -> None:
    stale = generation(process, P0)
    process.commits.take(run(session_rows, P0, 0, 3, stale))
    assign(process, P0)
    process.commits.take(run(session_rows, P0, 3, 5, stale))
    process.commits.take(run(session_rows, P0, 0, 2, generation(process, P0)))
    process.commits.close()
    assert ids(process.writer) == ["0-0", "0-1"]


def test_revoke_commits_what_is_done(process: Process, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 2, generation(process, P0)))
    process.sink.assignments.on_revoke([P0])
    process.sink.assignments.end([P0])
    assert ids(process.writer) == ["0-0", "0-1"]


def test_lost_partition_leaves_nothing(process: Process, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 2, generation(process, P0)))
    process.sink.assignments.on_lost([P0])
    process.sink.assignments.end([P0])
    process.commits.close()
    assert ids(process.writer) == []


def test_two_lakes_on_one_partition_do_not_double_rows(
    process: Process, sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows
) -> None:
    zombie = process
    process = start(sessions, store, broker)
    assign(process, P0)
    process.commits.take(run(session_rows, P0, 0, 3, generation(process, P0)))
    process.commits.close()
    zombie.commits.take(run(session_rows, P0, 0, 3, generation(zombie, P0)))
    with pytest.raises(FencedError):
        zombie.commits.close()
    assert ids(process.writer) == ["0-0", "0-1", "0-2"]


def test_run_before_the_position_is_refused(process: Process, session_rows: Rows) -> None:
    process.commits.take(run(session_rows, P0, 0, 3, generation(process, P0)))
    with pytest.raises(FatalError, match="its position is 3"):
        process.commits.take(run(session_rows, P0, 2, 4, generation(process, P0)))


def test_ledger_rows_tile_the_log_over_control_records(process: Process, session_rows: Rows) -> None:
    now = generation(process, P0)
    process.commits.take(run(session_rows, P0, 0, 3, now))
    process.commits.close()
    process.commits.take(run(session_rows, P0, 4, 6, now))  # offset 3 is a commit marker
    process.commits.take(Tick(P0, now, 7, 0, 0))  # so is 6
    process.commits.close()
    rows = history.ledger_rows(process.writer.uri)
    assert [(row.first_offset, row.next_offset, row.counts.read) for row in rows] == [(0, 3, 3), (3, 7, 2)]


def test_idle_partition_moves_past_control_records(process: Process, session_rows: Rows, broker: Broker) -> None:
    now = generation(process, P0)
    process.commits.take(run(session_rows, P0, 0, 3, now))
    process.commits.close()
    process.commits.take(Tick(P0, now, 4, 0, 500))
    process.commits.close()
    assert broker.group[P0].offset == 3
    process.commits.take(Tick(P0, now, 4, 0, 2_500))
    process.commits.close()
    assert broker.group[P0].offset == 4
    effects = len(broker.effects)
    process.commits.take(Tick(P0, now, 4, 0, 3_500))
    process.commits.close()
    assert len(broker.effects) == effects


def test_small_files_are_merged_between_commits(
    sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows
) -> None:
    process = start(sessions, store, broker, merge_small_files=8)
    assign(process, P0)
    most = 0
    for offset in range(50):
        process.commits.take(run(session_rows, P0, offset, offset + 1, generation(process, P0)))
        process.commits.close()
        most = max(most, sum(process.writer.live_files.values()))
    assert most <= 16
    assert len(ids(process.writer)) == 50 == history.row_count(process.writer.uri)


def test_merged_files_are_merged_in_their_turn(
    sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(sessions, store, broker, merge_small_files=4)
    assign(process, P0)
    counts: list[int] = []
    for first in range(0, 6_400, 200):
        process.commits.take(run(session_rows, P0, first, first + 200, generation(process, P0)))
        process.commits.close()
        if not counts:  # a single commit's file is small, a merged one is middling
            file = process.writer.files_of(next(iter(process.writer.live_files)))[0]
            monkeypatch.setattr(compaction, "SIZE_CLASSES_BYTES", (file.size_bytes + 200, file.size_bytes + 1_500))
        counts.append(sum(process.writer.live_files.values()))
    assert counts[:4] == [1, 2, 3, 1]
    assert counts[15::16] == [1, 2]
    assert len(ids(process.writer)) == 6_400 == history.row_count(process.writer.uri)


def test_files_that_cannot_be_merged_do_no_harm(
    sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(sessions, store, broker, merge_small_files=4)
    assign(process, P0)

    def refuse(*arguments: object) -> None:
        message = "Casting from string to int32 would lose data"
        raise pa.ArrowInvalid(message)

    monkeypatch.setattr(process.writer.files, "rewrite", refuse)
    for offset in range(9):
        process.commits.take(run(session_rows, P0, offset, offset + 1, generation(process, P0)))
        process.commits.close()
    assert len(ids(process.writer)) == 9


def test_dead_letters_that_do_not_fit_their_own_table_stop_the_service(store: Store, broker: Broker) -> None:
    spec = tables(["dead_letters"])[0]
    process = start(spec, store, broker)
    assign(process, P0)
    letter = DeadRecord(P0, Record(b"x", None, 0), Reject(0, "lake", "schema_mismatch", "no"))
    rows = pa.RecordBatch.from_pylist([], schema=spec.schema)
    process.commits.take(Loaded(Span(P0, generation(process, P0), 0, 1), rows, (letter,), 0))
    with pytest.raises(TableSchemaError, match="their own table"):
        process.commits.close()
    assert broker.letters == []


def test_reading_group_is_told_with_the_dead_letters_only_what_the_table_has(
    process: Process, broker: Broker, session_rows: Rows
) -> None:
    now = generation(process, P0)
    broker.crash_at = "after dead letters"
    process.commits.take(run(session_rows, P0, 0, 7, now, dead=7))
    with pytest.raises(CrashError):
        process.commits.close()
    assert broker.group == {}  # nothing is in the table: an offset here would read as a dropped table
    process.commits.take(run(session_rows, P1, 0, 3, generation(process, P1)))
    process.commits.close()
    broker.crash_at = "after dead letters"
    process.commits.take(run(session_rows, P1, 3, 8, generation(process, P1), dead=7))
    with pytest.raises(CrashError):
        process.commits.close()
    assert {partition: place.offset for partition, place in broker.group.items()} == {P1: 3}


def test_brake_stops_before_dead_letters_are_produced(
    sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows
) -> None:
    process = start(sessions, store, broker, brake=Brake(100, 0.5))
    assign(process, P0)
    with pytest.raises(BrakeError, match="undecodable"):
        process.commits.take(run(session_rows, P0, 0, 60, generation(process, P0), dead=1))
    assert broker.letters == []


EDGES = (
    "before dead letters",
    "after dead letters",
    "before Delta commit",
    "after Delta commit",
    "before group offsets",
    None,
)


def rows_of(spec: TableSpec) -> Rows:
    """Return a maker of rows that differ in their id only, cheap enough for many examples."""

    def column(field: pa.Field, good: Sequence[str]) -> pa.Array:
        if field.name == "session_id":
            return pa.array(good, pa.string())
        value = "x" if pa.types.is_string(field.type) else 20_000
        numbers = pa.array([value] * len(good))
        return (numbers.cast(pa.int32()) if pa.types.is_date32(field.type) else numbers).cast(field.type)

    return lambda good: pa.RecordBatch.from_arrays([column(field, good) for field in spec.schema], schema=spec.schema)


@settings(max_examples=40)
@given(
    borders=st.lists(st.integers(1, 39), max_size=8).map(lambda cuts: sorted({0, 40, *cuts})),
    commits=st.sets(st.integers(0, 9)),
    crashes=st.lists(st.sampled_from(EDGES), max_size=4),
)
def test_any_batch_borders_and_any_crash_give_each_record_once(
    borders: list[int], commits: set[int], crashes: list[str | None]
) -> None:
    with TemporaryDirectory() as folder:
        check_crashes(Path(folder), borders, commits, list(crashes))


def check_crashes(folder: Path, borders: list[int], commits: set[int], crashes: list[str | None]) -> None:
    spec = tables(["sessions"])[0]
    store, broker = Store(str(folder), {}, 1.0, lambda seconds: None), Broker()
    while True:  # one round a life of the process
        process = start(spec, store, broker)
        begin = assign(process, P0)[P0]
        broker.crash_at = crashes.pop() if crashes else None
        try:
            for number, (first, end) in enumerate(zip(borders, borders[1:], strict=False)):
                if end <= begin:
                    continue
                process.commits.take(run(rows_of(spec), P0, max(first, begin), end, generation(process, P0), dead=7))
                if number in commits:
                    process.commits.close()
            process.commits.close()
        except CrashError:
            continue
        break
    assert ids(process.writer) == sorted(f"0-{offset}" for offset in range(40) if offset % 7)
    assert broker.letters == [offset for offset in range(40) if not offset % 7]
    ledger = history.ledger_rows(process.writer.uri)
    assert [row.first_offset for row in ledger] == [0, *(row.next_offset for row in ledger[:-1])]
    assert ledger[-1].next_offset == 40
    assert all(row.counts.balanced for row in ledger)
    assert broker.group[P0].offset == 40
