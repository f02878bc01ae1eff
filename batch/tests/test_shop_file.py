"""A real shop's file: what a plain reading of it says is what the Spark tables say, to the cent."""

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest
from pyspark.sql import DataFrame, SparkSession

from millrace_batch import daily_metrics, sessions
from millrace_batch.lake import Lake
from session_logs import stored
from shop_file import shop_file
from stream_tables import StreamTable

pytestmark = pytest.mark.spark

FILE: Final = Path(__file__).parents[3] / "shared/data/rees46-2019-10-01.csv"
DAY: Final = date(2019, 10, 1)
GAP_SECONDS: Final = 1800


@dataclass
class Plain:
    """What the file says without any of our code."""

    events: int
    users: int
    revenue_cents: int
    purchases: int
    orders: int
    sessions: int
    converted: int


def plainly_read(path: Path) -> Plain:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    visits = defaultdict(list)
    for row in rows:
        at = datetime.fromisoformat(row["event_time"].removesuffix(" UTC"))
        visits[row["user_session"]].append((at, row["event_type"]))
    sessions = converted = 0
    for events in visits.values():
        events.sort()
        bought: list[bool] = []
        for number, (at, kind) in enumerate(events):
            if not number or (at - events[number - 1][0]).total_seconds() > GAP_SECONDS:
                bought.append(False)
            bought[-1] |= kind == "purchase"
        sessions += len(bought)
        converted += sum(bought)
    purchases = [row for row in rows if row["event_type"] == "purchase"]
    return Plain(
        events=len(rows),
        users=len({row["user_id"] for row in rows}),
        revenue_cents=sum(int(Decimal(row["price"]) * 100) for row in purchases),
        purchases=len(purchases),
        # A client session that buys several things in one second makes one order.
        orders=len({(row["user_session"], row["event_time"]) for row in purchases}),
        sessions=sessions,
        converted=converted,
    )


@pytest.mark.skipif(not FILE.exists(), reason="the file is not there")
def test_day_of_a_shop_is_what_its_file_says(
    spark: SparkSession, lake: Lake, stream_table: Callable[[str], StreamTable]
) -> None:
    plain, made = plainly_read(FILE), shop_file(FILE)
    stream_table("events").append(made.events)
    stream_table("transactions").append(made.transactions)
    stream_table("late_events")
    stream_table("sessions").append(stored(made.streamed.sessions))
    assert not made.streamed.late_events

    sessions.run(spark, lake, sessions.Params(DAY))
    assert lake.read(spark, "reconciliation").isEmpty()
    daily_metrics.run(spark, lake, daily_metrics.Params(DAY))

    (fact,) = lake.read(spark, "fact_daily_metrics").collect()
    assert (fact["events"], fact["daily_active_users"]) == (plain.events, plain.users)
    assert (fact["revenue_cents"], fact["orders"]) == (plain.revenue_cents, plain.orders)
    assert (fact["sessions"], fact["conversion_rate"]) == (plain.sessions, plain.converted / plain.sessions)
    for table in ("user_daily_metrics", "product_metrics"):
        assert total(lake.read(spark, table), "purchases") == plain.purchases
    for table in ("user_daily_metrics", "product_metrics", "session_metrics_daily"):
        assert total(lake.read(spark, table), "revenue_cents") == plain.revenue_cents


def total(rows: DataFrame, column: str) -> int:
    ((found,),) = rows.agg({column: "sum"}).collect()
    return int(found)
