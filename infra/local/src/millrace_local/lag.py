"""How far a service is behind: what is committed against what a read_committed consumer could read."""

from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from millrace_local.services import Service

_TIMEOUT_SECONDS: Final = 5.0

Place = tuple[str, int]


def lag(committed: Mapping[Place, int], kept: Mapping[Place, tuple[int, int]]) -> int | None:
    """Return how many offsets are not committed yet, over all partitions; None before the first commit. Pure.

    Args:
        committed: next offset to read, of the partitions that have one.
        kept: first offset and last stable offset (exclusive) of every input partition.
    """
    if not committed:
        return None
    return sum(max(0, end - max(start, committed.get(place, start))) for place, (start, end) in kept.items())


def lags(
    admin: AdminClient, services: Sequence[Service], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
) -> dict[str, int | None]:
    """Return the lag of each service by title; None where it is not known (no commit yet, or no answer).

    READ_UNCOMMITTED counts what an open transaction holds back too.
    """
    unknown: dict[str, int | None] = {service.title: None for service in services}
    try:
        kept = _kept(admin, {topic for service in services for topic in service.topics}, isolation)
        for service in services:
            committed = _committed(admin, service.group)
            mine = {place: limits for place, limits in kept.items() if place[0] in service.topics}
            unknown[service.title] = lag({place: committed[place] for place in mine if place in committed}, mine)
    except KafkaException:
        pass
    return unknown


def _kept(admin: AdminClient, topics: set[str], isolation: IsolationLevel) -> dict[Place, tuple[int, int]]:
    found = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
    places = [(topic, partition) for topic in sorted(topics & found.keys()) for partition in found[topic].partitions]
    if not places:
        return {}
    first, end = (
        {
            (asked.topic, asked.partition): future.result(_TIMEOUT_SECONDS).offset
            for asked, future in admin.list_offsets(
                {TopicPartition(*place): spec for place in places},
                isolation_level=isolation,
                request_timeout=_TIMEOUT_SECONDS,
            ).items()
        }
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
    )
    return {place: (first[place], end[place]) for place in places}


def _committed(admin: AdminClient, group: str) -> dict[Place, int]:
    # stable: a transaction that is being committed is waited for, not overlooked
    asked = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], require_stable=True, request_timeout=_TIMEOUT_SECONDS
    )
    found = asked[group].result(_TIMEOUT_SECONDS).topic_partitions
    return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}
