"""Who watches while faults strike: a read_committed reader of results, and a clerk who notes how far all have come."""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from millrace_common.groups import onlooker
from millrace_common.positions import GroupPositions
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_local.probes import quiet_admin
from millrace_local.reading import Library, runs
from millrace_local.services import SERVICES
from millrace_local.stack import Stack, wait_until
from rebuild import newest_snapshots

_POLL_SECONDS: Final = 0.25
_CATCH_UP_SECONDS: Final = 60.0
_TIMEOUT_SECONDS: Final = 5.0
_BATCH: Final = 2_000
# What a client says while a broker is away, or has nothing new; everything else is a finding.
_NO_NEWS: Final = frozenset(
    {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._PARTITION_EOF}
)

Seen = tuple[int, bytes]
"""The offset of a record, and a hash of its value."""


@dataclass(frozen=True, slots=True)
class Back:
    """A committed offset that went back."""

    group: str
    partition: Partition
    before: int
    after: int


def unexplained(backs: Sequence[Back], moved: Sequence[tuple[str, Partition, int]]) -> list[str]:
    """Return those of `backs` that no move of an operator explains, a sentence each; a move explains one.

    A move is (group, partition, offset). The first commit that is seen after it may be further on, never further back.
    """
    left = list(moved)
    found = []
    for back in backs:
        move = next((move for move in left if move[:2] == (back.group, back.partition) and move[2] <= back.after), None)
        if move is None:
            found.append(f"{back.group} at {back.partition} went back from {back.before} to {back.after}")
        else:
            left.remove(move)
    return found


class Witness:
    """Reads `topics` from the start and polls offsets and snapshots, each in a thread, until `finish`."""

    def __init__(self, stack: Stack, topics: Sequence[str], *, snapshots_stay: bool) -> None:
        """Begin to watch; if `snapshots_stay`, the newest snapshot of a partition must never be an older one."""
        self._library = Library(stack.bootstrap_servers, stack.registry_url, stack.lake)
        self._client = {"bootstrap.servers": stack.bootstrap_servers}
        known = quiet_admin(stack.bootstrap_servers).list_topics(timeout=_CATCH_UP_SECONDS).topics
        self._seen: dict[Partition, list[Seen]] = {
            Partition(topic, index): [] for topic in topics for index in known[topic].partitions
        }
        self._inputs = {
            service.group: [Partition(topic, index) for topic in service.topics for index in known[topic].partitions]
            for service in SERVICES
        }
        self._state = stack.work_dir / "state"
        self._snapshots_stay = snapshots_stay
        self._newest_snapshots: dict[str, int] = {}
        self._problems: list[str] = []
        self._backs: list[Back] = []
        self._polls = 0
        self._stopping = Event()
        self._threads = [Thread(target=work, daemon=True) for work in (self._read, self._poll)]
        for thread in self._threads:
            thread.start()

    def finish(self, moved: Sequence[tuple[str, Partition, int]]) -> list[str]:
        """Let the reader come to the end, stop, and return what should not have been seen.

        Each position that the operator has `moved`, as (service, partition, offset), lets one commit go back, down to
        that offset.
        """
        final: dict[Partition, list[Seen]] = {partition: [] for partition in self._seen}
        for partition, messages in runs(self._library, list(final)):
            final[partition] += map(_seen, messages)
        wait_until(
            lambda: all(len(self._seen[partition]) >= len(seen) for partition, seen in final.items()), _CATCH_UP_SECONDS
        )
        self.close()
        if not self._polls or not any(final.values()):
            self._problems.append("the witness saw nothing")
        kept = Topology(quiet_admin(self._library.bootstrap_servers)).ranges(list(final))
        for partition, seen in final.items():
            live = [record for record in self._seen[partition] if record[0] >= kept[partition][0]]
            if live != seen:
                first = next((pair for pair in zip(live, seen, strict=False) if pair[0] != pair[1]), None)
                self._problems.append(
                    f"{partition}: the reader during the faults saw {len(live)} records, the final one {len(seen)}; "
                    f"they differ first at {first}"
                )
        groups = {service.name: service.group for service in SERVICES}
        allowed = [(groups[service], partition, offset) for service, partition, offset in moved]
        return [*self._problems, *unexplained(self._backs, allowed)]

    def close(self) -> None:
        """Stop watching."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        with onlooker(self._client, "torture-witness") as consumer:
            consumer.assign([TopicPartition(partition.topic, partition.index, 0) for partition in self._seen])
            while not self._stopping.is_set():
                for message in consumer.consume(_BATCH, 0.2):
                    problem = message.error()
                    if problem is None:
                        self._seen[Partition(message.topic() or "", message.partition() or 0)].append(_seen(message))
                    elif not problem.retriable() and problem.code() not in _NO_NEWS:
                        self._problems.append(f"the reader during the faults got {problem}")

    def _poll(self) -> None:
        # A topic that is deleted and created again begins anew.
        latest: dict[tuple[str, Partition, str | None], int] = {}
        with ExitStack() as closing:
            consumers = {group: closing.enter_context(onlooker(self._client, group)) for group in self._inputs}
            positions = {group: GroupPositions(consumer, _TIMEOUT_SECONDS) for group, consumer in consumers.items()}
            while not self._stopping.wait(_POLL_SECONDS):
                if self._snapshots_stay:
                    self._look_at_snapshots()
                for group, partitions in self._inputs.items():
                    try:
                        found = positions[group].committed(partitions)
                    except KafkaException:
                        continue
                    for partition, committed in found.items():
                        if committed is None:
                            continue
                        self._polls += 1
                        place = (group, partition, committed.topic_id)
                        if committed.offset < latest.get(place, 0):
                            self._backs.append(Back(group, partition, latest[place], committed.offset))
                        latest[place] = committed.offset

    def _look_at_snapshots(self) -> None:
        newest = newest_snapshots(self._state)
        for place, before in self._newest_snapshots.items():
            if newest.get(place, 0) < before:
                self._problems.append(f"the newest snapshot of {place} went back from {before} to {newest.get(place)}")
        self._newest_snapshots |= newest


def _seen(message: Message) -> Seen:
    return message.offset() or 0, hashlib.blake2b(message.value() or b"", digest_size=8).digest()
