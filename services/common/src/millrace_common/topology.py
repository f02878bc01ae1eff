"""What the broker says about topics (ids, partition counts, offsets), and the checks made before a start."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from millrace_common.errors import StartupError
from millrace_common.records import Committed, Partition

_TIMEOUT_SECONDS = 30.0
_GRACE_SECONDS = 1.0


class Topology:
    """Topics as the broker has them now."""

    def __init__(
        self,
        admin: AdminClient,
        *,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Ask through `admin`; a partition ends before its first open transaction if `isolation` is READ_COMMITTED."""
        self._admin = admin
        self._isolation = isolation
        self._timeout_seconds = timeout_seconds

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the id of each topic; it changes when a topic is deleted and created again.

        Raises:
            StartupError: a topic does not exist.
        """
        return {topic: str(found.topic_id) for topic, found in self._describe(topics).items()}

    def partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each topic.

        Raises:
            StartupError: a topic does not exist.
        """
        return {topic: len(found.partitions) for topic, found in self._describe(topics).items()}

    def ranges(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset kept and the offset behind the last one, for each partition.

        Raises:
            KafkaException: a leader does not answer.
        """
        first = self._offsets(partitions, OffsetSpec.earliest(), self._timeout_seconds)
        last = self.ends(partitions, self._timeout_seconds)
        return {partition: (first[partition], last[partition]) for partition in partitions}

    def ends(self, partitions: Sequence[Partition], timeout_seconds: float) -> dict[Partition, int]:
        """Return the offset behind the last record of each partition.

        Raises:
            KafkaException: a leader does not answer in time.
        """
        return self._offsets(partitions, OffsetSpec.latest(), timeout_seconds)

    def _offsets(
        self, partitions: Sequence[Partition], spec: OffsetSpec, timeout_seconds: float
    ) -> dict[Partition, int]:
        if not partitions:
            return {}
        try:
            return self._ask(partitions, spec, timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.FENCED_LEADER_EPOCH:
                raise
        # After a broker's restart librdkafka goes on asking with the epoch it knew, until a refresh minutes later.
        self._admin.list_topics(timeout=timeout_seconds)
        return self._ask(partitions, spec, timeout_seconds)

    def _ask(self, partitions: Sequence[Partition], spec: OffsetSpec, timeout_seconds: float) -> dict[Partition, int]:
        asked = {TopicPartition(partition.topic, partition.index): spec for partition in partitions}
        answers = self._admin.list_offsets(asked, isolation_level=self._isolation, request_timeout=timeout_seconds)
        _await(answers.values(), timeout_seconds)
        return {Partition(place.topic, place.partition): future.result().offset for place, future in answers.items()}

    def _describe(self, topics: Iterable[str]) -> Mapping[str, TopicDescription]:
        asked = sorted(set(topics))
        futures = self._admin.describe_topics(TopicCollection(asked), request_timeout=self._timeout_seconds)
        _await(futures.values(), self._timeout_seconds)
        found = {}
        for topic, future in futures.items():
            try:
                found[topic] = future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    message = f"topic {topic} does not exist: run `millrace topics apply`"
                    raise StartupError(message) from error
                raise
        return found


def _await(answers: Iterable["Future[Any]"], timeout_seconds: float) -> None:
    """Wait for all of `answers`. The client's own timeout begins when a broker is found: a minute after the last died.

    Raises:
        KafkaException: one is overdue.
    """
    _, overdue = wait(answers, timeout=timeout_seconds + _GRACE_SECONDS)
    if overdue:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def refuse_uneven_topics(counts: Mapping[str, int]) -> None:
    """Check that topics that records pass between keep a record on one partition number.

    Raises:
        StartupError: the partition counts differ.
    """
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{topic} has {count}" for topic, count in sorted(counts.items()))
        message = (
            f"partition counts differ: {listed}. A record must keep its partition number; add partitions to the "
            f"smaller ones, downstream topics first"
        )
        raise StartupError(message)


def refuse_lost_input(
    partition: Partition, committed: Committed | None, kept: tuple[int, int], topic_id: str, service: str
) -> None:
    """Check that processing of `partition` can go on where it stopped.

    Raises:
        StartupError: the topic was created again since, or the committed offset is outside what the broker still has.
    """
    if committed is None:
        return
    if committed.topic_id is not None and committed.topic_id != topic_id:
        raise StartupError(recreated_topic(partition, {committed.topic_id}, topic_id, service))
    if committed.offset < kept[0]:
        problem = f"offsets {committed.offset} to {kept[0] - 1} were deleted before they were processed"
    elif committed.offset > kept[1]:
        problem = f"the committed offset {committed.offset} is behind the end {kept[1]}"
    else:
        return
    message = (
        f"{service} cannot go on at {partition}: {problem}. Nothing was skipped. To accept the gap: "
        f"`millrace reset {service} --topic {partition.topic} --partition {partition.index} --to earliest`"
    )
    raise StartupError(message)


def recreated_topic(partition: Partition, known_ids: Iterable[str], topic_id: str, service: str) -> str:
    """Return why processing cannot go on in a topic that was processed under another id; all of it is concerned."""
    return (
        f"{service} cannot go on at {partition}: the topic was deleted and created again (its id was "
        f"{', '.join(sorted(known_ids))}, now it is {topic_id}). Nothing was skipped. To begin with the new one: "
        f"`millrace reset {service} --topic {partition.topic} --to earliest`"
    )
