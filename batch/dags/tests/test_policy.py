"""Every DAG file can be imported, quickly, and every DAG and task has what the policy asks for."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from millrace_dags import policy
from millrace_dags.settings import Settings
from policy_breaches import breaches

DAGS = Path(__file__).parents[1]
# What a DAG file may not need: the work is done by processes, and the scheduler reads these files all the time.
HEAVY = {"pyspark", "deltalake", "polars", "pyarrow", "pandas", "dbt", "psycopg"}


@pytest.fixture(scope="session")
def dag_bag() -> DagBag:
    return DagBag(str(DAGS))


def test_no_dag_has_an_import_error(dag_bag: DagBag) -> None:
    assert not dag_bag.import_errors


def test_every_dag_file_gives_dags(dag_bag: DagBag) -> None:
    assert {Path(dag.fileloc).name for dag in dag_bag.dags.values()} == {path.name for path in DAGS.glob("*.py")}


def test_every_dag_keeps_to_the_policy(dag_bag: DagBag) -> None:
    assert {name: found for name, dag in dag_bag.dags.items() if (found := breaches(dag))} == {}


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_dag_file_imports_nothing_heavy(path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); print(*sys.modules)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        cwd=DAGS,
        env={"PYTHONPATH": str(DAGS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(done.stdout.split())


def test_policy_finds_what_is_missing() -> None:
    with DAG("bare", schedule=None) as dag:
        EmptyOperator(task_id="one", retries=0)
    assert breaches(dag) == [
        *("no tags", "no doc_md", "runs side by side", "no start date", "nobody is told when it fails"),
        *("one: no owner", "one: no retries", "one: no back-off", "one: back-off without a bound", "one: no timeout"),
        "one: no doc_md",
    ]


def test_default_args_keep_to_the_policy() -> None:
    with DAG("good", schedule=None, tags=["t"], doc_md="What.", **policy.dag_args(Settings())) as dag:
        EmptyOperator(task_id="one", doc_md="How.")
    assert not breaches(dag)
    assert not dag.catchup
    # A day of any history can be run by hand: Airflow leaves out the tasks of one before the start, without a word.
    assert dag.start_date == datetime(1970, 1, 1, tzinfo=UTC)


def test_days_are_made_up_for_from_the_day_that_settings_name() -> None:
    first = datetime(2026, 3, 1, tzinfo=UTC)
    with DAG("good", schedule=timedelta(days=1), **policy.dag_args(Settings(catch_up_from=first))) as dag:
        EmptyOperator(task_id="one")
    assert (dag.start_date, dag.catchup) == (first, True)
