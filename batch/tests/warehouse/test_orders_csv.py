import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from typer.testing import CliRunner

from millrace_batch.orders_csv import loading
from millrace_batch.orders_csv.errors import DropFolderError
from millrace_batch.orders_csv.folder import DropFolder
from millrace_batch.orders_csv.lines import sha256
from millrace_batch.orders_csv.loading import Counts, Done, State, load_orders
from millrace_batch.orders_csv.rules import COLUMNS, judge
from millrace_local.cli import app

pytestmark = pytest.mark.warehouse

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER: Final = ",".join(COLUMNS)
ITEMS: Final = '"[{""productId"": ""p"", ""quantity"": 2, ""price"": 9.99, ""category"": ""c""}]"'


def line(order: str, status: str = "pending", total: str = "19.98") -> str:
    return f"{order},u-1,{ITEMS},{total},EUR,card,{status},1772350000000"


@pytest.fixture(autouse=True)
def _empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists orders_csv cascade")


def drop(folder: Path, name: str, *lines: str, age: timedelta = timedelta(hours=1), end: str = "\n") -> Path:
    path = folder / name
    path.write_text("\n".join((HEADER, *lines)) + end)
    return aged(path, age)


def aged(path: Path, age: timedelta) -> Path:
    then = (NOW - age).timestamp()
    os.utime(path, (then, then))
    return path


def load(dsn: str, folder: Path) -> dict[str, Done]:
    return {Path(done.path).name: done for done in load_orders(dsn, DropFolder(str(folder)), NOW)}


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def everything(dsn: str) -> Iterable[Any]:
    return [rows(dsn, f"select * from orders_csv.{name} order by 1, 2") for name in ("files", "orders", "rejects")]


def test_each_line_is_loaded_rejected_or_a_duplicate(dsn: str, tmp_path: Path) -> None:
    drop(
        tmp_path,
        "a.csv",
        *(line("o-1"), line("o-1", "completed"), line("o-2", total="20.00"), line("o-1"), "nonsense", line("o-3")),
    )
    assert load(dsn, tmp_path)["a.csv"].counts == Counts(loaded=3, rejected=2, duplicate=1)
    assert rows(dsn, "select line_count, loaded_count, rejected_count, duplicate_count from orders_csv.files") == [
        (6, 3, 2, 1)
    ]
    assert rows(dsn, "select line_number, reason, raw_line from orders_csv.rejects order by 1") == [
        (4, "total_mismatch", line("o-2", total="20.00").encode()),
        (6, "malformed_line", b"nonsense"),
    ]
    [(items, total, day, at)] = rows(
        dsn, "select order_items, total_amount, event_date, occurred_at from orders_csv.orders where line_number = 7"
    )
    assert items == [{"product_id": "p", "quantity": 2, "price": "9.99", "category": "c"}]
    assert (str(total), day.isoformat(), at.timestamp()) == ("19.98", "2026-03-01", 1_772_350_000)


def test_content_that_is_known_changes_nothing_whatever_it_is_called(dsn: str, tmp_path: Path) -> None:
    first = drop(tmp_path, "a.csv", line("o-1"), "nonsense")
    load(dsn, tmp_path)
    before = everything(dsn)
    drop(tmp_path, "copy.csv", line("o-1"), "nonsense", age=timedelta(hours=2))
    aged(first, timedelta(hours=3))
    for _ in range(2):
        assert {done.state for done in load(dsn, tmp_path).values()} == {State.KNOWN}
        assert everything(dsn) == before


def test_file_that_grows_brings_what_is_new_and_its_cut_line(dsn: str, tmp_path: Path) -> None:
    whole = line("o-2", "completed")
    drop(tmp_path, "a.csv", line("o-1"), whole[:-3], end="")
    assert load(dsn, tmp_path)["a.csv"].counts == Counts(loaded=1, rejected=1)
    assert rows(dsn, "select reason from orders_csv.rejects") == [("unterminated_line",)]
    drop(tmp_path, "a.csv", line("o-1"), whole, line("o-3"), age=timedelta(minutes=30))
    assert load(dsn, tmp_path)["a.csv"].counts == Counts(loaded=2, duplicate=1)
    assert rows(dsn, "select transaction_id, status from orders_csv.orders order by 1") == [
        ("o-1", "pending"),
        ("o-2", "completed"),
        ("o-3", "pending"),
    ]


def test_file_that_was_just_written_to_waits(dsn: str, tmp_path: Path) -> None:
    path = drop(tmp_path, "a.csv", line("o-1"), age=timedelta(seconds=59))
    assert load(dsn, tmp_path)["a.csv"].state is State.UNSETTLED
    aged(path, timedelta(seconds=60))
    assert load(dsn, tmp_path)["a.csv"].state is State.LOADED


def test_file_that_is_no_csv_is_recorded_and_the_others_are_loaded(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"PAR1\x00\xff\xfe" * 1000)
    (tmp_path / "c.csv").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "folder.csv").mkdir()
    for name in ("b.csv", "c.csv"):
        aged(tmp_path / name, timedelta(hours=1))
    drop(tmp_path, "d.csv", line("o-1"))
    done = load(dsn, tmp_path)
    assert {name: (one.state, one.detail) for name, one in done.items()} == {
        "b.csv": (State.UNREADABLE, "no_header"),
        "c.csv": (State.UNREADABLE, "empty"),
        "d.csv": (State.LOADED, ""),
    }
    assert rows(dsn, "select unreadable_reason, line_count from orders_csv.files order by path") == [
        ("no_header", 0),
        ("empty", 0),
        (None, 1),
    ]
    assert {one.state for one in load(dsn, tmp_path).values()} == {State.KNOWN}


def test_file_that_changes_while_it_is_read_is_left_for_later(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(tmp_path, "a.csv", line("o-1"))

    def then_written_to(opened: Any) -> str:
        digest = sha256(opened)
        drop(tmp_path, "a.csv", line("o-1"), line("o-2"))
        return digest

    monkeypatch.setattr(loading, "sha256", then_written_to)
    assert load(dsn, tmp_path)["a.csv"].state is State.UNSETTLED
    assert everything(dsn) == [[], [], []]
    monkeypatch.undo()
    assert load(dsn, tmp_path)["a.csv"].counts == Counts(loaded=2)


def test_load_that_is_cut_leaves_nothing_of_the_file(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_LINES_AT_ONCE", 2)
    drop(tmp_path, "a.csv", *(line(f"o-{number}") for number in range(7)), "nonsense")
    judged = 0

    def cut(*given: Any) -> Any:
        nonlocal judged
        judged += 1
        if judged == 6:
            message = "the machine went away"
            raise RuntimeError(message)
        return judge(*given)

    monkeypatch.setattr(loading, "judge", cut)
    with pytest.raises(RuntimeError):
        load(dsn, tmp_path)
    assert everything(dsn) == [[], [], []]
    assert load(dsn, tmp_path)["a.csv"].counts == Counts(loaded=7, rejected=1)


def test_command_says_what_became_of_each_file(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(tmp_path, "a.csv", line("o-1"))
    runner = CliRunner(env={"MILLRACE_WAREHOUSE_DSN": dsn})
    given = ["batch", "load_orders", "--folder", str(tmp_path), "--settling-seconds", "0", "--idle-exit", "99"]
    done = runner.invoke(app, given)
    assert (done.exit_code, done.output) == (0, f"{tmp_path}/a.csv: 1 loaded, 0 rejected, 0 duplicate\n")
    again = runner.invoke(app, given)
    assert (again.exit_code, again.output) == (99, f"{tmp_path} has no file that is new: 1 known\n")

    drop(tmp_path, "b.csv", line("o-2"))
    opened = DropFolder.open

    def refuse(self: DropFolder, file: Any) -> Any:
        if file.path.endswith("b.csv"):
            raise PermissionError(file.path)
        return opened(self, file)

    monkeypatch.setattr(DropFolder, "open", refuse)
    drop(tmp_path, "c.csv", line("o-3"))
    refused = runner.invoke(app, given)
    assert isinstance(refused.exception, DropFolderError)
    assert f"{tmp_path}/c.csv: 1 loaded" in refused.output
    assert "1 files of" in str(refused.exception)


def test_folder_that_is_not_there_is_named(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(DropFolderError, match="gone cannot be listed"):
        list(load_orders(dsn, DropFolder(str(tmp_path / "gone")), NOW))
