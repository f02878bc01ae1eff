"""The rules of a session at their edges, and what the state costs."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from millrace_common.records import Partition
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_sessionize import shapes
from millrace_sessionize.reference import Reference
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.snapshot import StateVersionError
from millrace_sessionize.state import OpenSessions
from millrace_sessionize.testing import batch, event

RULES = SessionRules(gap_ms=1_000, allowed_lateness_ms=100, max_duration_ms=5_000, max_events=4)


def state_after(*rows: dict[str, Any], rules: SessionRules = RULES) -> OpenSessions:
    state = OpenSessions(rules)
    state.apply(batch(rows))
    return state


def closed(state: OpenSessions) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = state.close().sessions.to_pylist()
    return rows


def test_event_exactly_a_gap_later_joins() -> None:
    assert state_after(event(0), event(1_000)).open_count == 1


def test_event_a_millisecond_past_the_gap_opens_another_session() -> None:
    assert state_after(event(0), event(1_001)).open_count == 2


def test_session_closes_when_the_watermark_is_past_the_gap_and_not_before() -> None:
    state = state_after(event(0, client_session_id="a"), event(1_100, client_session_id="b"))
    assert closed(state) == []
    state.apply(batch([event(1_101, client_session_id="b")]))
    assert [row["session_id"] for row in closed(state)] == ["a-0"]
    assert state.open_count == 1


def test_event_within_its_last_chance_opens_a_session_and_one_past_it_is_late() -> None:
    state = state_after(event(5_000, client_session_id="b"))
    applied = state.apply(batch([event(3_900), event(3_899, client_session_id="c")]))
    assert applied.late_rows.tolist() == [1]
    assert applied.late_watermarks_ms.tolist() == [4_900]


def test_event_between_two_sessions_makes_them_one() -> None:
    patient = SessionRules(gap_ms=1_000, allowed_lateness_ms=600, max_duration_ms=5_000, max_events=4)
    state = state_after(event(0), event(1_500), event(800), rules=patient)
    assert state.open_count == 1
    state.advance(10_000)
    assert [(row["session_id"], row["event_count"], row["duration_ms"]) for row in closed(state)] == [("a-0", 3, 1_500)]


@pytest.mark.parametrize("order", list(permutations(range(4))))
@pytest.mark.parametrize("bridge", [{}, {"page": "/m", "user_id": "m", "product_id": "9"}])
def test_merge_of_sessions_of_earlier_batches_keeps_every_field(order: tuple[int, ...], bridge: dict[str, str]) -> None:
    patient = SessionRules(gap_ms=1_000, allowed_lateness_ms=60_000, max_duration_ms=60_000, max_events=9)
    rows = [
        event(0, page="/a", user_id="u", product_id="1", referrer="r", country_code="DE"),
        event(1_500, event_type="purchase", amount_cents=5, page="/b", user_id="v", product_id="2", is_bot=True),
        event(3_000, event_type="search", page="/a", product_id="1", device_type="mobile", country_code="FR"),
        event(800, event_type="click", **bridge),
    ]
    bridges = [event(2_200, event_type="add_to_cart")]
    state, reference = OpenSessions(patient), Reference(patient)
    for row in [*(rows[i] for i in order), *bridges]:
        state.apply(batch([row]))
        reference.apply(row)
    state.advance(100_000)
    reference.advance(100_000)
    assert closed(state) == reference.close()


def test_watermark_never_goes_back() -> None:
    state = state_after(event(5_000))
    for floor in (7_000, 6_000):
        state.advance(floor)
        assert state.watermark_ms == 7_000


def test_session_is_cut_by_events_and_the_next_event_opens_another() -> None:
    state = state_after(*(event(at) for at in range(5)))
    assert [(row["event_count"], row["closed_by"]) for row in closed(state)] == [(4, "max_events")]
    assert state.open_count == 1


def test_session_is_cut_by_duration() -> None:
    rules = SessionRules(gap_ms=3_000, allowed_lateness_ms=100, max_duration_ms=5_000, max_events=100)
    state = state_after(event(0), event(2_500), event(5_000), event(5_001), rules=rules)
    assert [(row["duration_ms"], row["closed_by"]) for row in closed(state)] == [(5_000, "max_duration")]


def test_entry_and_exit_are_by_event_time_and_skip_events_without_a_page() -> None:
    state = state_after(
        event(300, page="/exit"),
        event(100, page="/entry"),
        event(50),
        event(400),
        event(1_000_000, client_session_id="z"),
    )
    row = closed(state)[0]
    assert (row["entry_page"], row["exit_page"], row["started_at"].microsecond) == ("/entry", "/exit", 50_000)


def test_at_one_time_the_first_to_arrive_begins_and_the_last_to_arrive_ends() -> None:
    pages = [event(0, page=page, user_id=page, referrer=page) for page in "xyz"]
    whole, parts = state_after(*pages), OpenSessions(RULES)
    for row in pages:
        parts.apply(batch([row]))
    for state in (whole, parts):
        state.advance(10_000)
        row = closed(state)[0]
        assert (row["entry_page"], row["exit_page"], row["user_id"], row["referrer"]) == ("x", "z", "z", "x")


def test_revenue_counts_purchases_alone() -> None:
    state = state_after(
        event(0, event_type="purchase", amount_cents=2**53 + 1), event(1, event_type="click", amount_cents=5)
    )
    state.advance(10_000)
    assert closed(state)[0]["revenue_cents"] == 2**53 + 1


def test_a_page_and_a_product_of_one_name_are_two_things() -> None:
    state = state_after(event(0, page="x", product_id="x"), event(1, page="x"), event(2, product_id="y"))
    state.advance(10_000)
    row = closed(state)[0]
    assert (row["unique_pages"], row["unique_products"]) == (1, 2)


def test_times_far_apart_in_one_batch_do_not_overflow() -> None:
    far = [event(at, client_session_id=str(at)) for at in (shapes.MIN_TIME_MS, 0)]
    assert state_after(*far, *(event(0, client_session_id=f"k{i}") for i in range(30_000))).open_count == 30_002


def test_tombstones_follow_what_was_published() -> None:
    state = state_after(event(500))
    assert state.apply(batch([event(400)])).tombstones == []
    state.updates_since_last(10)
    assert state.apply(batch([event(300)])).tombstones == ["a-400"]
    state.updates_since_last(10)
    state.advance(10_000)
    assert state.close().tombstones == ["a-300"]


def test_open_session_with_the_id_of_a_cut_one_is_published_again() -> None:
    state = state_after(*(event(0) for _ in range(4)))
    state.updates_since_last(10)
    state.apply(batch([event(0)]))
    assert state.updates_since_last(10).num_rows == 1
    assert state.close().tombstones == ["a-0"]
    assert [row["event_count"] for row in state.updates_since_last(10).to_pylist()] == [1]


def test_updates_come_in_pieces_and_each_session_once() -> None:
    state = state_after(*(event(0, client_session_id=str(i)) for i in range(5)))
    assert [state.updates_since_last(2).num_rows for _ in range(4)] == [2, 2, 1, 0]


def test_snapshot_survives_the_store(tmp_path: Any) -> None:
    state = state_after(
        event(0, page="/ä", product_id="1"),
        event(1_500, user_id="u"),
        *(event(9, client_session_id="c") for _ in "12345"),
    )
    state.advance(77)
    here = Partition("user-events.enriched", 0)
    store = SnapshotStore(str(tmp_path), "sessionize", 1)
    store.write(Snapshot(here, 9, "id", 77, state.snapshot()))
    found = store.newest(here, 9, "id")
    assert found is not None
    restored = OpenSessions.restore(RULES, found.state)
    assert sorted(map(repr, restored.snapshot().to_pylist())) == sorted(map(repr, state.snapshot().to_pylist()))
    assert restored.snapshot().schema.equals(state.snapshot().schema, check_metadata=True)
    assert restored.watermark_ms == state.watermark_ms
    for each in (state, restored):
        each.advance(10_000)
    assert closed(restored) == closed(state)


def test_empty_snapshot_is_an_empty_state() -> None:
    state = OpenSessions.restore(RULES, OpenSessions(RULES).snapshot())
    assert (state.open_count, state.watermark_ms, state.earliest_close_ms) == (0, None, None)


def test_snapshot_of_another_version_is_refused() -> None:
    table = OpenSessions(RULES).snapshot().replace_schema_metadata({"sessions_version": "0"})
    with pytest.raises(StateVersionError):
        OpenSessions.restore(RULES, table)


def test_memory_stays_bounded_while_keys_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_sessionize.state._SPARE_STRINGS", 2_000)
    state = OpenSessions(RULES)
    sizes = []
    for step in range(300):
        now = step * 1_000
        state.apply(
            batch(
                event(
                    now + i, client_session_id=f"{step}-{i}", page=f"/{step}/{i}", product_id=f"p{i % 50}", user_id="u"
                )
                for i in range(200)
            )
        )
        state.close()
        sizes.append(state.nbytes)
    assert state.open_count <= 600
    assert max(sizes[150:]) <= 1.1 * max(sizes[:150])


def test_strings_survive_forgetting_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_sessionize.state._SPARE_STRINGS", 0)
    state = OpenSessions(RULES)
    for step in range(20):
        state.apply(batch([event(step, client_session_id="a" if step < 4 else f"k{step}", page=f"/{step}")]))
        state.apply(batch([event(step, client_session_id="b", page=f"/b{step % 3}")]) if step < 4 else batch([]))
    state.advance(10_000)
    rows = {row["session_id"]: row for row in closed(state)}
    assert (rows["a-0"]["entry_page"], rows["a-0"]["exit_page"], rows["a-0"]["unique_pages"]) == ("/0", "/3", 4)
    assert (rows["b-0"]["entry_page"], rows["b-0"]["exit_page"], rows["b-0"]["unique_pages"]) == ("/b0", "/b0", 3)


def test_two_batches_give_the_state_of_one() -> None:
    rows = [event(int(at), client_session_id=str(at % 7), page=str(at)) for at in np.arange(0, 900, 31)]
    whole, parts = state_after(*rows), OpenSessions(RULES)
    for row in rows:
        parts.apply(batch([row]))
    for state in (whole, parts):
        state.advance(10_000)
    assert closed(whole) == closed(parts)
