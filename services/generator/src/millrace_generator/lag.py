"""How far the pipeline is behind, so that history can yield to it."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from millrace_common.groups import committed_offsets, onlooker
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_generator.sending import Target
from millrace_schemas import in_lane

LIVE_BEHIND_SECONDS: Final = 0.5
"""History stops while a live step has not committed what could be read this long ago: a few times its usual delay."""
OWN_LAG_RECORDS: Final = 20_000
"""Nor does it wait in its own lane: whatever waits there is worked off, at full speed, whoever it is to yield to."""

_CHECK_SECONDS: Final = 0.25
_TIMEOUT_SECONDS: Final = 5.0
_STEPS: Final[Mapping[str, str]] = {
    "millrace-ingest": "user-events",
    "millrace-enrich": "user-events.valid",
    "millrace-sessionize": "user-events.enriched",
}
_AWAY: Final = frozenset({KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})

Offsets = Mapping[Partition, int]


class Behind:
    """Whether groups have not committed yet what could be read a while ago. Pure, and no clock but the caller's."""

    def __init__(self, patience_seconds: float) -> None:
        """Begin without a past."""
        self._patience_seconds = patience_seconds
        self._past: deque[tuple[float, Offsets]] = deque()

    def __call__(self, now: float, ends: Offsets, committed: Offsets) -> bool:
        """Take what can be read and what is committed now; a partition that was never committed counts for nothing."""
        self._past.append((now, ends))
        while len(self._past) > 1 and now - self._past[1][0] >= self._patience_seconds:
            self._past.popleft()
        then, ends_then = self._past[0]
        return now - then >= self._patience_seconds and lag(ends_then, committed) > 0


def lag(ends: Offsets, committed: Offsets) -> int:
    """Return how many offsets are not committed; a partition that was never committed counts for nothing."""
    return sum(max(0, end - committed[place]) for place, end in ends.items() if place in committed)


@dataclass(frozen=True, slots=True)
class _Step:
    lane: str
    consumer: Consumer
    partitions: tuple[Partition, ...]


class LagThrottle:
    """Says a few times a second whether to wait for the pipeline; meant for `send`'s `throttle`."""

    def __init__(self, target: Target, lane: str, now: Callable[[], float]) -> None:
        """Prepare; `now` is monotonic seconds. Call `close` at the end."""
        self._client = {**target.kafka, "bootstrap.servers": target.bootstrap_servers}
        self._admin = AdminClient({**self._client, "log_level": 0})
        self._topology = Topology(
            self._admin, isolation=IsolationLevel.READ_COMMITTED, timeout_seconds=_TIMEOUT_SECONDS
        )
        self._lane = lane
        self._now = now
        self._behind = Behind(LIVE_BEHIND_SECONDS)
        self._checked = -_CHECK_SECONDS
        self._waiting = False
        self._steps: list[_Step] = []
        self._closing = ExitStack()

    def __call__(self) -> bool:
        """Return whether somebody is too far behind.

        Raises:
            KafkaException: the broker does not let us ask.
        """
        if self._now() - self._checked >= _CHECK_SECONDS:
            try:
                self._waiting = self._look()
            except KafkaException as error:
                if error.args[0].code() not in _AWAY and not error.args[0].retriable():
                    raise
                self._waiting = True  # who does not answer has enough to do
            self._checked = self._now()
        return self._waiting

    def close(self) -> None:
        """Let the connections go."""
        self._closing.close()

    def _look(self) -> bool:
        self._steps = self._steps or self._find_steps()
        ends = self._topology.ends([place for step in self._steps for place in step.partitions], _TIMEOUT_SECONDS)
        committed: dict[str, dict[Partition, int]] = {"": {}, self._lane: {}}
        for step in self._steps:
            committed[step.lane] |= committed_offsets(step.consumer, step.partitions, _TIMEOUT_SECONDS)
        live = self._behind(self._now(), ends, committed[""])
        return live or (bool(self._lane) and lag(ends, committed[self._lane]) > OWN_LAG_RECORDS)

    def _find_steps(self) -> list[_Step]:
        found = self._admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        return [
            _Step(
                lane,
                self._closing.enter_context(onlooker(self._client, in_lane(group, lane))),
                tuple(Partition(in_lane(topic, lane), index) for index in found[in_lane(topic, lane)].partitions),
            )
            for lane in {"", self._lane}
            for group, topic in _STEPS.items()
            if in_lane(topic, lane) in found
        ]
