import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from typer.testing import CliRunner

from millrace_local.cli import app
from millrace_local.errors import LocalStackError
from millrace_local.postgres import Postgres, PostgresError

pytestmark = pytest.mark.warehouse

# Nothing here is about surviving a loss of power.
FAST = {"fsync": "off", "max_connections": "10"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # pytest's own folders are closed to the user that the server runs as under root
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    yield base / "warehouse"
    Postgres(base / "warehouse").stop()
    shutil.rmtree(base)


def _postmaster_pid(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])


def test_server_keeps_its_data_and_is_taken_for_nobody_else(folder: Path) -> None:
    server = Postgres(folder, FAST)
    assert not server.running
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as one")
    first = psutil.Process(_postmaster_pid(folder))
    assert Postgres(folder).start() == server.dsn
    assert _postmaster_pid(folder) == first.pid, "it runs already"

    # a crash leaves the file behind, and the process id is given to somebody else
    first.kill()
    first.wait(10)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        left = folder / "data" / "postmaster.pid"
        left.write_text("\n".join([str(stranger.pid), *left.read_text().splitlines()[1:]]))
        assert not server.running
        server.stop()
        assert stranger.poll() is None, "a stranger was stopped"
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("select one from kept").fetchall() == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    server.stop()
    assert not server.running


def test_query_starts_the_server_for_itself_and_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLRACE_WAREHOUSE_DSN", raising=False)
    command = ["warehouse", "query", "--work-dir", str(folder.parent)]
    told = CliRunner().invoke(app, [*command, "select 40 + 2 as answer, null as nothing"])
    assert (told.exit_code, told.output.split()) == (0, ["answer", "nothing", "42"]), told.output
    refused = CliRunner().invoke(app, [*command, "create table made_by_a_query ()"])
    assert isinstance(refused.exception, LocalStackError)
    assert "read-only" in str(refused.exception)
    assert not Postgres(folder).running


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_server_gets_through_a_closed_folder_and_does_not_open_it(folder: Path) -> None:
    closed = folder.parent / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "warehouse", FAST)
    try:
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("select 1").fetchall() == [(1,)]
        assert psutil.Process(_postmaster_pid(server.folder)).uids().effective != 0
    finally:
        server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_closed_folder_is_named_where_it_cannot_be_passed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = folder.parent / "shut"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PostgresError, match="shut is closed to it"):
        Postgres(closed / "warehouse").start()
    assert closed.stat().st_mode & 0o777 == 0o700
