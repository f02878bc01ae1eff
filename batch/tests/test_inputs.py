"""What a job declares that it reads is what it reads: else a change of it would not make its days due."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from millrace_batch import jobs, writing
from millrace_batch.lake import Lake
from millrace_batch.night import Night, Outcome
from stream_tables import DAY, StreamTable

pytestmark = pytest.mark.spark

Read = tuple[str, date, date]


@pytest.mark.parametrize("job", ["daily_metrics", "user_segments", "user_features", "recommendation_features"])
def test_job_reads_the_days_that_it_declares(
    spark: SparkSession,
    lake: Lake,
    stream_table: Callable[[str], StreamTable],
    monkeypatch: pytest.MonkeyPatch,
    job: str,
) -> None:
    for name in ("events", "sessions", "transactions"):
        stream_table(name)
    read: set[Read] = set()
    days = Lake.days

    def noted(self: Lake, spark: SparkSession, table: str, column: str, first: date, last: date) -> DataFrame:
        read.add((table, first, last))
        return days(self, spark, table, column, first, last)

    def not_written(*given: Any) -> Outcome:
        return Outcome(())

    monkeypatch.setattr(Lake, "days", noted)
    # Only the plans are made: nothing is computed.
    monkeypatch.setattr(Lake, "days_with_rows", noted)
    monkeypatch.setattr(writing, "replace_days", not_written)
    jobs.JOBS[job].run(Night(DAY, lake, lambda: spark))
    declared = {(one.table, DAY - one.before, DAY + one.after) for one in jobs.JOBS[job].inputs}
    # That there are events of the day itself is asked for besides.
    assert read - {("events", DAY, DAY)} == declared - {("events", DAY, DAY)}
    assert "events" in {table for table, *_ in read & declared}
