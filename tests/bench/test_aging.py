from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import polars as pl
import pyarrow as pa
import pytest

from aging import TABLE, Aged, Point, age, curve, interval_seconds
from millrace_lake.tables import tables
from millrace_local.open_loop import Place, Signals, read_lake
from millrace_sessionize.testing import batch, event

T0_MS = 1_760_000_000_000


@pytest.fixture(scope="module")
def rows() -> pa.RecordBatch:
    spec = tables([TABLE])[0]
    return spec.convert(batch([event(T0_MS + n, event_id=str(n)) for n in range(100)]), spec.schema)


def test_live_files_stay_few_because_lake_merges_them(tmp_path: Path, rows: pa.RecordBatch) -> None:
    found = age(tmp_path, rows, commits=40, rows_each=8)
    assert len(found) == 40
    assert all(one.commit_seconds > 0 for one in found)
    assert [one.live_files for one in found[:31]] == list(range(1, 32))
    assert found[31].live_files == 1
    assert max(one.live_files for one in found) < 32


def test_a_table_can_be_made_older_twice(tmp_path: Path, rows: pa.RecordBatch) -> None:
    age(tmp_path, rows, commits=2, rows_each=8)
    assert [one.live_files for one in age(tmp_path, rows, commits=2, rows_each=8)] == [3, 4]


def test_a_reader_gets_the_rows_of_later_commits_once_and_none_of_a_merge(tmp_path: Path, rows: pa.RecordBatch) -> None:
    age(tmp_path, rows, commits=1, rows_each=40)
    file, signals = tmp_path / "read.parquet", Signals(Event(), Event(), Event())
    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read_lake, Place("", "", tmp_path), file, signals)
        assert signals.reading.wait(10)
        age(tmp_path, rows, commits=33, rows_each=8)
        signals.enough.set()
        reader.result()
    read = Counter(pl.read_parquet(file)["event_id"])
    assert read.total() == 33 * 8
    assert signals.flowing.is_set()


def test_a_curve_has_a_point_for_equally_many_commits() -> None:
    aged = [Aged(0.001 * n, 0.25, n) for n in range(1, 7)]
    assert curve(aged, 2, 60.0) == [
        Point(3.0, 0.002, 0.003, 0.75, 3),
        Point(6.0, 0.005, 0.006, 0.75, 6),
    ]
    assert [point.minutes for point in curve(aged, 4, 60.0)] == [2.0, 4.0, 6.0]


def test_the_interval_is_that_of_the_service() -> None:
    assert interval_seconds() == 2.0
