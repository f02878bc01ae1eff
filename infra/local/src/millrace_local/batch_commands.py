"""millrace batch."""

from datetime import date as UtcDay
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from millrace_batch import jobs
from millrace_batch import spark as spark_sessions
from millrace_batch.errors import NothingBeganError
from millrace_batch.lake import Lake
from millrace_batch.night import FRESH_WITHIN, Again, Night
from millrace_local import batch_options, options, orders_commands, refresh_commands, tables_commands
from millrace_local.warehouse import warehouse_dsn

_NAMES = ", ".join(jobs.JOBS)
_REENRICH: Final = "reenrich"
_JOB: Final = "job"
# Neither success nor failure: Airflow skips the night for it, and other shells can tell it apart.
_NOTHING_TO_DO: Final = 99

JobName = Annotated[str, typer.Argument(metavar="JOB", help=f"One of: {_NAMES}.")]
Day = Annotated[
    datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="The UTC day that the job is about.")
]
From = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="reenrich: the first UTC day.")]
To = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="reenrich: the last UTC day.")]
Products = Annotated[
    str, typer.Option("--products", help="reenrich: all products, as .csv, .ndjson, .parquet or a Delta table.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="reenrich: say what would change, and write nothing.")]
ReportDir = Annotated[
    Path | None, typer.Option("--report-dir", help="Where quality puts its report; default: the work dir's reports.")
]
FreshMinutes = Annotated[
    int, typer.Option("--fresh-minutes", min=0, help="check_day: so long before the day's end its newest event may be.")
]


class _Commands(TyperGroup):
    """The commands that have a name of their own; any other name is one of a job, which then is an argument."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self.commands.get(_JOB if cmd_name in jobs.JOBS else cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return _JOB, self.commands[_JOB], args


_batch: Final = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=f"Jobs of the night, `millrace batch JOB --date DAY`, one of: {_NAMES}. And what keeps their tables current:",
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    _batch.command(_JOB, hidden=True)(batch)
    refresh_commands.register(_batch)
    orders_commands.register(_batch)
    tables_commands.register(_batch)
    app.add_typer(_batch, name="batch")


def batch(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    job: JobName,
    date: Day = None,
    from_date: From = None,
    to_date: To = None,
    products: Products = "",
    dry_run: DryRun = False,
    lake: batch_options.LakeUri = "",
    master: batch_options.Master = spark_sessions.LOCAL_MASTER,
    memory_mib: batch_options.Memory = 1024,
    metrics_dir: batch_options.MetricsDir = None,
    report_dir: ReportDir = None,
    fresh_minutes: FreshMinutes = FRESH_WITHIN // timedelta(minutes=1),
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Run a job of the night on the lake; a second run for a day changes nothing. Exits with 99 if none is due."""
    first, last = _days(job, date, from_date, to_date)
    if job != _REENRICH and (products or dry_run):
        message = f"--products and --dry-run are for {_REENRICH}"
        raise typer.BadParameter(message)
    night = Night(
        day=first,
        lake=Lake(lake or str(work_dir / "lake")),
        spark=batch_options.spark_maker(master, memory_mib),
        warehouse=lambda: warehouse_dsn(work_dir),
        report_dir=report_dir or work_dir / "reports",
        again=Again(last, products, dry_run) if products else None,
        fresh_within=timedelta(minutes=fresh_minutes),
        tell=batch_options.show,
    )
    try:
        outcome = jobs.run(job, night, metrics_dir)
    except NothingBeganError as error:
        batch_options.show(str(error))
        raise typer.Exit(_NOTHING_TO_DO) from error
    for line in outcome.lines:
        batch_options.show(line)


def _days(job: str, given: datetime | None, first: datetime | None, last: datetime | None) -> tuple[UtcDay, UtcDay]:
    """Return the first and the last day: --date alone, or for reenrich --from and --to."""
    if first is None and last is None:
        if given is None:
            message = f"say which day: --date{', or --from and --to' if job == _REENRICH else ''}"
            raise typer.BadParameter(message)
        return given.date(), given.date()
    if job != _REENRICH or given is not None or first is None or last is None:
        message = f"--from and --to go together, without --date, and are for {_REENRICH}"
        raise typer.BadParameter(message)
    if last < first:
        message = f"--to {last.date()} is before --from {first.date()}"
        raise typer.BadParameter(message)
    return first.date(), last.date()
