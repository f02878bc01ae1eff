"""Airflow runs the nightly DAG on a small lake and a real Postgres: a task is killed, and the day runs once more."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import pytest
from deltalake import DeltaTable

from millrace_batch.warehouse import ddl
from millrace_batch.warehouse.tables import TABLES
from millrace_local import headlines
from millrace_local.airflow import Airflow, AirflowError, find_airflow
from millrace_local.headlines import Compared
from millrace_local.postgres import of_work_dir
from millrace_local.stack import wait_until
from small_night import AFTER, DAYS, write_small_night
from small_spark import OPTIONS

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.warehouse, pytest.mark.timeout(1800)]

ROOT: Final = Path(__file__).parents[2]
DAY: Final = DAYS[0]
# What the second run leaves out: Spark jobs, whose own tests run them twice, and models that are built anew each time.
SPARK_JOBS: Final = "check_day|compact|sessions|daily_metrics|user_.*|recommendation_features|quality"
ONCE: Final = f"{SPARK_JOBS}|dbt_dim_.*|dbt_mart_[rp].*|dbt_fct_daily_metrics|tell"


@pytest.fixture(scope="module")
def work_dir() -> Iterator[Path]:
    """Make a work directory with a lake; under root, pytest's own are closed to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-night-"))
    folder.chmod(0o755)
    write_small_night(folder / "lake")
    yield folder
    of_work_dir(folder).stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def airflow(work_dir: Path) -> Airflow:
    conf = work_dir / "spark"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text("\n".join(f"{name} {value}" for name, value in OPTIONS.items()))
    settings = {
        "MILLRACE_DAGS_RETRY_SECONDS": "1",
        "MILLRACE_DAGS_FRESH_MINUTES": "1440",
        "MILLRACE_DAGS_MILLRACE": str(Path(sys.executable).with_name("millrace")),
        "MILLRACE_WAREHOUSE_DSN": of_work_dir(work_dir).start(),
        "SPARK_CONF_DIR": str(conf),
    }
    found = find_airflow(ROOT / "batch" / "dags", work_dir, settings)
    found.prepare()
    return found


def rows(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the marts, and of what was loaded, but for when and by which load."""
    found = {}
    with psycopg.connect(dsn) as connection:
        names = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
            " where table_schema in ('marts', 'lake') and table_name not in ('applied_loads', 'loads')"
        ).fetchall()
        for (name,) in names:
            loaded = connection.execute(f"select to_jsonb(t) - 'built_from_load_id' as row from {name} as t order by 1")  # noqa: S608
            found[name] = loaded.fetchall()
    return found


def versions(work_dir: Path) -> dict[str, int]:
    return {path.name: DeltaTable(str(path)).version() for path in (work_dir / "lake").iterdir()}


def loader() -> psutil.Process | None:
    """Return the process that loads, started by our Airflow."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "load_warehouse" in process.cmdline():
                return process
        except psutil.Error:
            continue
    return None


def waits_for_lock(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select 1 from pg_stat_activity where application_name = 'load_warehouse' and wait_event_type = 'Lock'"
        ).fetchone()
    return found is not None


def test_night_survives_a_killed_load_and_a_second_run(airflow: Airflow, work_dir: Path) -> None:
    dsn, said = of_work_dir(work_dir).dsn, list[str]()
    with psycopg.connect(dsn) as connection:
        ddl.create_missing(connection)

    # The load deletes the day from table after table, in one transaction; at the last one it meets this lock.
    last = list(TABLES)[-1]
    with ThreadPoolExecutor(1) as beside, psycopg.connect(dsn) as connection:
        connection.execute(f"lock table lake.{last} in share mode")
        night = beside.submit(airflow.run_night, DAY, said.append)
        assert wait_until(lambda: night.done() or waits_for_lock(dsn), 900), said
        found = loader()
        assert found is not None and not night.done(), said
        found.send_signal(signal.SIGKILL)
        connection.rollback()
        night.result(timeout=900)
    assert airflow.tries("load_warehouse") == [(2, "success")]
    assert airflow.tries("sessions") == [(1, "success")]
    assert said[-1].startswith(f"the night of {DAY} is done")

    lake = work_dir / "lake"
    stream = {DAY: headlines.of_stream(lake)[DAY]}
    assert stream[DAY].sessions and stream[DAY].revenue_cents and stream[DAY].orders
    corrected = {DAY: headlines.corrected(stream, lake)[DAY]}
    assert not Compared(stream, corrected, headlines.of_marts(dsn)).differences

    before, files = rows(dsn), versions(work_dir)
    assert before["lake.sessions"] and before["marts.mart_funnel"]
    again = [str(airflow.program), "dags", "test", "ecommerce_etl_daily", str(DAY), "--mark-success-pattern", ONCE]
    subprocess.run(again, env=airflow.environment, check=True, capture_output=True)
    # The report of the first run came after its load.
    after = rows(dsn) | {"lake.quality_results": before["lake.quality_results"]}
    assert (after, versions(work_dir)) == (before, files)


def test_day_without_events_fails_and_says_so(airflow: Airflow) -> None:
    said: list[str] = []
    once = replace(airflow, settings={**airflow.settings, "MILLRACE_DAGS_RETRIES": "0"})
    with pytest.raises(AirflowError, match="table events has no rows of 2026-02-01"):
        once.run_night(date(2026, 2, 1), said.append)
    assert said[-1] == "the night of 2026-02-01 failed: check_day"


def test_day_that_only_ends_sessions_is_left_out_and_no_failure(airflow: Airflow) -> None:
    said: list[str] = []
    airflow.run_night(AFTER, said.append)
    assert said[-1].startswith(f"the night of {AFTER} was left out: no session began on {AFTER}")
    assert [line for line in said if "load_warehouse" in line] == []
