from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from millrace_generator.partitions import partition_for
from millrace_generator.sessions import Late, Rules, SessionReader, TrueSession
from millrace_generator.traffic import Event

RULES = Rules(gap_ms=30, allowed_lateness_ms=5, max_duration_ms=60, max_events=6)
MINUTE = 60_000


def event(client: str, time_ms: int, **fields: Any) -> Event:
    return Event(f"e{time_ms}", None, client, "page_view", time_ms)._replace(**fields)


def read(events: list[Event], rules: Rules | None = None, partitions: int = 1) -> tuple[list[TrueSession], list[Late]]:
    reader = SessionReader(partitions, rules)
    sessions: list[TrueSession] = []
    late: list[Late] = []
    for one in events:
        came_late, closed = reader.read(one)
        sessions += closed
        late += [came_late] if came_late else []
    return sorted([*sessions, *reader.finish()], key=lambda s: (s.client_session_id, s.started_ms)), late


@dataclass
class SpecifiedSession:
    """As in the specification: start, end, events, cut."""

    start: int
    end: int
    events: int
    cut: bool = False


def read_as_specified(
    log: list[tuple[str, int]], rules: Rules
) -> tuple[list[tuple[str, int, int, int]], list[tuple[str, int]]]:
    """The session rules of the design as they are written there, closing nothing before the end."""
    largest: int | None = None
    sessions: dict[str, list[SpecifiedSession]] = {}
    late = []
    for key, t in log:
        w = None if largest is None else largest - rules.allowed_lateness_ms
        mine = sessions.setdefault(key, [])
        joined = [
            s
            for s in mine
            if not s.cut
            and (w is None or s.end + rules.gap_ms >= w)
            and s.start - rules.gap_ms <= t <= s.end + rules.gap_ms
        ]
        if joined:
            start, end = min([t, *(s.start for s in joined)]), max([t, *(s.end for s in joined)])
            events = 1 + sum(s.events for s in joined)
            if events > rules.max_events or end - start > rules.max_duration_ms:
                for s in joined:
                    s.cut = True
                mine.append(SpecifiedSession(t, t, 1))
            else:
                sessions[key] = [s for s in mine if s not in joined] + [SpecifiedSession(start, end, events)]
        elif w is not None and t + rules.gap_ms < w:
            late.append((key, t))
        else:
            mine.append(SpecifiedSession(t, t, 1))
        largest = t if largest is None else max(largest, t)
    return sorted((key, s.start, s.end, s.events) for key, ss in sessions.items() for s in ss), late


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.integers(0, 60)), max_size=60))
def test_reading_follows_the_specification(drawn: list[tuple[str, int, int]]) -> None:
    log = [(key, t) for key, t, delay in sorted(drawn, key=lambda e: e[1] + e[2])]
    sessions, late = read([event(key, t) for key, t in log], RULES)
    expected, expected_late = read_as_specified(log, RULES)
    assert sorted((s.client_session_id, s.started_ms, s.ended_ms, s.events) for s in sessions) == expected
    assert [(one.event.session_id, one.event.time_ms) for one in late] == expected_late


def test_session_goes_on_after_exactly_the_gap_and_not_a_millisecond_later() -> None:
    assert len(read([event("a", 0), event("a", 30 * MINUTE)])[0]) == 1
    assert len(read([event("a", 0), event("a", 30 * MINUTE + 1)])[0]) == 2


def test_lateness_is_how_far_past_the_last_chance_an_event_came() -> None:
    late = event("a", 0)
    _, came_late = read([event("b", 36 * MINUTE), late])
    assert came_late == [Late(late, MINUTE)]
    assert read([event("b", 35 * MINUTE), late])[1] == []


def test_each_partition_has_its_own_watermark() -> None:
    here, there = "a", next(c for c in "bcdefgh" if partition_for(c.encode(), 4) != partition_for(b"a", 4))
    assert read([event(there, 90 * MINUTE), event(here, 0)], partitions=4)[1] == []
    assert len(read([event(there, 90 * MINUTE), event(here, 0)], partitions=1)[1]) == 1


def test_closed_sessions_are_handed_out_on_the_way() -> None:
    reader = SessionReader(1)
    reader.read(event("a", 0))
    _, closed = reader.read(event("b", 36 * MINUTE))
    assert [session.client_session_id for session in closed] == ["a"]
    assert [session.client_session_id for session in reader.finish()] == ["b"]


def test_counts_money_and_last_user_are_those_of_the_events() -> None:
    events = [
        event("a", 10, kind="purchase", amount_cents=250, product_id="p", page="/p", user_id="late"),
        event("a", 5, kind="search", page="/s", user_id="early"),
        event("a", 7, kind="click", product_id="p"),
        event("a", 8, kind="add_to_cart", product_id="q", page="/p"),
    ]
    [session], _ = read(events)
    assert (session.session_id, session.ended_ms, session.user_id) == ("a-5", 10, "late")
    assert session.kinds == {"purchase": 1, "search": 1, "click": 1, "add_to_cart": 1}
    assert (len(session.pages), len(session.products), session.revenue_cents) == (2, 2, 250)


def test_runaway_sessions_are_cut_and_say_by_what() -> None:
    many, _ = read([event("a", n) for n in range(7)], RULES)
    assert [(s.events, s.closed_by) for s in many] == [(6, "max_events"), (1, "gap")]
    long, _ = read([event("a", n * 20) for n in range(5)], RULES)
    assert [(s.events, s.closed_by) for s in long] == [(4, "max_duration"), (1, "gap")]


def test_event_between_two_sessions_makes_them_one() -> None:
    [session], _ = read([event("a", 0, amount_cents=1), event("a", 35, amount_cents=2), event("a", 20)], RULES)
    assert (session.started_ms, session.ended_ms, session.events, session.revenue_cents) == (0, 35, 3, 3)
