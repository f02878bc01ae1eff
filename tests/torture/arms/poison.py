"""Records that nobody can read, so many that the brake trips; the operator looks, and lets them pass."""

import hashlib
from collections.abc import Callable
from typing import Final

from confluent_kafka import Producer

from arms.arm import Arm
from arms.surroundings import without_unknown_schemas
from bench import Bench, TortureError
from millrace_common.codec import Reason, frame
from millrace_common.registry import SchemaRegistry
from millrace_local.lag import Lags
from millrace_schemas import schema_text

_TOPIC: Final = "user-events"
_SERVICE: Final = "ingest"
_PARTITIONS: Final = 4
# As many as the brake looks at, so that it would trip on less than two thirds of them.
_POISON: Final = 10_000
_BRAKE_LIMIT: Final = 0.5
_TRIPS: Final = 3
_SAID: Final = f"records are dead, most recently because of '{Reason.UNDECODABLE}'"
_ACKNOWLEDGED_SECONDS: Final = 60.0
_QUIET_SECONDS: Final = 2.0


def poison_ingest(bench: Bench) -> None:
    """Send undecodable records, in one partition and spread; wait for the brake, let them pass, put it back."""
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


def _poison(bench: Bench, name: str, partition_of: Callable[[int], int]) -> None:
    trips = bench.said(_SERVICE, _SAID)
    _send(bench, name, partition_of)
    bench.until(lambda: bench.said(_SERVICE, _SAID) >= trips + _TRIPS, "the brake does not stop ingest")
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
    trips = bench.said(_SERVICE, _SAID)
    bench.last(_QUIET_SECONDS)
    if bench.said(_SERVICE, _SAID) != trips:
        message = "the brake trips over what the operator let pass"
        raise TortureError(message)


def _send(bench: Bench, name: str, partition_of: Callable[[int], int]) -> None:
    registry = SchemaRegistry({"url": bench.stack.registry_url})
    schema_id = registry.schema_id(_TOPIC, schema_text(_TOPIC))
    refused: list[str] = []

    def note(error: object, message: object) -> None:
        if error is not None:
            refused.append(str(error))

    producer = Producer(
        {"bootstrap.servers": bench.stack.bootstrap_servers, "enable.idempotence": True, "log_level": 0}
    )
    for number in range(_POISON):
        # A length that no 64 bits hold: no string begins so.
        value = frame(schema_id, b"\xff" * 16 + f"{name} {number}".encode())
        producer.produce(_TOPIC, value, partition=partition_of(number), on_delivery=note)
        bench.dead_besides[_TOPIC, "decode", Reason.UNDECODABLE, hashlib.sha256(value).hexdigest()] += 1
    left = producer.flush(_ACKNOWLEDGED_SECONDS)
    if left or refused:
        message = f"{left} poisonous records were not acknowledged, {len(refused)} refused: {refused[:1]}"
        raise TortureError(message)


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
        "lets them pass (`BRAKE_LIMIT=1`) and puts the brake back",
        poison_ingest,
        fires={f"brake tripped, poison {how}": 1 for how in ("in one partition", "spread")},
        traffic=without_unknown_schemas,  # to share a stack with that arm
    ),
)
