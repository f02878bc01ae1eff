"""Airflow runs the nightly DAG on a small lake, and says what there is to say of a day that has no night."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from millrace_local.airflow import Airflow, AirflowError, find_airflow
from millrace_local.postgres import of_work_dir
from small_night import AFTER, write_small_night
from small_spark import OPTIONS

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.warehouse, pytest.mark.timeout(1800)]

ROOT: Final = Path(__file__).parents[2]


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
