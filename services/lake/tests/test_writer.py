import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field

from millrace_common import failpoints
from millrace_common.errors import FencedError, StartupError
from millrace_common.failpoints import Failpoint
from millrace_common.ledger import LedgerRow
from millrace_lake import history, repair
from millrace_lake.tables import TableSpec
from millrace_lake.writer import Store, TableSchemaError, TableUnavailableError, TableWriter

APP = "topic-id-0"
NOW_MS = 1_772_366_400_000

Rows = Callable[..., pa.RecordBatch]
Ledger = Callable[..., LedgerRow]
Ids = Callable[[TableWriter], list[str]]


@pytest.fixture
def writer(sessions: TableSpec, store: Store) -> TableWriter:
    writer = TableWriter(sessions, store)
    writer.positions([APP])
    return writer


def another(writer: TableWriter, store: Store, *apps: str) -> TableWriter:
    other = TableWriter(writer.spec, store)
    other.positions(apps or [APP])
    return other


def test_rows_and_position_are_committed_together(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    assert writer.positions([APP]) == {APP: None}
    writer.append([session_rows(["a", "b"])], [ledger_row(0, 2)], NOW_MS)
    writer.append([session_rows(["c"])], [ledger_row(2, 3)], NOW_MS)
    assert ids_in(writer) == ["a", "b", "c"]
    assert writer.positions([APP]) == {APP: 3}
    assert history.positions(writer.uri, [APP, "other"]) == {APP: 3, "other": None}


def test_failpoints_stand_between_data_files_and_commit_and_after_it(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[Failpoint, tuple[int, int | None]] = {}

    def look(failpoint: Failpoint) -> None:
        seen[failpoint] = len(list(Path(writer.uri).rglob("*.parquet"))), history.row_count(writer.uri)

    monkeypatch.setattr(failpoints, "reach", look)
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert seen == {Failpoint.DELTA_COMMIT_BEFORE: (1, 0), Failpoint.DELTA_COMMIT_AFTER: (1, 1)}


def test_position_moves_without_rows(writer: TableWriter, ledger_row: Ledger, ids_in: Ids) -> None:
    writer.append([], [ledger_row(0, 5)], NOW_MS)
    assert writer.positions([APP]) == {APP: 5}
    assert ids_in(writer) == []


def test_new_table_has_no_feature_that_spark_or_delta_rs_cannot_append_to(writer: TableWriter) -> None:
    table = DeltaTable(writer.uri)
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    assert "delta.setTransactionRetentionDuration" not in table.metadata().configuration


def test_commit_carries_its_ledger_rows(writer: TableWriter, session_rows: Rows, ledger_row: Ledger) -> None:
    writer.positions(["topic-id-1"])
    rows = [ledger_row(0, 2), ledger_row(0, 1, partition=1)]
    writer.append([session_rows(["a", "b", "c"])], rows, NOW_MS)
    writer.append([session_rows(["d"])], [ledger_row(2, 3)], NOW_MS)
    assert history.ledger_rows(writer.uri) == [*rows, ledger_row(2, 3)]
    assert history.row_count(writer.uri) == 4


def test_ledger_outlives_checkpoints(writer: TableWriter, session_rows: Rows, ledger_row: Ledger) -> None:
    for offset in range(45):
        writer.append([session_rows([f"s{offset}"])], [ledger_row(offset, offset + 1)], NOW_MS)
    assert [row.first_offset for row in history.ledger_rows(writer.uri)] == list(range(45))
    assert history.positions(writer.uri, [APP]) == {APP: 45}


def test_stale_writer_is_fenced_and_no_row_is_doubled(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    zombie = another(writer, store)
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    with pytest.raises(FencedError, match=r"topic-id-0 was left at None and is at 1"):
        zombie.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert ids_in(writer) == ["a"]


def test_writer_is_fenced_although_its_handle_has_seen_the_other_commit(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    other = another(writer, store)
    other.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    writer.positions(["topic-id-1"])  # refreshes the handle
    with pytest.raises(FencedError):
        writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert ids_in(writer) == ["a"]


def test_writers_of_different_partitions_share_a_table(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    other = another(writer, store, "topic-id-1")
    for offset in range(5):
        writer.append([session_rows([f"a{offset}"])], [ledger_row(offset, offset + 1)], NOW_MS)
        other.append([session_rows([f"b{offset}"])], [ledger_row(offset, offset + 1, partition=1)], NOW_MS)
    assert ids_in(writer) == [f"{name}{offset}" for name in "ab" for offset in range(5)]


def test_foreign_delete_and_optimize_are_survived(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    writer.append([session_rows(["old"], days=-3), session_rows(["a"])], [ledger_row(0, 2)], NOW_MS)
    writer.append([session_rows(["b"])], [ledger_row(2, 3)], NOW_MS)
    DeltaTable(writer.uri).delete("session_id = 'old'")
    writer.append([session_rows(["c"])], [ledger_row(3, 4)], NOW_MS)
    DeltaTable(writer.uri).optimize.compact()
    writer.append([session_rows(["d"])], [ledger_row(4, 5)], NOW_MS)
    assert ids_in(writer) == ["a", "b", "c", "d"]


def test_lost_answer_of_a_commit_is_no_failure(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, ids_in: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = TableWriter._commit

    def lose_the_answer(self: TableWriter, *arguments: object) -> Exception | None:
        commit(self, *arguments)  # type: ignore[arg-type]
        return OSError("connection reset")

    monkeypatch.setattr(TableWriter, "_commit", lose_the_answer)
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    monkeypatch.undo()
    writer.append([session_rows(["b"])], [ledger_row(1, 2)], NOW_MS)
    assert ids_in(writer) == ["a", "b"]


def test_like_commit_of_a_stranger_is_not_taken_for_ours(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    # A zombie that reads the same records reaches the very same position.
    zombie = another(writer, store)
    writer.append([session_rows(["a", "b"])], [ledger_row(0, 2)], NOW_MS)
    with pytest.raises(FencedError):
        zombie.append([session_rows(["a", "b"])], [ledger_row(0, 2)], NOW_MS)
    assert ids_in(writer) == ["a", "b"]


def test_table_dropped_while_it_is_written_to_is_refused(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger
) -> None:
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    shutil.rmtree(writer.uri)
    with pytest.raises(StartupError, match="is gone"):
        writer.append([session_rows(["b"])], [ledger_row(1, 2)], NOW_MS)


def test_store_that_stays_away_is_fatal_and_nothing_is_written(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, ids_in: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        message = "No space left on device"
        raise OSError(message)

    monkeypatch.setattr(writer.files, "write", full)
    with pytest.raises(TableUnavailableError, match="No space left"):
        writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    monkeypatch.undo()
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert ids_in(writer) == ["a"]


def test_store_that_comes_back_costs_nothing(
    sessions: TableSpec, store: Store, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    writer = TableWriter(sessions, store)
    writer.positions([APP])
    written, failures = writer.files.write, iter([True, True, False])

    def flaky(rows: pa.Table) -> object:
        if next(failures):
            message = "timed out"
            raise OSError(message)
        return written(rows)

    writer.files.write = flaky  # type: ignore[method-assign, assignment]
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert ids_in(writer) == ["a"]


def test_each_day_becomes_a_file_of_its_partition(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger, ids_in: Ids
) -> None:
    mixed = [session_rows(["a"], days=1), session_rows(["b"]), session_rows(["c"], days=1)]
    writer.append(mixed, [ledger_row(0, 3)], NOW_MS)
    assert sorted(day.isoformat() for day in writer.live_files) == ["2026-03-01", "2026-03-02"]
    assert ids_in(writer) == ["a", "b", "c"]
    table = pl.scan_delta(writer.uri).collect()
    assert (table["session_date"] == table["started_at"].dt.date()).all()


def test_missing_column_is_added_and_older_rows_have_no_value(
    sessions: TableSpec, store: Store, session_rows: Rows, ledger_row: Ledger
) -> None:
    fields = [field for field in sessions.schema if field.name != "clicks"]
    DeltaTable.create(store.table_uri("sessions"), pa.schema(fields), partition_by="session_date")
    older = session_rows(["old"]).drop_columns(["clicks"])
    pl.DataFrame(older).write_delta(store.table_uri("sessions"), mode="append")
    writer = TableWriter(sessions, store)
    writer.positions([APP])
    writer.append([session_rows(["new"])], [ledger_row(0, 1)], NOW_MS)
    read = pl.scan_delta(writer.uri).select("session_id", "clicks").collect().sort("session_id")
    assert read.rows() == [("new", 0), ("old", None)]


def test_other_type_in_the_table_is_a_conflict_and_never_cast(sessions: TableSpec, store: Store) -> None:
    fields = [pa.field("clicks", pa.string()) if field.name == "clicks" else field for field in sessions.schema]
    DeltaTable.create(store.table_uri("sessions"), pa.schema(fields), partition_by="session_date")
    assert TableWriter(sessions, store).conflict == "column clicks is string in the table and int32 in the rows"


def test_column_added_by_somebody_else_stays_null(writer: TableWriter, session_rows: Rows, ledger_row: Ledger) -> None:
    DeltaTable(writer.uri).alter.add_columns([Field("campaign", "string")])  # type: ignore[arg-type]
    writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert pl.scan_delta(writer.uri).collect()["campaign"].to_list() == [None]


def test_table_replaced_under_waiting_rows_is_fatal_not_cast(
    writer: TableWriter, sessions: TableSpec, session_rows: Rows, ledger_row: Ledger
) -> None:
    fields = [pa.field("clicks", pa.string()) if f.name == "clicks" else f for f in sessions.schema]
    other = session_rows(["x"]).to_pylist()
    rows = pa.Table.from_pylist([row | {"clicks": "many"} for row in other], schema=pa.schema(fields))
    pl.DataFrame(rows).write_delta(
        writer.uri,
        mode="overwrite",
        delta_write_options={"schema_mode": "overwrite", "partition_by": ["session_date"]},
    )
    with pytest.raises(TableSchemaError, match="column clicks is string in the table"):
        writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)


def test_column_lost_under_a_running_writer_is_not_lost_silently(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger
) -> None:
    pl.DataFrame(session_rows(["x"]).drop_columns(["clicks"])).write_delta(
        writer.uri,
        mode="overwrite",
        delta_write_options={"schema_mode": "overwrite", "partition_by": ["session_date"]},
    )
    with pytest.raises(TableSchemaError, match="lost columns: clicks"):
        writer.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    again = another(writer, store)
    again.append([session_rows(["a"])], [ledger_row(0, 1)], NOW_MS)
    assert pl.scan_delta(writer.uri).filter(pl.col("session_id") == "a").collect()["clicks"].to_list() == [0]


def test_position_moves_although_the_table_takes_no_rows(
    writer: TableWriter, sessions: TableSpec, store: Store, ledger_row: Ledger
) -> None:
    fields = [pa.field("clicks", pa.string()) if f.name == "clicks" else f for f in sessions.schema]
    DeltaTable.create(writer.uri, pa.schema(fields), partition_by="session_date", mode="overwrite")
    again = another(writer, store)
    assert again.conflict is not None
    DeltaTable(writer.uri).alter.set_table_properties({"a.b": "c"}, raise_if_not_exists=False)
    again.append([], [ledger_row(0, 3)], NOW_MS)
    assert again.positions([APP]) == {APP: 3}


def test_partition_whose_position_was_never_asked_for_is_refused(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger
) -> None:
    with pytest.raises(KeyError, match="topic-id-7"):
        writer.append([session_rows(["a"])], [ledger_row(0, 1, partition=7)], NOW_MS)


def test_topic_id_is_remembered_by_the_table(writer: TableWriter, store: Store) -> None:
    assert writer.topic_id("session-metrics") is None
    writer.remember_topic_id("session-metrics", "first")
    assert TableWriter(writer.spec, store).topic_id("session-metrics") == "first"


def test_a_topic_that_feeds_no_table_is_named() -> None:
    assert repair.table_of("session-metrics.backfill").name == "sessions"
    with pytest.raises(StartupError, match="fed from session-metricsX"):
        repair.table_of("session-metricsX")
