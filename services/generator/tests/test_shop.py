from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_generator.errors import InputError
from millrace_generator.rates import constant, daily, expected_events, instants
from millrace_generator.scenarios import backfill_plan, normal_plan, spike_plan, window_plan
from millrace_generator.traffic import EVENTS, ORDERS, PRODUCTS, PROFILES, TOPICS, Event, Order, Plan, Record

Decode = Callable[[Record], dict[str, Any]]

IDS = {topic: 101 + index for index, topic in enumerate(TOPICS)}
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
START_MS = int(START.timestamp()) * 1000
GAP_MS = 30 * 60_000


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Four hours of a shop."""
    return list(window_plan(START, START + timedelta(hours=4), 20_000).records(IDS))


def events(records: list[Record]) -> list[Event]:
    return [record.about for record in records if isinstance(record.about, Event)]


def test_same_seed_and_start_make_the_same_bytes_and_others_do_not(records: list[Record]) -> None:
    def first(start: datetime, seed: int) -> list[bytes]:
        plan = window_plan(start, start + timedelta(hours=4), 20_000, seed=seed)
        return [record.value for record, _ in zip(plan.records(IDS), range(500), strict=False)]

    known = [record.value for record in records[:500]]
    assert first(START, 1) == known
    assert first(START, 2) != known
    assert first(START + timedelta(hours=1), 1) != known


def test_event_ids_are_unique(records: list[Record]) -> None:
    ids = [event.event_id for event in events(records)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 36 for one in ids)


def test_events_come_in_time_order_inside_the_window(records: list[Record]) -> None:
    times = [event.time_ms for event in events(records)]
    assert times == sorted(times)
    assert START_MS <= times[0]
    assert times[-1] < START_MS + 4 * 3_600_000
    assert [r.at_ms for r in records] == sorted(r.at_ms for r in records)


def test_the_number_of_events_is_the_one_asked_for(records: list[Record]) -> None:
    assert len(events(records)) == pytest.approx(20_000, rel=0.01)


def test_funnel_narrows_and_every_kind_of_event_occurs(records: list[Record]) -> None:
    kinds = Counter(event.kind for event in events(records))
    assert kinds["page_view"] > kinds["search"] > kinds["add_to_cart"] > kinds["purchase"] > 0
    assert kinds["click"] > 0


def test_bytes_say_what_the_event_says(records: list[Record], decode: Decode) -> None:
    for record in records[:2000]:
        value = decode(record)
        if isinstance(record.about, Event):
            event = record.about
            assert record.key.decode() == value["sessionId"] == event.session_id
            assert (value["eventId"], value["userId"]) == (event.event_id, event.user_id)
            assert (value["eventType"], value["timestamp"]) == (event.kind, event.time_ms)
            assert value["properties"].get("page") == event.page
            assert value["properties"].get("productId") == event.product_id


def test_purchase_and_its_order_cost_the_same(records: list[Record], decode: Decode) -> None:
    paid = {}
    for record in records:
        if isinstance(record.about, Event) and record.about.kind == "purchase":
            properties = decode(record)["properties"]
            assert properties["amount"] == f"{(record.about.amount_cents or 0) / 100:.2f}"
            paid[properties["orderId"]] = record.about.amount_cents
    orders = [record for record in records if isinstance(record.about, Order)]
    assert {o.about.transaction_id: o.about.total_cents for o in orders if isinstance(o.about, Order)} == paid
    for order in orders:
        value = decode(order)
        assert value["totalAmount"] == pytest.approx(
            sum(i["quantity"] * i["price"] for i in value["orderItems"]), abs=0.01
        )


def test_order_is_pending_first_and_settled_later_once(records: list[Record]) -> None:
    history = defaultdict(list)
    for record in records:
        if isinstance(record.about, Order):
            history[record.about.transaction_id].append((record.about.status, record.about.time_ms))
    settled = [(first, *rest) for first, *rest in history.values() if rest]
    assert len(settled) > 50
    for (first, begun), (last, ended) in settled:
        assert first == "pending"
        assert last in ("completed", "cancelled")
        assert begun < ended


def test_clients_come_back_around_the_gap_with_the_same_session_id(records: list[Record]) -> None:
    by_client = defaultdict(list)
    for event in events(records):
        by_client[event.session_id].append(event.time_ms)
    pauses = [later - earlier for times in by_client.values() for earlier, later in pairwise(times)]
    assert any(GAP_MS - 60_000 <= pause < GAP_MS for pause in pauses)
    assert GAP_MS in pauses
    assert GAP_MS + 1 in pauses
    assert any(pause > GAP_MS + 120_000 for pause in pauses)


def test_users_return_sign_in_late_and_robots_come_by(records: list[Record], decode: Decode) -> None:
    sessions = defaultdict(set)
    for event in events(records):
        sessions[event.session_id].add(event.user_id)
    users = Counter(user for owners in sessions.values() for user in owners if user)
    assert users.most_common(1)[0][1] > 1
    assert any(owners == {None} for owners in sessions.values())
    assert any(len(owners) == 2 for owners in sessions.values())
    platforms = Counter(decode(r)["context"]["platform"] for r in records[:5000] if r.topic == EVENTS)
    assert platforms["bot"] > 0
    profiles = [record.key for record in records if record.topic == PROFILES]
    assert len(set(profiles)) == len(profiles) > 0


def test_products_that_are_viewed_are_upserted(records: list[Record]) -> None:
    upserts = list(window_plan(START, START + timedelta(hours=4), 20_000).upserts(IDS))
    assert {record.topic for record in upserts} == {PRODUCTS}
    known = {record.key.decode() for record in upserts}
    assert {event.product_id for event in events(records)} - {None} <= known


def seconds_of(plan: Plan) -> Counter[int]:
    return Counter((r.at_ms - START_MS) // 1000 for r in plan.records(IDS) if r.topic == EVENTS)


def test_spike_has_its_rate_in_each_of_its_seconds() -> None:
    second = timedelta(seconds=1)
    plan = spike_plan(START, baseline=50, peak=2_000, before=2 * second, during=2 * second, after=3 * second)
    assert seconds_of(plan) == {0: 50, 1: 50, 2: 2000, 3: 2000, 4: 50, 5: 50, 6: 50}
    assert plan.expected_events == 4250


def test_normal_traffic_follows_the_day_or_a_rate_of_ones_own() -> None:
    def count(hour: int) -> int:
        start = START.replace(hour=hour)
        return sum(record.topic == EVENTS for record in normal_plan(start, timedelta(seconds=20)).records(IDS))

    assert count(4) == pytest.approx(200, abs=2)
    assert count(16) == pytest.approx(2000, abs=5)
    assert set(seconds_of(normal_plan(START, timedelta(seconds=3), per_second=70)).values()) == {70}


def test_backfill_spans_its_days_before_now() -> None:
    times = [event.time_ms for event in events(list(backfill_plan(START, 3, events_per_day=1_000).records(IDS)))]
    assert len(times) == pytest.approx(3_000, rel=0.01)
    assert START_MS - 3 * 86_400_000 <= times[0] < times[-1] < START_MS
    assert times[-1] - times[0] > 2.9 * 86_400_000


def test_nothing_to_do_is_refused() -> None:
    with pytest.raises(InputError):
        normal_plan(START, timedelta(0))
    with pytest.raises(InputError):
        spike_plan(START, peak=0)
    with pytest.raises(InputError):
        window_plan(START, START, 10)


@given(st.floats(0.01, 500), st.floats(1, 4), st.integers(1, 120_000))
def test_expected_number_of_events_is_close(lowest: float, times: float, length_ms: int) -> None:
    rate = daily(lowest, lowest * times)
    found = sum(1 for _ in instants(rate, START_MS, START_MS + length_ms))
    assert abs(found - expected_events(rate, START_MS, START_MS + length_ms)) <= 2 + 0.01 * found


def test_instants_are_evenly_spaced() -> None:
    assert list(instants(constant(4), 1_000, 2_500)) == [1_000, 1_250, 1_500, 1_750, 2_000, 2_250]


def test_orders_are_keyed_by_their_id(records: list[Record]) -> None:
    assert all(
        r.key.decode() == r.about.transaction_id for r in records if r.topic == ORDERS and isinstance(r.about, Order)
    )
