"""How far the pipeline is behind, so that history can yield to it."""

from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from millrace_generator.sending import Target
from millrace_schemas import in_lane

LIVE_LAG_RECORDS: Final = 5_000
"""More than this many records waiting in the live lane, and history stops."""
OWN_LAG_RECORDS: Final = 1_000_000
"""The same for the lane that history goes through: it is there to be used, but not to be filled without end."""

_CHECK_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 5.0
_STEPS: Final[Mapping[str, str]] = {
    "millrace-ingest": "user-events",
    "millrace-enrich": "user-events.valid",
    "millrace-sessionize": "user-events.enriched",
}


class LagThrottle:
    """Says once a second whether to wait for the pipeline; meant for `send`'s `throttle`."""

    def __init__(self, target: Target, lane: str, now: Callable[[], float]) -> None:
        """Prepare; `now` is monotonic seconds. Call `close` at the end."""
        self._lanes = {"": LIVE_LAG_RECORDS} | ({lane: OWN_LAG_RECORDS} if lane else {})
        self._now = now
        self._checked = -_CHECK_SECONDS
        self._waiting = False
        self._readers = {
            (lane, step): Consumer(
                {
                    **target.kafka,
                    "bootstrap.servers": target.bootstrap_servers,
                    "group.id": in_lane(step, lane),
                    "enable.auto.commit": False,
                }
            )
            for lane in self._lanes
            for step in _STEPS
        }

    def __call__(self) -> bool:
        """Return whether somebody is too far behind."""
        if self._now() - self._checked >= _CHECK_SECONDS:
            self._waiting = any(self._lag(lane, step) > self._lanes[lane] for lane, step in self._readers)
            self._checked = self._now()
        return self._waiting

    def close(self) -> None:
        """Let the connections go."""
        for reader in self._readers.values():
            reader.close()

    def _lag(self, lane: str, step: str) -> int:
        """Return how many records the group has not committed; 0 if it has never committed, or nobody answers."""
        reader, topic = self._readers[lane, step], in_lane(_STEPS[step], lane)
        try:
            metadata = reader.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
            partitions = [TopicPartition(topic, number) for number in metadata.partitions]
            committed = [place for place in reader.committed(partitions, timeout=_TIMEOUT_SECONDS) if place.offset >= 0]
            ends = [reader.get_watermark_offsets(place, timeout=_TIMEOUT_SECONDS)[1] for place in committed]
        except KafkaException:
            return 0
        return sum(end - place.offset for end, place in zip(ends, committed, strict=True))
