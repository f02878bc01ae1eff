"""One Postgres for all tests; each module has a database of its own in it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from millrace_local.postgres import Postgres


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Start the server; return how to connect."""
    # pytest's own folders are closed to the user that the server runs as under root
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    postgres = Postgres(base / "warehouse", {"fsync": "off", "max_connections": "20"})
    yield postgres.start()
    postgres.stop()
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def dsn(server: str, request: pytest.FixtureRequest) -> str:
    """Make an empty database; return how to connect to it."""
    name = request.module.__name__.rpartition(".")[2]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return server.replace("dbname=millrace", f"dbname={name}")
