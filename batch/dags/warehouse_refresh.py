"""Keeps past days current: when tables of the stream have changed, what is due is computed again, loaded, and built.

An event only wakes it. Each task asks the tables themselves what is due, for the days before today: a lost or doubled
event changes nothing. Once an hour it looks without an event. Where nothing is due, a task is skipped.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from millrace_dags import settings
from millrace_dags.assets import LAKE, LOADED_DAYS, MARTS
from millrace_dags.operators import MillraceOperator
from millrace_dags.policy import dag_args

SETTINGS = settings.load()
NOTHING_DUE = 99
# By when the run was due, and not by when a task of it runs: tries of one run look at the same days.
YESTERDAY = "{{ (dag_run.run_after - macros.timedelta(days=1)) | ds }}"
FIRST_DAY = f"{{{{ (dag_run.run_after - macros.timedelta(days={SETTINGS.refresh_days})) | ds }}}}"
STREAM = ("events", "late_events", "sessions", "transactions")
COMPUTED = (
    *("sessions", "reconciliation", "user_daily_metrics", "product_metrics", "session_metrics_daily"),
    *("fact_daily_metrics", "user_segments", "user_features", "recommendation_features"),
)


def _refresh(part: str, **kwargs: Any) -> MillraceOperator:
    return MillraceOperator(
        task_id=f"refresh_{part}",
        arguments=["batch", "refresh", part, "--from", FIRST_DAY, "--to", YESTERDAY, "--idle-exit", str(NOTHING_DUE)],
        skip_exit_code=NOTHING_DUE,
        **kwargs,
    )


with DAG(
    "warehouse_refresh",
    description="What is due of past days: computed again, loaded, built.",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("30 * * * *", timezone="UTC"),
        assets=LAKE["events"] | LAKE["late_events"] | LAKE["sessions"] | LAKE["transactions"],
    ),
    tags=["assets", "spark", "warehouse", "dbt"],
    doc_md=__doc__,
    **(dag_args(SETTINGS) | {"catchup": False}),
) as dag:
    tables = _refresh(
        "tables",
        inlets=[LAKE[name] for name in STREAM],
        outlets=[LAKE[name] for name in COMPUTED],
        execution_timeout=timedelta(hours=6),
        doc_md="The Spark jobs, each for the days that it is due for. A day that fails holds no other day up.",
    )
    warehouse = _refresh(
        "warehouse",
        inlets=[LAKE[name] for name in COMPUTED],
        outlets=[LOADED_DAYS],
        trigger_rule="none_failed",
        doc_md="The days that the warehouse has otherwise than the lake, each in one transaction.",
    )
    marts = _refresh(
        "marts",
        inlets=[LOADED_DAYS],
        outlets=list(MARTS.values()),
        trigger_rule="none_failed",
        doc_md="dbt build, if there was a load since the last one that went well.",
    )
    tables >> warehouse >> marts
