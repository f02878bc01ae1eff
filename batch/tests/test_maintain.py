import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from lake_days import write_day
from millrace_batch import catalog, computations, maintain
from millrace_batch.errors import MissingTableError
from millrace_batch.lake import Lake
from stream_tables import DAY, StreamTable

DAY_SECONDS = 86_400


def stray(folder: Path, name: str, days: float) -> Path:
    path = folder / name
    path.write_bytes(b"12345")
    then = time.time() - days * DAY_SECONDS
    os.utime(path, (then, then))
    return path


def test_versions_are_those_of_the_tables_that_are_there(
    lake: Lake, stream_table: Callable[[str], StreamTable], tmp_path: Path
) -> None:
    assert catalog.versions(lake) == {}
    stream = stream_table("events")
    stream.append([{}])
    write_day(tmp_path, "fact_daily_metrics", DAY, [{"sessions": 1}])
    assert computations.record(lake, computations.claim(lake, "sessions"), DAY, "f")
    assert catalog.versions(lake) == {"events": DeltaTable(stream.writer.uri).version(), "fact_daily_metrics": 0}


@pytest.mark.spark
def test_files_that_no_commit_knows_are_told_and_only_old_ones_go(
    spark: SparkSession, lake: Lake, stream_table: Callable[[str], StreamTable], tmp_path: Path
) -> None:
    stream = stream_table("events")
    for _ in range(3):
        stream.append([{}])
    # Removed by a commit, and still there: known, however old.
    write_day(tmp_path, "fact_daily_metrics", DAY, [{"sessions": 1}])
    write_day(tmp_path, "fact_daily_metrics", DAY, [{"sessions": 2}])
    events, facts = (Path(lake.table_uri(name)) for name in ("events", "fact_daily_metrics"))
    old = stray(events / f"event_date={DAY}", "never-committed.parquet", days=1.1)
    young = stray(events / f"event_date={DAY}", "about-to-be.parquet", days=0.9)
    # What no setting says is kept for a week.
    kept = stray(facts / f"metric_date={DAY}", "within-a-week.parquet", days=6.9)
    for job in ("sessions", "daily_metrics"):
        assert computations.record(lake, computations.claim(lake, job), DAY, "f")

    outcome = maintain.run(spark, lake)
    assert (old.exists(), young.exists(), kept.exists()) == (False, True, True)
    assert {name: outcome.figures[f"orphan_files_{name}"] for name in ("old", "young")} == {"old": 1, "young": 2}
    told = {line.partition(":")[0]: line.partition("no commit knew ")[2] for line in outcome.lines}
    assert told == {
        "events": "1 files past the retention, 1 within it",
        "fact_daily_metrics": "0 files past the retention, 1 within it",
        "computations": "0 files past the retention, 0 within it",
    }
    assert outcome.figures["orphan_bytes_old"] == 5
    assert len(lake.delta_rs("computations").file_uris()) == 1
    assert computations.recorded(lake, DAY, DAY) == {("sessions", DAY): "f", ("daily_metrics", DAY): "f"}

    stream.append([{}])


@pytest.mark.spark
def test_lake_without_tables_is_refused(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(MissingTableError, match="no table to look after"):
        maintain.run(spark, lake)
