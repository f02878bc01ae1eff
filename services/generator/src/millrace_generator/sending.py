"""Sends a plan to Kafka.

One idempotent producer and murmur2 partitions make the order of a partition the order of the plan.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from confluent_kafka import KafkaException, Producer

from millrace_common.registry import SchemaRegistry
from millrace_generator.errors import DeliveryError, InputError
from millrace_generator.schedule import Rate
from millrace_generator.sender import Clock, Failures, Observer, Producing, Sender, StoppableClock, kind_of
from millrace_generator.traffic import EVENTS, HARMLESS, TOPICS, FaultKind, Plan, Record, SchemaIds
from millrace_schemas import in_lane, schema_text

_METADATA_TIMEOUT_SECONDS: Final = 10.0
_SKIPPED_AT_ONCE: Final = 1_000

PRODUCER_SETTINGS: Final[Mapping[str, Any]] = {
    "client.id": "millrace-generator",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # where a JVM client would put the key
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 100_000,
    "queue.buffering.max.kbytes": 262_144,
    "delivery.timeout.ms": 120_000,
    "delivery.report.only.error": True,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where traffic goes: brokers, schema registry, and further librdkafka properties (SASL, TLS)."""

    bootstrap_servers: str
    registry_url: str
    kafka: Mapping[str, Any] = field(default_factory=dict)


class Settling(Producing, Protocol):
    """A producer whose records become visible together with how many of the plan there are."""

    def settle(self, sent: int, *, at_once: bool = False) -> None:
        """Take note that the first `sent` records of the plan are queued."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A history that is gone on with.

    Attributes:
        through: what its records are sent through.
        skip: how many records of the plan earlier runs have sent.
    """

    through: Settling
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a send has come; records are those handed to the producer, `earlier_events` those of earlier runs."""

    title: str
    good_events: int
    expected_events: int
    records: int
    elapsed_seconds: float
    worst_lateness_seconds: float
    earlier_events: int = 0


@dataclass(frozen=True, slots=True)
class SendReport:
    """What a send did.

    Attributes:
        sent: records handed to the producer, by topic (without lane) and fault kind ("" for good ones without any).
        failed: of those, the ones the broker did not acknowledge; their number is exact after the send.
        first_failure: what the first of them died of.
        elapsed_seconds: from the first record after the upserts to the last acknowledgement.
        worst_lateness_seconds: largest distance between a record's intended time and its hand-over; 0 at rate "max".
        stopped: the plan was not sent to its end.
    """

    sent: Mapping[tuple[str, str], int]
    failed: int
    first_failure: str
    elapsed_seconds: float
    worst_lateness_seconds: float
    stopped: bool

    def good(self, topic: str) -> int:
        """Return how many good records went to `topic`, held-back ones included."""
        return _good(self.sent, topic)

    def faults(self, kind: FaultKind) -> int:
        """Return how many records of one fault kind were sent."""
        return sum(n for (_, name), n in self.sent.items() if name == kind)

    @property
    def records(self) -> int:
        """All records handed to the producer."""
        return sum(self.sent.values())


def send(  # noqa: PLR0913 - one call for everything a run may want
    plan: Plan,
    target: Target,
    *,
    rate: Rate = "max",
    lane: str = "",
    observers: Callable[[Mapping[str, int]], Sequence[Observer]] = lambda partitions: (),
    progress: Callable[[Progress], None] = lambda progress: None,
    throttle: Callable[[], bool] = lambda: False,
    clock: Clock | None = None,
    resumed: Resumed | None = None,
) -> SendReport:
    """Send `plan` and wait until the broker has acknowledged all of it.

    At least once towards the broker, and once unless the producer has to be restarted: it is idempotent.

    Args:
        plan: what to send; its upserts are acknowledged before its first record is sent.
        target: the cluster.
        rate: when records are due.
        lane: suffix of the topics ("backfill"); empty is the live lane.
        observers: called once with the partition counts by topic (without lane); what it returns sees every record.
        progress: called after every chunk of at most 1,000 records.
        throttle: asked between chunks; while it says True nothing is sent. Meant for rate "max".
        clock: the machine's clock; one's own makes the send stoppable.
        resumed: send through this, without what earlier runs have sent; observers see that too, the report does not.

    Raises:
        InputError: a topic does not exist, or the broker does not answer.
        DeliveryError: the producer gave up.
        StartupError: a subject is not registered.
        RegistryUnavailableError: the registry does not answer.
    """
    clock = clock or StoppableClock()
    schema_ids = _schema_ids(target)
    failures = Failures()
    settings = {**PRODUCER_SETTINGS, **target.kafka, "bootstrap.servers": target.bootstrap_servers}
    with _collecting_rarely(), closing(Producer({**settings, "on_delivery": failures.note})) as producer:
        watching = observers(_partition_counts(producer, lane))

        def observe(records: Sequence[Record]) -> None:
            for observer in watching:
                observer(records)

        def report(elapsed_seconds: float) -> None:
            progress(
                Progress(
                    title=plan.title,
                    good_events=_good(sender.sent, EVENTS),
                    expected_events=plan.expected_events,
                    records=sender.sent.total(),
                    elapsed_seconds=elapsed_seconds,
                    worst_lateness_seconds=sender.worst_lateness_seconds,
                    earlier_events=_good(skipped, EVENTS),
                )
            )

        upserts = Sender(producer, clock, lane=lane)
        through = producer if resumed is None else resumed.through
        skipped: Counter[tuple[str, str]] = Counter()

        def settle(sent: int) -> None:
            if resumed is not None:
                resumed.through.settle(resumed.skip + sent)

        sender = Sender(through, clock, lane=lane, observe=observe, progress=report, throttle=throttle, settle=settle)
        try:
            complete = upserts.send(plan.upserts(schema_ids), "max")
            producer.flush()
            records = plan.records(schema_ids)
            if resumed is not None:
                skipped = skip(records, resumed.skip, observe)
            start = clock.now()
            complete = complete and sender.send(records, rate)
            if resumed is None:
                producer.flush()
            else:
                resumed.through.settle(resumed.skip + sender.sent.total(), at_once=True)
        except KafkaException as error:
            message = f"the producer gave up: {error}"
            raise DeliveryError(message) from error
        elapsed_seconds = clock.now() - start
    return SendReport(
        sent=upserts.sent + sender.sent,
        failed=failures.count + upserts.refused.count + sender.refused.count,
        first_failure=failures.first or upserts.refused.first or sender.refused.first,
        elapsed_seconds=elapsed_seconds,
        worst_lateness_seconds=sender.worst_lateness_seconds,
        stopped=not complete,
    )


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Let the cycle collector run rarely: records hold no cycles, and it took a quarter of the time."""
    before = gc.get_threshold()
    gc.set_threshold(*(100 * threshold for threshold in before))
    try:
        yield
    finally:
        gc.set_threshold(*before)


def skip(records: Iterator[Record], count: int, observe: Observer) -> Counter[tuple[str, str]]:
    """Make the first `count` of `records` again, for the observers only; return what they were."""
    skipped: Counter[tuple[str, str]] = Counter()
    while count > 0 and (chunk := list(islice(records, min(count, _SKIPPED_AT_ONCE)))):
        skipped.update(kind_of(record) for record in chunk)
        observe(chunk)
        count -= len(chunk)
    return skipped


def _good(sent: Mapping[tuple[str, str], int], topic: str) -> int:
    return sent.get((topic, ""), 0) + sum(sent.get((topic, kind), 0) for kind in HARMLESS)


def _schema_ids(target: Target) -> SchemaIds:
    registry = SchemaRegistry({"url": target.registry_url})
    return {subject: registry.schema_id(subject, schema_text(subject)) for subject in TOPICS}


def _partition_counts(producer: Producer, lane: str) -> dict[str, int]:
    try:
        known = producer.list_topics(timeout=_METADATA_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        message = f"the broker does not answer: {error}"
        raise InputError(message) from error
    missing = [in_lane(topic, lane) for topic in TOPICS if in_lane(topic, lane) not in known]
    if missing:
        message = f"no topic {', '.join(missing)}: create them with `millrace topics apply`"
        raise InputError(message)
    return {topic: len(known[in_lane(topic, lane)].partitions) for topic in TOPICS}
