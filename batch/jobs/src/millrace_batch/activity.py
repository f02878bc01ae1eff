"""What visitors did and ordered, as the daily tables count it: each event and each order once.

Bots count like everybody; tables with a dimension for them keep it.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from millrace_batch.lake import Lake
from millrace_batch.reconciliation import REPLACED

NOT_AN_ORDER: Final = "cancelled"
"""The one status that takes an order back; pending ones count until then."""

STATUSES_WITHIN: Final = timedelta(days=7)
"""An order's statuses come within a week of its first."""

LOOK_BACK_DAYS: Final = 30
"""How many days segments and features look at, the last one included."""

LOOK_BACK: Final = timedelta(days=LOOK_BACK_DAYS - 1)
"""From the first of these days to the last."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Events and orders of some days, and the sessions that began on them."""

    events: DataFrame
    sessions: DataFrame
    orders: DataFrame


def events_of(spark: SparkSession, lake: Lake, first: date, last: date) -> DataFrame:
    """Return the events of the days `first` to `last`, each once; table events has the late ones too.

    An event that was sent again after ingest had forgotten it has a second row: the one received first counts.

    Raises:
        EmptyInputError: there are none on the last day.
        MissingTableError: there is no table events.
    """
    lake.days_with_rows(spark, "events", "event_date", last, last)
    of_event = Window.partitionBy("client_session_id", "event_id").orderBy("received_at", "event_time")
    rows = lake.days(spark, "events", "event_date", first, last)
    return rows.withColumn("_row", f.row_number().over(of_event)).filter("_row = 1").drop("_row")


def orders_of(spark: SparkSession, lake: Lake, first: date, last: date, known_until: date) -> DataFrame:
    """Return the orders placed on the days `first` to `last`: as their latest status has them, without cancelled ones.

    An order is of the day of its first status. Of two statuses of one time, pending comes first.

    Args:
        spark: the session.
        lake: has table transactions.
        first: a UTC day.
        last: a UTC day, included.
        known_until: statuses of later days are left out.

    Returns:
        The columns of transactions, placed_date, and total_cents: the sum in the order's currency.
    """
    statuses = lake.days(spark, "transactions", "event_date", first - STATUSES_WITHIN, known_until)
    of_order = Window.partitionBy("transaction_id")
    latest_first = of_order.orderBy(f.desc("occurred_at"), f.expr("status = 'pending'"), "status", "total_amount")
    return (
        statuses.withColumns(
            {"placed_date": f.min("event_date").over(of_order), "_row": f.row_number().over(latest_first)}
        )
        .filter(f.col("placed_date").between(f.lit(first), f.lit(last)))
        .filter((f.col("_row") == 1) & (f.col("status") != NOT_AN_ORDER))
        .withColumn("total_cents", (f.col("total_amount") * 100).cast("long"))
        .drop("_row")
    )


def sessions_of(spark: SparkSession, lake: Lake, first: date, last: date) -> DataFrame:
    """Return the sessions that began on the days `first` to `last`, in their latest revision."""
    rows = lake.days(spark, "sessions", "session_date", first, last)
    # Not row_number: two sessions cut by max_events in one millisecond share an id and a revision (ADR 0005).
    newest = f.max("revision").over(Window.partitionBy("session_date", "session_id"))
    return (
        rows.withColumn("_newest", newest).filter(f"revision = _newest and closed_by <> '{REPLACED}'").drop("_newest")
    )
