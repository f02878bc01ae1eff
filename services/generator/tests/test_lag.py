"""When history yields."""

from millrace_common.records import Partition
from millrace_generator.lag import Behind, lag

FIRST, SECOND = Partition("t", 0), Partition("t", 1)


def test_what_came_just_now_may_wait() -> None:
    behind = Behind(0.5)
    assert not behind(0.0, {FIRST: 100}, {FIRST: 0})
    assert not behind(0.4, {FIRST: 200}, {FIRST: 0})


def test_what_could_be_read_a_while_ago_may_not_wait() -> None:
    behind = Behind(0.5)
    behind(0.0, {FIRST: 100, SECOND: 5}, {FIRST: 0, SECOND: 5})
    assert behind(0.5, {FIRST: 900, SECOND: 5}, {FIRST: 99, SECOND: 5})


def test_who_keeps_up_is_not_behind_however_much_comes() -> None:
    behind = Behind(0.5)
    for tick in range(40):
        now = tick / 4
        assert not behind(now, {FIRST: 1_000 * (tick + 1)}, {FIRST: 1_000 * max(0, tick - 1)})


def test_who_has_caught_up_is_not_behind_any_more() -> None:
    behind = Behind(0.5)
    behind(0.0, {FIRST: 100}, {FIRST: 0})
    assert behind(1.0, {FIRST: 100}, {FIRST: 99})
    assert not behind(1.25, {FIRST: 100}, {FIRST: 100})


def test_partitions_that_nobody_has_ever_read_hold_nothing_up() -> None:
    assert lag({FIRST: 10, SECOND: 10}, {SECOND: 4}) == 6
    behind = Behind(0.5)
    behind(0.0, {FIRST: 100}, {})
    assert not behind(9.0, {FIRST: 100}, {})
