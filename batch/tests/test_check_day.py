"""Whether a night may begin: on lakes whose commits the stream made."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from millrace_batch import check_day
from millrace_batch.check_day import Params
from millrace_batch.errors import EmptyInputError, MissingTableError, NothingBeganError, QualityError, StaleLakeError
from millrace_batch.lake import Lake
from stream_tables import DAY, NOON, StreamTable

pytestmark = pytest.mark.spark

LATE = NOON + timedelta(hours=11, minutes=30)
NEXT_DAY = DAY + timedelta(days=1)
AFTER_MIDNIGHT = NOON + timedelta(hours=12, minutes=5)
Row = dict[str, Any]
Table = Callable[[str], StreamTable]


def event(at: Any, key: str = "a") -> Row:
    return {"event_time": at, "client_session_id": key}


def session(began: Any, ended: Any, key: str = "a") -> Row:
    return {"started_at": began, "ended_at": ended, "client_session_id": key}


def test_day_that_the_stream_has_written_to_the_end_is_let_pass(
    spark: SparkSession, lake: Lake, stream_table: Table
) -> None:
    stream_table("events").append([event(NOON), event(LATE)])
    stream_table("sessions").append([session(NOON, LATE)])
    lines = check_day.run(spark, lake, Params(DAY)).lines
    assert lines[0] == "the newest event is of 2026-03-01 23:30:00 UTC"
    assert lines[1].startswith("holds: events events_by_ledger 2,")
    assert lines[2].startswith("not checked: transactions")
    with pytest.raises(StaleLakeError, match="newest event is of 2026-03-01 23:30:00"):
        check_day.run(spark, lake, Params(DAY, timedelta(minutes=29)))


def test_event_of_a_later_day_proves_that_the_lake_is_fresh(
    spark: SparkSession, lake: Lake, stream_table: Table
) -> None:
    stream_table("events").append([event(NOON)])
    stream_table("sessions").append([session(NOON, NOON)])
    with pytest.raises(StaleLakeError):
        check_day.run(spark, lake, Params(DAY))
    stream_table("events").append([event(AFTER_MIDNIGHT, "b")])
    check_day.run(spark, lake, Params(DAY))


def test_rows_that_the_ledger_does_not_know_stop_the_night(
    spark: SparkSession, lake: Lake, stream_table: Table
) -> None:
    events = stream_table("events")
    events.append([event(NOON), event(LATE)])
    stream_table("sessions").append([session(NOON, LATE)])
    lake.delta_rs("events").delete("event_time < '2026-03-01 20:00:00'")
    with pytest.raises(QualityError, match="books of 2026-03-01 do not balance: error: events events_by_ledger 1"):
        check_day.run(spark, lake, Params(DAY))


def test_day_with_only_the_end_of_sessions_has_no_night(spark: SparkSession, lake: Lake, stream_table: Table) -> None:
    stream_table("events").append([event(LATE), event(AFTER_MIDNIGHT)])
    stream_table("sessions").append([session(LATE, AFTER_MIDNIGHT)])
    with pytest.raises(NothingBeganError, match="no session began on 2026-03-02"):
        check_day.run(spark, lake, Params(NEXT_DAY, timedelta(days=1)))
    stream_table("events").append([event(AFTER_MIDNIGHT, "b")])
    with pytest.raises(StaleLakeError, match="1 client sessions have events of 2026-03-02, and no session"):
        check_day.run(spark, lake, Params(NEXT_DAY, timedelta(days=1)))


def test_absent_lake_and_empty_day_are_failures(spark: SparkSession, lake: Lake, stream_table: Table) -> None:
    with pytest.raises(MissingTableError):
        check_day.run(spark, lake, Params(DAY))
    stream_table("events").append([event(NOON)])
    with pytest.raises(EmptyInputError):
        check_day.run(spark, lake, Params(NEXT_DAY))
