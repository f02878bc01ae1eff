"""Three brokers: leaders and coordinators die, and all are restarted one by one."""

import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from arms.arm import Arm
from bench import Bench, TortureError, running_stack
from millrace_local import kafka
from millrace_local.probes import quiet_admin

_BROKERS: Final = 3
_TIMEOUT_SECONDS: Final = 10.0
_WATCHED: Final = "user-events.enriched"
_GROUP: Final = "millrace-enrich"
_TRANSACTIONAL_ID: Final = "enrich-0"
_TRANSACTION_LOG: Final = "__transaction_state"
_SIGN_BIT: Final = 0x7FFFFFFF
_MOST_ROUNDS: Final = 2


def kill_brokers(bench: Bench) -> None:
    """Kill who leads a partition and who coordinates groups and transactions; then restart all, one after another."""
    admin = quiet_admin(bench.stack.bootstrap_servers)
    victims: Mapping[str, Callable[[AdminClient], int]] = {
        "leader killed": _leader,
        "group coordinator killed": _group_coordinator,
        "transaction coordinator killed": _transaction_coordinator,
    }
    for _ in range(min(bench.form.rounds, _MOST_ROUNDS)):
        for fault, find in victims.items():
            # Who coordinates is asked of brokers that have settled, or nobody may answer in time.
            bench.until(partial(_all_in_sync, admin), "replicas do not catch up")
            _strike(bench, admin, kafka.process_name(find(admin)), signal.SIGKILL)
            bench.struck[fault] += 1
        for name in bench.stack.broker_names():
            _strike(bench, admin, name, signal.SIGTERM)
        bench.struck["rolling restart"] += 1


def _strike(bench: Bench, admin: AdminClient, name: str, number: signal.Signals) -> None:
    """End one broker while no other one is behind: two may not be away at once."""
    bench.until(partial(_all_in_sync, admin), "replicas do not catch up")
    bench.pause(3.0)
    bench.kill_and_wait([name], number)


def _all_in_sync(admin: AdminClient) -> bool:
    try:
        topics = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
    except KafkaException:
        return False
    return all(
        len(partition.isrs) == len(partition.replicas) == _BROKERS
        for topic in topics.values()
        for partition in topic.partitions.values()
    )


def _leader(admin: AdminClient) -> int:
    return _leader_of(admin, _WATCHED, 0)


def _leader_of(admin: AdminClient, topic: str, partition: int) -> int:
    return int(admin.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic].partitions[partition].leader)


def _group_coordinator(admin: AdminClient) -> int:
    coordinator = admin.describe_consumer_groups([_GROUP])[_GROUP].result(_TIMEOUT_SECONDS).coordinator
    if coordinator is None:
        message = f"nobody coordinates {_GROUP}"
        raise TortureError(message)
    return int(coordinator.id)


def _transaction_coordinator(admin: AdminClient) -> int:
    """Return who leads the partition of the transaction log that the id falls into, by Java's String.hashCode."""
    partitions = len(admin.list_topics(_TRANSACTION_LOG, timeout=_TIMEOUT_SECONDS).topics[_TRANSACTION_LOG].partitions)
    code = 0
    for character in _TRANSACTIONAL_ID:
        code = code * 31 + ord(character) & 0xFFFFFFFF
    return _leader_of(admin, _TRANSACTION_LOG, (code & _SIGN_BIT) % partitions)


ARMS: Final = (
    Arm(
        "brokers",
        "three brokers (replication factor 3, two in sync): the leader of a partition, a group coordinator and a "
        "transaction coordinator SIGKILLed, then all three restarted one after another",
        kill_brokers,
        fires={
            "leader killed": 1,
            "group coordinator killed": 1,
            "transaction coordinator killed": 1,
            "rolling restart": 1,
            "SIGTERM kafka": _BROKERS,
        },
        running_stack=partial(running_stack, brokers=_BROKERS),
        # Three brokers take a minute longer to start, die and catch up than `make test` has for them.
        forms=frozenset({"long"}),
        length=2,
    ),
)
