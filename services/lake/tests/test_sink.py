import pyarrow as pa
import pytest

from lake_lives import P0, P1, TOPIC_ID, Broker, CrashError, Process, Rows, assign, generation, ids, run, start
from millrace_common.brake import Brake
from millrace_common.errors import BrakeError, FatalError, FencedError
from millrace_common.records import Reject, Span, Tick
from millrace_common.testing import Record
from millrace_lake import history
from millrace_lake.dead_letters import DeadRecord
from millrace_lake.loading import Loaded
from millrace_lake.pacing import Limits
from millrace_lake.tables import TableSpec, tables
from millrace_lake.writer import Store, TableSchemaError, TableWriter


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
    rows = [row for row in history.ledger_rows(process.writer.uri) if row.partition == P0]
    assert [(row.first_offset, row.next_offset, row.counts.read) for row in rows] == [(0, 3, 3), (3, 7, 2)]


def test_partition_without_records_gets_a_position_too(process: Process, sessions: TableSpec, store: Store) -> None:
    process.clock.now += 2.0
    process.commits.commit_due()
    apps = [f"{TOPIC_ID}-0", f"{TOPIC_ID}-1"]
    assert TableWriter(sessions, store).positions(apps) == dict.fromkeys(apps, 0)


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
