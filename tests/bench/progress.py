"""How far a system has come, seen from outside: by its group's offsets, its output topic or its table."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from jobs import PARTITIONS
from millrace_common.groups import onlooker
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_local.probes import quiet_admin

_TIMEOUT_SECONDS: Final = 5.0
# The client does not call these retriable.
_NO_ANSWER_YET: Final = (
    KafkaError._TIMED_OUT,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)

Done = Callable[[], float]


@contextmanager
def committed(bootstrap_servers: str, group: str, topic: str) -> Iterator[Callable[[], list[int]]]:
    """Give a function that returns the offset that `group` has committed in each partition, 0 where none.

    While the group's coordinator is being found, or is too busy to answer, what was last known is returned.
    """
    places = [TopicPartition(topic, index) for index in range(PARTITIONS)]
    known = [0] * PARTITIONS
    with onlooker({"bootstrap.servers": bootstrap_servers}, group) as consumer:

        def ask() -> list[int]:
            try:
                known[:] = [max(0, place.offset) for place in consumer.committed(places, timeout=_TIMEOUT_SECONDS)]
            except KafkaException as error:
                if not error.args[0].retriable() and error.args[0].code() not in _NO_ANSWER_YET:
                    raise
            return list(known)

        yield ask


def ends(bootstrap_servers: str, topic: str) -> Callable[[], list[int]]:
    """Return a function that returns the end of each partition."""
    topology = Topology(quiet_admin(bootstrap_servers))
    places = [Partition(topic, index) for index in range(PARTITIONS)]

    def ask() -> list[int]:
        found = topology.ends(places, _TIMEOUT_SECONDS)
        return [found[place] for place in places]

    return ask


class TableRows:
    """Counts the rows of a Delta table by its log; merging small files changes nothing."""

    def __init__(self, table: Path) -> None:
        """Begin before its first version."""
        self._log = table / "_delta_log"
        self._next_version = 0
        self._rows = 0

    def __call__(self) -> float:
        """Return how many rows there are now."""
        while (entry := self._log / f"{self._next_version:020}.json").exists():
            self._rows += rows_added(entry.read_text(encoding="utf-8").splitlines())
            self._next_version += 1
        return float(self._rows)


def rows_added(actions: Sequence[str]) -> int:
    """Return how many rows a commit adds; pure."""
    added = [add for action in actions if (add := json.loads(action).get("add")) and add["dataChange"]]
    return sum(json.loads(add["stats"])["numRecords"] for add in added)
