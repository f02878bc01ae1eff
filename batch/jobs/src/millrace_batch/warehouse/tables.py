"""The tables of schema `lake` in Postgres: what is copied, by which day, into which columns.

They are declared, and not taken from whatever the lake has: dbt needs them to be there before the first row, and a
column that changed its meaning must not slip through. Columns that the lake's table has besides are added as they come.
Integers are bigint and ratios double precision; money is bigint cents or numeric(18, 2); nested columns are jsonb.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SCHEMA: Final = "lake"


@dataclass(frozen=True, slots=True)
class WarehouseTable:
    """One table.

    Attributes:
        name: in schema `lake`.
        source: the table of the lake that it is read from.
        day_column: the date that a load replaces.
        columns: name to Postgres type.
        key: columns that a look-up uses beside the day; an index is made for them.
        required: whether the lake must have it, with rows of the day.
        select: what is read of the source, grouped by the day; None: every column of every row.
    """

    name: str
    source: str
    day_column: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    required: bool = False
    select: str | None = None


def _columns(text: str) -> dict[str, str]:
    """Return the columns declared as `type: name name ...` a line."""
    found: dict[str, str] = {}
    for line in text.strip().splitlines():
        kind, names = line.strip().split(":")
        found |= dict.fromkeys(names.split(), kind)
    return found


_DECLARED: Final = (
    WarehouseTable(
        name="transactions",
        source="transactions",
        day_column="event_date",
        columns=_columns("""
            date: event_date
            text: transaction_id user_id currency payment_method status
            numeric(18,2): total_amount
            timestamptz: occurred_at
            jsonb: order_items
        """),
        key=("transaction_id",),
    ),
    WarehouseTable(
        name="sessions",
        source="sessions",
        day_column="session_date",
        columns=_columns("""
            date: session_date
            text: session_id client_session_id user_id entry_page exit_page referrer device_type country_code closed_by
            timestamptz: started_at ended_at
            bigint: duration_ms event_count page_views clicks searches add_to_carts purchases
            bigint: unique_pages unique_products revenue_cents revision
            boolean: has_conversion is_bounce is_bot
        """),
        key=("session_id",),
        required=True,
    ),
    WarehouseTable(
        name="late_event_counts",
        source="late_events",
        day_column="event_date",
        columns=_columns("""
            date: event_date
            bigint: late_events
        """),
        key=(),
        select="event_date, count(*) as late_events",
    ),
    WarehouseTable(
        name="product_metrics",
        source="product_metrics",
        day_column="metric_date",
        columns=_columns("""
            date: metric_date
            text: product_id product_category product_brand
            bigint: views clicks add_to_carts purchases revenue_cents unique_users
            double precision: view_to_cart_rate cart_to_purchase_rate
        """),
        key=("product_id",),
    ),
    WarehouseTable(
        name="session_metrics_daily",
        source="session_metrics_daily",
        day_column="metric_date",
        columns=_columns("""
            date: metric_date
            text: device_type country_code
            bigint: sessions bounces conversions revenue_cents events
            double precision: average_duration_ms
        """),
        key=(),
    ),
    WarehouseTable(
        name="fact_daily_metrics",
        source="fact_daily_metrics",
        day_column="metric_date",
        columns=_columns("""
            date: metric_date
            bigint: daily_active_users sessions orders revenue_cents events
            double precision: conversion_rate average_order_value_cents average_duration_ms bounce_rate
        """),
        key=(),
        required=True,
    ),
    WarehouseTable(
        name="user_segments",
        source="user_segments",
        day_column="segment_date",
        columns=_columns("""
            date: segment_date
            text: user_id segment
            bigint: recency_days frequency_orders monetary_cents recency_score frequency_score monetary_score
        """),
        key=("user_id",),
    ),
    WarehouseTable(
        name="user_features",
        source="user_features",
        day_column="feature_date",
        columns=_columns("""
            date: feature_date
            text: user_id preferred_category device_type
            bigint: total_page_views_7d total_purchases_30d last_activity_days_ago
            double precision: avg_session_duration_ms avg_order_value_cents churn_risk_score
        """),
        key=("user_id",),
    ),
    WarehouseTable(
        name="reconciliation",
        source="reconciliation",
        day_column="session_date",
        columns=_columns("""
            date: session_date
            text: session_id client_session_id cause detail
            bigint: stream_revision batch_revision stream_event_count batch_event_count
            bigint: stream_revenue_cents batch_revenue_cents
        """),
        key=(),
    ),
    WarehouseTable(
        name="quality_results",
        source="quality_results",
        day_column="check_date",
        columns=_columns("""
            date: check_date
            text: check_name table_name dimension severity expected detail
            double precision: observed
            boolean: passed
        """),
        key=(),
    ),
)
TABLES: Final[Mapping[str, WarehouseTable]] = {table.name: table for table in _DECLARED}
