"""millrace batch load_orders: the CSV files of a drop folder into the warehouse."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from millrace_batch.orders_csv.errors import DropFolderError
from millrace_batch.orders_csv.folder import DropFolder
from millrace_batch.orders_csv.loading import SETTLING, Done, State, load_orders
from millrace_local import batch_options, options
from millrace_local.warehouse import warehouse_dsn

Folder = Annotated[str, typer.Option("--folder", help="Where the files are: a path, or s3://bucket/path.")]
Settling = Annotated[
    float, typer.Option("--settling-seconds", min=0, help="A file that was written to more recently is left for later.")
]

_SETTLING_SECONDS: Final = SETTLING.total_seconds()


def register(batch: typer.Typer) -> None:
    """Add the command to those of `millrace batch`."""
    batch.command("load_orders")(orders)


def orders(
    folder: Folder,
    settling_seconds: Settling = _SETTLING_SECONDS,
    idle_exit: batch_options.IdleExit = 0,
    work_dir: options.WorkDir = options.WORK_DIR,
) -> None:
    """Load the orders of CSV files that were not loaded yet; every line is loaded, rejected or a duplicate."""
    done = load_orders(
        warehouse_dsn(work_dir), DropFolder(folder), datetime.now(UTC), timedelta(seconds=settling_seconds)
    )
    states = Counter[State]()
    failed: list[Done] = []
    for file in done:
        states[file.state] += 1
        if file.state is State.FAILED:
            failed.append(file)
        if file.state is not State.KNOWN:
            batch_options.show(_line(file))
    if failed:
        named = "; ".join(f"{file.path}: {file.detail}" for file in failed)
        message = f"{len(failed)} files of {folder} cannot be opened, all others were looked at: {named}"
        raise DropFolderError(message)
    if not states[State.LOADED] and not states[State.UNREADABLE]:
        batch_options.show(f"{folder} has no file that is new: {states[State.KNOWN]} known")
        raise typer.Exit(idle_exit)


def _line(file: Done) -> str:
    if file.state is State.LOADED:
        found = file.counts
        return f"{file.path}: {found.loaded} loaded, {found.rejected} rejected, {found.duplicate} duplicate"
    return f"{file.path}: {file.state}{f' ({file.detail})' if file.detail else ''}"
