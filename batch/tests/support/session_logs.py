"""Logs of events, and what the stream's own per-event reference makes of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from millrace_sessionize.reference import Reference, Session, summary
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.testing import event
from stream_tables import NOON

Row = dict[str, Any]
MINUTE_MS: Final = 60_000
START_MS: Final = int(NOON.timestamp()) * 1000
_KINDS: Final = ("page_view", "page_view", "click", "search", "add_to_cart", "purchase")
_NO_WATERMARK_MS: Final = 1 << 50


@dataclass
class Streamed:
    """What the stream made of a log: rows of topics, as decoded."""

    sessions: list[Row] = field(default_factory=list)
    late_events: list[Row] = field(default_factory=list)


def random_log(random: Random, keys: Iterable[str], events_each: int, delays_ms: Sequence[int]) -> list[Row]:
    """Return events in order of arrival; each comes up to one of `delays_ms` after it happened.

    Many events have a time in common, and some are received in one millisecond, as in one batch.
    """
    sent = []
    for key in keys:
        at_ms = START_MS + random.randrange(0, 30) * MINUTE_MS
        for _ in range(random.randint(1, events_each)):
            at_ms += random.choice((0, 0, 1, 5, 10, 20, 30, 31, 45)) * MINUTE_MS
            sent.append((at_ms + random.randint(0, random.choice(delays_ms)), at_ms, key))
    return [
        one_event(number, at_ms, key, received_ms, random)
        for number, (received_ms, at_ms, key) in enumerate(sorted(sent))
    ]


def one_event(number: int, at_ms: int, key: str, received_ms: int, random: Random) -> Row:
    """Return an event with an id of its own; ids are in order of arrival."""
    kind = random.choice(_KINDS)
    return event(
        at_ms,
        event_id=f"{number:08}",
        event_type=kind,
        client_session_id=key,
        received_at=naive(received_ms),
        user_id=random.choice((None, "u-1", "u-2")),
        page=random.choice((None, "/", "/a", "/b")),
        product_id=random.choice((None, "1", "2")),
        amount_cents=random.randint(1, 9999) if kind == "purchase" else None,
        referrer=random.choice((None, "r-1", "r-2")),
        device_type=random.choice(("desktop", "mobile")),
        country_code=random.choice((None, "DE", "FR")),
        is_bot=random.random() < 0.1,
    )


def true_rows(log: Iterable[Row], rules: SessionRules) -> list[Row]:
    """Return the sessions of a log by a stream whose watermark never comes."""
    reference = Reference(SessionRules(rules.gap_ms, _NO_WATERMARK_MS, rules.max_duration_ms, rules.max_events))
    for one in log:
        reference.apply(one)
    return [_row(session) for own in reference.sessions.values() for session in own]


def stream(log: Iterable[Row], rules: SessionRules, partitions: int) -> Streamed:
    """Return what the stream makes of a log; in the end, every partition idles until all is closed."""
    references = [Reference(rules) for _ in range(partitions)]
    made = Streamed()
    for one in log:
        reference = references[sum(one["client_session_id"].encode()) % partitions]
        late = reference.apply(one)
        if late is not None:
            watermark_ms, lateness_ms = late
            made.late_events.append({**one, "watermark": naive(watermark_ms), "lateness_ms": lateness_ms})
    # When sessions are taken out does not matter, and looking for them after each event would take minutes.
    for reference in references:
        reference.advance(_NO_WATERMARK_MS)
        made.sessions += reference.close()
    return made


def stored(rows: Iterable[Row]) -> list[Row]:
    """Return rows as tables have them: times know that they are UTC."""
    return [
        {name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]


def naive(at_ms: int) -> datetime:
    """Return a time as Arrow gives it."""
    return datetime.fromtimestamp(0, UTC).replace(tzinfo=None) + timedelta(milliseconds=at_ms)


def _row(session: Session) -> Row:
    return {**summary(session), "closed_by": session.cut_by or "gap"}
