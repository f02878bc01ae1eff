"""The ledger: one row for each committed range of each input partition, and the proof that nothing is left out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from millrace_common.records import Counts, Partition

LEDGER_KEY: Final = "millrace.ledger"
"""Where the commitInfo of a Delta commit has the ledger rows of the records that were committed by it."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one commit did with offsets first_offset (inclusive) to next_offset (exclusive) of one partition.

    `emitted` counts the records produced for the range, by topic; `committed_at_ms` is epoch milliseconds.
    """

    service: str
    instance: str
    partition: Partition
    topic_id: str
    first_offset: int
    next_offset: int
    counts: Counts
    emitted: Mapping[str, int]
    committed_at_ms: int

    @property
    def key(self) -> bytes:
        """Return the key of its record in the ledger topic: service/topic/partition."""
        return f"{self.service}/{self.partition.topic}/{self.partition.index}".encode()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "LedgerRow":
        """Return the row that `as_record` wrote."""
        return cls(
            service=record["service"],
            instance=record["instance"],
            partition=Partition(record["topic"], record["partition"]),
            topic_id=record["topic_id"],
            first_offset=record["first_offset"],
            next_offset=record["next_offset"],
            counts=Counts(
                read=record["records_in"],
                forwarded=record["forwarded"],
                dead=record["dead"],
                duplicate=record["duplicate"],
                late=record["late"],
            ),
            emitted=dict(record["emitted"]),
            committed_at_ms=record["committed_at"],
        )

    def as_record(self) -> dict[str, object]:
        """Return it as the Avro subject `ledger` spells it."""
        return {
            "service": self.service,
            "instance": self.instance,
            "topic": self.partition.topic,
            "topic_id": self.topic_id,
            "partition": self.partition.index,
            "first_offset": self.first_offset,
            "next_offset": self.next_offset,
            "records_in": self.counts.read,
            "forwarded": self.counts.forwarded,
            "dead": self.counts.dead,
            "duplicate": self.counts.duplicate,
            "late": self.counts.late,
            "emitted": dict(self.emitted),
            "committed_at": self.committed_at_ms,
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of one service and partition that do not fit together, or a row whose sum is wrong."""

    service: str
    partition: Partition
    first_offset: int
    next_offset: int
    kind: str

    def __str__(self) -> str:
        """Return a sentence with service, partition and offsets."""
        return f"{self.service}: {self.kind} at {self.partition} offsets {self.first_offset} to {self.next_offset}"


def find_gaps(rows: Iterable[LedgerRow]) -> list[Gap]:
    """Return every hole, overlap and wrong sum; an empty list means the rows tile each partition's log exactly.

    Rows may come in any order; they are held against each other by service, topic id and partition.
    """
    tiles: dict[tuple[str, str, Partition], list[LedgerRow]] = {}
    for row in rows:
        tiles.setdefault((row.service, row.topic_id, row.partition), []).append(row)
    gaps = []
    for (service, _, partition), members in sorted(tiles.items()):
        members.sort(key=lambda row: (row.first_offset, row.next_offset))
        for row in members:
            if not row.counts.balanced:
                gaps.append(Gap(service, partition, row.first_offset, row.next_offset, "a wrong sum"))
        reached = members[0].first_offset
        for row in members:
            if row.first_offset > reached:
                gaps.append(Gap(service, partition, reached, row.first_offset, "a hole"))
            elif row.first_offset < min(reached, row.next_offset):  # a row without offsets overlaps nothing
                gaps.append(Gap(service, partition, row.first_offset, min(reached, row.next_offset), "an overlap"))
            reached = max(reached, row.next_offset)
    return gaps
