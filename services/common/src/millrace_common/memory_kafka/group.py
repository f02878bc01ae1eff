"""The coordinator of one consumer group: members, a generation, and who may work on which partition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaError

from millrace_common.memory_kafka.broker import failure
from millrace_common.records import Partition


@dataclass(frozen=True, slots=True)
class Membership:
    """What a consumer tells about itself with offsets that it wants to have committed."""

    member_id: str
    generation: int


class Member(Protocol):
    """A consumer, as the coordinator sees it."""

    def rebalance(self, kind: str, *partitions: Partition) -> None:
        """Have the next poll call back: "assign" or "revoke"."""


class MemoryGroup:
    """Deals partitions out as the cooperative protocol does: one that moves is given up first, then handed over."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        """Have no member yet."""
        self.partitions = tuple(partitions)
        self.generation = 0
        self._members: dict[str, Member] = {}
        self._owners: dict[Partition, str] = {}  # gone from here means: given up, or its member was removed
        self._wanted: dict[Partition, str] = {}
        self._joined = 0

    def join(self, member: Member) -> str:
        """Take a member in, deal anew, and return its id."""
        self._joined += 1
        member_id = f"member-{self._joined}"
        self._members[member_id] = member
        self.deal()
        return member_id

    def leave(self, member_id: str) -> None:
        """Remove a member: it left, or its session timed out. Its partitions go to others at once."""
        if self._members.pop(member_id, None) is None:
            return
        self._owners = {place: owner for place, owner in self._owners.items() if owner != member_id}
        self.deal()

    def members(self) -> tuple[str, ...]:
        """Return the ids of all members, in the order in which they joined."""
        return tuple(self._members)

    def deal(self, turn: int = 0) -> None:
        """Begin a new generation; `turn` says with which member dealing begins."""
        self.generation += 1
        ids = list(self._members)
        self._wanted = {place: ids[(number + turn) % len(ids)] for number, place in enumerate(self.partitions) if ids}
        for place, wanted in self._wanted.items():
            owner = self._owners.get(place)
            if owner is None:
                self._grant(place, wanted)
            elif owner != wanted:
                self._members[owner].rebalance("revoke", place)

    def give_up(self, member_id: str, partitions: Sequence[Partition]) -> None:
        """Hand over what a member has given up."""
        for place in partitions:
            if self._owners.get(place) == member_id:
                del self._owners[place]
                self.generation += 1
                self._grant(place, self._wanted[place])

    def refuse_stranger(self, membership: Membership) -> None:
        """Check offsets of a transaction.

        Raises:
            KafkaException: who sent them is not a member of this generation.
        """
        if membership.member_id not in self._members:
            raise failure(KafkaError.UNKNOWN_MEMBER_ID, abort=True)
        if membership.generation != self.generation:
            raise failure(KafkaError.ILLEGAL_GENERATION, abort=True)

    def _grant(self, place: Partition, member_id: str) -> None:
        self._owners[place] = member_id
        self._members[member_id].rebalance("assign", place)
