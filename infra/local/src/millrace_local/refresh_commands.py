"""millrace batch due, and refresh: what has to be computed again, and doing it."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from millrace_batch import refresh as refreshing
from millrace_batch import spark as spark_sessions
from millrace_batch.due import Days, as_lines, due_jobs, due_loads
from millrace_batch.lake import Lake
from millrace_batch.night import Night
from millrace_batch.warehouse import freshness
from millrace_local import batch_options, options
from millrace_local.dbt import find_dbt
from millrace_local.warehouse import warehouse_dsn


class Part(StrEnum):
    """What is refreshed: each from the one before."""

    TABLES = "tables"
    WAREHOUSE = "warehouse"
    MARTS = "marts"


Which = Annotated[Part, typer.Argument(help="tables of the lake by Spark, the warehouse by loads, marts by dbt.")]
Project = Annotated[Path, typer.Option("--project", help="marts: the dbt project, with its environment in .venv.")]


def register(batch: typer.Typer) -> None:
    """Add the commands to those of `millrace batch`."""
    batch.command()(due)
    batch.command()(refresh)


def due(
    from_day: batch_options.FirstDay,
    to_day: batch_options.LastDay,
    lake: batch_options.LakeUri = "",
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Say which jobs would have to be run again for which days, since what they read has changed; runs none."""
    tables, days = Lake(lake or str(work_dir / "lake")), _days(from_day, to_day)
    dsn = warehouse_dsn(work_dir)
    for line in as_lines([*due_jobs(tables, days), *due_loads(dsn, tables, days)]):
        batch_options.show(line)
    if freshness.due_build(dsn) is not None:
        batch_options.show("marts: the warehouse was loaded since they were built")


def refresh(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    part: Which,
    from_day: batch_options.FirstDay,
    to_day: batch_options.LastDay,
    lake: batch_options.LakeUri = "",
    master: batch_options.Master = spark_sessions.LOCAL_MASTER,
    memory_mib: batch_options.Memory = 1024,
    idle_exit: batch_options.IdleExit = 0,
    project: Project = Path("dbt"),
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Do what is due, and nothing else; a second time, nothing is."""
    night = Night(
        day=to_day.date(),
        lake=Lake(lake or str(work_dir / "lake")),
        spark=batch_options.spark_maker(master, memory_mib),
        warehouse=lambda: warehouse_dsn(work_dir),
        tell=batch_options.show,
    )
    days = _days(from_day, to_day)
    if part is Part.MARTS:
        done = _build_marts(warehouse_dsn(work_dir), project, work_dir)
    else:
        refreshed = refreshing.refresh_tables if part is Part.TABLES else refreshing.refresh_warehouse
        done = refreshed(night, days) > 0
    if not done:
        batch_options.show(f"{part}: nothing is due from {days.first} to {days.last}")
        raise typer.Exit(idle_exit)


def _build_marts(dsn: str, project: Path, work_dir: Path) -> bool:
    # Loads that come while dbt builds are left for the next time: which models have seen them is not known.
    through = freshness.due_build(dsn)
    if through is None:
        return False
    logs = work_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    batch_options.show(f"dbt: {find_dbt(project).build(dsn, logs)}")
    freshness.record_build(dsn, through)
    return True


def _days(first: datetime, last: datetime) -> Days:
    if last < first:
        message = f"--to {last.date()} is before --from {first.date()}"
        raise typer.BadParameter(message)
    return Days(first.date(), last.date())
