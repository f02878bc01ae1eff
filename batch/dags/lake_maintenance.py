"""Looks after every table of the lake once a week: files no commit knows, VACUUM, log clean-up.

The nightly run does the last two for the tables of the stream. This one does them for the tables of the jobs too, and
tells of files that a commit should know and does not.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from millrace_dags import settings
from millrace_dags.operators import MillraceOperator
from millrace_dags.policy import dag_args

SETTINGS = settings.load()

with DAG(
    "lake_maintenance",
    description="Old files and old log away, and files that nobody knows.",
    schedule=CronTriggerTimetable("0 5 * * 0", timezone="UTC"),
    tags=["lake", "spark"],
    doc_md=__doc__,
    **(dag_args(SETTINGS) | {"catchup": False}),
) as dag:
    MillraceOperator(
        task_id="maintain",
        arguments=[
            *("batch", "maintain"),
            *(("--metrics-dir", str(SETTINGS.metrics_dir)) if SETTINGS.metrics_dir is not None else ()),
        ],
        execution_timeout=timedelta(hours=6),
        doc_md="Removes nothing that VACUUM would not remove; a second run finds nothing.",
    )
