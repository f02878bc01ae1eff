"""millrace warehouse."""

import subprocess
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer

from millrace_local import console, options, postgres
from millrace_local.dbt import find_dbt
from millrace_local.errors import LocalStackError
from millrace_local.warehouse import warehouse_dsn

Project = Annotated[Path, typer.Option("--project", help="The dbt project, with its environment in .venv.")]

_warehouse: Final = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="The local Postgres, and dbt on the warehouse."
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    _warehouse.command()(up)
    _warehouse.command()(down)
    _warehouse.command()(query)
    _warehouse.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(dbt)
    app.add_typer(_warehouse, name="warehouse")


def up(work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Start the local Postgres, and say how to reach it."""
    console.out.print(postgres.of_work_dir(work_dir).start(), markup=False, soft_wrap=True)


def down(work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Stop the local Postgres; keeps the data."""
    postgres.of_work_dir(work_dir).stop()


def query(
    statement: Annotated[str, typer.Argument(metavar="SQL", help="It may read, and change nothing.")],
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Ask the warehouse: `millrace warehouse query 'select * from marts.fct_daily_metrics'`."""
    own = postgres.of_work_dir(work_dir)
    was_running = own.running
    try:
        with psycopg.connect(warehouse_dsn(work_dir), options="-c timezone=UTC") as connection:
            connection.read_only = True
            cursor = connection.execute(statement.encode())
            columns = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if columns else []
    except psycopg.Error as error:
        message = f"the warehouse cannot answer: {str(error).strip()}"
        raise LocalStackError(message) from error
    finally:
        if not was_running:
            own.stop()
    cells = [columns, *(["" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    for line in cells:
        shown = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        console.out.print(shown.rstrip(), markup=False)


def dbt(context: typer.Context, project: Project = Path("dbt"), work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Run dbt on the warehouse: `millrace warehouse dbt build`; ends with dbt's own exit code."""
    found = find_dbt(project)
    done = subprocess.run(  # noqa: S603
        found.command(context.args),
        cwd=found.project,
        env=found.environment(warehouse_dsn(work_dir)),
        check=False,
    )
    raise typer.Exit(done.returncode)
