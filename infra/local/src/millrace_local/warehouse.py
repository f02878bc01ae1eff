"""The warehouse of a work directory: the one that the environment names, or a Postgres of our own in it."""

from pathlib import Path

from millrace_batch.warehouse.settings import given_dsn
from millrace_local import postgres


def warehouse_dsn(work_dir: Path) -> str:
    """Return how to reach the warehouse; our own is started if it does not run.

    Raises:
        LocalStackError: our own cannot be started.
    """
    return given_dsn() or postgres.of_work_dir(work_dir).start()
