"""Job `daily_metrics`: what a day was, by user, by product, by device and country, and in one row."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import writing
from millrace_batch.activity import STATUSES_WITHIN, Activity, events_of, orders_of, sessions_of
from millrace_batch.lake import Lake
from millrace_batch.measures import COUNTED, counts, ratio, revenue_cents, total
from millrace_batch.night import Outcome

_DATE: Final = "metric_date"
_USER_SUMS: Final = ("sessions", "events", *COUNTED, "orders", "revenue_cents", "session_duration_ms")


@dataclass(frozen=True, slots=True)
class Params:
    """What `daily_metrics` is asked: the UTC day."""

    day: date


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Write the day into user_daily_metrics, product_metrics, session_metrics_daily and fact_daily_metrics.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: events, sessions or transactions is not in the lake.
    """
    day = params.day
    with ExitStack() as kept:
        activity = Activity(
            writing.keep(kept, events_of(spark, lake, day, day)),
            writing.keep(kept, sessions_of(spark, lake, day, day)),
            writing.keep(kept, orders_of(spark, lake, day, day, day + STATUSES_WITHIN)),
        )
        tables = {
            "user_daily_metrics": user_daily_metrics(activity, day),
            "product_metrics": product_metrics(activity, day),
            "session_metrics_daily": session_metrics_daily(activity, day),
            "fact_daily_metrics": fact_daily_metrics(activity, day),
        }
        return writing.replace_days(spark, lake, _DATE, day, tables)


def user_daily_metrics(activity: Activity, day: date) -> DataFrame:
    """Return a row a user that did anything on `day`; who is not known is in no row."""
    by_user = (
        activity.events.groupBy("user_id").agg(f.count("*").alias("events"), *counts(), revenue_cents()),
        activity.sessions.groupBy("user_id").agg(
            f.count("*").alias("sessions"), f.sum("duration_ms").alias("session_duration_ms")
        ),
        activity.orders.groupBy("user_id").agg(f.count("*").alias("orders")),
    )
    every = by_user[0]
    for more in by_user[1:]:
        every = every.unionByName(more, allowMissingColumns=True)
    return (
        every.filter("user_id is not null")
        .groupBy("user_id")
        .agg(*(total(name).alias(name) for name in _USER_SUMS))
        .select(f.lit(day).alias(_DATE), "user_id", *_USER_SUMS)
    )


def product_metrics(activity: Activity, day: date) -> DataFrame:
    """Return a row a product that an event of `day` is about; category and brand are those of the last event."""
    at = f.struct("event_time", "event_id")
    views, carts, purchases = (f.col(name) for name in ("views", "add_to_carts", "purchases"))
    return (
        activity.events.filter("product_id is not null")
        .groupBy("product_id")
        .agg(
            f.max_by("product_category", at).alias("product_category"),
            f.max_by("product_brand", at).alias("product_brand"),
            *counts("page_views", "clicks", "add_to_carts", "purchases"),
            revenue_cents(),
            f.count_distinct("user_id").alias("unique_users"),
        )
        .withColumnRenamed("page_views", "views")
        .select(
            *(f.lit(day).alias(_DATE), "product_id", "product_category", "product_brand", "views", "clicks"),
            *("add_to_carts", "purchases", "revenue_cents", "unique_users"),
            ratio(carts, views).alias("view_to_cart_rate"),
            ratio(purchases, carts).alias("cart_to_purchase_rate"),
        )
    )


def session_metrics_daily(activity: Activity, day: date) -> DataFrame:
    """Return a row a device type and country, null where the country is not known, of the sessions begun on `day`."""
    return (
        activity.sessions.groupBy("device_type", "country_code")
        .agg(
            f.count("*").alias("sessions"),
            f.count_if("is_bounce").alias("bounces"),
            f.count_if("has_conversion").alias("conversions"),
            f.sum("revenue_cents").alias("revenue_cents"),
            ratio(f.sum("duration_ms"), f.count("*")).alias("average_duration_ms"),
            f.sum("event_count").alias("events"),
        )
        .select(f.lit(day).alias(_DATE), "*")
    )


def fact_daily_metrics(activity: Activity, day: date) -> DataFrame:
    """Return the one row of `day`.

    revenue_cents is that of the day's purchase events; an order's value is its total, in its own currency.
    """
    events = activity.events.agg(
        f.count_distinct("user_id").alias("daily_active_users"), revenue_cents(), f.count("*").alias("events")
    )
    sessions = activity.sessions.agg(
        f.count("*").alias("sessions"),
        ratio(f.count_if("has_conversion"), f.count("*")).alias("conversion_rate"),
        ratio(f.sum("duration_ms"), f.count("*")).alias("average_duration_ms"),
        ratio(f.count_if("is_bounce"), f.count("*")).alias("bounce_rate"),
    )
    orders = activity.orders.agg(
        f.count("*").alias("orders"),
        ratio(f.sum("total_cents"), f.count("*")).alias("average_order_value_cents"),
    )
    return (
        events.crossJoin(sessions)
        .crossJoin(orders)
        .select(
            *(f.lit(day).alias(_DATE), "daily_active_users", "sessions", "orders", "revenue_cents", "conversion_rate"),
            *("average_order_value_cents", "average_duration_ms", "bounce_rate", "events"),
        )
    )
