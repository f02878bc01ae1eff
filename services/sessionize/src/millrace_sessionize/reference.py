"""Design section 7 event by event: slow, short, and without a thought for speed. Tests hold the columns against it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from millrace_sessionize.rules import SessionRules

Row = dict[str, Any]
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # Arrow gives naive UTC


@dataclass(eq=False)
class Session:
    """A session keeps its events, in order of arrival, and is summed up at the end."""

    events: list[Row] = field(default_factory=list)
    cut_by: str | None = None

    @property
    def start(self) -> int:
        """Return the time of the first event."""
        return min(ms(e) for e in self.events)

    @property
    def end(self) -> int:
        """Return the time of the last event."""
        return max(ms(e) for e in self.events)


@dataclass
class Reference:
    """The sessions of one partition. Events are rows of user-events.enriched, sessions rows of session-metrics."""

    rules: SessionRules
    largest: int | None = None
    floor: int | None = None
    arrived: int = 0
    sessions: dict[str, list[Session]] = field(default_factory=dict)

    @property
    def watermark(self) -> int | None:
        """Return how far event time has got."""
        marks = [] if self.largest is None else [self.largest - self.rules.allowed_lateness_ms]
        marks += [] if self.floor is None else [self.floor]
        return max(marks, default=None)

    def is_over(self, session: Session) -> bool:
        """Return whether the watermark has passed the session's last chance."""
        return self.watermark is not None and session.end + self.rules.gap_ms < self.watermark

    def apply(self, event: Row) -> tuple[int, int] | None:
        """Return (watermark, lateness) of a late event."""
        t, gap, late = ms(event), self.rules.gap_ms, None
        event = {**event, "arrival": self.arrived}
        self.arrived += 1
        mine = self.sessions.setdefault(event["client_session_id"], [])
        joined = [s for s in mine if s.cut_by is None and not self.is_over(s) and s.start - gap <= t <= s.end + gap]
        if joined:
            merged = Session(sorted([event, *(e for s in joined for e in s.events)], key=lambda e: e["arrival"]))
            too_long = merged.end - merged.start > self.rules.max_duration_ms
            if too_long or len(merged.events) > self.rules.max_events:
                for s in joined:
                    s.cut_by = "max_duration" if too_long else "max_events"
                mine.append(Session([event]))
            else:
                mine[:] = [s for s in mine if s not in joined] + [merged]
        elif self.watermark is not None and t + gap < self.watermark:
            late = (self.watermark, self.watermark - gap - t)
        else:
            mine.append(Session([event]))
        self.largest = t if self.largest is None else max(self.largest, t)
        return late

    def advance(self, floor: int) -> None:
        """Move the watermark to `floor` at least."""
        self.floor = floor if self.floor is None else max(self.floor, floor)

    def close(self) -> list[Row]:
        """Take out every session that is over."""
        rows = []
        for key in list(self.sessions):
            over = [s for s in self.sessions[key] if s.cut_by is not None or self.is_over(s)]
            rows += [{**summary(s), "closed_by": s.cut_by or "gap", "revision": 1} for s in over]
            self.sessions[key] = [s for s in self.sessions[key] if s not in over]
            if not self.sessions[key]:
                del self.sessions[key]
        return rows

    def open(self) -> list[Row]:
        """Return every session that is held, as session-updates shows it."""
        return [summary(s) for own in self.sessions.values() for s in own]


def summary(session: Session) -> Row:
    """Return the fields of session-updates."""
    events = sorted(session.events, key=lambda e: (ms(e), e["arrival"]))
    kinds = [e["event_type"] for e in events]
    pages = [e["page"] for e in events if e["page"] is not None]
    users = [e["user_id"] for e in events if e["user_id"] is not None]
    first, last = events[0], events[-1]
    key = first["client_session_id"]
    return {
        "session_id": f"{key}-{ms(first)}",
        "client_session_id": key,
        "user_id": users[-1] if users else None,
        "started_at": first["event_time"],
        "ended_at": last["event_time"],
        "duration_ms": ms(last) - ms(first),
        "event_count": len(events),
        "page_views": kinds.count("page_view"),
        "clicks": kinds.count("click"),
        "searches": kinds.count("search"),
        "add_to_carts": kinds.count("add_to_cart"),
        "purchases": kinds.count("purchase"),
        "unique_pages": len(set(pages)),
        "unique_products": len({e["product_id"] for e in events} - {None}),
        "revenue_cents": sum(e["amount_cents"] or 0 for e in events if e["event_type"] == "purchase"),
        "has_conversion": "purchase" in kinds,
        "is_bounce": len(events) == 1,
        "entry_page": pages[0] if pages else None,
        "exit_page": pages[-1] if pages else None,
        "referrer": first["referrer"],
        "device_type": first["device_type"],
        "country_code": first["country_code"],
        "is_bot": any(e["is_bot"] for e in events),
    }


def ms(event: Row) -> int:
    """Return the event's time in epoch milliseconds."""
    time: datetime = event["event_time"]
    return (time - _EPOCH) // timedelta(milliseconds=1)
