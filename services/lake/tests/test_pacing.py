from hypothesis import given
from hypothesis import strategies as st

from millrace_lake.compaction import MAX_MERGE_BYTES, SIZE_CLASSES_BYTES, plan
from millrace_lake.fencing import Standing, standing
from millrace_lake.pacing import Limits, Pace
from millrace_lake.writer import LiveFile

LIMITS = Limits(rows=100, size_bytes=1_000, interval_seconds=2.0)


def test_batch_is_due_by_rows_bytes_or_age() -> None:
    pace = Pace(LIMITS)
    assert not pace.due(99, 999, 1.99)
    assert pace.due(100, 0, 0.0)
    assert pace.due(0, 1_000, 0.0)
    assert pace.due(0, 0, 2.0)


def test_interval_is_never_under_four_commits() -> None:
    pace = Pace(LIMITS)
    pace.committed(3.0)
    assert pace.interval_seconds == 12.0
    for _ in range(100):
        pace.committed(0.01)
    assert pace.interval_seconds == 2.0


def test_single_slow_commit_counts_for_a_fifth() -> None:
    pace = Pace(LIMITS)
    pace.committed(0.5)
    pace.committed(1.0)
    assert abs(pace.interval_seconds - 4 * 0.6) < 1e-9


def files(*sizes: int) -> list[LiveFile]:
    return [LiveFile(f"{number}-{size}", size, 1) for number, size in enumerate(sizes)]


def test_files_of_one_size_class_are_merged_together() -> None:
    small, middling = 10_000, 100_000
    assert plan(files(*[small] * 3, *[middling] * 3), 4) == []
    assert plan(files(*[small] * 4, *[middling] * 3), 4) == files(*[small] * 4)
    assert [file.size_bytes for file in plan(files(small, *[middling] * 4), 4)] == [middling] * 4


def test_large_files_are_left_to_the_night() -> None:
    assert plan(files(*[SIZE_CLASSES_BYTES[-1]] * 100), 4) == []


@given(st.lists(st.integers(1, 4 * 1024 * 1024), max_size=200), st.integers(2, 40))
def test_one_merge_is_bounded_and_ends(sizes: list[int], fan_in: int) -> None:
    left, merges = files(*sizes), 0
    while chosen := plan(left, fan_in):
        total = sum(file.size_bytes for file in chosen)
        assert total <= MAX_MERGE_BYTES
        if len(chosen) < 2:
            break
        names = {file.path for file in chosen}
        left = [file for file in left if file.path not in names] + [LiveFile(f"m{merges}", total, 1)]
        merges += 1
    assert merges <= len(sizes)
    for below, limit in zip((0, *SIZE_CLASSES_BYTES), SIZE_CLASSES_BYTES, strict=False):
        assert sum(below <= file.size_bytes < limit for file in left) < fan_in


def test_standing_says_who_moved_the_positions() -> None:
    begin, end = {"a": None, "b": 5}, {"a": 3, "b": 9}
    assert standing({"a": None, "b": 5}, begin, end) is Standing.UNTOUCHED
    assert standing({"a": 3, "b": 9}, begin, end) is Standing.REACHED
    assert standing({"a": 3, "b": 5}, begin, end) is Standing.MOVED
    assert standing({"a": 4, "b": 9}, begin, end) is Standing.MOVED
