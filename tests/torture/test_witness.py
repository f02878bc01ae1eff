"""Positions never go back, but where an operator has put them."""

from millrace_common.records import Partition
from witness import Back, unexplained

PLACE, OTHER = Partition("topic", 0), Partition("topic", 1)


def test_a_position_that_goes_back_is_named() -> None:
    assert unexplained([Back("group", PLACE, 9, 4)], []) == ["group at topic[0] went back from 9 to 4"]


def test_a_move_explains_one_going_back_as_far_as_it_went() -> None:
    moved = [("group", PLACE, 3)]
    assert not unexplained([Back("group", PLACE, 9, 3)], moved)
    assert not unexplained([Back("group", PLACE, 9, 5)], moved)
    assert unexplained([Back("group", PLACE, 9, 2)], moved)
    assert len(unexplained([Back("group", PLACE, 9, 3), Back("group", PLACE, 7, 3)], moved)) == 1


def test_a_move_explains_nothing_elsewhere() -> None:
    moved = [("group", PLACE, 3)]
    assert unexplained([Back("group", OTHER, 9, 3)], moved)
    assert unexplained([Back("another", PLACE, 9, 3)], moved)
