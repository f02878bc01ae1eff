import pyarrow as pa
import pytest

from millrace_common.records import Partition
from millrace_common.restarts import RestartEstimate, Speed
from millrace_common.snapshots import Snapshot

FIRST, SECOND = Partition("in", 0), Partition("in", 1)


def state(size_bytes: int) -> pa.Table:
    return pa.table({"n": pa.array([0] * (size_bytes // 8), pa.int64())})


def snapshot(place: Partition, offset: int, size_bytes: int) -> Snapshot:
    return Snapshot(place, offset, "id", None, state(size_bytes))


def test_nothing_read_and_nothing_kept_costs_the_session_timeout() -> None:
    assert RestartEstimate(10.0).seconds({FIRST: 7}) == 10.0
    assert RestartEstimate(10.0).seconds({}) == 10.0


def test_partitions_add_up() -> None:
    estimate = RestartEstimate(replaying=Speed(100.0), loading=Speed(800.0))
    estimate.begun(FIRST, 50, None)
    estimate.begun(SECOND, 0, state(1_600))
    assert estimate.seconds({FIRST: 150, SECOND: 300}) == pytest.approx(1.0 + 2.0 + 3.0)
    assert estimate.seconds({FIRST: 150}) == pytest.approx(1.0)


def test_a_newer_snapshot_shortens_the_replay_and_brings_its_own_size() -> None:
    estimate = RestartEstimate(replaying=Speed(100.0))
    estimate.begun(FIRST, 0, None)
    estimate.written(snapshot(FIRST, 400, 8_000), seconds=2.0)
    # It took 2 s to write: so it takes to load, as far as this process knows.
    assert estimate.seconds({FIRST: 500}) == pytest.approx(2.0 + 1.0)
    estimate.written(snapshot(FIRST, 500, 16_000), seconds=4.0)
    assert estimate.seconds({FIRST: 500}) == pytest.approx(4.0)


def test_what_loading_took_counts_more_than_what_writing_took() -> None:
    estimate = RestartEstimate()
    estimate.loading.measured(8_000, 1.0)
    estimate.written(snapshot(FIRST, 0, 16_000), seconds=100.0)
    assert estimate.seconds({FIRST: 0}) == pytest.approx(2.0)


def test_loading_is_reading_the_state_and_what_the_flow_does_with_it() -> None:
    estimate = RestartEstimate()
    estimate.begun(FIRST, 0, state(8_000))
    estimate.fetched(1.5)
    estimate.polled(100.0)
    estimate.worked(100.5, 5_000)
    assert estimate.seconds({FIRST: 0}) == pytest.approx(2.0)
    # What was polled with the state says nothing about a record; what comes after it does.
    assert estimate.seconds({FIRST: 100_000}) == pytest.approx(2.0 + 1.0)
    estimate.polled(101.0)
    estimate.worked(102.0, 5_000)
    assert estimate.seconds({FIRST: 10_000}) == pytest.approx(2.0 + 2.0)


def test_the_latest_measurements_count_most() -> None:
    speed = Speed(1.0)
    assert speed.per_second == 1.0
    speed.measured(1_000, 1.0)
    assert speed.per_second == 1_000.0
    for _ in range(30):
        speed.measured(100, 1.0)
    assert speed.per_second == pytest.approx(100.0, rel=0.05)
