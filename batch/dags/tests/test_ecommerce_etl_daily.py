"""The night's DAG: which day a run is for, what follows what, and what people are told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, Context
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from pendulum import UTC, DateTime

from millrace_dags.assets import BATCH_TABLES, LAKE, LOADED_DAYS, MARTS
from millrace_dags.models import BEFORE
from millrace_dags.summary import Summary, summary

FILE = Path(__file__).parents[1] / "ecommerce_etl_daily.py"


@pytest.fixture(scope="session")
def dag() -> DAG:
    return DagBag(str(FILE)).dags["ecommerce_etl_daily"]


@pytest.fixture(scope="session")
def scheduled(dag: DAG) -> SerializedDAG:
    """The DAG as the scheduler has it."""
    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))


def runs(dag: SerializedDAG, earliest: DateTime, latest: DateTime) -> list[tuple[str, str]]:
    """Return (when it is due, its logical date) of every run with a logical date between the two."""
    restriction = TimeRestriction(earliest, latest, catchup=True)
    interval: DataInterval | None = None
    found = []
    while info := dag.timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction):
        interval = info.data_interval
        assert interval is not None and interval.start == info.logical_date
        found.append((str(info.run_after), str(info.logical_date)))
    return found


def test_run_at_two_is_for_the_day_before(scheduled: SerializedDAG) -> None:
    day = DateTime(2026, 3, 7, tzinfo=UTC)
    assert runs(scheduled, day, day.add(days=1)) == [("2026-03-08 02:00:00+00:00", "2026-03-07 02:00:00+00:00")]


def test_catching_up_runs_every_day_once(scheduled: SerializedDAG) -> None:
    due = runs(scheduled, DateTime(2026, 2, 26, tzinfo=UTC), DateTime(2026, 3, 2, tzinfo=UTC))
    assert [logical_date[:10] for _, logical_date in due] == ["2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01"]


def test_commands_are_for_the_day_of_the_logical_date(dag: DAG) -> None:
    asked: Any = dag.get_task("daily_metrics")
    asked.render_template_fields(Context(ds="2026-03-07"))
    assert asked.arguments == ["batch", "daily_metrics", "--date", "2026-03-07"]


def before(dag: DAG, task: str) -> set[str]:
    return dag.get_task(task).get_flat_relative_ids(upstream=True)


def test_nothing_is_computed_before_the_day_is_checked(dag: DAG) -> None:
    assert {task.task_id for task in dag.tasks if "check_day" not in before(dag, task.task_id)} == {"check_day"}


def test_what_is_loaded_is_computed_before_and_judged_after(dag: DAG) -> None:
    features = {"user_segments", "user_features", "recommendation_features"}
    assert before(dag, "load_warehouse") >= {"sessions", "daily_metrics", *features}
    assert before(dag, "dbt_views") >= {"load_warehouse"}
    assert before(dag, "quality") >= {"dbt_assertions", *(f"dbt_{name}" for name in MARTS)}
    assert before(dag, "tell") == {task.task_id for task in dag.tasks} - {"tell"}


def test_mart_comes_after_the_views_and_the_marts_it_reads(dag: DAG) -> None:
    for name, read in BEFORE.items():
        assert before(dag, f"dbt_{name}") >= {"dbt_views", *(f"dbt_{other}" for other in read)}
        assert f"dbt_{name}" in before(dag, "dbt_assertions")


def test_every_table_and_mart_is_an_outlet_of_one_task(dag: DAG) -> None:
    made: list[Any] = [asset for task in dag.tasks for asset in task.outlets]
    expected = [*(LAKE[name] for name in ("sessions", *BATCH_TABLES)), *MARTS.values(), LOADED_DAYS]
    assert sorted(asset.name for asset in made) == sorted(asset.name for asset in expected)


def test_deadline_survives_being_stored(scheduled: SerializedDAG) -> None:
    assert scheduled.deadline


def test_broker_proves_the_books_where_a_stack_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_DAGS_HAS_STACK", "1")
    dag: Any = DagBag(str(FILE)).dags["ecommerce_etl_daily"]
    assert dag.get_task("check_books").arguments == ["ledger"]
    assert "check_books" in before(dag, "sessions")


def test_night_without_a_deadline_has_no_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_DAGS_DEADLINE_MINUTES", "0")
    assert not DagBag(str(FILE)).dags["ecommerce_etl_daily"].deadline


@pytest.mark.parametrize(
    ("states", "quality", "skipped", "expected"),
    [
        ({"a": "success"}, ["1 of 1 checks hold"], None, Summary("the night of D is done", False, False)),
        ({"a": "success"}, ["warn: x"], None, Summary("the night of D is done, with warnings: x", False, True)),
        ({"check_day": "skipped", "a": "skipped"}, [], "why", Summary("the night of D was left out: why", False, True)),
        ({"a": "failed", "b": "upstream_failed"}, [], None, Summary("the night of D failed: a", True, True)),
        ({"a": "failed", "b": "success"}, ["warn: x"], None, Summary("the night of D failed: a", True, True)),
    ],
)
def test_people_are_told_what_came_of_it(
    states: Mapping[str, str], quality: Sequence[str], skipped: str | None, expected: Summary
) -> None:
    assert summary("D", states, quality, skipped) == expected
