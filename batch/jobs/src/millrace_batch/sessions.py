"""Job `sessions`: the day's sessions again, from all events; corrections as revisions, and a cause for each."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import writing
from millrace_batch.errors import UnexplainedError
from millrace_batch.lake import Lake
from millrace_batch.night import Outcome
from millrace_batch.reconciliation import UNEXPLAINED, Known, Period, corrections, differences, judged_sessions
from millrace_batch.session_events import stretches
from millrace_batch.session_rules import SessionRules
from millrace_batch.session_truth import summed_stretches, true_sessions

_DAY: Final = timedelta(days=1)
_SAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Params:
    """What `sessions` is asked.

    Attributes:
        day: sessions that start on this UTC day are judged, from the events of it and of the days beside it.
        rules: those of the stream.
        settling: how far the slowest partition of the stream, and lake, may be behind the newest event of the table.
    """

    day: date
    rules: SessionRules = field(default_factory=SessionRules)
    settling: timedelta = timedelta(minutes=15)


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Correct the sessions of the day, and write table reconciliation.

    Raises:
        EmptyInputError: table events has nothing of the day.
        MissingTableError: events, late_events or sessions is not in the lake.
        UnexplainedError: a difference has no cause; table reconciliation has it, and nothing was corrected there.
        ConflictError: the stream wrote sessions of the day again and again.
    """
    lake.days_with_rows(spark, "events", "event_date", params.day, params.day)
    around = partial(_around, spark, lake, params.day)
    events, sessions = around("events", "event_date"), around("sessions", "session_date")
    period = _period(events, params)
    with ExitStack() as kept:
        rows = writing.keep(kept, stretches(events, around("late_events", "event_date"), params.rules))
        bounds = writing.keep(kept, summed_stretches(rows, params.rules))
        truth = writing.keep(kept, true_sessions(rows, bounds, params.rules))
        judged = writing.keep(kept, judged_sessions(Known(rows, bounds, truth, sessions), period, params.rules))
        corrected = writing.keep(kept, corrections(judged, sessions, truth, period))
        corrected_count = corrected.count()
        if corrected_count:
            writing.insert_new(
                spark, lake, "sessions", ("session_date", "session_id", "revision"), corrected, period.day
            )
        found = writing.keep(kept, differences(judged, period))
        writing.replace_day(spark, lake, "reconciliation", "session_date", params.day, found)
        causes = {row["cause"]: row["count"] for row in found.groupBy("cause").count().collect()}
        _refuse_unexplained(found, causes.get(UNEXPLAINED, 0), params.day)
    told = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())) or "none"
    return Outcome(
        (f"differences of the stream's sessions: {told}", f"revisions written: {corrected_count}"),
        {"session_differences": sum(causes.values()), "session_revisions_written": corrected_count},
    )


def _around(spark: SparkSession, lake: Lake, day: date, table: str, column: str) -> DataFrame:
    return lake.days(spark, table, column, day - _DAY, day + _DAY)


def _period(events: DataFrame, params: Params) -> Period:
    (newest,) = events.agg(f.max(f.unix_millis("event_time")).alias("newest_ms")).collect()
    settling_ms = params.settling // timedelta(milliseconds=1)
    return Period(
        day=params.day,
        first_ms=_ms(params.day - _DAY),
        end_ms=_ms(params.day + 2 * _DAY),
        horizon_ms=newest["newest_ms"] - params.rules.allowed_lateness_ms - settling_ms,
    )


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _refuse_unexplained(found: DataFrame, count: int, day: date) -> None:
    if not count:
        return
    samples = found.filter(f.col("cause") == UNEXPLAINED).orderBy("session_id").limit(_SAMPLES).collect()
    named = "; ".join(f"{row['session_id']}: {row['detail']}" for row in samples)
    message = (
        f"{count} sessions of {day} differ between stream and batch without a cause ({named}). They were left as the "
        f"stream wrote them; all of them: table reconciliation, cause = '{UNEXPLAINED}'"
    )
    raise UnexplainedError(message)
