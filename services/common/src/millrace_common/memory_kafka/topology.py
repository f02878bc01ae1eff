"""What an admin client would find out."""

from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaError

from millrace_common.errors import StartupError
from millrace_common.memory_kafka.broker import MemoryKafka, failure
from millrace_common.records import Partition
from millrace_common.topology import Topology


class MemoryTopology(Topology):
    """Answers from a MemoryKafka."""

    def __init__(self, kafka: MemoryKafka) -> None:
        """Ask `kafka`."""
        self._kafka = kafka

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each topic."""
        return {topic: self._kafka.topic_ids[topic] for topic in topics}

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each topic."""
        try:
            return {topic: self._kafka.counts[topic] for topic in topics}
        except KeyError as error:
            message = f"topic {error} does not exist"
            raise StartupError(message) from error

    def ranges(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset kept and the offset behind the last one."""
        return {place: (self._kafka.first_offsets[place], self._kafka.ends[place]) for place in partitions}

    def ends(self, partitions: Sequence[Partition], timeout_seconds: float) -> dict[Partition, int]:
        """Return the offset behind the last record of each partition, those of open transactions included."""
        if self._kafka.leaderless:
            raise failure(KafkaError._TIMED_OUT)
        return {place: self._kafka.ends[place] for place in partitions}
