"""The events of sessions: each one once, and in which stretch of its key's activity it lies."""

from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from millrace_batch.measures import COUNTED, counts, revenue_cents
from millrace_batch.session_rules import SessionRules

KEY: Final = "client_session_id"

_COLUMNS: Final = (
    *("event_id", "event_type", "event_time", "received_at", KEY, "user_id", "page", "product_id"),
    *("amount_cents", "referrer", "device_type", "country_code", "is_bot"),
)

SUMS: Final = ("event_count", *COUNTED, "revenue_cents")
"""The fields of a session that are sums over its events."""


def stretches(events: DataFrame, late_events: DataFrame, rules: SessionRules) -> DataFrame:
    """Return the rows of both tables, with what sessions need to know of them.

    A late event is in both tables: rows of one key with one event id are one event. It has as many rows here as the
    table that has more of them: those after the first are copies, which the stream counted and the truth does not.

    A stretch is the longest run of a key's rows without a pause longer than the gap. No session, of the stream or of
    the truth, reaches from one stretch into another, so each can be judged alone.

    Returns:
        The columns of an event that sessions use, and
        time_ms, received_ms: event_time and received_at, epoch milliseconds;
        is_copy: not the first row of its event;
        is_late: the stream did not count this row;
        stretch_ms: where the stretch begins;
        run_ms: where the run of events that are no copies begins, split by the gap; null for a copy before any.
    """
    once = _counted_rows(events, late_events)
    by_time = Window.partitionBy(KEY).orderBy("time_ms")
    until_now = by_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    before = by_time.rowsBetween(Window.unboundedPreceding, -1)
    kept_ms = f.when(~f.col("is_copy"), f.col("time_ms"))
    return (
        once.withColumns({"_before_ms": f.max("time_ms").over(before), "_kept_ms": f.max(kept_ms).over(before)})
        .withColumns(
            {
                "stretch_ms": f.max(_if_begins("_before_ms", f.col("time_ms"), rules)).over(until_now),
                "run_ms": f.max(_if_begins("_kept_ms", kept_ms, rules)).over(until_now),
            }
        )
        .drop("_before_ms", "_kept_ms")
    )


def sums() -> list[Column]:
    """Return the aggregates behind `SUMS`, in its order."""
    numbers = [f.count("*").alias("event_count"), *counts()]
    return [*(number.cast("int").alias(name) for name, number in zip(SUMS, numbers, strict=False)), revenue_cents()]


def _counted_rows(events: DataFrame, late_events: DataFrame) -> DataFrame:
    both = events.select(*_COLUMNS, f.lit(False).alias("_from_late")).unionByName(
        late_events.select(*_COLUMNS, f.lit(True).alias("_from_late"))
    )
    of_event = Window.partitionBy(KEY, "event_id")
    late = f.count_if("_from_late").over(of_event)
    return (
        # Everything that follows is by key: one exchange serves all of it.
        both.repartition(f.col(KEY))
        .withColumns(
            {
                "time_ms": f.unix_millis("event_time"),
                "received_ms": f.unix_millis("received_at"),
                "_number": f.row_number().over(of_event.orderBy("_from_late", "received_at", "event_time")),
                "_late": late,
                "_rows": f.greatest(late, f.count_if(~f.col("_from_late")).over(of_event)),
            }
        )
        .filter("_number <= _rows")
        .withColumns({"is_copy": f.expr("_number > 1"), "is_late": f.expr("_number > _rows - _late")})
        .drop("_number", "_late", "_rows", "_from_late")
    )


def _if_begins(before: str, time_ms: Column, rules: SessionRules) -> Column:
    """Return `time_ms` where it is more than the gap after `before`, or the first."""
    return f.when(f.col(before).isNull() | (time_ms - f.col(before) > rules.gap_ms), time_ms)
