"""Turns new versions of the lake's tables into asset events, which wake the DAGs that are scheduled on them.

Whoever writes the tables, the stream first of all, knows nothing of Airflow. Every few minutes the versions are read
from the tables' logs and held against the newest event of each asset. A lost run costs nothing: the next one tells.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, AssetAlias, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowSkipException

from millrace_dags import lake_versions, settings
from millrace_dags.assets import LAKE
from millrace_dags.operators import MillraceOperator
from millrace_dags.policy import dag_args

# Which of the assets get an event is only known when it runs.
NEW_VERSIONS = AssetAlias("lake.new_versions", group="lake")

with DAG(
    "lake_watcher",
    description="New versions of the lake's tables, as asset events.",
    schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
    tags=["lake", "assets"],
    doc_md=__doc__,
    **(dag_args(settings.load()) | {"catchup": False}),
) as dag:
    read_versions = MillraceOperator(
        task_id="read_versions",
        arguments=["batch", "versions"],
        execution_timeout=timedelta(minutes=5),
        doc_md="Which version each table is at, from its log.",
    )

    @task(
        inlets=list(LAKE.values()),
        outlets=[NEW_VERSIONS],
        execution_timeout=timedelta(minutes=5),
        doc_md="An event for each table with a version that the newest event does not say; none: skipped.",
    )
    def tell_new_versions(lines: list[str], *, inlet_events: Any = None, outlet_events: Any = None) -> dict[str, int]:
        """Add the events; they are committed with the task's success."""
        now = {name: version for name, version in lake_versions.read(lines).items() if name in LAKE}
        told = {}
        for name in now:
            for event in inlet_events[LAKE[name]].ascending(False).limit(1):
                told[name] = event.extra.get(lake_versions.VERSION)
        found = lake_versions.news(now, told)
        if not found:
            message = "no table has a new version"
            raise AirflowSkipException(message)
        for name, version in found.items():
            outlet_events[NEW_VERSIONS].add(LAKE[name], extra={lake_versions.VERSION: version})
        return found

    tell_new_versions(read_versions.output)  # type: ignore[arg-type]  # what it will be when the task runs
