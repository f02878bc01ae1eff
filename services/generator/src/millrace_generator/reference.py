"""A plain per-session reading of a REES46 file, to hold the pipeline's sessions against.

It shares nothing with the generator or the services, on purpose: it sorts a client's rows by time and cuts where more
than 30 minutes lie between two. That is what sessions are when nothing comes too late and nothing runs away. For files
that fit in memory.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

GAP = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, order=True)
class ReferenceSession:
    """One session of one client session id; times are aware, UTC."""

    client_session_id: str
    started_at: datetime
    ended_at: datetime
    event_count: int
    page_views: int
    add_to_carts: int
    purchases: int
    unique_products: int
    revenue_cents: int

    @property
    def session_id(self) -> str:
        """The pipeline's id: client session id and start in epoch milliseconds."""
        return f"{self.client_session_id}-{int(self.started_at.timestamp()) * 1000}"


def read_file(path: Path) -> list[dict[str, str]]:
    """Return the rows of a REES46 file, plain or .gz, as dictionaries."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as lines:
        return list(csv.DictReader(lines))


def usable(row: Mapping[str, str]) -> bool:
    """Return whether the format's rules keep `row`: a known event type, a user_session and a price."""
    return row["event_type"] in ("view", "cart", "purchase") and bool(row["user_session"]) and bool(row["price"])


def read_sessions(rows: Iterable[Mapping[str, str]]) -> list[ReferenceSession]:
    """Return the sessions of `rows`, in any order, sorted by client session id and start."""
    by_client: defaultdict[str, list[tuple[datetime, Mapping[str, str]]]] = defaultdict(list)
    for row in rows:
        if usable(row):
            time = datetime.strptime(row["event_time"][:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            by_client[row["user_session"]].append((time, row))
    sessions = []
    for client, events in by_client.items():
        events.sort(key=lambda event: event[0])
        run = [events[0]]
        for event in events[1:]:
            if event[0] - run[-1][0] > GAP:
                sessions.append(_session(client, run))
                run = []
            run.append(event)
        sessions.append(_session(client, run))
    return sorted(sessions)


def _session(client: str, events: list[tuple[datetime, Mapping[str, str]]]) -> ReferenceSession:
    rows = [row for _, row in events]
    bought = [row for row in rows if row["event_type"] == "purchase"]
    return ReferenceSession(
        client_session_id=client,
        started_at=events[0][0],
        ended_at=events[-1][0],
        event_count=len(rows),
        page_views=sum(row["event_type"] == "view" for row in rows),
        add_to_carts=sum(row["event_type"] == "cart" for row in rows),
        purchases=len(bought),
        unique_products=len({row["product_id"] for row in rows}),
        revenue_cents=sum(round(Decimal(row["price"]) * 100) for row in bought),
    )
