"""Loads the files of a drop folder into schema `orders_csv`, each in a transaction of its own, once for each content.

A file is what it contains: its digest names it. The same content a second time, under another name too, changes
nothing; a file that has grown is another file, whose first lines are duplicates. An order is what ingest takes for one:
order, status and time. Whether a file is still being written is judged by when it was last written, and that is only to
save work: what was read of half a file is counted, and the whole one is loaded when it is there.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from psycopg import sql

from millrace_batch.orders_csv import tables
from millrace_batch.orders_csv.folder import DropFolder, DroppedFile
from millrace_batch.orders_csv.lines import Line, Lines, sha256
from millrace_batch.orders_csv.rules import Order, Reject, header, judge
from millrace_batch.warehouse.connecting import connected
from millrace_batch.warehouse.ddl import Connection

SETTLING: Final = timedelta(minutes=1)
"""A file that was written to within it is left for the next time."""

_NAME: Final = "load_orders"
_LOST: Final = "Each file is loaded whole or not at all: load them again."
# Loads wait for each other: two of one file would each count it as new.
_LOCK: Final = 0x6F726465727363  # "ordersc"
_LINES_AT_ONCE: Final = 5_000


class State(StrEnum):
    """What became of a file."""

    LOADED = "loaded"
    UNREADABLE = "unreadable"
    KNOWN = "known"
    UNSETTLED = "unsettled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Counts:
    """The lines of a file behind its header, each in one of three."""

    loaded: int = 0
    rejected: int = 0
    duplicate: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one file.

    Attributes:
        path: of it.
        state: what became of it.
        counts: of its lines, if it was loaded.
        detail: why it was not.
    """

    path: str
    state: State
    counts: Counts = Counts()
    detail: str = ""


def load_orders(dsn: str, folder: DropFolder, now: datetime, settling: timedelta = SETTLING) -> Iterator[Done]:
    """Load every file that is not known yet, and say of each what became of it.

    Raises:
        DropFolderError: the folder is not there.
        WarehouseUnavailableError: Postgres does not answer, or cut the connection; the files before are loaded.
    """
    with connected(dsn, _NAME, _LOST) as connection:
        tables.create_missing(connection)
        seen = _seen(connection)
    for file in folder.files():
        if seen.get(file.path) == (file.size_bytes, file.written_at_ns):
            yield Done(file.path, State.KNOWN)
        elif not file.is_settled(now, settling):
            yield Done(file.path, State.UNSETTLED)
        else:
            yield _load_file(dsn, folder, file)


class _ChangedError(Exception):
    """A file is not what it was when its digest was taken."""


def _load_file(dsn: str, folder: DropFolder, file: DroppedFile) -> Done:
    try:
        with folder.open(file) as opened:
            digest = sha256(opened)
        with connected(dsn, _NAME, _LOST) as connection, folder.open(file) as opened:
            return _load(connection, file, digest, Lines(opened))
    except _ChangedError:
        return Done(file.path, State.UNSETTLED)
    except OSError as error:
        return Done(file.path, State.FAILED, detail=str(error))


def _load(connection: Connection, file: DroppedFile, digest: str, lines: Lines) -> Done:
    connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    _see(connection, file)
    if connection.execute("select file_id from orders_csv.files where content_sha256 = %s", (digest,)).fetchone():
        return Done(file.path, State.KNOWN)
    rest = iter(lines)
    first = next(rest, None)
    columns = None if first is None else header(first)
    file_id = _note(connection, file, digest)
    if columns is None:
        reason = "empty" if first is None else "no_header"
        connection.execute("update orders_csv.files set unreadable_reason = %s where file_id = %s", (reason, file_id))
        for _ in rest:  # to its end, for its digest
            pass
        done = Done(file.path, State.UNREADABLE, detail=reason)
    else:
        judged = ((line, judge(line, columns, file.written_at)) for line in rest)
        done = Done(file.path, State.LOADED, _load_lines(connection, file_id, judged))
    if lines.sha256 != digest:
        # Rolls all of it back.
        raise _ChangedError
    return done


def _load_lines(connection: Connection, file_id: int, judged: Iterator[tuple[Line, Order | Reject]]) -> Counts:
    connection.execute("create temporary table staged_orders (like orders_csv.orders) on commit drop")
    lines = orders = rejected = 0
    while some := list(islice(judged, _LINES_AT_ONCE)):
        good = [_order_row(file_id, line, found) for line, found in some if isinstance(found, Order)]
        bad = [
            (file_id, line.number, found.reason.value, found.detail, line.raw)
            for line, found in some
            if isinstance(found, Reject)
        ]
        _copy(connection, sql.Identifier("pg_temp", "staged_orders"), tables.ORDER_COLUMNS, good)
        _copy(connection, sql.Identifier("orders_csv", "rejects"), tables.REJECT_COLUMNS, bad)
        lines, orders, rejected = lines + len(some), orders + len(good), rejected + len(bad)
    # Of two lines of one order, status and time, the first counts; one of an earlier file before both.
    loaded = connection.execute(
        "insert into orders_csv.orders select distinct on (transaction_id, status, occurred_at) *"
        " from pg_temp.staged_orders order by transaction_id, status, occurred_at, line_number on conflict do nothing"
    ).rowcount
    counts = Counts(loaded, rejected, orders - loaded)
    # The table refuses counts that do not add up to its lines.
    connection.execute(
        "update orders_csv.files set line_count = %s, loaded_count = %s, rejected_count = %s, duplicate_count = %s"
        " where file_id = %s",
        (lines, counts.loaded, counts.rejected, counts.duplicate, file_id),
    )
    return counts


def _copy(connection: Connection, table: sql.Identifier, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, names)) as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _order_row(file_id: int, line: Line, order: Order) -> tuple[Any, ...]:
    items = [
        {
            "product_id": item.product_id,
            "quantity": item.quantity,
            "price": f"{item.price:.2f}",
            "category": item.category,
        }
        for item in order.items
    ]
    return (
        *(order.transaction_id, order.status, order.occurred_at, order.event_date, order.user_id, order.currency),
        *(order.payment_method, order.total, json.dumps(items), file_id, line.number),
    )


def _note(connection: Connection, file: DroppedFile, digest: str) -> int:
    row = connection.execute(
        "insert into orders_csv.files (content_sha256, path, size_bytes, written_at) values (%s, %s, %s, %s)"
        " returning file_id",
        (digest, file.path, file.size_bytes, file.written_at),
    ).fetchone()
    assert row is not None  # noqa: S101  # an insert returns its row
    return int(str(row[0]))


def _see(connection: Connection, file: DroppedFile) -> None:
    """Remember that a file like this was looked at, so that it need not be read again."""
    connection.execute(
        "insert into orders_csv.seen values (%(path)s, %(size)s, %(written)s)"
        " on conflict (path) do update set size_bytes = %(size)s, written_at_ns = %(written)s",
        {"path": file.path, "size": file.size_bytes, "written": file.written_at_ns},
    )


def _seen(connection: Connection) -> dict[str, tuple[int, int]]:
    rows = connection.execute("select path, size_bytes, written_at_ns from orders_csv.seen")
    return {str(path): (int(str(size)), int(str(written))) for path, size, written in rows}
