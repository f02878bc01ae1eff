"""Job `user_features`: what models are told of a user at the end of a day."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from millrace_batch import writing
from millrace_batch.activity import LOOK_BACK, LOOK_BACK_DAYS, Activity, events_of, orders_of, sessions_of
from millrace_batch.lake import Lake
from millrace_batch.measures import ratio
from millrace_batch.night import Outcome

_PAGE_VIEWS_BACK: Final = timedelta(days=6)


@dataclass(frozen=True, slots=True)
class Params:
    """What `user_features` is asked: the UTC day at whose end the users are looked at."""

    day: date


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Write the day into table user_features.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: events, sessions or transactions is not in the lake.
    """
    day, first = params.day, params.day - LOOK_BACK
    with ExitStack() as kept:
        activity = Activity(
            writing.keep(kept, events_of(spark, lake, first, day)),
            sessions_of(spark, lake, first, day),
            orders_of(spark, lake, first, day, known_until=day),
        )
        tables = {"user_features": user_features(activity, params)}
        return writing.replace_days(spark, lake, "feature_date", day, tables)


def user_features(activity: Activity, params: Params) -> DataFrame:
    """Return a row a user with an event in the 30 days up to `day`; nothing after its end counts.

    churn_risk_score is q / (1 + q), where q is the days since the last activity over the user's usual pause, which
    is 30 days over the days with activity: 0 for who came today, a half after one usual pause, towards 1 ever after.
    """
    day = f.lit(params.day)
    over = f.lit(datetime(params.day.year, params.day.month, params.day.day, tzinfo=UTC) + timedelta(days=1))
    events = activity.events.filter(f.col("user_id").isNotNull() & (f.col("event_time") < over))
    recent = f.col("event_date") >= f.lit(params.day - _PAGE_VIEWS_BACK)
    active = events.groupBy("user_id").agg(
        f.count_if(recent & (f.col("event_type") == "page_view")).alias("total_page_views_7d"),
        f.count_if(f.col("event_type") == "purchase").alias("total_purchases_30d"),
        f.date_diff(day, f.max("event_date")).alias("last_activity_days_ago"),
        f.count_distinct("event_date").alias("_active_days"),
    )
    # One that goes on past midnight would tell of the next day.
    sessions = (
        activity.sessions.filter(f.col("ended_at") < over)
        .groupBy("user_id")
        .agg(ratio(f.sum("duration_ms"), f.count("*")).alias("avg_session_duration_ms"))
    )
    orders = (
        activity.orders.filter(f.col("occurred_at") < over)
        .groupBy("user_id")
        .agg(ratio(f.sum("total_cents"), f.count("*")).alias("avg_order_value_cents"))
    )
    pauses = f.col("last_activity_days_ago") * f.col("_active_days")
    return (
        active.join(sessions, "user_id", "left")
        .join(orders, "user_id", "left")
        .join(_most_frequent(events, "product_category", "preferred_category"), "user_id", "left")
        .join(_most_frequent(events, "device_type", "device_type"), "user_id", "left")
        .select(
            *(day.alias("feature_date"), "user_id", "avg_session_duration_ms", "total_page_views_7d"),
            *("total_purchases_30d", "avg_order_value_cents", "preferred_category", "device_type"),
            "last_activity_days_ago",
            ratio(pauses, pauses + LOOK_BACK_DAYS).alias("churn_risk_score"),
        )
    )


def _most_frequent(events: DataFrame, column: str, name: str) -> DataFrame:
    """Return the value that most of a user's events have; of two as frequent, the first of the alphabet."""
    order: list[Column] = [f.desc("count"), f.col(column)]
    return (
        events.filter(f.col(column).isNotNull())
        .groupBy("user_id", column)
        .count()
        .withColumn("_row", f.row_number().over(Window.partitionBy("user_id").orderBy(*order)))
        .filter("_row = 1")
        .select("user_id", f.col(column).alias(name))
    )
