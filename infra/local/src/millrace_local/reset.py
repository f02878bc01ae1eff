"""Deciding from where a service shall read a partition, and what that costs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final, Literal

from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Partition
from millrace_local.errors import LocalStackError
from millrace_local.services import SERVICES, Service, in_other_lane
from millrace_schemas import in_lane, topics

To = int | Literal["earliest", "latest"]

RESET: Final = "reset"
"""The stage of dead letters that a reset writes."""


class Reason(StrEnum):
    """Why a reset set a record aside: the closed list of stage `reset`."""

    SKIPPED = "skipped"


class TargetError(LocalStackError):
    """There is no such service, topic, partition or offset."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a service stands at one partition.

    Attributes:
        partition: of one of its inputs.
        topic_id: of the topic as it is now.
        kept: the first offset that the broker keeps, and the offset behind the last one.
        position: the next offset to read; None: there is none, or it is one of a topic that was deleted.
        accounted: the offset that the ledger reaches in the topic as it is now; None: the ledger has nothing of it.
        unaccounted: the partition was processed before, and nothing says how far.
        sets_aside: what is skipped although it is there becomes dead letters.
        dead_offset: of the latest record that became a dead letter, as far as the group says.
    """

    partition: Partition
    topic_id: str
    kept: tuple[int, int]
    position: int | None
    accounted: int | None
    unaccounted: bool = False
    sets_aside: bool = False
    dead_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A change of one position.

    Attributes:
        found: what it starts from.
        offset: the next one to read from then on.
        ranges: [first, next) for each row of the ledger: what is skipped, records that retention has removed apart from
            records that are there; one empty range if nothing is.
        costs: what somebody has to accept first, a sentence each.
    """

    found: Found
    offset: int
    ranges: tuple[tuple[int, int], ...]
    costs: tuple[str, ...]

    @property
    def partition(self) -> Partition:
        """Whose position it is."""
        return self.found.partition

    def rows(self, service: str, instance: str, now_ms: int) -> list[LedgerRow]:
        """Return the ledger's rows of it, those of what is set aside left out: no record was read."""
        return [
            LedgerRow(service, instance, self.partition, self.found.topic_id, first, following, Counts(), {}, now_ms)
            for first, following in self.ranges
            if (first, following) != self.aside
        ]

    @property
    def aside(self) -> tuple[int, int] | None:
        """The range [first, next) whose records become dead letters; None: none does."""
        first, following = self.ranges[-1]
        begin = max(first, self.found.kept[0])
        return (begin, following) if self.found.sets_aside and begin < following else None

    def __str__(self) -> str:
        """Return what it changes, in a line."""
        before = "it had no position" if self.found.position is None else f"it was {self.found.position}"
        line = f"{self.partition} goes on at offset {self.offset} ({before})"
        if self.ranges[0][0] < self.offset:
            line += f"; in the ledger, offsets {self.ranges[0][0]} to {self.offset - 1} are skipped"
        return line


def plan(found: Found, to: To) -> Move | None:
    """Return what brings the position to `to`; None if it is there.

    Raises:
        TargetError: the broker does not keep that offset.
    """
    first, end = found.kept
    offset = {"earliest": first, "latest": end}[to] if isinstance(to, str) else to
    if not first <= offset <= end:
        message = f"{found.partition} has offsets {first} to {end}, not {offset}"
        raise TargetError(message)
    if found.position == offset:
        return None
    begin = first if found.accounted is None else found.accounted
    return Move(found, offset, _ranges(begin, offset, first), tuple(_costs(found, begin, offset)))


def find_input(name: str, topic: str, lane: str) -> tuple[Service, str]:
    """Return the service and its input topic, both in their lane; `topic` may be given with its lane or without.

    Raises:
        TargetError: there is no such service, or it does not read that topic.
    """
    service = next((service for service in SERVICES if service.name == name), None)
    if service is None:
        message = f"there is no service {name}: there are {', '.join(service.name for service in SERVICES)}"
        raise TargetError(message)
    declared = [declared.name for declared in topics()]
    base = max((known for known in declared if f"{topic}.".startswith(f"{known}.")), key=len, default=topic)
    said_lane = topic[len(base) + 1 :]
    if base not in service.inputs or (lane and said_lane not in ("", lane)):
        (meant,) = in_other_lane([service], lane, {})
        message = f"{meant.title} does not read {topic}, it reads {', '.join(meant.topics)}"
        raise TargetError(message)
    (meant,) = in_other_lane([service], lane or said_lane, {})
    return meant, in_lane(base, meant.lane)


def choose(topic: str, count: int, index: int | None) -> Sequence[Partition]:
    """Return partition `index` of a topic with `count` of them, all for None.

    Raises:
        TargetError: it has no such partition.
    """
    if index is None:
        return [Partition(topic, each) for each in range(count)]
    if index >= count:
        message = f"{topic} has partitions 0 to {count - 1}, not {index}"
        raise TargetError(message)
    return [Partition(topic, index)]


def _ranges(begin: int, offset: int, first: int) -> tuple[tuple[int, int], ...]:
    if offset <= begin:
        return ((offset, offset),)
    # The proof does not count where retention has removed records: one row over both would hide those that are there.
    return tuple(pairwise([begin, first, offset] if begin < first < offset else [begin, offset]))


def _costs(found: Found, begin: int, offset: int) -> list[str]:
    (first, end), partition = found.kept, found.partition
    costs = []
    if offset > max(begin, first):
        what_then = "they become dead letters" if found.sets_aside else "`millrace ledger` reports them as not read"
        costs.append(
            f"{partition}: records at offsets {max(begin, first)} to {offset - 1} are still there and will be skipped; "
            f"from then on {what_then}"
        )
    if offset < min(begin, end):
        costs.append(
            f"{partition}: records at offsets {offset} to {min(begin, end) - 1} will be processed again; what comes of "
            f"them is doubled, and `millrace ledger` reports an overlap"
        )
        if found.position is None and begin <= end:
            costs.append(f"{partition}: to go on where the ledger ends and double nothing, use --to {begin}")
    if end < begin:
        costs.append(
            f"{partition}: the topic has lost offsets {end} to {begin - 1}; new records will get them again, and "
            f"`millrace ledger` reports an overlap"
        )
    if found.unaccounted:
        costs.append(
            f"{partition}: it was processed before, and neither group nor ledger says how far: what comes of records "
            f"that are processed again is doubled"
        )
    return costs
