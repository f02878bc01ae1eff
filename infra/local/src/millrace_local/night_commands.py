"""millrace night."""

import signal
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer
from deltalake import DeltaTable

from millrace_common.settings import load
from millrace_local import console, headlines, night, options, postgres
from millrace_local.airflow import Airflow, find_airflow
from millrace_local.errors import LocalStackError
from millrace_local.settings import LocalSettings
from millrace_local.warehouse import warehouse_dsn

# What a demo sends ends somewhere in the day, and so does what anybody sends by hand.
_SETTINGS: Final = {
    "MILLRACE_DAGS_FRESH_MINUTES": "1440",
    "MILLRACE_DAGS_RETRIES": "1",
    "MILLRACE_DAGS_RETRY_SECONDS": "5",
}

Dags = Annotated[Path, typer.Option("--dags", help="The DAG files, with Airflow's environment in .venv.")]
DbtProject = Annotated[Path, typer.Option("--dbt-project", help="The models of the warehouse.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(name="night")(run_night)


def run_night(
    dags: Dags = Path("batch/dags"),
    dbt_project: DbtProject = Path("dbt"),
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Let Airflow run the nightly DAG for every day of the lake, and show its marts beside the stream."""
    work_dir = work_dir.absolute()
    days = _days(work_dir / "lake")
    airflow = find_airflow(dags, work_dir, _SETTINGS)
    with console.download_bar("Delta for Spark") as progress:
        night.find_tools(load(LocalSettings), dbt_project, progress)
    own = postgres.of_work_dir(work_dir)
    was_running = own.running
    # It stops what was started, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        compared = _run(airflow, days, work_dir)
    finally:
        signal.signal(signal.SIGTERM, before)
        if not was_running:
            own.stop()
    console.out.print(headlines.table(compared))
    for difference in compared.differences:
        console.out.print(f"  {difference}", markup=False)
    console.out.print(f"Airflow's log: {airflow.log}", markup=False)
    raise typer.Exit(1 if compared.differences else 0)


def _days(lake: Path) -> list[date]:
    """Return the days that sessions began on.

    Raises:
        LocalStackError: there is no lake, or none of its sessions is closed yet.
    """
    table = str(lake / "sessions")
    if not DeltaTable.is_deltatable(table) or not DeltaTable.is_deltatable(str(lake / "events")):
        message = f"there is no lake in {lake}: run `make demo` first, or `make up` and send traffic"
        raise LocalStackError(message)
    days = sorted(night.with_sessions(headlines.of_stream(lake), console.say))
    if not days:
        message = f"no session in {lake} is closed yet: one closes half an hour after its last event"
        raise LocalStackError(message)
    return days


def _run(airflow: Airflow, days: list[date], work_dir: Path) -> headlines.Compared:
    console.say("starting Airflow")
    airflow.prepare()
    for day in days:
        airflow.run_night(day, console.say)
    stream = headlines.of_stream(work_dir / "lake")
    stream = {day: stream[day] for day in days}
    return headlines.Compared(
        stream, headlines.corrected(stream, work_dir / "lake"), headlines.of_marts(warehouse_dsn(work_dir))
    )
