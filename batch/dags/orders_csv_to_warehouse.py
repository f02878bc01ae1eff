"""Loads orders that come as CSV files in a drop folder into the warehouse, and tells of lines that are none.

The folder is looked at every few minutes; a file is what it contains, so one that is known changes nothing. Where there
is no new one, the run is skipped.
"""

from airflow.sdk import DAG, CronTriggerTimetable

from millrace_dags import settings
from millrace_dags.assets import CSV_ORDERS, DROP_FOLDER
from millrace_dags.operators import MillraceOperator
from millrace_dags.policy import dag_args

SETTINGS = settings.load()
NO_NEW_FILE = 99

with DAG(
    "orders_csv_to_warehouse",
    description="Orders in CSV files into the warehouse.",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    tags=["files", "warehouse"],
    doc_md=__doc__,
    **(dag_args(SETTINGS) | {"catchup": False}),
) as dag:
    MillraceOperator(
        task_id="load_orders",
        arguments=["batch", "load_orders", "--folder", SETTINGS.orders_folder, "--idle-exit", str(NO_NEW_FILE)],
        skip_exit_code=NO_NEW_FILE,
        inlets=[DROP_FOLDER],
        outlets=CSV_ORDERS,
        doc_md="Each new file in one transaction; counts are in orders_csv.files, rejects in orders_csv.rejects.",
    )
