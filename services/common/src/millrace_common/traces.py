"""What a service without state has left behind: without snapshots, only its output tells that it ran before."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from millrace_common.records import Partition
from millrace_common.topology import Topology

_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Traces:
    """Looks for output of a partition in the partition of the same number that nobody else writes to.

    Attributes:
        outputs: the output topic of an input topic.
        topology: says where the outputs begin and end.
        make_consumer: returns a new read_committed consumer that reports the end of a partition.
    """

    outputs: Mapping[str, str]
    topology: Topology
    make_consumer: Callable[[], Consumer]

    def of(self, partition: Partition) -> Partition | None:
        """Return where output of `partition` is; None: there is none, or it is not known where it would be.

        Raises:
            KafkaException: the broker does not answer.
        """
        topic = self.outputs.get(partition.topic)
        if topic is None:
            return None
        place = Partition(topic, partition.index)
        first, end = self.topology.ranges([place])[place]
        return place if first > 0 or (end > 0 and self._holds_a_record(place)) else None

    def _holds_a_record(self, place: Partition) -> bool:
        """Return whether anything was committed: the first transaction of a first start may have been aborted."""
        consumer = self.make_consumer()
        try:
            consumer.assign([TopicPartition(place.topic, place.index, 0)])
            deadline = time.monotonic() + _TIMEOUT_SECONDS
            while time.monotonic() < deadline:
                for message in consumer.consume(1, _POLL_SECONDS):
                    error = message.error()
                    if error is None:
                        return True
                    if error.code() == KafkaError._PARTITION_EOF:
                        return False
                    if not error.retriable():
                        raise KafkaException(error)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        finally:
            consumer.close()
