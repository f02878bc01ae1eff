import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from millrace_batch import compact
from millrace_batch.compact import LAYOUTS, Params, is_compact
from millrace_batch.errors import MissingTableError
from millrace_batch.lake import Lake
from millrace_lake import history
from millrace_lake.tables import NAMES, tables
from stream_tables import APP_ID, DAY, NOON, StreamTable

Open = Callable[[str], StreamTable]

PARAMS = Params(DAY, file_bytes=1000, small_bytes=250)
DAY_SECONDS = 86_400


@pytest.mark.parametrize(
    ("sizes_bytes", "compact"),
    [
        ([], True),
        ([700], True),
        ([5000], True),
        ([10], True),
        ([10, 10], False),
        ([700, 800, 250], True),
        ([700, 800, 249, 249], False),
        ([*[1000] * 10, 50, 50], True),
        ([*[1000] * 10, 60, 50], False),
        ([*[1000] * 10, *[1] * 8], True),
        ([*[1000] * 10, *[1] * 9], False),
    ],
)
def test_day_is_compact_if_it_has_few_files_or_what_is_too_many_is_little(
    sizes_bytes: list[int], compact: bool
) -> None:
    assert is_compact(sizes_bytes, PARAMS) is compact


def test_layouts_are_those_of_the_streams_tables() -> None:
    assert set(LAYOUTS) == set(NAMES)
    for spec in tables(NAMES):
        assert LAYOUTS[spec.name].day_column == spec.partition_column
        assert LAYOUTS[spec.name].order_by in spec.schema.names


def live_files(uri: str, day: date) -> int:
    return sum(f"={day.isoformat()}/" in path for path in DeltaTable(uri).file_uris())


@pytest.mark.spark
def test_days_that_are_over_become_one_file_and_the_second_run_makes_no_version(
    spark: SparkSession, lake: Lake, stream_table: Open
) -> None:
    stream, after = stream_table("events"), timedelta(days=1)
    for number in range(6):
        rows = [{"client_session_id": f"s{(number * 7 + n) % 10}"} for n in range(10)]
        stream.append([*rows, *({"event_time": NOON + after} for _ in range(2))])
    uri = lake.table_uri("events")
    before = pl.scan_delta(uri).collect()
    outcome = compact.run(spark, lake, Params(DAY))
    assert live_files(uri, DAY) == 1
    assert live_files(uri, DAY + after) == 6
    assert outcome.lines[1].startswith("events 2026-03-01: 6 files, ")
    assert " -> 1 files, " in outcome.lines[1]
    assert pl.scan_delta(uri).collect().sort("event_id").equals(before.sort("event_id"))
    (optimize,) = [info for info in DeltaTable(uri).history() if info["operation"] == "OPTIMIZE"]
    assert optimize["operationParameters"]["zOrderBy"] == '["client_session_id"]'
    version = DeltaTable(uri).version()
    again = compact.run(spark, lake, Params(DAY))
    assert DeltaTable(uri).version() == version
    assert again.lines[0] == "events: 1 of the 1 days looked at were compact already"


@pytest.mark.spark
def test_every_table_of_the_stream_is_compacted_and_appended_to_afterwards(
    spark: SparkSession, lake: Lake, stream_table: Open
) -> None:
    streams = [stream_table(name) for name in NAMES]
    for stream in streams:
        stream.append([{}])
        stream.append([{}])
    compact.run(spark, lake, Params(DAY))
    for stream in streams:
        uri = lake.table_uri(stream.name)
        assert live_files(uri, DAY) == 1
        stream.append([{}])
        assert len(pl.scan_delta(uri).collect()) == 3
        assert history.positions(uri, [APP_ID]) == {APP_ID: 3}


@pytest.mark.spark
def test_files_and_log_older_than_the_retention_go_and_positions_and_young_ledger_rows_stay(
    spark: SparkSession, lake: Lake, stream_table: Open
) -> None:
    stream = stream_table("events")
    for _ in range(45):
        stream.append([{}])
    folder = Path(stream.writer.uri)
    stray = folder / f"event_date={DAY}" / "part-of-a-commit-that-never-was.zstd.parquet"
    stray.write_bytes(b"x")
    make_old(stray, days=2)
    for path in (folder / "_delta_log").glob("[0-9]*"):
        if int(path.name[:20]) <= 30:
            make_old(path, days=9)
    compact.run(spark, lake, Params(DAY))
    assert not stray.exists()
    kept = [int(path.name[:20]) for path in sorted((folder / "_delta_log").glob("*.json"))]
    assert kept == list(range(19, 47))  # the newest checkpoint older than the retention, and all behind it
    assert history.positions(str(folder), [APP_ID]) == {APP_ID: 45}
    assert [row.first_offset for row in history.ledger_rows(str(folder))][-14:] == list(range(31, 45))
    stream.append([{}])
    reopened = StreamTable(lake.uri, "events")
    assert reopened.rows_written == 46
    assert len(pl.scan_delta(str(folder)).collect()) == 46


def make_old(path: Path, days: int) -> None:
    then = time.time() - days * DAY_SECONDS
    os.utime(path, (then, then))


@pytest.mark.spark
def test_lake_without_tables_is_refused(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(MissingTableError, match="no table to compact"):
        compact.run(spark, lake, Params(DAY))
