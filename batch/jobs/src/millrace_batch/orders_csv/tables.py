"""Schema `orders_csv` of the warehouse: the files, their orders, and the lines that are none."""

from typing import Final

from millrace_batch.warehouse.ddl import Connection

# Money is numeric(18,2) and items are jsonb, their amounts strings, as in lake.transactions.
_DDL: Final = """
    create schema if not exists orders_csv;
    create table if not exists orders_csv.files (
        file_id bigint generated always as identity primary key,
        content_sha256 text not null unique,
        path text not null,
        size_bytes bigint not null,
        written_at timestamptz not null,
        unreadable_reason text check (unreadable_reason in ('empty', 'no_header')),
        line_count bigint not null default 0,
        loaded_count bigint not null default 0,
        rejected_count bigint not null default 0,
        duplicate_count bigint not null default 0,
        loaded_at timestamptz not null default now(),
        constraint books_balance check (line_count = loaded_count + rejected_count + duplicate_count)
    );
    create table if not exists orders_csv.orders (
        transaction_id text not null,
        status text not null,
        occurred_at timestamptz not null,
        event_date date not null,
        user_id text not null,
        currency text not null,
        payment_method text not null,
        total_amount numeric(18,2) not null,
        order_items jsonb not null,
        file_id bigint not null references orders_csv.files,
        line_number bigint not null,
        primary key (transaction_id, status, occurred_at)
    );
    create table if not exists orders_csv.rejects (
        file_id bigint not null references orders_csv.files,
        line_number bigint not null,
        reason text not null,
        detail text not null,
        raw_line bytea not null,
        primary key (file_id, line_number)
    );
    create table if not exists orders_csv.seen (
        path text primary key,
        size_bytes bigint not null,
        written_at_ns bigint not null
    )
"""
ORDER_COLUMNS: Final = (
    *("transaction_id", "status", "occurred_at", "event_date", "user_id", "currency", "payment_method"),
    *("total_amount", "order_items", "file_id", "line_number"),
)
REJECT_COLUMNS: Final = ("file_id", "line_number", "reason", "detail", "raw_line")


def create_missing(connection: Connection) -> None:
    """Create the schema and its tables, where they are missing."""
    connection.execute(_DDL)
