"""How far a service is behind: what is committed against what a read_committed consumer could read."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, IsolationLevel

from millrace_common.groups import committed_offsets, onlooker
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_local.probes import quiet_admin
from millrace_local.services import Service

_TIMEOUT_SECONDS: Final = 5.0


def lag(committed: Mapping[Partition, int], kept: Mapping[Partition, tuple[int, int]]) -> int | None:
    """Return how many offsets are not committed yet, over all partitions; None before the first commit. Pure.

    Args:
        committed: next offset to read, of the partitions that have one.
        kept: first offset and last stable offset (exclusive) of every input partition.
    """
    if not committed:
        return None
    return sum(max(0, end - max(start, committed.get(place, start))) for place, (start, end) in kept.items())


class Lags:
    """Asks the broker how far services are behind; a context, because it keeps its connections between questions."""

    def __init__(self, bootstrap_servers: str, isolation: IsolationLevel = IsolationLevel.READ_COMMITTED) -> None:
        """Connect nothing yet. READ_UNCOMMITTED counts what an open transaction holds back too."""
        self._client = {"bootstrap.servers": bootstrap_servers}
        self._admin = quiet_admin(bootstrap_servers)
        self._topology = Topology(self._admin, isolation=isolation, timeout_seconds=_TIMEOUT_SECONDS)
        self._consumers: dict[str, Consumer] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connections go."""
        self._closing.close()

    def of(self, services: Sequence[Service]) -> dict[str, int | None]:
        """Return the lag of each service by title; None before its first commit.

        Raises:
            KafkaException: the broker does not answer; known after five seconds a service, at most.
        """
        found = self._admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        inputs = {
            service.title: [
                Partition(topic, index)
                for topic in service.topics
                if topic in found
                for index in found[topic].partitions
            ]
            for service in services
        }
        kept = self._topology.ranges([partition for partitions in inputs.values() for partition in partitions])
        return {
            service.title: lag(
                committed_offsets(self._consumer(service.group), inputs[service.title], _TIMEOUT_SECONDS),
                {partition: kept[partition] for partition in inputs[service.title]},
            )
            for service in services
        }

    def _consumer(self, group: str) -> Consumer:
        if group not in self._consumers:
            self._consumers[group] = self._closing.enter_context(onlooker(self._client, group))
        return self._consumers[group]
