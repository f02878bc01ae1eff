from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lake_days import schema_of, write_day
from millrace_batch.errors import EmptyInputError, MissingTableError
from millrace_batch.lake import Lake
from millrace_batch.warehouse.errors import TableChangedError, WarehouseError, WarehouseUnavailableError
from millrace_batch.warehouse.lake import DeltaLake, Partition
from millrace_batch.warehouse.loading import load_day
from millrace_batch.warehouse.tables import TABLES, WarehouseTable
from millrace_local.stack import wait_until
from small_shop import DAYS, Shop, at, change_first_day, session, shop

pytestmark = pytest.mark.warehouse

FIRST, SECOND, _ = DAYS


@dataclass
class Watched:
    """A lake that hands out few rows at a time, and calls `seen` with their number before each batch."""

    lake: DeltaLake
    seen: Callable[[int], None]
    count: int = 0

    def read(self, table: WarehouseTable, day: date) -> Partition:
        found = self.lake.read(table, day)
        return replace(found, batches=self._few(found.batches))

    def _few(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for offset in range(0, batch.num_rows, 5):
                self.count += 1
                self.seen(self.count)
                yield batch.slice(offset, 5)


@pytest.fixture
def made(tmp_path: Path) -> Shop:
    rows = shop()
    rows.write(tmp_path, DAYS)
    return rows


@pytest.fixture(autouse=True)
def _empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists lake cascade")


def _rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()


def _everything(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    return {name: sorted(_rows(dsn, f"select * from lake.{name}"), key=repr) for name in TABLES}


def test_rows_arrive_exactly_and_a_second_load_changes_none(dsn: str, tmp_path: Path, made: Shop) -> None:
    loaded = {done.table: done for done in load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)}
    columns = [name for name in TABLES["sessions"].columns if name != "session_date"]
    expected = [tuple(row.get(name) for name in columns) for row in made.sessions[FIRST]]
    read = _rows(dsn, f"select {', '.join(columns)} from lake.sessions where session_date = '{FIRST}'")
    assert sorted(read, key=repr) == sorted(expected, key=repr)
    [(items, total, when)] = _rows(
        dsn, "select order_items, total_amount, occurred_at from lake.transactions where transaction_id = 'o6'"
    )
    assert items == [{"product_id": "p3", "quantity": 1, "price": "1234567.89", "category": "things"}]
    assert (str(total), when) == ("1234567.89", at(FIRST, 13))
    assert (loaded["sessions"].rows, loaded["sessions"].replaced_rows) == (len(expected), 0)
    assert loaded["sessions"].lake_version == len(DAYS) - 1
    assert (loaded["quality_results"].rows, loaded["quality_results"].lake_version) == (0, None)

    before = _everything(dsn)
    load_day(dsn, DeltaLake(Lake(str(tmp_path))), SECOND)
    again = {done.table: done for done in load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)}
    assert again["sessions"].replaced_rows == len(expected)
    with psycopg.connect(dsn) as connection:
        for table in TABLES.values():
            connection.execute(f"delete from lake.{table.name} where {table.day_column} = '{SECOND}'")
    assert _everything(dsn) == before
    assert _rows(dsn, "select count(*), min(row_count) from lake.loads where table_name = 'sessions'") == [(3, 27)]


def _fail(_: str) -> None:
    message = "the machine went away"
    raise OSError(message)


def _cut_off(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        ended = other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'load_warehouse' and datname = current_database()"
        ).fetchall()
    assert ended == [(True,)]


@pytest.mark.parametrize(
    ("cut", "error"), [(_fail, OSError), (_cut_off, WarehouseUnavailableError)], ids=["read_fails", "backend_ends"]
)
def test_cut_load_leaves_old_day_whole(
    dsn: str, tmp_path: Path, made: Shop, cut: Callable[[str], None], error: type[Exception]
) -> None:
    lake = DeltaLake(Lake(str(tmp_path)))
    load_day(dsn, lake, FIRST)
    before, loads = _everything(dsn), _rows(dsn, "select * from lake.loads")
    change_first_day(made)
    made.write(tmp_path, [FIRST])
    uncut = Watched(lake, lambda _: None)
    for number in (2, 6):

        def at_number(count: int, number: int = number) -> None:
            if count == number:
                cut(dsn)

        with pytest.raises(error):
            load_day(dsn, Watched(lake, at_number), FIRST)
        assert _everything(dsn) == before
        assert _rows(dsn, "select * from lake.loads") == loads
    load_day(dsn, uncut, FIRST)
    assert uncut.count > 6
    assert len(_rows(dsn, "select from lake.sessions")) == len(made.sessions[FIRST])


@pytest.mark.usefixtures("made")
def test_two_loads_of_a_day_wait_for_each_other(dsn: str, tmp_path: Path) -> None:
    lake = DeltaLake(Lake(str(tmp_path)))

    def wait_for_other(count: int) -> None:
        if count == 1:
            assert wait_until(lambda: _waiting(dsn), timeout_seconds=20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load_day, dsn, Watched(lake, wait_for_other), FIRST)
        assert wait_until(lambda: _holding(dsn), timeout_seconds=20)
        second = pool.submit(load_day, dsn, lake, FIRST)
        rows = {done.table: done for done in first.result()}, {done.table: done for done in second.result()}
    assert (rows[0]["sessions"].rows, rows[1]["sessions"].replaced_rows) == (27, 27)
    assert _rows(dsn, "select count(*) from lake.sessions") == [(27,)]


def _holding(dsn: str) -> bool:
    return bool(_rows(dsn, "select from pg_locks where locktype = 'advisory' and granted"))


def _waiting(dsn: str) -> bool:
    return bool(_rows(dsn, "select from pg_locks where locktype = 'advisory' and not granted"))


@pytest.mark.usefixtures("made")
def test_new_column_is_added_and_changed_one_refused(dsn: str, tmp_path: Path) -> None:
    lake = DeltaLake(Lake(str(tmp_path)))
    load_day(dsn, lake, FIRST)
    sessions = TABLES["sessions"]
    wider = schema_of(sessions).append(pa.field("campaign", pa.string()))
    row = {**session("new", at(SECOND, 5), None), "session_date": SECOND, "campaign": "spring"}
    full = {field.name: row.get(field.name) for field in wider}
    write_deltalake(
        str(tmp_path / "sessions"), pa.Table.from_pylist([full], schema=wider), mode="append", schema_mode="merge"
    )
    load_day(dsn, lake, SECOND)
    campaigns = _rows(dsn, "select campaign, count(*) from lake.sessions group by campaign order by 2")
    assert [campaign for campaign, _ in campaigns] == ["spring", None]

    before = _everything(dsn)
    other = wider.set(wider.get_field_index("revenue_cents"), pa.field("revenue_cents", pa.float64()))
    write_deltalake(
        str(tmp_path / "sessions"),
        pa.Table.from_pylist([full], schema=other),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=["session_date"],
    )
    with pytest.raises(
        TableChangedError, match="revenue_cents of table sessions is double precision in the lake and big"
    ):
        load_day(dsn, lake, SECOND)
    assert _everything(dsn) == before


def test_missing_and_empty_input_is_named(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(MissingTableError, match="no table sessions"):
        load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)
    write_day(tmp_path, "sessions", FIRST, [session("a", at(FIRST, 5), None)])
    with pytest.raises(EmptyInputError, match=f"sessions has no rows of {SECOND}"):
        load_day(dsn, DeltaLake(Lake(str(tmp_path))), SECOND)
    assert _rows(dsn, "select to_regnamespace('lake')") == [(None,)], "nothing of a refused load stays"


def test_error_does_not_tell_the_password(tmp_path: Path) -> None:
    dsn = f"host={tmp_path} user=millrace password=sesame dbname=millrace"
    with pytest.raises(WarehouseUnavailableError) as caught:
        load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)
    assert "sesame" not in str(caught.value)


def test_value_that_postgres_cannot_hold_is_an_error_of_the_load(dsn: str, tmp_path: Path, made: Shop) -> None:
    made.sessions[FIRST].append(session("nul", at(FIRST, 5), "a\0b"))
    made.write(tmp_path, [FIRST])
    with pytest.raises(WarehouseError, match="cannot hold a value of 2026-03-07"):
        load_day(dsn, DeltaLake(Lake(str(tmp_path))), FIRST)
