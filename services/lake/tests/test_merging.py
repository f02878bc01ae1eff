"""Small files becoming large ones, in a table alone and between the commits of the sink."""

from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lake_lives import P0, TOPIC_ID, Broker, Rows, assign, generation, ids, run, start
from millrace_common.ledger import LedgerRow
from millrace_lake import compaction, history
from millrace_lake.compaction import compact
from millrace_lake.tables import TableSpec
from millrace_lake.writer import Store, TableWriter

NOW_MS = 1_772_366_400_000

Ledger = Callable[..., LedgerRow]


@pytest.fixture
def writer(sessions: TableSpec, store: Store) -> TableWriter:
    writer = TableWriter(sessions, store)
    writer.positions([f"{TOPIC_ID}-0"])
    return writer


def test_compaction_keeps_every_row_and_old_versions_readable(
    writer: TableWriter, session_rows: Rows, ledger_row: Ledger
) -> None:
    for offset in range(40):
        writer.append([session_rows([f"s{offset:02}"])], [ledger_row(offset, offset + 1)], NOW_MS)
    before = writer.version
    (day,) = writer.live_files
    merge = compact(writer, day, 32, NOW_MS)
    assert merge is not None
    assert (merge.files, merge.records) == (40, 40)
    assert writer.live_files[day] == 1 == len(DeltaTable(writer.uri).file_uris())
    assert ids(writer) == [f"s{offset:02}" for offset in range(40)]
    assert pl.scan_delta(writer.uri, version=before).collect().height == 40
    writer.append([session_rows(["t"])], [ledger_row(40, 41)], NOW_MS)
    assert history.row_count(writer.uri) == 41


def test_compaction_gives_way_to_a_foreign_delete(writer: TableWriter, session_rows: Rows, ledger_row: Ledger) -> None:
    for offset in range(4):
        writer.append([session_rows([f"s{offset}"])], [ledger_row(offset, offset + 1)], NOW_MS)
    (day,) = writer.live_files
    files = writer.files_of(day)
    merged = writer.files.rewrite([file.path for file in files], day, 1_000)
    DeltaTable(writer.uri).delete("session_id = 's1'")
    assert not writer.replace(files, merged, NOW_MS)
    assert ids(writer) == ["s0", "s2", "s3"]


def test_two_compactions_of_the_same_files_do_not_double_rows(
    writer: TableWriter, store: Store, session_rows: Rows, ledger_row: Ledger
) -> None:
    for offset in range(4):
        writer.append([session_rows([f"s{offset}"])], [ledger_row(offset, offset + 1)], NOW_MS)
    other = TableWriter(writer.spec, store)
    (day,) = writer.live_files
    files = other.files_of(day)
    merged = other.files.rewrite([file.path for file in files], day, 1_000)
    assert compact(writer, day, 4, NOW_MS) is not None
    assert not other.replace(files, merged, NOW_MS)
    assert ids(writer) == ["s0", "s1", "s2", "s3"]


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


def test_many_small_files_found_at_the_start_are_not_merged_all_at_once(
    sessions: TableSpec, store: Store, broker: Broker, session_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(sessions, store, broker)
    assign(process, P0)
    for offset in range(30):
        process.commits.take(run(session_rows, P0, offset, offset + 1, generation(process, P0)))
        process.commits.close()
    (file, *_) = process.writer.files_of(next(iter(process.writer.live_files)))
    monkeypatch.setattr(compaction, "MAX_MERGE_BYTES", int(4.5 * file.size_bytes))
    process = start(sessions, store, broker, merge_small_files=4)
    assign(process, P0)
    counts: list[int] = []
    for offset in range(30, 50):
        process.commits.take(run(session_rows, P0, offset, offset + 1, generation(process, P0)))
        process.commits.close()
        counts.append(sum(process.writer.live_files.values()))
    assert counts[0] == 31 - 2 * 3
    assert counts[-1] < counts[0]
    assert len(ids(process.writer)) == 50 == history.row_count(process.writer.uri)


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
