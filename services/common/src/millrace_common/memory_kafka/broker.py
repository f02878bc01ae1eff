"""The broker's side: logs, transactions and committed offsets."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from confluent_kafka import KafkaError, KafkaException

from millrace_common.records import Partition

_BY_OFFSET = attrgetter("at")

Stored = tuple[int, str]
"""A committed offset and its metadata."""


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """What a poll returns: a record, or an event in place of one."""

    place: Partition
    at: int
    stored_value: bytes | None = None
    stored_key: bytes | None = None
    stored_timestamp_ms: int = 0
    problem: KafkaError | None = None

    def topic(self) -> str:
        """Return the topic."""
        return self.place.topic

    def partition(self) -> int:
        """Return the partition number."""
        return self.place.index

    def offset(self) -> int:
        """Return the offset."""
        return self.at

    def key(self) -> bytes | None:
        """Return the key's bytes."""
        return self.stored_key

    def value(self) -> bytes | None:
        """Return the value's bytes."""
        return self.stored_value

    def timestamp(self) -> tuple[int, int]:
        """Return (log append time, epoch ms)."""
        return 2, self.stored_timestamp_ms

    def error(self) -> KafkaError | None:
        """Return the event, None for a record."""
        return self.problem


@dataclass(frozen=True, slots=True)
class Produced:
    """A record of a committed transaction."""

    place: Partition
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class _Transaction:
    """What is known of a transactional id; `records` and `offsets` are those of its open transaction."""

    epoch: int = -1
    is_open: bool = False
    committed_last: bool | None = None  # how the one before ended
    records: list[MemoryMessage] = field(default_factory=list)
    first_offsets: dict[Partition, int] = field(default_factory=dict)
    offsets: dict[Partition, Stored] = field(default_factory=dict)


def failure(code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False) -> KafkaException:
    """Return the exception a client call raises for `code`."""
    return KafkaException(
        KafkaError(code, "scripted", fatal=fatal, retriable=retriable, txn_requires_abort=abort),
    )


class MemoryKafka:
    """Topics, transactional ids and the committed offsets of one group.

    Attributes:
        effects: everything that was done to it by a client, in order.
        visible: the records of committed transactions, in the order of their commits.
        committed: offsets and metadata of the group.
        commits: everything that was ever committed for the group, in order.
        leaderless: nobody answers what the ends of the logs are.
        queue_room: how many records a producer can queue between two polls; None: any number.
        now_ms: the timestamp of what producers write.
    """

    def __init__(self, counts: dict[str, int]) -> None:
        """Have topics with these numbers of partitions, all empty."""
        self.counts = counts
        self.topic_ids = {topic: f"id-of-{topic}" for topic in counts}
        self.first_offsets = {Partition(topic, index): 0 for topic, count in counts.items() for index in range(count)}
        self.ends = dict.fromkeys(self.first_offsets, 0)
        self.committed: dict[Partition, Stored] = {}
        self.commits: list[tuple[Partition, Stored]] = []
        self.visible: list[Produced] = []
        self.effects: list[str] = []
        self.leaderless = False
        self.queue_room: int | None = None
        self.now_ms = 0
        self._logs: dict[Partition, list[MemoryMessage]] = {place: [] for place in self.ends}
        self._transactions: dict[str, _Transaction] = {}
        self._failures: dict[str, deque[tuple[KafkaException, bool]]] = {}

    def append(self, place: Partition, *values: bytes | None, key: bytes | None = None, timestamp_ms: int = 0) -> None:
        """Put records behind the end of the log, outside any transaction."""
        for value in values:
            self._logs[place].append(self._next(place, key, value, timestamp_ms))

    def append_unseen(self, place: Partition, offsets: int = 1) -> None:
        """Use up offsets that no consumer sees: commit markers, aborted records, records compacted away."""
        self.ends[place] += offsets

    def delete_before(self, place: Partition, offset: int) -> None:
        """Delete records as retention does."""
        self.first_offsets[place] = offset
        self._logs[place] = [message for message in self._logs[place] if message.at >= offset]

    def last_stable(self, place: Partition) -> int:
        """Return the offset up to which nothing belongs to an open transaction."""
        first = (held.first_offsets[place] for held in self._transactions.values() if place in held.first_offsets)
        return min(first, default=self.ends[place])

    def read(self, place: Partition, position: int, at_most: int) -> list[MemoryMessage]:
        """Return the next records from `position` on, as a read_committed consumer sees them."""
        log = self._logs[place]
        start = bisect_left(log, position, key=_BY_OFFSET)
        stable = bisect_left(log, self.last_stable(place), key=_BY_OFFSET)
        return log[start : min(stable, start + max(at_most, 0))]

    def epoch(self, transactional_id: str) -> int:
        """Return the newest epoch of `transactional_id`; older ones are fenced."""
        return self._transactions[transactional_id].epoch

    def take_over(self, transactional_id: str) -> int:
        """Abort what is open under `transactional_id` and return its new epoch."""
        held = self._transactions.setdefault(transactional_id, _Transaction())
        self._end(held, commit=False)
        held.epoch += 1
        return held.epoch

    def expire(self, transactional_id: str) -> None:
        """Abort a transaction that is open for too long, as its coordinator does, and fence its producer."""
        held = self._transactions.get(transactional_id)
        if held is not None and held.is_open:
            self.take_over(transactional_id)

    def expire_all(self, places: Collection[Partition]) -> None:
        """Let every transaction time out that holds committed offsets of `places` back."""
        for transactional_id, held in self._transactions.items():
            if not held.offsets.keys().isdisjoint(places):
                self.expire(transactional_id)

    def write(self, transactional_id: str, epoch: int, place: Partition, records: Iterable[Produced]) -> None:
        """Put records into the open transaction, opening one if there is none.

        Raises:
            KafkaException: the epoch is fenced.
        """
        held = self._checked(transactional_id, epoch)
        for record in records:
            held.is_open = True
            held.first_offsets.setdefault(place, self.ends[place])
            held.records.append(self._next(place, record.key, record.value, self.now_ms))

    def add_offsets(self, transactional_id: str, epoch: int, offsets: Mapping[Partition, Stored]) -> None:
        """Put offsets of the group into the open transaction, opening one if there is none.

        Raises:
            KafkaException: the epoch is fenced.
        """
        held = self._checked(transactional_id, epoch)
        held.is_open = True
        held.offsets.update(offsets)

    def end(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """End the transaction that is open now, be it the one that was meant or a later one of the same epoch.

        Raises:
            KafkaException: the epoch is fenced, or the last transaction ended the other way.
        """
        held = self._checked(transactional_id, epoch)
        if not held.is_open and held.committed_last is not commit:
            raise failure(KafkaError.INVALID_TXN_STATE, fatal=True)
        self._end(held, commit=commit)

    def commit_offsets(self, offsets: Mapping[Partition, Stored]) -> None:
        """Commit offsets of the group."""
        self.committed |= offsets
        self.commits += offsets.items()

    def fail(self, call: str, error: KafkaException, *, effective: bool = False) -> None:
        """Let the next `call` raise `error`; if `effective`, after it has done its work: only the answer is lost."""
        self._failures.setdefault(call, deque()).append((error, effective))

    def take_failure(self, call: str) -> tuple[KafkaException, bool] | None:
        """Return the next scripted failure of `call` and whether it takes effect, once."""
        waiting = self._failures.get(call)
        return waiting.popleft() if waiting else None

    def perform(self, call: str, effect: str | None, work: Callable[[], None]) -> None:
        """Do `work` and note `effect` if there is one, unless `call` is scripted to fail."""
        error, effective = self.take_failure(call) or (None, True)
        if effective:
            if effect is not None:
                self.effects.append(effect)
            work()
        if error is not None:
            self.effects.append(f"{call} failed")
            raise error

    def _next(self, place: Partition, key: bytes | None, value: bytes | None, timestamp_ms: int) -> MemoryMessage:
        message = MemoryMessage(place, self.ends[place], value, key, timestamp_ms)
        self.ends[place] += 1
        return message

    def _checked(self, transactional_id: str, epoch: int) -> _Transaction:
        held = self._transactions[transactional_id]
        if held.epoch != epoch:
            raise failure(KafkaError._FENCED, fatal=True)
        return held

    def _end(self, held: _Transaction, *, commit: bool) -> None:
        if not held.is_open:
            return
        for place in held.first_offsets:
            self.ends[place] += 1  # the marker
        if commit:
            for message in held.records:
                log = self._logs[message.place]
                log.insert(bisect_left(log, message.at, key=_BY_OFFSET), message)
            self.visible += (Produced(m.place, m.stored_key, m.stored_value) for m in held.records)
            self.commit_offsets(held.offsets)
        held.is_open, held.committed_last = False, commit
        held.records, held.first_offsets, held.offsets = [], {}, {}
