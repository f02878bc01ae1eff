"""What counts as a duplicate, against a plain dictionary and at the table's edges."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_ingest.dedup import SNAPSHOT_SCHEMA, SeenIds
from millrace_ingest.fingerprints import Fingerprints, fingerprints

WINDOW_MS = 1_000
T0_MS = 1_700_000_000_000

# (id, append time): few ids, times that also run backwards and jump past the window
homes = st.sampled_from(["spread", "first", "last"])
logs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4_000)), max_size=120)


class Reference:
    """The rule of dedup.py, per record."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self.clock_ms = -1
        self.seen: dict[int, int] = {}

    def add(self, an_id: int, appended_at_ms: int) -> bool:
        self.clock_ms = max(self.clock_ms, appended_at_ms)
        before = self.seen.get(an_id)
        self.seen[an_id] = self.clock_ms
        return before is not None and before > self.clock_ms - self.window_ms


def ids_of(numbers: list[int], home: str = "spread") -> Fingerprints:
    """Give each number a fingerprint: homes all over the table, or all of them in its first or last bucket."""
    low = np.array(numbers, dtype=np.uint64)
    high = {"spread": low * np.uint64(0x9E3779B97F4A7C15), "first": low * np.uint64(0), "last": ~(low * np.uint64(0))}
    return Fingerprints(high[home], low)


def duplicates(log: list[tuple[int, int]], window_ms: int = WINDOW_MS) -> list[bool]:
    reference = Reference(window_ms)
    return [reference.add(an_id, T0_MS + at) for an_id, at in log]


def cut(log: list[tuple[int, int]], borders: list[int]) -> list[list[tuple[int, int]]]:
    edges = sorted({0, len(log), *(border for border in borders if border <= len(log))})
    return [log[start:end] for start, end in pairwise(edges)]


def add(seen: SeenIds, log: list[tuple[int, int]], home: str = "spread") -> list[bool]:
    stamps = np.array([T0_MS + at for _, at in log], dtype=np.int64)
    found: list[bool] = seen.add(ids_of([an_id for an_id, _ in log], home), stamps).tolist()
    return found


@given(logs, st.lists(st.integers(0, 120)), homes, st.sampled_from([0, 1, WINDOW_MS]))
def test_any_batch_borders_find_the_duplicates_of_the_plain_rule(
    log: list[tuple[int, int]], borders: list[int], home: str, window_ms: int
) -> None:
    seen = SeenIds(window_ms)
    found = [answer for part in cut(log, borders) for answer in add(seen, part, home)]
    assert found == duplicates(log, window_ms)


@given(logs, st.integers(0, 120), homes)
def test_a_restored_snapshot_goes_on_like_the_original(log: list[tuple[int, int]], at: int, home: str) -> None:
    seen = SeenIds(WINDOW_MS)
    add(seen, log[:at], home)
    restored = SeenIds.restore(seen.snapshot(), WINDOW_MS)
    assert add(restored, log[at:], home) == duplicates(log)[at:]
    assert sorted(restored.snapshot().to_pylist(), key=str) == sorted(replayed(log, home), key=str)


def replayed(log: list[tuple[int, int]], home: str) -> list[dict[str, int]]:
    seen = SeenIds(WINDOW_MS)
    add(seen, log, home)
    rows: list[dict[str, int]] = seen.snapshot().to_pylist()
    return rows


@given(logs, st.integers(0, 120))
def test_replaying_one_window_of_log_rebuilds_the_state_exactly(log: list[tuple[int, int]], at: int) -> None:
    log = list(
        zip((an_id for an_id, _ in log), np.maximum.accumulate([t for _, t in log] or [0]).tolist(), strict=False)
    )
    at = min(at, len(log))
    clock = log[at - 1][1] if at else 0
    seen = SeenIds(WINDOW_MS)
    add(seen, [(an_id, t) for an_id, t in log[:at] if t > clock - WINDOW_MS])
    assert add(seen, log[at:]) == duplicates(log)[at:]


def test_a_long_log_of_coming_and_going_ids_finds_the_duplicates_of_the_plain_rule() -> None:
    rng = np.random.default_rng(3)
    # The log speeds up and slows down: the table has to grow, to reuse expired slots and to shrink.
    steps_ms = rng.integers(0, np.repeat([2, 1, 40, 2], 40_000), endpoint=True)
    numbers = rng.integers(0, 30_000, len(steps_ms)).tolist()
    log = list(zip(numbers, np.cumsum(steps_ms).tolist(), strict=True))
    window_ms = 20_000
    seen = SeenIds(window_ms)
    found = [answer for part in cut(log, list(range(0, len(log), 1_777))) for answer in add(seen, part)]
    assert found == duplicates(log, window_ms)
    assert 0.2 < sum(found) / len(found) < 0.8


def test_an_id_is_a_duplicate_until_exactly_one_window_has_passed() -> None:
    log = [(1, 0), (2, 0), (1, WINDOW_MS - 1), (2, WINDOW_MS)]
    assert add(SeenIds(WINDOW_MS), log) == [False, False, True, False]


def test_each_occurrence_begins_the_window_anew() -> None:
    log = [(1, 0), (1, WINDOW_MS - 1), (1, 2 * WINDOW_MS - 2), (1, 3 * WINDOW_MS - 2)]
    assert add(SeenIds(WINDOW_MS), log) == [False, True, True, False]


def test_log_time_does_not_run_backwards_with_the_brokers_clock() -> None:
    assert add(SeenIds(WINDOW_MS), [(1, 0), (2, WINDOW_MS), (1, 1)]) == [False, False, False]


def test_ids_that_share_half_a_fingerprint_are_different_ids() -> None:
    high, low = np.array([7, 7, 8], dtype=np.uint64), np.array([1, 2, 1], dtype=np.uint64)
    seen = SeenIds(WINDOW_MS)
    assert not seen.add(Fingerprints(high, low), np.full(3, T0_MS)).any()
    assert seen.add(Fingerprints(high, low), np.full(3, T0_MS)).all()


def test_the_table_grows_with_the_ids_and_shrinks_when_they_expire() -> None:
    seen, rng = SeenIds(WINDOW_MS), np.random.default_rng(5)
    ids = Fingerprints(*rng.integers(0, 2**64, (2, 800_000), dtype=np.uint64))
    parts = [ids.take(np.arange(start, start + 5_000)) for start in range(0, 800_000, 5_000)]
    assert not any(seen.add(part, np.full(5_000, T0_MS)).any() for part in parts)
    assert len(seen) == 800_000
    assert seen.nbytes / len(seen) <= 40
    assert all(seen.add(part, np.full(5_000, T0_MS + WINDOW_MS - 1)).all() for part in parts)
    largest = seen.nbytes
    for turn in range(1, 41):
        fresh = Fingerprints(*rng.integers(0, 2**64, (2, 5_000), dtype=np.uint64))
        seen.add(fresh, np.full(5_000, T0_MS + turn * 10 * WINDOW_MS))
    assert len(seen) == 5_000
    assert seen.nbytes < largest / 4


def test_ids_that_come_back_after_the_window_take_room_again() -> None:
    ids = Fingerprints(*np.random.default_rng(7).integers(0, 2**64, (2, 39_000), dtype=np.uint64))
    parts = [ids.take(np.arange(start, start + 1_000)) for start in range(0, 39_000, 1_000)]
    seen, now_ms, later_ms = SeenIds(WINDOW_MS), np.full(1_000, T0_MS), np.full(1_000, T0_MS + 2 * WINDOW_MS)
    for part in parts[:23]:  # as many as fit before slots are counted again
        seen.add(part, now_ms)
    for part in parts:  # the first one has them counted: all expired; then the same ids take them again
        assert not seen.add(part, later_ms).any()
    assert len(seen) == 39_000
    assert all(seen.add(part, later_ms).all() for part in parts)


def test_a_batch_larger_than_the_table_fits() -> None:
    ids = Fingerprints(*np.random.default_rng(7).integers(0, 2**64, (2, 200_000), dtype=np.uint64))
    seen = SeenIds(WINDOW_MS)
    for at_ms in (T0_MS, T0_MS + 2 * WINDOW_MS):
        assert not seen.add(ids, np.full(len(ids), at_ms)).any()
    assert len(seen) == 200_000


def test_the_table_survives_a_pause_longer_than_its_time_marks_reach() -> None:
    years_ms = 3 * 365 * 86_400_000
    seen = SeenIds(WINDOW_MS)
    add(seen, [(1, 0)])
    assert add(seen, [(1, years_ms), (1, years_ms + 1), (2, years_ms + 2)]) == [False, True, False]


def test_an_empty_state_has_an_empty_snapshot_that_restores() -> None:
    snapshot = SeenIds(WINDOW_MS).snapshot()
    assert snapshot.schema == SNAPSHOT_SCHEMA
    assert add(SeenIds.restore(snapshot, WINDOW_MS), [(1, 0), (1, 0)]) == [False, True]


@pytest.mark.parametrize("window_ms", [-1, 2**31])
def test_a_window_the_time_marks_cannot_hold_is_refused(window_ms: int) -> None:
    with pytest.raises(ValueError, match="dedup window"):
        SeenIds(window_ms)


texts = st.text(max_size=80)


@given(st.lists(texts, min_size=1), st.data())
def test_a_fingerprint_depends_on_its_own_row_alone(strings: list[str], data: st.DataObject) -> None:
    together = fingerprints([pa.array(strings)])
    row = data.draw(st.integers(0, len(strings) - 1))
    alone = fingerprints([pa.array(strings).slice(row, 1)])
    assert (together.high[row], together.low[row]) == (alone.high[0], alone.low[0])


@given(st.sets(texts))
def test_different_strings_have_different_fingerprints(strings: set[str]) -> None:
    found = fingerprints([pa.array(sorted(strings), pa.string())])
    assert len(set(found.high.tolist())) == len(set(found.low.tolist())) == len(strings)


def test_fingerprints_do_not_change_between_versions() -> None:
    found = fingerprints([pa.array(["0b3bd0b0-1111-5111-8111-000000000001", "", "x" * 65]), pa.array([0, -1, 2**62])])
    assert found.high.tolist() == [0xCDD0F080CC61F67B, 0xD3870E00486985BF, 0x9515D3D60F27FCD9]
    assert found.low.tolist() == [0x4AC9C63BD0422569, 0xBC1BF3D11BB693B1, 0xE148294A07F3D57E]


def test_a_border_between_columns_counts() -> None:
    found = fingerprints([pa.array(["ab", "a"]), pa.array(["c", "bc"])])
    assert found.low[0] != found.low[1]
