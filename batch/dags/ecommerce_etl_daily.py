"""The nightly DAG of Airflow: a day of the lake computed, loaded, modelled and judged; README.md says more."""

from datetime import timedelta

from airflow.sdk import (  # type: ignore[attr-defined]  # the stub of this release lacks what deadlines need
    DAG,
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    SyncCallback,
    TaskGroup,
)

from millrace_dags import models, settings
from millrace_dags.assets import BATCH_TABLES, LAKE, LOADED_DAYS, MARTS, STREAM_TABLES
from millrace_dags.night_tasks import BatchOperator, DbtOperator, TellOperator
from millrace_dags.notification import tell_of_late_run
from millrace_dags.operators import MillraceOperator
from millrace_dags.policy import dag_args

SETTINGS = settings.load()

with DAG(
    "ecommerce_etl_daily",
    description="A day of the lake: compacted, computed, loaded, modelled, judged.",
    # The run of 02:00 is for the day before: its interval, and so its logical date and `ds`, begin then.
    schedule=CronDataIntervalTimetable("0 2 * * *", "UTC"),
    deadline=[DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, SETTINGS.deadline, SyncCallback(tell_of_late_run))]
    if SETTINGS.deadline
    else None,
    tags=["night", "spark", "dbt", "warehouse"],
    doc_md=__doc__,
    **dag_args(SETTINGS),
) as dag:
    check_day = BatchOperator(
        job="check_day",
        options=["--fresh-minutes", str(SETTINGS.fresh_within // timedelta(minutes=1))],
        inlets=[LAKE["events"], LAKE["transactions"], LAKE["sessions"]],
        doc_md="Is the lake as far as the day's end, and do its ledger rows balance? No session began: no night.",
    )
    begin: MillraceOperator = check_day
    if SETTINGS.has_stack:
        begin = MillraceOperator(
            task_id="check_books",
            arguments=["ledger"],
            doc_md="The proof that nothing was lost or doubled, from the broker and the lake.",
        )
        check_day >> begin
    compact = BatchOperator(job="compact", doc_md="Few large files of the days that are over.")
    sessions = BatchOperator(
        job="sessions",
        inlets=[LAKE["events"], LAKE["late_events"], LAKE["sessions"]],
        outlets=[LAKE["sessions"], LAKE["reconciliation"]],
        doc_md="The day's sessions again, from all events; fails for a difference that nothing explains.",
    )
    daily_metrics = BatchOperator(
        job="daily_metrics",
        inlets=[LAKE["events"], LAKE["sessions"], LAKE["transactions"]],
        outlets=[
            *(LAKE["user_daily_metrics"], LAKE["product_metrics"], LAKE["session_metrics_daily"]),
            LAKE["fact_daily_metrics"],
        ],
        doc_md="The day by user, by product, by device and country, and in one row.",
    )
    features = [
        BatchOperator(
            job=name,
            inlets=[LAKE["events"], LAKE["sessions"], LAKE["transactions"]],
            outlets=[LAKE[name]],
            doc_md="Users and products by what was known at the end of the day.",
        )
        for name in ("user_segments", "user_features", "recommendation_features")
    ]
    load_warehouse = BatchOperator(
        job="load_warehouse",
        inlets=[LAKE[name] for name in (*STREAM_TABLES, *BATCH_TABLES)],
        outlets=[LOADED_DAYS],
        doc_md="The day into Postgres, in one transaction.",
    )
    with TaskGroup("dbt", prefix_group_id=False) as dbt:
        views = DbtOperator(
            model=models.VIEWS,
            arguments=["build", "--select", "staging", "intermediate", "--exclude", *models.WITH.values()],
            inlets=[LOADED_DAYS],
            doc_md="The views of staging and intermediate, and their tests.",
        )
        built = {
            name: DbtOperator(
                model=name,
                arguments=["build", "--select", name, *([models.WITH[name]] if name in models.WITH else [])],
                inlets=[LOADED_DAYS, *(MARTS[other] for other in models.BEFORE[name] if other in MARTS)],
                outlets=[MARTS[name]] if name in MARTS else [],
                doc_md=f"Builds `{name}` and runs its tests.",
            )
            for name in models.BEFORE
        }
        assertions = DbtOperator(
            model="assertions",
            arguments=["test", "--select", "test_type:singular"],
            doc_md="What must hold between marts.",
        )
        for name, before in models.BEFORE.items():
            ([built[other] for other in before] or views) >> built[name]
            built[name] >> assertions
    quality = BatchOperator(
        job="quality",
        inlets=[LAKE["events"], LAKE["sessions"], LAKE["transactions"], LAKE["fact_daily_metrics"]],
        outlets=[LAKE["quality_results"]],
        doc_md="Every check of the day, and a report. An error fails the run, a warning is told.",
    )
    tell = TellOperator(task_id="tell", trigger_rule="all_done", doc_md="Tells how it went, and fails if it failed.")

    begin >> [compact, sessions]
    sessions >> daily_metrics >> features >> load_warehouse
    load_warehouse >> dbt >> quality
    [compact, quality] >> tell
