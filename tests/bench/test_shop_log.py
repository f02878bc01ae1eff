"""The log is what the bench says of it; under two seconds."""

import numpy as np
import pyarrow as pa
import pytest

import shop_log
from filling import log_rows
from millrace_common.codec import Encoder
from millrace_common.columns import Int64s
from millrace_generator.partitions import partition_for
from millrace_schemas import schema_text
from shop_log import Events
from shop_records import Columns, event_ids, numbers_of, partitions, session_ids

OPEN = 20_000


@pytest.fixture(scope="module")
def events() -> list[Events]:
    return list(shop_log.events(7, 60_000, OPEN))


@pytest.fixture(scope="module")
def whole(events: list[Events]) -> tuple[Int64s, Int64s]:
    return np.concatenate([run.visit for run in events]), np.concatenate([run.time_ms for run in events])


def test_same_seed_gives_the_same_events_and_any_length_begins_alike(events: list[Events]) -> None:
    shorter = next(iter(shop_log.events(7, 1_000, OPEN)))
    assert all(
        np.array_equal(getattr(shorter, name), getattr(events[0], name)[:1_000])
        for name in ("visit", "time_ms", "kind", "product", "page")
    )
    assert sum(map(len, events)) == 60_000


def test_about_as_many_sessions_as_asked_for_are_open_from_the_first_moment_on(whole: tuple[Int64s, Int64s]) -> None:
    visit, times = whole
    for moment in (0, 300_000, 600_000):
        before = times < moment
        last = np.full(visit.max() + 1, -(2**60))
        np.maximum.at(last, visit[before], times[before])
        open_now = (last + shop_log.GAP_MS + shop_log.LATENESS_MS >= moment).sum()
        assert open_now == pytest.approx(OPEN, rel=0.05)


def test_no_event_comes_more_than_the_disorder_late(whole: tuple[Int64s, Int64s]) -> None:
    _, times = whole
    assert 0 < (np.maximum.accumulate(times) - times).max() <= shop_log.DISORDER_MS


def test_ids_tell_the_number(events: list[Events]) -> None:
    numbers = np.array([0, 1, 255, 10**9])
    ids = event_ids(numbers)
    assert numbers_of(ids).tolist() == numbers.tolist()
    assert numbers_of(pa.array(["", ids[1].as_py(), None, "x" * 36])).tolist() == [-1, 1, -1, -1]
    assert numbers_of(ids.slice(2)).tolist() == [255, 10**9]


def test_partition_is_the_one_the_client_picks() -> None:
    ids = session_ids(np.arange(500))
    assert partitions(ids, 4).tolist() == [partition_for(text.encode(), 4) for text in ids.to_pylist()]


def test_columns_are_those_of_the_subjects(events: list[Events]) -> None:
    some = events[1].take(np.arange(200))
    columns = Columns()
    raw = columns.raw(some, 5, 1_790_000_000_000, np.arange(200) == 3)
    assert len(Encoder(schema_text("user-events"), 1).encode(raw)) == 200
    enriched = columns.enriched(some, 5, 1_790_000_000_000)
    assert len(Encoder(schema_text("user-events.enriched"), 1).encode(enriched)) == 200
    assert raw.column("context").to_pylist()[3]["ip"] == "nowhere"
    properties = [dict(pairs) for pairs in raw.column("properties").to_pylist()]
    assert [each.get("productId") for each in properties] == enriched.column("product_id").to_pylist()
    assert all(
        ("amount" in each) == (kind == "purchase")
        for each, kind in zip(properties, enriched.column("event_type").to_pylist(), strict=True)
    )


def test_faults_are_some_records_twice_and_some_bad() -> None:
    rows = log_rows(0, 20_000, with_faults=True)
    numbers, counts = np.unique(rows.number, return_counts=True)
    assert numbers.tolist() == list(range(20_000))
    assert np.flatnonzero(counts == 2).tolist() == [1_000 * n + 1 for n in range(20)]
    good = rows.number[rows.good]
    assert len(good) == len(np.unique(good)) == 19_998
    assert log_rows(5, 10, with_faults=False).number.tolist() == list(range(5, 15))
