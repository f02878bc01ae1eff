"""The figures of the stream's own tables, and what the night makes of a difference."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from millrace_local.headlines import Compared, Headlines, NightReport, corrected, of_stream

FIRST, SECOND = date(2026, 3, 1), date(2026, 3, 2)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(day: date, user: str | None, kind: str, cents: int | None = None) -> dict[str, Any]:
    return {"event_date": day, "user_id": user, "event_type": kind, "amount_cents": cents}


def session(day: date, name: str, converted: bool, revision: int = 1, closed_by: str = "gap") -> dict[str, Any]:
    found = {"session_date": day, "session_id": name, "has_conversion": converted}
    return found | {"revision": revision, "closed_by": closed_by}


def status(day: date, order: str, word: str, minute: int) -> dict[str, Any]:
    at = NOON + (day - FIRST) + timedelta(minutes=minute)
    return {"event_date": day, "transaction_id": order, "status": word, "occurred_at": at, "total_amount": Decimal(1)}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    events = [
        event(FIRST, "u", "purchase", 1_999),
        event(FIRST, "u", "page_view", 7),
        event(FIRST, None, "purchase", 1),
        event(SECOND, "u", "page_view"),
        event(SECOND, "v", "page_view"),
    ]
    sessions = [
        session(FIRST, "a", True),
        session(FIRST, "b", False),
        # named by reconciliation: bought something late; was two sessions; was not there at all
        session(SECOND, "late", False),
        session(SECOND, "late", True, 2),
        session(SECOND, "joined", True),
        session(SECOND, "joined", False, 2, "replaced"),
        session(SECOND, "new", True, 2),
    ]
    statuses = [
        status(FIRST, "kept", "pending", 0),
        status(SECOND, "kept", "completed", 0),
        status(SECOND, "taken back", "pending", 1),
        status(SECOND, "taken back", "cancelled", 1),
        status(SECOND, "open", "pending", 2),
    ]
    for name, rows in (("events", events), ("sessions", sessions), ("transactions", statuses)):
        pl.DataFrame(rows, infer_schema_length=None).write_delta(str(tmp_path / name))
    return tmp_path


def reconcile(lake: Path, *names: str) -> None:
    rows = {"session_date": [SECOND] * len(names), "session_id": list(names)}
    pl.DataFrame(rows, {"session_date": pl.Date, "session_id": pl.String}).write_delta(str(lake / "reconciliation"))


OF_STREAM = {
    FIRST: Headlines(sessions=2, converted_sessions=1, revenue_cents=2_000, orders=1, daily_active_users=1),
    SECOND: Headlines(sessions=2, converted_sessions=1, revenue_cents=0, orders=1, daily_active_users=2),
}
CORRECTED = OF_STREAM | {
    SECOND: Headlines(sessions=2, converted_sessions=2, revenue_cents=0, orders=1, daily_active_users=2)
}


def test_stream_is_read_by_day_and_without_revisions(lake: Path) -> None:
    assert of_stream(lake) == OF_STREAM


def test_named_sessions_count_as_they_are_now(lake: Path) -> None:
    reconcile(lake, "late", "joined", "new")
    assert corrected(of_stream(lake), lake) == CORRECTED


def test_revision_that_reconciliation_does_not_name_is_a_difference(lake: Path) -> None:
    reconcile(lake, "joined", "new")
    compared = Compared(of_stream(lake), corrected(of_stream(lake), lake), CORRECTED)
    assert compared.differences == (f"{SECOND}: converted sessions: 1 by the stream, 2 in the marts",)


def test_a_cent_and_a_missing_day_are_named_with_both_figures(lake: Path) -> None:
    reconcile(lake)
    stream = of_stream(lake)
    assert NightReport(Compared(stream, corrected(stream, lake), OF_STREAM), {}).agrees
    marts = {FIRST: Headlines(2, 1, 1_999, 1, 1)}
    report = NightReport(Compared(stream, corrected(stream, lake), marts), {})
    assert not report.agrees
    assert report.as_json()["differences"] == [
        f"{FIRST}: revenue cents: 2,000 by the stream, 1,999 in the marts",
        f"{SECOND}: sessions: 2 by the stream, 0 in the marts",
        f"{SECOND}: converted sessions: 1 by the stream, 0 in the marts",
        f"{SECOND}: orders: 1 by the stream, 0 in the marts",
        f"{SECOND}: daily active users: 2 by the stream, 0 in the marts",
    ]
