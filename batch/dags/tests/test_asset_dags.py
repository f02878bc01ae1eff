"""The DAGs that wake on assets, run by Airflow with a `millrace` that answers as it is told to."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select

from millrace_dags import lake_versions

DAGS = Path(__file__).parents[1]
RUN_AT = datetime(2026, 3, 10, 3, 30, tzinfo=UTC)
# A run is named by its time.
NUMBERS = count()


def test_news_is_what_the_newest_events_do_not_say() -> None:
    now = {"events": 7, "sessions": 3, "transactions": 0, "late_events": 1, "dead_letters": 2}
    told = {"events": 7, "sessions": 2, "transactions": 5, "late_events": None}
    assert lake_versions.news(now, told) == {"sessions": 3, "transactions": 0, "late_events": 1, "dead_letters": 2}


@pytest.mark.parametrize("lines", [[], ["[]"], ['{"events": "7"}'], ["no table"]])
def test_versions_that_are_none_are_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError):
        lake_versions.read(lines)


@pytest.fixture(scope="module")
def airflow() -> Iterator[DagBag]:
    """Make Airflow's database, with these DAGs in it."""
    initdb()
    bag = DagBag(str(DAGS))
    with create_session() as session:
        session.merge(DagBundleModel(name="dags"))
    sync_bag_to_db(bag, "dags", None)
    yield bag


@pytest.fixture
def run(airflow: DagBag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Return a function that runs a DAG with lines of shell as `millrace`; it returns the state of each task."""
    program = tmp_path / "millrace"
    monkeypatch.setenv("MILLRACE_DAGS_MILLRACE", str(program))

    def run(dag_id: str, *lines: str) -> dict[str, str]:
        program.write_text("\n".join(("#!/bin/sh", f'echo "$*" >> {tmp_path}/calls', *lines)) + "\n")
        program.chmod(0o755)
        done = airflow.dags[dag_id].test(run_after=RUN_AT + timedelta(microseconds=next(NUMBERS)))
        return {task.task_id: str(task.state) for task in done.get_task_instances()}

    return run


def events() -> list[tuple[str, Any]]:
    with create_session() as session:
        rows = session.execute(
            select(AssetModel.name, AssetEvent.extra)
            .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
            .order_by(AssetEvent.id)
        ).all()
    return [(name, extra) for name, extra in rows]


def versions(**now: int) -> str:
    return f"echo '{json.dumps(now)}'"


def test_each_new_version_is_told_once(run: Callable[..., dict[str, str]]) -> None:
    before = len(events())
    assert run("lake_watcher", versions(events=4, sessions=1))["tell_new_versions"] == "success"
    assert sorted(events()[before:]) == [("lake.events", {"version": 4}), ("lake.sessions", {"version": 1})]
    before = len(events())
    assert run("lake_watcher", versions(events=4, sessions=1))["tell_new_versions"] == "skipped"
    assert run("lake_watcher", "exit 2")["tell_new_versions"] == "upstream_failed"
    assert events()[before:] == []
    # Of what came while no run went well, the next one tells.
    assert run("lake_watcher", versions(events=9, sessions=1, computations=3))["tell_new_versions"] == "success"
    assert events()[before:] == [("lake.events", {"version": 9})]


def test_refresh_asks_for_the_days_before_its_run_and_tells_of_what_it_did(
    run: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    before = len(events())
    states = run("warehouse_refresh", "[ $3 = tables ] && exit 99; exit 0")
    assert states == {"refresh_tables": "skipped", "refresh_warehouse": "success", "refresh_marts": "success"}
    days = "--from 2026-03-03 --to 2026-03-09 --idle-exit 99"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"batch refresh {part} {days}" for part in ("tables", "warehouse", "marts")
    ]
    told = {name for name, _ in events()[before:]}
    assert "warehouse.lake" in told
    assert not any(name.startswith("lake.") for name in told), "no table of the lake was written"


def test_refresh_that_finds_nothing_tells_nobody(run: Callable[..., dict[str, str]]) -> None:
    before = len(events())
    assert set(run("warehouse_refresh", "exit 99").values()) == {"skipped"}
    assert events()[before:] == []


def test_refresh_does_not_load_what_could_not_be_computed(run: Callable[..., dict[str, str]]) -> None:
    states = run("warehouse_refresh", "exit 2")
    assert states == {
        "refresh_tables": "failed",
        "refresh_warehouse": "upstream_failed",
        "refresh_marts": "upstream_failed",
    }


def test_orders_of_files_are_told_of_when_there_are_new_ones(run: Callable[..., dict[str, str]]) -> None:
    before = len(events())
    assert run("orders_csv_to_warehouse", "exit 99") == {"load_orders": "skipped"}
    assert events()[before:] == []
    assert run("orders_csv_to_warehouse", "exit 0") == {"load_orders": "success"}
    assert sorted(name for name, _ in events()[before:]) == ["orders_csv.orders", "orders_csv.rejects"]
