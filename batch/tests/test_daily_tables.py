"""The daily tables of a small lake whose figures can be counted by hand."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from millrace_batch import daily_metrics, recommendation_features, user_features, user_segments
from millrace_batch.errors import EmptyInputError
from millrace_batch.lake import Lake
from stream_tables import DAY, NOON, StreamTable

pytestmark = pytest.mark.spark

Row = dict[str, Any]
MIDNIGHT: Final = datetime(2026, 3, 2, tzinfo=UTC)
TABLES: Final = {
    "user_daily_metrics": "metric_date",
    "product_metrics": "metric_date",
    "session_metrics_daily": "metric_date",
    "fact_daily_metrics": "metric_date",
    "user_segments": "segment_date",
    "user_features": "feature_date",
    "recommendation_features": "feature_date",
}


def act(number: int, at: datetime, kind: str, user: str | None, product: str | None = None, cents: int = 0) -> Row:
    return {
        "event_id": f"e-{number}",
        "event_time": at,
        "received_at": at,
        "event_type": kind,
        "client_session_id": f"s-{user}",
        "user_id": user,
        "product_id": product,
        "product_category": None if product is None else "shoes",
        "amount_cents": cents if kind == "purchase" else None,
        "device_type": "mobile",
    }


def session(key: str, user: str | None, at: datetime, minutes: int, revision: int = 1, **more: Any) -> Row:
    return {
        "session_id": key,
        "client_session_id": key,
        "user_id": user,
        "started_at": at,
        "ended_at": at + timedelta(minutes=minutes),
        "duration_ms": minutes * 60_000,
        "event_count": 1,
        "revenue_cents": 0,
        "has_conversion": False,
        "is_bounce": False,
        "device_type": "mobile",
        "closed_by": "gap",
        "revision": revision,
        **more,
    }


def status(order: str, user: str, state: str, at: datetime, *products: str) -> Row:
    items = [{"product_id": one, "quantity": 1, "price": Decimal(10), "category": "shoes"} for one in products]
    return {
        "transaction_id": order,
        "user_id": user,
        "status": state,
        "occurred_at": at,
        "order_items": items,
        "total_amount": Decimal(10 * len(products)),
    }


EVENTS: Final = [
    act(1, NOON - timedelta(days=10), "page_view", "u-1", "p-1"),
    act(2, NOON, "page_view", "u-1", "p-1"),
    act(3, NOON, "add_to_cart", "u-1", "p-1"),
    act(4, NOON, "purchase", "u-1", "p-1", 1050),
    # Sent again an hour later: counted by the stream, not here.
    act(4, NOON, "purchase", "u-1", "p-1", 1050) | {"received_at": NOON + timedelta(hours=1)},
    act(5, NOON, "page_view", "u-2", "p-2"),
    act(6, NOON, "page_view", None, "p-2"),
    act(7, NOON - timedelta(days=20), "click", "u-3"),
]
SESSIONS: Final = [
    session("a", "u-1", NOON, 10, is_bounce=True),
    session("a", "u-1", NOON, 20, 2, revenue_cents=1050, has_conversion=True, event_count=3),
    session("b", "u-2", NOON, 10),
    session("b", "u-2", NOON, 0, 2, closed_by="replaced", event_count=0),
    # Past midnight: what becomes of it is not known at the end of the day.
    session("c", "u-2", MIDNIGHT - timedelta(minutes=1), 2, is_bounce=True),
]
STATUSES: Final = [
    status("o-1", "u-1", "pending", NOON, "p-1", "p-2"),
    status("o-1", "u-1", "completed", NOON, "p-1", "p-2"),
    status("o-2", "u-2", "pending", NOON, "p-2"),
    status("o-2", "u-2", "cancelled", NOON + timedelta(hours=1), "p-2"),
    status("o-3", "u-1", "completed", NOON - timedelta(days=3), "p-1", "p-2", "p-3"),
]
FUTURE: Final = (
    act(90, MIDNIGHT, "purchase", "u-1", "p-1", 5000),
    session("f", "u-1", MIDNIGHT, 60),
    status("o-1", "u-1", "cancelled", MIDNIGHT, "p-1", "p-2"),
)


@pytest.fixture(scope="module")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, dict[str, list[Row]]]]:
    """Return the lake after all jobs, and what they wrote."""
    folder = str(tmp_path_factory.mktemp("lake"))
    for name, rows in (("events", EVENTS), ("sessions", SESSIONS), ("transactions", STATUSES)):
        StreamTable(folder, name).append(rows)
    lake = Lake(folder)
    run_all(spark, lake)
    yield lake, written(spark, lake)


def run_all(spark: SparkSession, lake: Lake) -> None:
    daily_metrics.run(spark, lake, daily_metrics.Params(DAY))
    user_segments.run(spark, lake, user_segments.Params(DAY))
    user_features.run(spark, lake, user_features.Params(DAY))
    recommendation_features.run(spark, lake, recommendation_features.Params(DAY))


def written(spark: SparkSession, lake: Lake) -> dict[str, list[Row]]:
    tables = {}
    for name, column in TABLES.items():
        rows = [row.asDict(recursive=True) for row in lake.read(spark, name).collect()]
        assert {row.pop(column) for row in rows} == {DAY}
        tables[name] = sorted(rows, key=str)
    return tables


def test_facts_of_the_day(night: tuple[Lake, dict[str, list[Row]]]) -> None:
    assert night[1]["fact_daily_metrics"] == [
        {
            "daily_active_users": 2,
            "sessions": 2,
            "orders": 1,
            "revenue_cents": 1050,
            "conversion_rate": 0.5,
            "average_order_value_cents": 2000.0,
            "average_duration_ms": 11 * 60_000.0,
            "bounce_rate": 0.5,
            "events": 5,
        }
    ]
    (by_device,) = night[1]["session_metrics_daily"]
    assert (by_device["device_type"], by_device["country_code"]) == ("mobile", None)
    assert (by_device["sessions"], by_device["bounces"], by_device["conversions"]) == (2, 1, 1)


def test_users_and_products_of_the_day(night: tuple[Lake, dict[str, list[Row]]]) -> None:
    users = {row["user_id"]: row for row in night[1]["user_daily_metrics"]}
    assert set(users) == {"u-1", "u-2"}
    one = users["u-1"]
    assert (one["events"], one["purchases"], one["orders"], one["revenue_cents"]) == (3, 1, 1, 1050)
    assert (one["sessions"], one["session_duration_ms"]) == (1, 20 * 60_000)
    assert (users["u-2"]["orders"], users["u-2"]["sessions"]) == (0, 1)
    products = {row["product_id"]: row for row in night[1]["product_metrics"]}
    assert (products["p-1"]["view_to_cart_rate"], products["p-1"]["cart_to_purchase_rate"]) == (1.0, 1.0)
    assert (products["p-2"]["views"], products["p-2"]["unique_users"]) == (2, 1)
    assert products["p-2"]["cart_to_purchase_rate"] is None


def test_segments(night: tuple[Lake, dict[str, list[Row]]]) -> None:
    found = {
        row["user_id"]: (row["recency_days"], row["frequency_orders"], row["monetary_cents"], row["segment"])
        for row in night[1]["user_segments"]
    }
    assert found == {
        "u-1": (0, 2, 5000, "loyal"),
        "u-2": (0, 0, 0, "visitor"),
        "u-3": (20, 0, 0, "dormant"),
    }


def test_features(night: tuple[Lake, dict[str, list[Row]]]) -> None:
    users = {row["user_id"]: row for row in night[1]["user_features"]}
    one = users["u-1"]
    assert (one["total_page_views_7d"], one["total_purchases_30d"], one["avg_order_value_cents"]) == (1, 1, 2500.0)
    assert (one["avg_session_duration_ms"], one["preferred_category"]) == (20 * 60_000.0, "shoes")
    assert (one["last_activity_days_ago"], one["churn_risk_score"]) == (0, 0.0)
    assert users["u-2"]["avg_session_duration_ms"] is None
    # Twenty days away, active on one day of thirty.
    assert users["u-3"]["churn_risk_score"] == 20 / 50
    met = {(row["user_id"], row["product_id"]): row for row in night[1]["recommendation_features"]}
    assert met["u-1", "p-1"]["affinity"] == 1.0
    assert met["u-1", "p-1"]["top_co_purchased"] == [
        {"product_id": "p-2", "orders": 2},
        {"product_id": "p-3", "orders": 1},
    ]
    assert set(met) == {("u-1", "p-1"), ("u-2", "p-2")}


def test_future_changes_no_feature_and_a_second_run_nothing(
    spark: SparkSession, night: tuple[Lake, dict[str, list[Row]]]
) -> None:
    lake, before = night
    for name, row in zip(("events", "sessions", "transactions"), FUTURE, strict=True):
        StreamTable(lake.uri, name).append([row])
    versions = {name: DeltaTable(lake.table_uri(name)).version() for name in TABLES}
    run_all(spark, lake)
    after = written(spark, lake)
    # A cancelled order is no order of its day: that, and only that, is known later.
    changed = {name for name in TABLES if after[name] != before[name]}
    assert changed == {"user_daily_metrics", "fact_daily_metrics"}
    assert {name for name in TABLES if DeltaTable(lake.table_uri(name)).version() != versions[name]} == changed
    assert after["fact_daily_metrics"][0]["orders"] == 0


def test_every_job_refuses_a_day_without_events(spark: SparkSession, night: tuple[Lake, dict[str, list[Row]]]) -> None:
    day = DAY - timedelta(days=1)
    runs: list[Callable[[], object]] = [
        lambda: daily_metrics.run(spark, night[0], daily_metrics.Params(day)),
        lambda: user_segments.run(spark, night[0], user_segments.Params(day)),
        lambda: user_features.run(spark, night[0], user_features.Params(day)),
        lambda: recommendation_features.run(spark, night[0], recommendation_features.Params(day)),
    ]
    for run in runs:
        with pytest.raises(EmptyInputError, match="events has no rows of 2026-02-28"):
            run()
