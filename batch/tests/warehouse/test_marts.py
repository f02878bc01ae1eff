"""dbt, for real: what the marts say is held against plain Python over the same rows."""

import json
import os
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from millrace_batch.lake import Lake
from millrace_batch.warehouse import dbt
from millrace_batch.warehouse.lake import DeltaLake
from millrace_batch.warehouse.loading import load_day
from small_shop import DAYS, Shop, change_first_day, shop

pytestmark = pytest.mark.warehouse

PROJECT: Final = Path(__file__).parents[3] / "dbt"
SERVER: Final = Path(__file__).parents[1] / "support" / "dbt_server.py"
FIRST, SECOND, THIRD = DAYS
FOURTH: Final = date(2026, 3, 10)


class Warehouse:
    """A database that days are loaded into and marts are built in."""

    def __init__(self, dsn: str, lake: Path, process: "subprocess.Popen[str]") -> None:
        self.dsn = dsn
        self.lake = lake
        self.rows = shop()
        self._process = process

    def load(self, *days: date) -> None:
        self.rows.write(self.lake, days)
        for day in days:
            load_day(self.dsn, DeltaLake(Lake(str(self.lake))), day)

    def dbt(self, *arguments: str) -> tuple[bool, str]:
        """Run a dbt command; return whether it went well, and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(["--no-use-colors", *arguments]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["ok"], answer["output"]

    def build(self, *arguments: str) -> None:
        ok, output = self.dbt("build", *arguments)
        assert ok, output

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, options="-c timezone=UTC") as connection:
            return connection.execute(text).fetchall()


@pytest.fixture(scope="module")
def warehouse(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    target = str(tmp_path_factory.mktemp("target"))
    folders = {"DBT_TARGET_PATH": target, "DBT_LOG_PATH": target, "DBT_PROFILES_DIR": str(PROJECT)}
    process = subprocess.Popen(
        [str(PROJECT / ".venv" / "bin" / "python"), str(SERVER)],
        cwd=PROJECT,
        env={**os.environ, **dbt.environment(dsn), **folders},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        made = Warehouse(dsn, tmp_path_factory.mktemp("lake"), process)
        made.load(*DAYS)
        made.build()
        yield made


def hold_against_rows(warehouse: Warehouse) -> None:
    """Compare every fact, to the cent, with what the rows say."""
    rows = warehouse.rows
    _hold_sessions(warehouse, rows)
    _hold_orders(warehouse, rows)
    counts = "sessions, view_sessions, cart_sessions, checkout_sessions, purchase_sessions"
    funnel = {
        (day, device, country): steps
        for day, device, country, *steps in warehouse.query(
            f"select session_date, device_type, country_code, {counts} from marts.mart_funnel"
        )
    }
    assert {key: tuple(steps) for key, steps in funnel.items()} == rows.funnel()
    _hold_retention(warehouse, rows)


def _hold_sessions(warehouse: Warehouse, rows: Shop) -> None:
    sessions = warehouse.query("select session_date, session_id, revision, revenue_cents from marts.fct_sessions")
    assert sorted(sessions) == sorted(
        (day, row["session_id"], row["revision"], row["revenue_cents"])
        for day in DAYS
        for row in rows.current_sessions(day)
    )


def _hold_orders(warehouse: Warehouse, rows: Shop) -> None:
    expected = rows.orders()
    orders = warehouse.query("select order_id, placed_at, placed_date, status, total_amount from marts.fct_orders")
    assert sorted(orders) == sorted(
        (key, order["placed_at"], order["placed_date"], order["status"], order["total_amount"])
        for key, order in expected.items()
    )
    items = warehouse.query("select order_id, product_id, quantity, unit_price, line_amount from marts.fct_order_items")
    assert sorted(items) == sorted(
        (key, product, quantity, price, quantity * price)
        for key, order in expected.items()
        for product, quantity, price in order["items"]
    )
    by_currency: defaultdict[str, Decimal] = defaultdict(Decimal)
    for order in expected.values():
        by_currency[order["currency"]] += order["total_amount"]
    assert dict(warehouse.query("select currency, sum(total_amount) from marts.fct_orders group by 1")) == by_currency
    units: Counter[tuple[date, str]] = Counter()
    for order in expected.values():
        if order["status"] != "cancelled":
            units.update({(order["placed_date"], product): quantity for product, quantity, _ in order["items"]})
    ordered = warehouse.query(
        "select metric_date, product_id, ordered_units from marts.mart_product_performance where ordered_units > 0"
    )
    assert {(day, product): quantity for day, product, quantity in ordered} == units


def _hold_retention(warehouse: Warehouse, rows: Shop) -> None:
    weeks: defaultdict[str, set[date]] = defaultdict(set)
    for day in DAYS:
        for row in rows.current_sessions(day):
            if row["user_id"] is not None:
                weeks[row["user_id"]].add(date.fromisocalendar(*day.isocalendar()[:2], 1))
    last = max(max(active) for active in weeks.values())
    cohorts = sorted({min(active) for active in weeks.values()})
    expected = []
    for cohort in cohorts:
        members = [active for active in weeks.values() if min(active) == cohort]
        for since in range((last - cohort).days // 7 + 1):
            back = sum(any((week - cohort).days == 7 * since for week in active) for active in members)
            expected.append((cohort, since, len(members), back))
    found = warehouse.query("select cohort_week, weeks_since, cohort_users, active_users from marts.mart_retention")
    assert sorted(found) == expected


def test_marts_agree_with_the_rows(warehouse: Warehouse) -> None:
    hold_against_rows(warehouse)
    metrics = warehouse.query("select metric_date, sessions, revenue_cents from marts.fct_daily_metrics")
    for day, sessions, revenue_cents in metrics:
        current = warehouse.rows.current_sessions(day)
        assert (sessions, revenue_cents) == (len(current), sum(row["revenue_cents"] for row in current))
    assert len(metrics) == len(DAYS)
    assert warehouse.query("select segment, segment_since from marts.dim_users where user_id = 'u1'") == [
        ("loyal", THIRD)
    ]


def test_reloaded_day_is_right_in_increments_too(warehouse: Warehouse) -> None:
    untouched = _versions(warehouse, SECOND)
    change_first_day(warehouse.rows)
    warehouse.load(FIRST)
    with psycopg.connect(warehouse.dsn) as connection:
        connection.execute(
            "insert into lake.user_segments (segment_date, user_id, segment) values (%s, 'u1', 'champion')", (FOURTH,)
        )
    # The models' rules were tried by the first build; what the tests of the data say counts again.
    warehouse.build("--exclude-resource-type", "unit_test")
    hold_against_rows(warehouse)
    assert warehouse.query("select count(*) from marts.fct_orders where order_id = 'o4-vanishes'") == [(0,)]
    # the moved order is checked out of a session of the second day, which was not loaded again
    assert warehouse.query("select placed_date from marts.fct_orders where order_id = 'o3-moved'") == [(SECOND,)]
    assert _versions(warehouse, SECOND) == untouched, "the other days were not computed again"
    assert warehouse.query(
        "select segment, dbt_valid_from::date, dbt_valid_to::date from snapshots.user_segment_periods"
        " where user_id = 'u1' order by dbt_valid_from"
    ) == [("loyal", THIRD, FOURTH), ("champion", FOURTH, None)]
    assert warehouse.query("select segment from marts.dim_users where user_id = 'u1'") == [("champion",)]


def _versions(warehouse: Warehouse, day: date) -> list[tuple[Any, ...]]:
    return warehouse.query(
        f"select session_id, xmin::text from marts.fct_sessions where session_date = '{day}' order by 1"
    )


def test_planted_wrong_rows_fail_the_tests(warehouse: Warehouse) -> None:
    with psycopg.connect(warehouse.dsn) as connection:
        connection.execute("update marts.fct_orders set total_amount = total_amount + 0.05 where order_id = 'o1'")
        connection.execute(
            "delete from marts.fct_sessions where session_id = (select min(session_id) from marts.fct_sessions)"
        )
        connection.execute("update marts.mart_funnel set cart_sessions = view_sessions + 1")
    ok, output = warehouse.dbt("test", "--select", "fct_orders", "mart_funnel,test_type:data", "test_type:singular")
    assert not ok
    failed = {line.split()[6] for line in output.splitlines() if " FAIL " in line}
    assert {
        "assert_order_lines_add_up",
        "assert_daily_metrics_have_every_session",
        "assert_session_metrics_have_every_session",
        "assert_funnel_has_every_session",
        "mart_funnel__never_widens",
    } <= failed


def test_documents_are_generated_and_loads_are_fresh(warehouse: Warehouse) -> None:
    ok, output = warehouse.dbt("docs", "generate", "--no-compile")
    assert ok, output
    ok, output = warehouse.dbt("source", "freshness")
    assert ok, output
    assert "PASS freshness of lake.loads" in output
