"""Consumer groups seen from outside.

Not through an admin client: librdkafka 2.16 aborts the whole process (an assertion on a queue's reference count) when
the broker goes away while its request for a group's offsets is under way. A consumer that never joins asks as well, and
only a read_committed consumer waits for offsets that a transaction is about to commit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer

from millrace_common.consumers import consumer_properties
from millrace_common.positions import GroupPositions
from millrace_common.records import Partition


@contextmanager
def onlooker(client: Mapping[str, str | int], group: str) -> Iterator[Consumer]:
    """Give a consumer that asks what `group` has committed, and never joins it.

    It speaks through its exceptions only: connections that are refused are not logged.
    """
    quiet = {**client, "log_level": 0, "reconnect.backoff.max.ms": 250}
    consumer = Consumer(consumer_properties(quiet, group, protocol="classic", session_timeout_seconds=10.0))
    try:
        yield consumer
    finally:
        consumer.close()


def committed_offsets(
    consumer: Consumer, partitions: Sequence[Partition], timeout_seconds: float
) -> dict[Partition, int]:
    """Return what the group of `consumer` has committed, of those partitions for which it ever did.

    Raises:
        KafkaException: the group's coordinator does not answer in time.
    """
    found = GroupPositions(consumer, timeout_seconds).committed(partitions)
    return {partition: place.offset for partition, place in found.items() if place is not None}
