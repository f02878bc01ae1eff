"""What is made of Airflow's output, and that it ends with us; a line of shell stands in for it."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from millrace_local.airflow import Airflow, AirflowError, find_airflow
from millrace_local.errors import LocalStackError
from millrace_local.night_commands import run_night
from millrace_local.processes import Identity
from millrace_local.stack import wait_until

DAY = date(2026, 3, 1)
STARTS = "2026-03-02T02:00:01Z [info     ] [DAG TEST] starting task_id=sessions map_index=-1 [airflow.sdk] loc=dag.py:1"
FAILS = "airflow.sdk.exceptions.AirflowException: millrace batch ended with 1: millrace: no table events"
TOLD = "2026-03-02T02:00:02Z [warning  ] the night of 2026-03-01 failed: sessions [millrace_dags.notification] loc=n:2"

Made = Callable[[str], Airflow]


@pytest.fixture
def airflow(tmp_path: Path) -> Made:
    """Return a function that makes an Airflow whose program is this line of shell."""

    def made(line: str) -> Airflow:
        program = tmp_path / "airflow"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        (tmp_path / "logs").mkdir()
        return Airflow(program, tmp_path, tmp_path)

    return made


def test_tasks_are_told_as_they_begin_and_the_log_has_all(airflow: Made) -> None:
    said: list[str] = []
    run = airflow(f"echo '{STARTS}'; echo $AIRFLOW_HOME $*")
    run.run_night(DAY, said.append)
    assert said == ["the night of 2026-03-01: sessions"]
    assert run.log.read_text() == f"{STARTS}\n{run.work_dir}/airflow dags test ecommerce_etl_daily 2026-03-01\n"


def test_end_is_told_also_where_the_line_has_nothing_behind_it(airflow: Made) -> None:
    said: list[str] = []
    told = "2026-03-02 [warning  ] the night of 2026-03-01 is done, with warnings: x"
    airflow(f"echo '{STARTS}'; echo '{told}'").run_night(DAY, said.append)
    assert said[-1] == "the night of 2026-03-01 is done, with warnings: x"


def test_run_without_a_task_is_no_night(airflow: Made) -> None:
    with pytest.raises(AirflowError, match="ran no task for 2026-03-01"):
        airflow("echo Marking run successful").run_night(DAY, lambda line: None)


def test_failed_night_says_what_failed_first(airflow: Made) -> None:
    said: list[str] = []
    with pytest.raises(AirflowError, match="failed: millrace batch ended with 1: millrace: no table events"):
        airflow(f"echo '{FAILS}'; echo '{TOLD}'; exit 1").run_night(DAY, said.append)
    assert said == ["the night of 2026-03-01 failed: sessions"]


def test_airflow_that_fails_without_a_word_of_tasks_shows_its_log(airflow: Made) -> None:
    with pytest.raises(AirflowError, match="no such command"):
        airflow("echo no such command >&2; exit 1").run_night(DAY, lambda line: None)


def test_interrupt_ends_airflow_and_all_it_has_started(
    airflow: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace_local.airflow._STOP_SECONDS", 0.2)
    run = airflow(f"trap '' TERM INT; sleep 600 & echo $$ $! > {tmp_path}/pids; echo '{STARTS}'; wait")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run_night(DAY, interrupt)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_until(lambda: not any(one and one.alive for one in map(Identity.of, pids)), 10)


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(AirflowError, match="make dags-install"):
        find_airflow(tmp_path, tmp_path)
    with pytest.raises(LocalStackError, match="run `make demo` first"):
        run_night(work_dir=tmp_path)
    assert not list(tmp_path.iterdir())
