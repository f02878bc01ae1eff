"""Tells the group's coordinator what is in the tables, without waiting: only lag tools read it."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, TopicPartition

from millrace_common import failpoints
from millrace_common.failpoints import Failpoint
from millrace_common.records import Committed, Partition
from millrace_lake.dead_letters import group_offsets

_log = logging.getLogger(__name__)


class GroupMember(Protocol):
    """The part of a consumer that commits."""

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> object:
        """Commit `offsets`; the consumer's on_commit is called when that is done."""


class GroupCommits:
    """One request after the other.

    The client repeats a request whose answer got lost. With a later one on its way at the same time, that would take
    the group back.
    """

    def __init__(self, owned: Callable[[], Collection[Partition]]) -> None:
        """Nothing is committed before `commit_through` was called; only partitions that are `owned` then ever are."""
        self._owned = owned
        self._member: GroupMember | None = None
        self._waiting: dict[Partition, Committed] = {}
        self._under_way = False

    def commit_through(self, member: GroupMember) -> None:
        """Use `member`, whose on_commit is `on_commit`."""
        self._member = member

    def __call__(self, committed: Mapping[Partition, Committed]) -> None:
        """Commit these positions, as soon as the request under way is answered."""
        self._waiting |= committed
        if not self._under_way:
            self._send()

    def on_commit(self, error: KafkaError | None, places: Sequence[TopicPartition]) -> None:
        """Take note that a request was answered or given up, and send what has come since."""
        if error is not None:
            _log.warning("the group was not told its offsets", extra={"error": error.str()})
        self._under_way = False
        self._send()

    def finish(self) -> None:
        """Send what waits, whatever is under way: the process ends."""
        self._send()

    def _send(self) -> None:
        owned = self._owned()
        # Whoever has got the others tells the group where they stand.
        mine = {partition: place for partition, place in self._waiting.items() if partition in owned}
        self._waiting.clear()
        if mine and self._member is not None:
            failpoints.reach(Failpoint.GROUP_COMMIT_BEFORE)
            self._member.commit(offsets=group_offsets(mine), asynchronous=True)
            failpoints.reach(Failpoint.GROUP_COMMIT_AFTER)
            self._under_way = True
