"""The oracle finds what is wrong; about two seconds."""

import numpy as np
import pyarrow as pa
import pytest

import oracle
from filling import Log, log_rows
from millrace_common.columns import Int64s
from oracle import Drawn, EventCheck, Expected, SessionCheck, Verdict
from shop_log import KINDS, Events, events
from shop_records import catalogue, event_ids, session_ids
from systems import CLOSING, Closing

EPOCH_MS = 1_790_000_000_000
PRODUCTS = catalogue()


def expected_of(drawn: Events, *, with_faults: bool = False) -> Expected:
    rows = log_rows(0, len(drawn), with_faults=with_faults)
    return oracle.of_events(drawn, rows.number, rows.number[rows.good])


@pytest.fixture(scope="module")
def wanted() -> Expected:
    return expected_of(next(iter(events(7, 2_000, 20_000))))


def outputs(wanted: Expected, numbers: Int64s) -> dict[str, pa.Array]:
    found = wanted.events
    product = found.product[numbers]
    chosen = pa.array(product, mask=product < 0)
    return {
        "event_id": event_ids(numbers),
        "event_type": pa.array(KINDS).take(pa.array(found.kind[numbers])),
        "product_brand": PRODUCTS.brands.take(chosen),
        "product_category": PRODUCTS.categories.take(chosen),
    }


def prefixes(wanted: Expected, counts: tuple[int, ...]) -> Int64s:
    return np.concatenate([rows[:count] for rows, count in zip(wanted.rows, counts, strict=True)])


def verdict_of(
    wanted: Expected, numbers: Int64s, committed: tuple[int, ...] = (0, 0, 0, 0), **changed: pa.Array
) -> Verdict:
    check = EventCheck(wanted, PRODUCTS)
    check.take(outputs(wanted, numbers) | changed)
    return check.verdict(committed)


def test_right_prefix_of_every_partition_is_right(wanted: Expected) -> None:
    numbers = prefixes(wanted, (100, 200, 0, 17))
    verdict = verdict_of(wanted, numbers, committed=(100, 150, 0, 17))
    assert (verdict.problem, verdict.outputs) == ("", 317)


def test_hole_is_a_lost_event(wanted: Expected) -> None:
    numbers = np.delete(prefixes(wanted, (100, 100, 100, 100)), [50, 51, 250])
    assert verdict_of(wanted, numbers).lost == 3


def test_committed_but_not_there_is_lost(wanted: Expected) -> None:
    assert verdict_of(wanted, prefixes(wanted, (90, 100, 100, 100)), committed=(100, 100, 100, 100)).lost == 10


def test_repeated_event_is_doubled(wanted: Expected) -> None:
    numbers = prefixes(wanted, (50, 50, 50, 50))
    assert verdict_of(wanted, np.append(numbers, numbers[:2])).doubled == 2


def test_event_doubled_in_a_later_part_is_found(wanted: Expected) -> None:
    check = EventCheck(wanted, PRODUCTS)
    numbers = prefixes(wanted, (50, 50, 50, 50))
    check.take(outputs(wanted, numbers))
    check.take(outputs(wanted, numbers[:1]))
    assert check.verdict((0, 0, 0, 0)).doubled == 1


@pytest.mark.parametrize("name", ["event_type", "product_brand", "product_category"])
@pytest.mark.parametrize("value", ["other", None])
def test_changed_value_is_found(wanted: Expected, name: str, value: str | None) -> None:
    numbers = prefixes(wanted, (50, 50, 50, 50))
    numbers = numbers[wanted.events.product[numbers] >= 0]
    values = [value, *outputs(wanted, numbers)[name].to_pylist()[1:]]
    assert verdict_of(wanted, numbers, **{name: pa.array(values, pa.string())}).changed == 1


def test_foreign_and_unreadable_records_are_found(wanted: Expected) -> None:
    check = EventCheck(wanted, PRODUCTS)
    check.take({"event_id": pa.array(["nobody's"]), "event_type": pa.array(["click"])})
    check.unreadable(2)
    assert check.verdict((0, 0, 0, 0)).foreign == 3


def test_no_output_is_wrong(wanted: Expected) -> None:
    assert verdict_of(wanted, np.empty(0, dtype=np.int64)).problem


def test_bad_event_must_not_come_through_and_a_repeated_one_once() -> None:
    drawn = next(iter(events(7, 12_000, 20_000)))
    wanted = expected_of(drawn, with_faults=True)
    good = np.flatnonzero(wanted.good)
    ends = tuple(len(rows) for rows in wanted.rows)
    assert verdict_of(wanted, good, committed=ends).problem == ""
    assert verdict_of(wanted, np.append(good, [0]), committed=ends).changed == 1
    assert verdict_of(wanted, np.append(good, [1_001]), committed=ends).doubled == 1


def test_log_is_drawn_as_far_as_it_was_read_and_no_event_is_another_then() -> None:
    drawn = Drawn(Log("raw", with_faults=True, epoch_ms=EPOCH_MS, events=1_500_000))
    part = drawn.read_until(50_000)
    assert 50_000 * 4 < len(part.events) < 1_000_000
    assert drawn.up_to(1) is part
    whole = drawn.all()
    assert len(whole.events) == 1_500_000
    assert drawn.all() is whole is drawn.read_until(10**9)
    for name in ("visit", "time_ms", "kind"):
        assert (getattr(whole.events, name)[: len(part.events)] == getattr(part.events, name)).all()
    assert all((more[: len(some)] == some).all() for some, more in zip(part.rows, whole.rows, strict=True))


@pytest.fixture(scope="module")
def visits() -> Expected:
    """A long day of 2,000 visits, some in two sessions, and a last event that closes all of them."""
    random = np.random.default_rng(1)
    visit = np.repeat(np.arange(2_000), 5)
    pauses = random.integers(1, 1_000_000, len(visit))
    pauses[random.random(len(visit)) < 0.1] = 3_000_000
    times = np.repeat(random.integers(0, 40_000_000, 2_000), 5) + np.cumsum(pauses.reshape(-1, 5), axis=1).ravel()
    closing = np.arange(2_000, 2_040)
    visit, times = np.append(visit, closing), np.append(times, np.full(40, 90_000_000))
    order = np.argsort(times, kind="stable")
    size = len(visit)
    kinds = random.integers(0, len(KINDS), size)
    return expected_of(Events(visit[order], times[order], kinds, np.full(size, -1), np.zeros(size, dtype=np.int64)))


def sessions_out(wanted: Expected, rows: Int64s) -> dict[str, pa.Array]:
    found = oracle.sessions_of(wanted)
    return {
        "client_session_id": session_ids(found.key[rows]),
        "started_at": pa.array(EPOCH_MS + found.started_ms[rows]).view(pa.timestamp("ms")),
        "ended_at": pa.array(EPOCH_MS + found.ended_ms[rows]),
        "event_count": pa.array(found.event_count[rows].astype(np.int32)),
        "page_views": pa.array(found.page_views[rows]),
        "purchases": pa.array(found.purchases[rows]),
    }


def closed(wanted: Expected) -> Int64s:
    return np.flatnonzero(oracle.sessions_of(wanted).ended_ms < 90_000_000)


def session_verdict(
    wanted: Expected,
    rows: Int64s,
    committed: tuple[int, ...] = (0, 0, 0, 0),
    closing: Closing = CLOSING,
    **changed: pa.Array,
) -> Verdict:
    check = SessionCheck(wanted, EPOCH_MS, closing)
    check.take(sessions_out(wanted, rows) | changed)
    return check.verdict(committed)


def test_sessions_are_cut_by_the_gap(visits: Expected) -> None:
    found = oracle.sessions_of(visits)
    assert found.event_count.sum() == len(visits.events)
    assert len(found.key) > 2_500
    same = found.key[1:] == found.key[:-1]
    assert (found.started_ms[1:][same] - found.ended_ms[:-1][same] > 1_800_000).all()


def test_all_closed_sessions_are_right(visits: Expected) -> None:
    ends = tuple(len(rows) for rows in visits.rows)
    assert session_verdict(visits, closed(visits), committed=ends).problem == ""


def test_missing_session_is_lost(visits: Expected) -> None:
    rows = closed(visits)
    ends = tuple(len(rows) for rows in visits.rows)
    assert session_verdict(visits, rows[1:], committed=ends).lost == 1
    # Without offsets, what came out itself tells that something older is missing.
    ended = oracle.sessions_of(visits).ended_ms[rows]
    assert session_verdict(visits, rows[ended != np.sort(ended)[100]]).lost == 1


def test_session_that_must_have_closed_by_the_committed_offset_is_lost(visits: Expected) -> None:
    rows = closed(visits)
    youngest = np.argsort(oracle.sessions_of(visits).ended_ms[rows])[-10:]
    assert session_verdict(visits, np.delete(rows, youngest)).lost == 0
    ends = tuple(len(rows) for rows in visits.rows)
    assert session_verdict(visits, np.delete(rows, youngest), committed=ends).lost == 10


def test_session_is_not_lost_before_the_system_closes_it(visits: Expected) -> None:
    rows, ends = closed(visits), tuple(len(rows) for rows in visits.rows)
    ended = oracle.sessions_of(visits).ended_ms[rows]
    older = np.delete(rows, np.argsort(ended)[-10:])
    # The last event of every partition is at 90,000,000.
    until_the_end_ms = 90_000_000 - int(np.sort(ended)[-10])
    assert session_verdict(visits, older, committed=ends).lost == 10
    assert session_verdict(visits, older, committed=ends, closing=Closing(until_the_end_ms)).problem == ""


def test_partition_that_is_behind_holds_the_sessions_of_all_back_where_there_is_one_watermark(visits: Expected) -> None:
    rows, found = closed(visits), oracle.sessions_of(visits)
    ends = tuple(len(visits.rows[index]) if index else 1 for index in range(4))
    ahead = np.flatnonzero((found.partition[rows] > 0) & (found.ended_ms[rows] < 20_000_000))
    assert session_verdict(visits, rows[ahead], committed=ends).lost > 0
    assert session_verdict(visits, rows[ahead], committed=ends, closing=Closing(by_all=True)).problem == ""


def test_doubled_and_foreign_sessions_are_found(visits: Expected) -> None:
    rows = closed(visits)
    assert session_verdict(visits, np.append(rows, rows[:1])).doubled == 1
    moved = pa.array(EPOCH_MS + 1 + oracle.sessions_of(visits).started_ms[rows])
    assert session_verdict(visits, rows, started_at=moved).foreign == len(rows)


@pytest.mark.parametrize("name", ["ended_at", "event_count", "page_views", "purchases"])
def test_changed_session_is_found(visits: Expected, name: str) -> None:
    rows = closed(visits)
    values = sessions_out(visits, rows)[name].to_pylist()
    values[0] += 1
    assert session_verdict(visits, rows, **{name: pa.array(values)}).changed == 1


def test_events_per_session_is_that_of_whole_sessions(visits: Expected) -> None:
    assert 1 < oracle.events_per_session(visits) < 5
