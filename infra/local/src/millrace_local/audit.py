"""The proof that nothing was lost or doubled: ledger rows held against what the topics and tables really hold. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.records import Counts, Partition

Offsets = npt.NDArray[np.int64]

# A list of findings is for a person: past this many of a kind only their number is said.
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Topic:
    """What a read_committed reader finds in one topic.

    Attributes:
        topic_id: the broker's id of it.
        held: offsets of the records, ascending, by partition number.
        first_kept: the first offset that retention has left, by partition number.
        compacted: compaction may have removed records in between.
    """

    topic_id: str
    held: Mapping[int, Offsets]
    first_kept: Mapping[int, int]
    compacted: bool = False

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(len(offsets) for offsets in self.held.values())

    @property
    def whole(self) -> bool:
        """Whether everything ever written is still there."""
        return not self.compacted and not any(self.first_kept.values())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the proof looks at.

    Attributes:
        rows: of the ledger topic and of the Delta commits.
        topics: what every topic holds, by name.
        inputs: the topics each service reads.
        committed: committed offsets of the groups, by service and partition; absent for lake, whose tables say it.
        dead_letters: source offsets of the dead letters, by service and partition, with repetitions.
        dead_letters_whole: retention has removed no dead letter yet.
        tables: rows found in, and rows appended to, each lake table that nothing else has changed, by its name.
        truncated: services whose oldest ledger rows have been cleaned away.
        quiet: no commit was made while the evidence was gathered, so that sums must be equal.
    """

    rows: Sequence[LedgerRow]
    topics: Mapping[str, Topic]
    inputs: Mapping[str, Sequence[str]]
    committed: Mapping[tuple[str, Partition], int]
    dead_letters: Mapping[tuple[str, Partition], Offsets]
    dead_letters_whole: bool
    tables: Mapping[str, tuple[int, int]]
    truncated: frozenset[str]
    quiet: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proof found.

    Attributes:
        problems: a sentence each, with service, partition and offsets; empty: the books balance.
        counts: sums of the ledger, by service.
        in_flight: records of its inputs that a service has not committed yet, by service.
        emitted: records produced by committed transactions, by topic.
        quiet: nothing was committed during the proof.
    """

    problems: tuple[str, ...]
    counts: Mapping[str, Counts]
    in_flight: Mapping[str, int]
    emitted: Mapping[str, int] = field(default_factory=dict)
    quiet: bool = True

    @property
    def balanced(self) -> bool:
        """Whether nothing was lost or doubled."""
        return not self.problems


def audit(evidence: Evidence) -> Verdict:
    """Hold the ledger against the topics and tables."""
    known = [row for row in evidence.rows if row.partition.topic in evidence.topics]  # tables have other lanes' too
    current = [row for row in known if row.topic_id == evidence.topics[row.partition.topic].topic_id]
    problems = [str(gap) for gap in find_gaps(evidence.rows)]
    problems += _limited(_range_problems(current, evidence))
    problems += _limited(_end_problems(current, evidence))
    topic_ids = _topic_ids(known, evidence)
    problems += _limited(_dead_letter_problems(known, topic_ids, evidence))
    emitted = _emitted(known)
    problems += _emitted_problems(emitted, topic_ids, evidence)
    problems += _table_problems(evidence)
    counts: dict[str, Counts] = {service: Counts() for service in evidence.inputs}
    for row in current:
        counts[row.service] = counts.get(row.service, Counts()) + row.counts
    return Verdict(tuple(problems), counts, _in_flight(current, evidence), emitted, evidence.quiet)


def _topic_ids(rows: Sequence[LedgerRow], evidence: Evidence) -> dict[str, set[str]]:
    """Return the ids that each topic has had: more than one if it was deleted and created again."""
    ids = {name: {topic.topic_id} for name, topic in evidence.topics.items()}
    for row in rows:
        ids[row.partition.topic].add(row.topic_id)
    return ids


def _range_problems(rows: Sequence[LedgerRow], evidence: Evidence) -> list[str]:
    problems = []
    first_rows: dict[tuple[str, Partition], int] = {}
    for row in rows:
        topic, place = evidence.topics[row.partition.topic], (row.service, row.partition)
        first_rows[place] = min(row.first_offset, first_rows.get(place, row.first_offset))
        first_kept = topic.first_kept[row.partition.index]
        if row.first_offset < first_kept:
            continue  # retention has removed what could be counted
        held = topic.held[row.partition.index]
        found = int(np.searchsorted(held, row.next_offset) - np.searchsorted(held, row.first_offset))
        if found > row.counts.read or (found < row.counts.read and not topic.compacted):
            problems.append(
                f"{row.service}: read {row.counts.read} records at {row.partition} offsets {row.first_offset} to "
                f"{row.next_offset}, where the topic holds {found}"
            )
    for (service, partition), first_offset in sorted(first_rows.items()):
        if service in evidence.truncated:
            continue
        topic = evidence.topics[partition.topic]
        skipped = int(np.searchsorted(topic.held[partition.index], first_offset))
        if skipped:
            problems.append(f"{service}: a hole at the start of {partition}: {skipped} records before {first_offset}")
    return problems


def _ends(rows: Sequence[LedgerRow]) -> dict[tuple[str, Partition], int]:
    ends: dict[tuple[str, Partition], int] = {}
    for row in rows:
        place = (row.service, row.partition)
        ends[place] = max(row.next_offset, ends.get(place, 0))
    return ends


def _end_problems(rows: Sequence[LedgerRow], evidence: Evidence) -> list[str]:
    if not evidence.quiet:
        return []
    ends = _ends(rows)
    return [
        f"{service}: the group has committed {partition} up to {offset}, the ledger says {ends.get(place, 'nothing')}"
        for place, offset in sorted(evidence.committed.items())
        for service, partition in [place]
        if ends.get(place) != offset
    ]


def _dead_letter_problems(
    rows: Sequence[LedgerRow], topic_ids: Mapping[str, set[str]], evidence: Evidence
) -> list[str]:
    dead: dict[tuple[str, Partition], int] = {}
    for row in rows:
        place = (row.service, row.partition)
        dead[place] = dead.get(place, 0) + row.counts.dead
    countable = evidence.quiet and evidence.dead_letters_whole
    problems = []
    for (service, partition), offsets in sorted(evidence.dead_letters.items()):
        distinct, times = np.unique(offsets, return_counts=True)
        doubled = times > len(topic_ids.get(partition.topic, ()))  # each topic of that name had such an offset
        problems += [
            f"{service}: {partition} offset {offset} is in dead-letters {count} times"
            for offset, count in zip(distinct[doubled], times[doubled], strict=True)
        ]
        if countable and len(offsets) != dead.get((service, partition), 0):
            problems.append(
                f"{service}: {partition} has {len(offsets)} dead letters, the ledger says "
                f"{dead.get((service, partition), 0)}"
            )
    if countable:
        problems += [
            f"{service}: the ledger says {count} records of {partition} are dead, there is no dead letter"
            for (service, partition), count in sorted(dead.items())
            if count and (service, partition) not in evidence.dead_letters
        ]
    return problems


def _emitted(rows: Sequence[LedgerRow]) -> dict[str, int]:
    emitted: dict[str, int] = {}
    for row in rows:
        for topic, count in row.emitted.items():
            emitted[topic] = emitted.get(topic, 0) + count
    return emitted


def _emitted_problems(emitted: Mapping[str, int], topic_ids: Mapping[str, set[str]], evidence: Evidence) -> list[str]:
    problems = []
    for name, claimed in sorted(emitted.items()):
        topic = evidence.topics.get(name)
        if topic is None or not topic.whole or len(topic_ids[name]) > 1:
            continue
        if topic.records > claimed or (evidence.quiet and topic.records < claimed):
            problems.append(f"{name} holds {topic.records} records, the ledger says {claimed} were produced")
    return problems


def _table_problems(evidence: Evidence) -> list[str]:
    return [
        f"lake: table {name} has {found} rows, its commits appended {appended}"
        for name, (found, appended) in sorted(evidence.tables.items())
        if found != appended
    ]


def _in_flight(rows: Sequence[LedgerRow], evidence: Evidence) -> dict[str, int]:
    ends = _ends(rows)
    waiting = {}
    for service, topics in evidence.inputs.items():
        waiting[service] = sum(
            len(held) - int(np.searchsorted(held, ends.get((service, Partition(name, index)), 0)))
            for name in topics
            if name in evidence.topics
            for index, held in evidence.topics[name].held.items()
        )
    return waiting


def _limited(problems: list[str]) -> list[str]:
    if len(problems) <= _SHOWN:
        return problems
    return [*problems[:_SHOWN], f"... and {len(problems) - _SHOWN} more of this kind"]
