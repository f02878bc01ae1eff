"""Where the limits cut sessions: the one rule that asks for the order of arrival, and so for a loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pyspark.sql import Column
from pyspark.sql import functions as f

from millrace_batch.session_rules import SessionRules

_SHAPE: Final = "array<struct<event_id string, part int, cut_by string>>"


class Arrival(NamedTuple):
    """An event as far as limits are concerned; its order is that of arrival.

    LogAppendTime is one for a whole batch of records, so received_ms alone does not order them. Producers send in event
    time, mostly; the id makes the order total.
    """

    received_ms: int
    time_ms: int
    event_id: str


@dataclass(eq=False, slots=True)
class _Session:
    part: int
    start_ms: int
    end_ms: int
    events: list[int]
    cut_by: str | None = None


def cut(arrivals: Sequence[Arrival], rules: SessionRules) -> list[tuple[int, str | None]]:
    """Return (session, by which limit it ended) for each of `arrivals`, which are in order and of one key.

    These are the stream's rules with a watermark that never moves: nothing is late.
    """
    sessions: list[_Session] = []
    open_sessions: list[_Session] = []
    for at, arrival in enumerate(arrivals):
        t = arrival.time_ms
        joined = [s for s in open_sessions if s.start_ms - rules.gap_ms <= t <= s.end_ms + rules.gap_ms]
        start, end = min([t, *(s.start_ms for s in joined)]), max([t, *(s.end_ms for s in joined)])
        too_long = end - start > rules.max_duration_ms
        if too_long or 1 + sum(len(s.events) for s in joined) > rules.max_events:
            for session in joined:
                session.cut_by = "max_duration" if too_long else "max_events"
            open_sessions = [s for s in open_sessions if s.cut_by is None]
            joined, start, end = [], t, t
        if joined:
            session, *others = joined
            for other in others:
                session.events += other.events
                other.events = []
            open_sessions = [s for s in open_sessions if s not in others]
            session.start_ms, session.end_ms = start, end
        else:
            session = _Session(len(sessions), start, end, [])
            sessions.append(session)
            open_sessions.append(session)
        session.events.append(at)
    found: list[tuple[int, str | None]] = [(0, None)] * len(arrivals)
    for session in sessions:
        for at in session.events:
            found[at] = (session.part, session.cut_by)
    return found


def parts(rules: SessionRules) -> Callable[[str], Column]:
    """Return `cut` for a column: an array of `Arrival` in, an array of (event_id, part, cut_by) out."""

    def cut_all(arrivals: Sequence[Sequence[Any]]) -> list[tuple[str, int, str | None]]:
        ordered = [Arrival(*arrival) for arrival in arrivals]
        return [(one.event_id, *found) for one, found in zip(ordered, cut(ordered, rules), strict=True)]

    # Without Arrow: that way Spark wants pandas, for a few keys a day.
    return f.udf(cut_all, _SHAPE, useArrow=False)
