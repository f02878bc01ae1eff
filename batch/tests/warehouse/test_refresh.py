"""Level-based for real: Spark's jobs, Postgres and the records of both; nobody is told what has changed."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from lake_days import write_day
from millrace_batch import refresh
from millrace_batch.due import Days, Due, due_jobs, due_loads
from millrace_batch.lake import Lake
from millrace_batch.night import Night
from millrace_batch.refresh import refresh_tables, refresh_warehouse
from millrace_batch.warehouse import freshness
from millrace_batch.warehouse.lake import DeltaLake
from millrace_batch.warehouse.loading import load_day
from millrace_local.cli import app
from millrace_local.dbt import Dbt
from millrace_local.errors import LocalStackError
from millrace_sessionize.rules import SessionRules
from session_logs import MINUTE_MS, START_MS, one_event, stored, true_rows
from small_shop import DAYS, shop
from stream_tables import DAY, StreamTable

pytestmark = pytest.mark.warehouse

PROJECT: Final = Path(__file__).parents[3] / "dbt"
WEEK: Final = Days(DAY - timedelta(days=6), DAY)
FIRST, SECOND, _ = DAYS
SHOP_DAYS: Final = Days(DAYS[0], DAYS[-1])


@pytest.fixture(autouse=True)
def _empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists lake cascade")


def _rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def _versions(lake: Lake) -> dict[str, int]:
    return {folder.name: DeltaTable(str(folder)).version() for folder in Path(lake.uri).iterdir()}


@pytest.mark.spark
def test_wake_computes_what_is_missing_and_the_next_one_nothing(
    spark: SparkSession,
    dsn: str,
    lake: Lake,
    stream_table: Callable[[str], StreamTable],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The one that a load needs besides the stream's tables; each takes seconds.
    needed = ("daily_metrics",)
    monkeypatch.setattr(refresh, "JOBS_IN_ORDER", needed)
    night = Night(DAY, lake, lambda: spark, lambda: dsn)
    events = [one_event(n, START_MS + n * MINUTE_MS, f"k-{n % 3}", START_MS, Random(n)) for n in range(9)]
    tables = {name: stream_table(name) for name in ("events", "late_events", "sessions", "transactions")}
    tables["events"].append(stored(events))
    tables["sessions"].append(stored({**row, "revision": 1} for row in true_rows(events, SessionRules())))
    tables["transactions"].append([{"transaction_id": "o-1"}])

    assert refresh_tables(night, WEEK) == 1
    assert refresh_warehouse(night, WEEK) == 1
    assert _rows(dsn, "select events from lake.fact_daily_metrics") == [(9,)]
    before, loads = _versions(lake), _rows(dsn, "select * from lake.loads")
    rows = _rows(dsn, "select *, xmin::text from lake.sessions")

    # An event of these tables is told twice.
    assert (refresh_tables(night, WEEK), refresh_warehouse(night, WEEK)) == (0, 0)
    assert (_versions(lake), _rows(dsn, "select * from lake.loads")) == (before, loads)
    assert _rows(dsn, "select *, xmin::text from lake.sessions") == rows

    # One that nobody is told of: a client session's event came a day late.
    late = one_event(10, START_MS + 5 * MINUTE_MS, "k-0", START_MS + 25 * 60 * MINUTE_MS, Random(2))
    tables["events"].append(stored([late]))
    tables["late_events"].append(stored([{**late, "watermark": late["received_at"], "lateness_ms": MINUTE_MS}]))
    assert refresh_tables(night, WEEK) == 1
    assert refresh_warehouse(night, WEEK) == 1
    assert _rows(dsn, "select events from lake.fact_daily_metrics") == [(10,)]
    assert (due_jobs(lake, WEEK, needed), due_loads(dsn, lake, WEEK)) == ([], [])


def _write_events(lake: Path) -> None:
    # Only that there are some of each day counts here.
    for day in DAYS:
        StreamTable(str(lake), "events").append([{"event_time": shop().sessions[day][0]["started_at"]}])


def test_day_is_loaded_until_the_warehouse_has_what_the_lake_has(dsn: str, tmp_path: Path, lake: Lake) -> None:
    rows = shop()
    rows.write(tmp_path, DAYS)
    _write_events(tmp_path)
    assert [one.day for one in due_loads(dsn, lake, SHOP_DAYS)] == list(DAYS)
    for day in DAYS:
        load_day(dsn, DeltaLake(lake), day)
    assert due_loads(dsn, lake, SHOP_DAYS) == []
    rows.write(tmp_path, [SECOND])
    assert due_loads(dsn, lake, SHOP_DAYS) == [Due("load_warehouse", SECOND)]
    load_day(dsn, DeltaLake(lake), SECOND)
    assert due_loads(dsn, lake, SHOP_DAYS) == []
    # A table that the lake had not: its days are due that have rows of it.
    write_day(tmp_path, "quality_results", FIRST, [{"check_name": "one"}])
    assert due_loads(dsn, lake, SHOP_DAYS) == [Due("load_warehouse", FIRST)]


def test_day_that_no_job_has_computed_is_no_load_yet(dsn: str, tmp_path: Path, lake: Lake) -> None:
    write_day(tmp_path, "sessions", FIRST, shop().sessions[FIRST])
    _write_events(tmp_path)
    assert due_loads(dsn, lake, SHOP_DAYS) == []
    write_day(tmp_path, "fact_daily_metrics", FIRST, [{"sessions": 1}])
    assert due_loads(dsn, lake, SHOP_DAYS) == [Due("load_warehouse", FIRST)]


def test_warehouse_that_noted_no_fingerprints_is_loaded_once_more(dsn: str, tmp_path: Path, lake: Lake) -> None:
    shop().write(tmp_path, DAYS)
    _write_events(tmp_path)
    for day in DAYS:
        load_day(dsn, DeltaLake(lake), day)
    with psycopg.connect(dsn) as connection:
        connection.execute("alter table lake.loads drop column lake_fingerprint")
    assert len(due_loads(dsn, lake, SHOP_DAYS)) == len(DAYS)
    load_day(dsn, DeltaLake(lake), FIRST)
    assert [one.day for one in due_loads(dsn, lake, SHOP_DAYS)] == list(DAYS[1:])


def test_marts_are_due_after_a_load_until_they_are_built(dsn: str, tmp_path: Path) -> None:
    assert freshness.due_build(dsn) is None, "there is nothing to build from"
    shop().write(tmp_path, DAYS)
    load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)
    through = freshness.due_build(dsn)
    assert through is not None
    load_day(dsn, DeltaLake(Lake(str(tmp_path))), SECOND)
    freshness.record_build(dsn, through)
    newest = freshness.due_build(dsn)
    assert newest is not None, "a load that came while the marts were built is not taken for built"
    freshness.record_build(dsn, newest)
    assert freshness.due_build(dsn) is None


def test_commands_do_what_is_due_once(dsn: str, tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    shop().write(tmp_path, DAYS)
    _write_events(tmp_path)
    broken = [True]

    def build(self: Dbt, dsn: str, log_dir: Path) -> str:
        if broken.pop():
            message = "a model failed"
            raise LocalStackError(message)
        return "PASS=1"

    monkeypatch.setattr(Dbt, "build", build)
    runner = CliRunner(env={"MILLRACE_WAREHOUSE_DSN": dsn})
    given = ["--from", str(FIRST), "--to", str(SECOND), "--lake", lake.uri, "--work-dir", str(tmp_path / "work")]

    def call(*arguments: str) -> tuple[int, str]:
        done = runner.invoke(app, ["batch", *arguments, *given])
        return done.exit_code, done.output

    marts = ("refresh", "marts", "--project", str(PROJECT), "--idle-exit", "99")
    assert call(*marts)[0] == 99
    assert f"load_warehouse: {FIRST}, {SECOND}\n" in call("due")[1]
    loaded = call("refresh", "warehouse", "--idle-exit", "99")
    assert (loaded[0], f"load_warehouse of {SECOND}\n" in loaded[1]) == (0, True), loaded
    assert call("refresh", "warehouse", "--idle-exit", "99") == (
        99,
        f"warehouse: nothing is due from {FIRST} to {SECOND}\n",
    )
    assert "load_warehouse" not in call("due")[1]
    assert "marts: the warehouse was loaded since they were built" in call("due")[1]
    assert call(*marts)[0] == 1
    broken.append(False)
    assert call(*marts) == (0, "dbt: PASS=1\n"), "a build that failed is due again"
    assert call(*marts)[0] == 99
    assert call("refresh", "warehouse")[0] == 0, "unless a scheduler asks, nothing to do is no failure"
