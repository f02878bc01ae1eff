"""What the page says of a small lake, of good and of bad books."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Partition
from millrace_local.audit import Verdict
from millrace_local.headlines import Compared, Headlines, NightReport
from millrace_local.latency import commit_times
from millrace_local.report import Latency, Report, ledger_sums, read_business, render

AT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Verdict((), {"ingest": Counts(5, 3, 1, 1, 0)}, {"ingest": 2})


def event(product: str | None, kind: str, cents: int | None = None, user: str = "u") -> dict[str, object]:
    fields = {"product_id": product, "product_brand": "acme", "product_category": "toys"}
    return {"user_id": user, "event_type": kind, "amount_cents": cents, **fields}


def lake(folder: Path) -> Path:
    events = [
        event("a", "page_view"),
        event("a", "purchase", 1_250, "v"),
        event("b", "page_view"),
        event(None, "search"),
    ]
    pl.DataFrame(events, infer_schema_length=None).write_delta(str(folder / "events"))
    session = {"has_conversion": True, "revenue_cents": 1_250, "is_bounce": False, "duration_ms": 60_000}
    bounce = {"has_conversion": False, "revenue_cents": 0, "is_bounce": True, "duration_ms": 0}
    pl.DataFrame([session, bounce, bounce, bounce]).write_delta(str(folder / "sessions"))
    pl.DataFrame({"reason": ["invalid_ip", "empty_value", "empty_value"]}).write_delta(str(folder / "dead_letters"))
    return folder


def report(folder: Path, verdict: Verdict = GOOD) -> Report:
    latency = Latency(0.5, 1.5, 2.0)
    return Report(read_business(folder), verdict, latency, {"user-events": 5}, 0.02, 12.0, folder)


def page(shown: Report) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    render(shown, console)
    return console.export_text()


def test_the_shop_is_read_from_the_tables(tmp_path: Path) -> None:
    business = read_business(lake(tmp_path))
    assert business.rows == {"events": 4, "transactions": 0, "sessions": 4, "late_events": 0, "dead_letters": 3}
    assert (business.visitors, business.sessions, business.bounces) == (2, 4, 3)
    assert (business.conversion_rate, business.revenue_cents) == (0.25, 1_250)
    assert business.rejects == {"empty_value": 2, "invalid_ip": 1}
    best = business.top_products[0]
    assert (best.product_id, best.views, best.purchases, best.revenue_cents) == ("a", 1, 1, 1_250)


def test_a_lake_without_tables_is_a_shop_without_visitors(tmp_path: Path) -> None:
    business = read_business(tmp_path)
    assert (business.sessions, business.conversion_rate, business.top_products) == (0, 0.0, ())


def test_the_page_shows_figures_books_and_where_to_look(tmp_path: Path) -> None:
    text = page(report(lake(tmp_path)))
    for words in (
        "25.0%",
        "12.50",
        "2 empty_value, 1 invalid_ip",
        "0.5 s median",
        "The books balance",
        "pl.read_delta",
    ):
        assert words in text


def test_books_that_do_not_balance_are_said_with_their_problems(tmp_path: Path) -> None:
    text = page(report(lake(tmp_path), Verdict(("ingest: a hole at user-events[0]",), {}, {})))
    assert "The books do not balance" in text
    assert "ingest: a hole at user-events[0]" in text


def test_a_night_that_differs_is_said_and_makes_good_books_no_success(tmp_path: Path) -> None:
    stream, marts = {AT.date(): Headlines(4, 1, 1_250, 1, 2)}, {AT.date(): Headlines(4, 1, 1_249, 1, 2)}
    reports = (tmp_path / "reports" / "quality-2026-01-01.html",)
    same, other = (NightReport(Compared(stream, stream, by), {"dbt build": 1.0}, reports) for by in (stream, marts))
    shown = report(lake(tmp_path))
    assert replace(shown, night=same).good
    text = page(replace(shown, night=same))
    assert "Batch and stream agree" in text
    assert f"Whether the day can be trusted: {reports[0]}" in text
    assert not replace(shown, night=other).good
    text = page(replace(shown, night=other))
    assert "2026-01-01: revenue cents: 1,250 by the stream, 1,249 in the marts" in text
    assert "12.50" in text
    assert "12.49" in text


def test_orders_are_counted_once_and_without_cancelled_ones(tmp_path: Path) -> None:
    statuses = [("a", "pending", 0), ("a", "completed", 1), ("b", "pending", 0), ("b", "cancelled", 1)]
    rows = [
        {
            "transaction_id": order,
            "status": word,
            "occurred_at": AT + timedelta(minutes=minute),
            "event_date": AT.date(),
        }
        for order, word, minute in statuses
    ]
    pl.DataFrame(rows).write_delta(str(tmp_path / "transactions"))
    business = read_business(tmp_path)
    assert (business.orders, business.rows["transactions"]) == (1, 4)


def test_json_has_what_a_script_asks_for(tmp_path: Path) -> None:
    data = report(lake(tmp_path)).as_json()
    assert (data["balanced"], data["in_flight"], data["events"], data["sessions"]) == (True, 2, 4, 4)
    assert data["rejects"] == {"empty_value": 2, "invalid_ip": 1}
    assert data["latency_seconds"] == {"p50": 0.5, "p99": 1.5, "max": 2.0}
    expected = {"in": 5, "forwarded": 3, "dead": 1, "duplicate": 1, "late": 0, "in_flight": 2}
    assert data["services"] == ledger_sums(GOOD) == {"ingest": expected}


def test_an_offset_was_committed_with_the_row_that_covers_it() -> None:
    place = Partition("user-events.enriched", 0)
    rows = [
        LedgerRow("lake", "", place, "id", 0, 3, Counts(), {}, 1_000),
        LedgerRow("lake", "", place, "id", 3, 5, Counts(), {}, 2_000),
        LedgerRow("ingest", "", place, "id", 0, 9, Counts(), {}, 9_000),
    ]
    assert commit_times(rows, place, np.array([0, 2, 3, 4, 5])).tolist() == [1_000, 1_000, 2_000, 2_000, 0]
