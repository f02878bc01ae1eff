"""Records that nobody can read, so many that the brake trips; the operator looks, and lets them pass."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import Message, Producer

from arms.arm import Arm
from arms.surroundings import without_unknown_schemas
from bench import LONG, Bench, TortureError
from millrace_common.codec import DECODE, Reason, frame
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_local import reset
from millrace_local.lag import Lags
from millrace_schemas import schema_text
from repairs import skip

_TOPIC: Final = "user-events"
_SERVICE: Final = "ingest"
_PARTITIONS: Final = 4
# As many as the brake looks at, so that it would trip on less than two thirds of them.
_POISON: Final = 10_000
_BRAKE_LIMIT: Final = 0.5
_TRIPS: Final = 3
# Of the brake's window: some runs of poison are committed before the brake trips, so that ingest stops within it.
_SMALL_BATCH: Final = "1000"
_SAID: Final = f"records are dead, most recently because of '{Reason.UNDECODABLE}'"
_ACKNOWLEDGED_SECONDS: Final = 60.0
_QUIET_SECONDS: Final = 2.0


def poison_ingest(bench: Bench) -> None:
    """Send undecodable records, in one partition and spread; wait for the brake, let them pass, put it back.

    In the long form, also skip them.
    """
    ways: tuple[tuple[str, Callable[[int], int]], ...] = (
        ("in one partition", lambda number: 0),
        ("spread", lambda number: number % _PARTITIONS),
    )
    # The brake of a round before must not help this one to trip: each time, the limit is put back in between.
    for lap in range(min(bench.form.rounds, 2)):
        for how, partition_of in ways:
            bench.pause(2.0)
            _poison(bench, f"{lap} {how}", partition_of)
            bench.struck[f"brake tripped, poison {how}"] += 1
    if bench.form is LONG:
        for lap in range(bench.form.rounds):
            bench.pause(2.0)
            _skip(bench, f"{lap} skipped", Partition(_TOPIC, lap % _PARTITIONS))
            bench.struck["brake tripped, poison skipped"] += 1


def _poison(bench: Bench, name: str, partition_of: Callable[[int], int]) -> None:
    _see_it_trip(bench, lambda: _send(bench, _values(bench, name), partition_of))
    waiting = _waiting(bench)
    if waiting < _POISON * (1 - _BRAKE_LIMIT):
        message = f"only {waiting} records wait: {_TRIPS} starts of ingest have set aside more than the brake lets pass"
        raise TortureError(message)
    bench.stack.change_service(_SERVICE, {"BRAKE_LIMIT": "1"})
    bench.stack.wait_ready()
    # More than that comes in a second, so the poison is through.
    bench.until(lambda: _waiting(bench) < bench.form.rate, "ingest does not let the poison pass")
    bench.stack.change_service(_SERVICE, {"BRAKE_LIMIT": str(_BRAKE_LIMIT)})
    bench.stack.wait_ready()
    _see_no_trip(bench)


def _skip(bench: Bench, name: str, partition: Partition) -> None:
    """Have the brake trip within poison that nothing else is among, and skip the rest of that by the command."""
    bench.stack.change_service(_SERVICE, {"BATCH_MAX_RECORDS": _SMALL_BATCH})
    bench.stack.wait_ready()
    values = _values(bench, name)
    offsets: dict[bytes, int] = {}
    _see_it_trip(bench, lambda: offsets.update(_send(bench, values, lambda number: partition.index)))
    first, end = min(offsets.values()), max(offsets.values()) + 1
    if end - first != _POISON:
        message = f"{_POISON} poisonous records took {end - first} offsets: to skip them all would skip others"
        raise TortureError(message)
    stood = skip(bench, _SERVICE, partition, end)
    if not first < stood < end:
        message = f"ingest stood at {stood}, not within {first} to {end}"
        raise TortureError(message)
    bench.struck["poisonous records skipped by the command"] += end - stood
    for value, offset in offsets.items():
        if offset >= stood:
            bench.dead_besides[_death(value)] -= 1
            bench.dead_besides[_death(value, reset.RESET, reset.Reason.SKIPPED)] += 1
    _see_no_trip(bench)


def _see_it_trip(bench: Bench, poison: Callable[[], object]) -> None:
    trips = bench.said(_SERVICE, _SAID)
    poison()
    bench.until(lambda: bench.said(_SERVICE, _SAID) >= trips + _TRIPS, "the brake does not stop ingest")


def _see_no_trip(bench: Bench) -> None:
    trips = bench.said(_SERVICE, _SAID)
    bench.last(_QUIET_SECONDS)
    bench.until(lambda: _waiting(bench) < bench.form.rate, "ingest does not go on behind the poison")
    if bench.said(_SERVICE, _SAID) != trips:
        message = "the brake trips over what the operator let pass"
        raise TortureError(message)


def _values(bench: Bench, name: str) -> list[bytes]:
    registry = SchemaRegistry({"url": bench.stack.registry_url})
    schema_id = registry.schema_id(_TOPIC, schema_text(_TOPIC))
    # A length that no 64 bits hold: no string begins so.
    return [frame(schema_id, b"\xff" * 16 + f"{name} {number}".encode()) for number in range(_POISON)]


def _death(value: bytes, stage: str = DECODE, reason: str = Reason.UNDECODABLE) -> tuple[str, str, str, str]:
    return _TOPIC, stage, reason, hashlib.sha256(value).hexdigest()


def _send(bench: Bench, values: Sequence[bytes], partition_of: Callable[[int], int]) -> dict[bytes, int]:
    """Send values, those of a partition in one batch, and return their offsets."""
    refused: list[str] = []
    offsets: dict[bytes, int] = {}

    def note(error: object, message: Message) -> None:
        if error is not None:
            refused.append(str(error))
        else:
            offsets[message.value() or b""] = message.offset() or 0

    producer = Producer(
        {
            "bootstrap.servers": bench.stack.bootstrap_servers,
            "enable.idempotence": True,
            "batch.num.messages": _POISON,
            "linger.ms": 2_000,  # the batch is full before
            "log_level": 0,
        }
    )
    for number, value in enumerate(values):
        producer.produce(_TOPIC, value, partition=partition_of(number), on_delivery=note)
        bench.dead_besides[_death(value)] += 1
    left = producer.flush(_ACKNOWLEDGED_SECONDS)
    if left or refused:
        message = f"{left} poisonous records were not acknowledged, {len(refused)} refused: {refused[:1]}"
        raise TortureError(message)
    return offsets


def _waiting(bench: Bench) -> int:
    """Return how many records ingest has not committed yet; more than there can be while nobody knows."""
    service = next(service for service in bench.stack.services() if service.title == _SERVICE)
    with Lags(bench.stack.bootstrap_servers) as lags:
        behind = lags.of([service])[_SERVICE]
    return 10 * _POISON if behind is None else behind


ARMS: Final = (
    Arm(
        "poison",
        f"{_POISON:,} undecodable records in a row, in one partition and spread: the brake stops ingest, the operator "
        "lets them pass (`BRAKE_LIMIT=1`) and puts the brake back, or (long form) skips them by `millrace reset`",
        poison_ingest,
        fires={f"brake tripped, poison {how}": 1 for how in ("in one partition", "spread")},
        snapshots_stay=False,  # a reset removes those of its partition
        traffic=without_unknown_schemas,  # to share a stack with that arm
        length=2,
    ),
)
