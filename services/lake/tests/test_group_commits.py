from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError, TopicPartition

from millrace_common.records import Committed, Partition
from millrace_lake.group_commits import GroupCommits

FIRST, SECOND = Partition("sessions", 0), Partition("sessions", 1)


class Member:
    def __init__(self) -> None:
        self.requests: list[dict[int, int]] = []

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        self.requests.append({place.partition: place.offset for place in offsets})


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.fixture
def owned() -> set[Partition]:
    return {FIRST, SECOND}


@pytest.fixture
def commits(member: Member, owned: set[Partition]) -> GroupCommits:
    commits = GroupCommits(lambda: owned)
    commits.commit_through(member)
    return commits


def test_one_request_waits_for_the_answer_to_the_one_before(commits: GroupCommits, member: Member) -> None:
    commits({FIRST: Committed(1)})
    commits({FIRST: Committed(2)})
    commits({FIRST: Committed(3), SECOND: Committed(7)})
    assert member.requests == [{0: 1}]
    commits.on_commit(None, [])
    assert member.requests == [{0: 1}, {0: 3, 1: 7}]
    commits.on_commit(None, [])
    assert len(member.requests) == 2


def test_a_failed_request_does_not_hold_up_the_next(commits: GroupCommits, member: Member) -> None:
    commits({FIRST: Committed(1)})
    commits({FIRST: Committed(2)})
    commits.on_commit(KafkaError(KafkaError._TIMED_OUT), [])
    assert member.requests == [{0: 1}, {0: 2}]


def test_a_partition_that_went_elsewhere_meanwhile_is_left_to_its_owner(
    commits: GroupCommits, member: Member, owned: set[Partition]
) -> None:
    commits({FIRST: Committed(1)})
    commits({FIRST: Committed(2), SECOND: Committed(2)})
    owned.remove(FIRST)
    commits.on_commit(None, [])
    assert member.requests == [{0: 1}, {1: 2}]


def test_the_end_waits_for_no_answer(commits: GroupCommits, member: Member) -> None:
    commits({FIRST: Committed(1)})
    commits({FIRST: Committed(2)})
    commits.finish()
    assert member.requests == [{0: 1}, {0: 2}]
