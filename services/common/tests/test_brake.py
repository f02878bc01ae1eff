import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.brake import Brake
from millrace_common.errors import BrakeError


def test_half_of_the_window_dead_is_still_let_through() -> None:
    brake = Brake(window=1_000, limit=0.5)
    brake.add(1_000, 500, "bad_ip")


def test_one_more_than_half_of_the_window_dead_stops_and_names_count_and_reason() -> None:
    brake = Brake(window=1_000, limit=0.5)
    brake.add(400, 300, "bad_ip")
    with pytest.raises(BrakeError, match=r"501 of the last 601 records are dead, most recently because of 'empty_id'"):
        brake.add(201, 201, "empty_id")


def test_dead_records_that_are_out_of_the_window_no_longer_count() -> None:
    brake = Brake(window=1_000, limit=0.5)
    for _ in range(4):
        brake.add(100, 100, "bad_ip")
    for _ in range(10):
        brake.add(100, 0, "")
    brake.add(100, 100, "bad_ip")
    assert sum(brake.counts()[1::2]) == 100


def test_limit_one_never_stops() -> None:
    brake = Brake(window=100, limit=1)
    for _ in range(50):
        brake.add(100, 100, "undecodable")


def test_what_was_let_through_with_the_brake_off_does_not_count_when_it_is_on_again() -> None:
    before = Brake(window=1_000, limit=0.5)
    before.add(450, 450, "bad_ip")
    off = Brake(window=1_000, limit=1)
    off.restore(before.counts())
    off.add(100, 100, "bad_ip")
    assert off.counts() == ()


def test_what_was_counted_survives_a_restart() -> None:
    before = Brake(window=1_000, limit=0.5)
    before.add(450, 450, "bad_ip")
    after = Brake(window=1_000, limit=0.5)
    after.restore(before.counts())
    with pytest.raises(BrakeError):
        after.add(51, 51, "bad_ip")


def test_restoring_what_is_known_already_does_not_count_it_twice() -> None:
    brake = Brake(window=1_000, limit=0.5)
    brake.add(300, 300, "bad_ip")
    brake.restore(brake.counts())
    brake.restore(brake.counts())
    brake.add(200, 200, "bad_ip")


def test_going_back_forgets_what_was_counted_since_the_last_commit() -> None:
    brake = Brake(window=1_000, limit=0.5)
    brake.add(100, 100, "bad_ip")
    brake.keep()
    brake.add(300, 300, "bad_ip")
    brake.go_back()
    brake.add(300, 300, "bad_ip")
    assert sum(brake.counts()[1::2]) == 400


def test_without_a_dead_record_there_is_nothing_to_commit() -> None:
    brake = Brake(window=1_000, limit=0.5)
    brake.add(5_000, 0, "")
    assert brake.counts() == ()


@given(
    st.lists(st.integers(1, 400).flatmap(lambda read: st.tuples(st.just(read), st.integers(0, read))), max_size=200),
    st.lists(st.booleans(), min_size=200, max_size=200),
)
def test_restarts_between_runs_change_nothing_and_counts_stay_small(
    runs: list[tuple[int, int]], restarts: list[bool]
) -> None:
    steady, restarted = Brake(1_000, 0.5), Brake(1_000, 0.5)
    for (read, dead), restart in zip(runs, restarts, strict=False):
        outcomes = []
        for brake in (steady, restarted):
            try:
                brake.add(read, dead, "r")
                outcomes.append("passed")
            except BrakeError:
                outcomes.append("stopped")
        assert len(restarted.counts()) <= 24
        if outcomes[0] == "stopped":
            assert outcomes[1] == "stopped"
            return
        if restart and steady.counts():
            fresh = Brake(1_000, 0.5)
            fresh.restore(restarted.counts())
            restarted = fresh
        assert steady.counts() == restarted.counts()
