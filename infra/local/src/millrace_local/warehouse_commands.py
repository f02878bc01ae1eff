"""millrace warehouse."""

import os
import subprocess
from pathlib import Path
from typing import Annotated, Final

import typer

from millrace_batch.warehouse import dbt as dbt_environment
from millrace_local import console, options, postgres
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
    _warehouse.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(dbt)
    app.add_typer(_warehouse, name="warehouse")


def up(work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Start the local Postgres, and say how to reach it."""
    console.out.print(postgres.of_work_dir(work_dir).start(), markup=False, soft_wrap=True)


def down(work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Stop the local Postgres; keeps the data."""
    postgres.of_work_dir(work_dir).stop()


def dbt(context: typer.Context, project: Project = Path("dbt"), work_dir: options.WorkDir = options.WORK_DIR) -> None:
    """Run dbt on the warehouse: `millrace warehouse dbt build`; ends with dbt's own exit code."""
    program = project.absolute() / ".venv" / "bin" / "dbt"
    if not program.exists():
        message = f"there is no dbt in {program.parent}: run `make dbt-install`"
        raise LocalStackError(message)
    done = subprocess.run(  # noqa: S603
        [str(program), *context.args],
        cwd=project,
        env={**os.environ, **dbt_environment.environment(warehouse_dsn(work_dir)), "DBT_PROFILES_DIR": "."},
        check=False,
    )
    raise typer.Exit(done.returncode)
