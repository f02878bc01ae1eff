"""A connection to the warehouse that is one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from millrace_batch.warehouse.ddl import Connection
from millrace_batch.warehouse.errors import WarehouseUnavailableError

_CONNECT_SECONDS: Final = 10


@contextmanager
def connected(dsn: str, name: str, if_lost: str) -> Iterator[Connection]:
    """Connect; commit at the end, or roll back on an error.

    Args:
        dsn: of the warehouse.
        name: of this program, as Postgres shows it.
        if_lost: what then is true, and what to do: a sentence or two.

    Raises:
        WarehouseUnavailableError: Postgres does not answer, or cut the connection.
    """
    try:
        # What psycopg.connect opens, it commits or rolls back.
        with psycopg.connect(dsn, connect_timeout=_CONNECT_SECONDS, application_name=name) as connection:
            connection.execute("set local timezone to 'UTC'")
            yield connection
    except psycopg.OperationalError as error:
        message = f"the warehouse does not answer. {if_lost} {error}"
        raise WarehouseUnavailableError(message) from error
