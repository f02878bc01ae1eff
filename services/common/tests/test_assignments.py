from millrace_common.assignments import Assignments
from millrace_common.records import Committed, Partition

FIRST, SECOND = Partition("in", 0), Partition("in", 1)


def test_every_assignment_has_a_generation_of_its_own() -> None:
    assignments = Assignments()
    before = assignments.begin({FIRST: None, SECOND: Committed(5)})
    again = assignments.begin({FIRST: Committed(2)})
    assert len({*before.values(), *again.values()}) == 3
    assert not assignments.is_current(FIRST, before[FIRST])
    assert assignments.is_current(FIRST, again[FIRST])
    assert assignments.is_current(SECOND, before[SECOND])
    assert assignments.committed == {FIRST: Committed(2), SECOND: Committed(5)}


def test_what_is_not_owned_is_not_current() -> None:
    assignments = Assignments()
    generations = assignments.begin({FIRST: None, SECOND: None})
    assignments.end([FIRST])
    assert not assignments.is_current(FIRST, generations[FIRST])
    assert assignments.owned() == (SECOND,)
    assignments.end([FIRST])  # twice is no mistake: lost and revoked may both be told


def test_nothing_is_current_while_a_rewind_is_due() -> None:
    assignments = Assignments()
    generations = assignments.begin({FIRST: None})
    assignments.request_rewind("the first reason")
    assignments.request_rewind("the second")
    assert not assignments.is_current(FIRST, generations[FIRST])
    assert assignments.take_rewind_request() == "the first reason"
    assert assignments.take_rewind_request() is None
    assert assignments.is_current(FIRST, generations[FIRST])
