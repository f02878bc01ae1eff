"""What became of every record: the lake held against what the generator knows, and the books against themselves."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from bench import Sent
from millrace_generator import read_truth
from millrace_local.audit import audit
from millrace_local.evidence import gather
from millrace_local.reading import Library
from millrace_local.stack import Stack

SESSION_FIELDS: Final = (
    *("session_id", "client_session_id", "user_id", "event_count", "page_views", "clicks", "searches", "add_to_carts"),
    *("purchases", "unique_pages", "unique_products", "revenue_cents", "closed_by"),
)
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an arm ends with.

    Attributes:
        events: distinct valid events sent.
        lost: rows of any table that should be there and are not.
        doubled: rows of any table that should not be there, repetitions included.
        problems: a sentence each; empty: the arm holds.
    """

    events: int
    lost: int
    doubled: int
    problems: tuple[str, ...]


def judge(
    stack: Stack,
    truth_path: Path,
    sent: Sent,
    dead_besides: Counter[tuple[str, str, str, str]],
    given_up: Mapping[str, Counter[Any]],
) -> Verdict:
    """Compare what was sent, with `dead_besides` it and without what was `given_up`, with all that is in the lake."""
    truth = read_truth(truth_path)
    pairs: Mapping[str, tuple[Counter[Any], Counter[Any]]] = {
        "events": (sent.event_ids, _rows(stack.lake, "events", "event_id")),
        "transactions": (sent.orders, _rows(stack.lake, "transactions", "transaction_id", "status")),
        "sessions": (
            Counter(_session(line) for line in truth["session"]),
            Counter(_session(row) for row in _sessions(stack.lake).iter_rows(named=True)),
        ),
        "late_events": (
            Counter(line["event_id"] for line in truth.get("late", [])),
            _rows(stack.lake, "late_events", "event_id"),
        ),
        "dead_letters": (
            Counter(_bad(line) for kind in ("malformed", "invalid") for line in truth.get(kind, [])) + dead_besides,
            Counter(_dead(row) for row in _table(stack.lake, "dead_letters").iter_rows(named=True)),
        ),
    }
    books = audit(gather(Library(stack.bootstrap_servers, stack.registry_url, stack.lake)))
    problems = list(books.problems)
    problems += [f"{service} has not read {count} records" for service, count in books.in_flight.items() if count]
    duplicates = sum(truth["totals"][0]["duplicates"].values())
    ingest = books.counts["ingest"]
    # When a leader dies, the producer may repeat a record although it is idempotent: then the log has one more.
    repeated = ingest.read - sent.records - dead_besides.total()
    if ingest.duplicate - duplicates not in (0, repeated):
        problems.append(
            f"{duplicates} duplicates were sent and {repeated} records more are in the logs, "
            f"but ingest dropped {ingest.duplicate}"
        )
    lost = doubled = 0
    for name, (sent_rows, found) in pairs.items():
        gone = given_up.get(name, Counter())
        if gone - sent_rows:
            problems.append(f"{name}: {(gone - sent_rows).total()} rows were given up that nobody sent")
        expected = sent_rows - gone
        missing, surplus = expected - found, found - expected
        lost, doubled = lost + missing.total(), doubled + surplus.total()
        if not expected:
            problems.append(f"nothing was to be expected in {name}: that proves nothing")
        if missing or surplus:
            problems.append(
                f"{name}: {missing.total()} missing, {surplus.total()} too many; "
                f"{list(missing)[:_SHOWN]} against {list(surplus)[:_SHOWN]}"
            )
    return Verdict(sent.event_ids.total(), lost, doubled, tuple(problems))


def _table(lake: Path, name: str) -> pl.DataFrame:
    return pl.read_delta(str(lake / name))


def _rows(lake: Path, name: str, *columns: str) -> Counter[Any]:
    rows = _table(lake, name).select(columns)
    return Counter(rows.rows() if len(columns) > 1 else rows[columns[0]])


def _sessions(lake: Path) -> pl.DataFrame:
    return _table(lake, "sessions").with_columns(
        started_ms=pl.col("started_at").dt.epoch("ms"), ended_ms=pl.col("ended_at").dt.epoch("ms")
    )


def _session(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[field] for field in (*SESSION_FIELDS, "started_ms", "ended_ms"))


def _bad(line: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return line["topic"], line["stage"], line["reason"], line["value_sha256"]


def _dead(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["source_topic"], row["stage"], row["reason"], hashlib.sha256(row["value"] or b"").hexdigest()
