"""Hands records to a producer at intended times.

The loop is open: when a record is due does not depend on how earlier ones fared, so a slow pipeline is seen as lateness
and not as a lower rate.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError

from millrace_generator.schedule import Rate, Schedule
from millrace_generator.traffic import Record
from millrace_schemas import in_lane

_CHUNK_RECORDS: Final = 1000
_LONGEST_WAIT_SECONDS: Final = 0.2  # between looks at a stop or at progress
_THROTTLED_WAIT_SECONDS: Final = 0.2
_QUEUE_FULL_WAIT_SECONDS: Final = 0.01
_UNOBSERVED_CHUNKS: Final = 500  # half a million records at most, only while a rush lasts


class Producing(Protocol):
    """The part of a Kafka producer that is used."""

    def produce_batch(self, topic: str, messages: list[dict[str, Any]]) -> int:
        """Queue messages; return how many, and mark the others with `_error`."""

    def poll(self, timeout: float) -> int:
        """Serve delivery reports."""

    def flush(self) -> int:
        """Wait until every queued message is acknowledged or has failed."""

    def __len__(self) -> int:
        """Return how many messages are queued or in flight."""


class Clock(Protocol):
    """Time as the sender sees it."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, or fewer if a stop was asked for."""

    def stopped(self) -> bool:
        """Return whether a stop was asked for."""


class StoppableClock:
    """The machine's clock, until `stop` is called (from a signal handler, say) or its time is over."""

    def __init__(self, seconds: float = math.inf) -> None:
        """Begin unstopped, with so many seconds to go."""
        self._stop = threading.Event()
        self._end = time.monotonic() + seconds

    def stop(self) -> None:
        """Ask the sender to end after the chunk at hand."""
        self._stop.set()

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, or fewer if a stop was asked for."""
        self._stop.wait(seconds)

    def stopped(self) -> bool:
        """Return whether a stop was asked for."""
        return self._stop.is_set() or time.monotonic() >= self._end


class Observer(Protocol):
    """Is told of every record in the order in which it was handed over; the truth is one."""

    def __call__(self, records: Sequence[Record], /) -> None:
        """Take note of records that are on their way."""


@dataclass(slots=True)
class Failures:
    """Records that were given up, and why the first one was. `note` is the producer's delivery callback."""

    count: int = 0
    first: str = ""

    def note(self, error: KafkaError | None, message: Any = None) -> None:
        """Count a delivery that failed."""
        if error is not None:
            self.count += 1
            self.first = self.first or str(error)


class Sender:
    """Hands records to a producer when they are due.

    While nothing is due, records of the near future are made and observers catch up: a rush finds its records ready.
    """

    def __init__(
        self,
        producer: Producing,
        clock: Clock,
        *,
        lane: str = "",
        observe: Observer = lambda records: None,
        progress: Callable[[float], None] = lambda elapsed_seconds: None,
        throttle: Callable[[], bool] = lambda: False,
        settle: Callable[[int], None] = lambda sent: None,
    ) -> None:
        """Prepare; `progress` gets the elapsed seconds after every chunk, `settle` what was handed over so far."""
        self._producer = producer
        self._clock = clock
        self._lane = lane
        self._observe = observe
        self._progress = progress
        self._throttle = throttle
        self._settle = settle
        self._unobserved: deque[Sequence[Record]] = deque()
        self.sent: Counter[tuple[str, str]] = Counter()
        self.refused = Failures()
        self.worst_lateness_seconds = 0.0

    def send(self, records: Iterable[Record], rate: Rate) -> bool:
        """Hand over all of `records`, or those until a stop; return whether it was all of them.

        `Producing.flush` then waits for the acknowledgements.
        """
        schedule = Schedule(records, rate)
        start = self._clock.now()
        try:
            while (due := schedule.next_due()) is not None and self._wait_until(start + due, schedule):
                passed = max(due, self._clock.now() - start)  # the sum in the line above may have been rounded down
                if rate != "max":
                    self.worst_lateness_seconds = max(self.worst_lateness_seconds, passed - due)
                chunk = schedule.take(passed, _CHUNK_RECORDS)
                self._hand_over(chunk)
                self.sent.update(map(kind_of, chunk))
                self._unobserved.append(chunk)
                if rate == "max" or len(self._unobserved) > _UNOBSERVED_CHUNKS:
                    self._observe(self._unobserved.popleft())
                self._progress(self._clock.now() - start)
        finally:
            while self._unobserved:
                self._observe(self._unobserved.popleft())
        return schedule.next_due() is None

    def _wait_until(self, due: float, schedule: Schedule) -> bool:
        """Return True at the time `due`, False if a stop was asked for before."""
        while not self._clock.stopped():
            self._settle(self.sent.total())
            now = self._clock.now()
            throttled = self._throttle()
            if now >= due and not throttled:
                return True
            self._producer.poll(0)
            if throttled:
                self._clock.wait(_THROTTLED_WAIT_SECONDS)
            elif self._unobserved:
                self._observe(self._unobserved.popleft())
            elif not schedule.prepare():
                self._clock.wait(min(due - now, _LONGEST_WAIT_SECONDS))
        return False

    def _hand_over(self, chunk: Sequence[Record]) -> None:
        """Queue every record of `chunk`, in order within its topic; a full queue is waited for."""
        for topic, records in groupby(sorted(chunk, key=_topic), key=_topic):
            messages = [{"key": record.key, "value": record.value} for record in records]
            while messages:
                queued = self._producer.produce_batch(in_lane(topic, self._lane), messages)
                if queued == len(messages):
                    break
                messages = self._refused(messages)
                if messages:
                    self._producer.poll(_QUEUE_FULL_WAIT_SECONDS)
        self._producer.poll(0)

    def _refused(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those messages that only need room in the queue; count the others as failed."""
        again = []
        for message in messages:
            error = message.pop("_error", None)
            if error is None:
                continue
            if error.code() == KafkaError._QUEUE_FULL:
                again.append(message)
            else:
                self.refused.note(error)
        return again


def kind_of(record: Record) -> tuple[str, str]:
    """Return what a record is counted as: its topic (without lane) and its fault's kind, empty if it has none."""
    return record.topic, record.fault.kind if record.fault else ""


def _topic(record: Record) -> str:
    return record.topic
