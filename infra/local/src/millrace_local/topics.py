"""Making the broker's topics what they are declared to be: create and alter, never delete."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from millrace_local import kafka
from millrace_local.errors import LocalStackError, NotReadyError, TopicConflictError
from millrace_schemas import Topic

_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
# Settings a declaration may leave out; left out means the broker's default, also where it was declared before.
_OPTIONAL: Final = ("max.message.bytes", "min.compaction.lag.ms")


@dataclass(frozen=True, slots=True)
class ActualTopic:
    """A topic as the broker has it.

    Attributes:
        partitions: their number.
        replication_factor: of its first partition.
        settings: the effective ones, names as Kafka spells them.
        own_settings: names of those that were set on the topic itself.
    """

    partitions: int
    replication_factor: int
    settings: Mapping[str, str]
    own_settings: frozenset[str]


@dataclass(frozen=True, slots=True)
class Alteration:
    """Settings of one topic to change; None takes a setting off."""

    topic: str
    settings: Mapping[str, str | None]
    before: Mapping[str, str]

    def __str__(self) -> str:
        """Return a line for each setting."""
        return "\n".join(
            f"{self.topic}: {name} {self.before.get(name, 'unset')} -> {'default' if value is None else value}"
            for name, value in self.settings.items()
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What makes the actual topics the declared ones.

    Attributes:
        create: topics that are missing.
        alter: settings that differ.
        conflicts: a sentence for each difference that cannot be changed in place, with what to do.
    """

    create: tuple[Topic, ...]
    alter: tuple[Alteration, ...]
    conflicts: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.create or self.alter or self.conflicts)


def replicated(declared: Sequence[Topic], brokers: int) -> tuple[Topic, ...]:
    """Return `declared` as a stack of so many brokers keeps them."""
    factor, in_sync = kafka.replicas(brokers)
    return tuple(replace(topic, replication_factor=factor, min_insync_replicas=in_sync) for topic in declared)


def plan(declared: Sequence[Topic], actual: Mapping[str, ActualTopic]) -> Plan:
    """Compare; pure."""
    known = [(topic, actual[topic.name]) for topic in declared if topic.name in actual]
    return Plan(
        create=tuple(topic for topic in declared if topic.name not in actual),
        alter=tuple(alteration for topic, found in known if (alteration := _alteration(topic, found)).settings),
        conflicts=tuple(sentence for topic, found in known for sentence in _conflicts(topic, found)),
    )


def apply(admin: AdminClient, declared: Sequence[Topic]) -> Plan:
    """Create and alter, wait until the topics are there, return what was done. With a conflict, nothing is done.

    Raises:
        TopicConflictError: partition count or replication differs; the message says what to do.
        LocalStackError: the broker refused or did not answer.
    """
    try:
        planned = plan(declared, _actual(admin, declared))
        if planned.conflicts:
            raise TopicConflictError("\n".join(planned.conflicts))
        _create(admin, planned.create)
        _alter(admin, planned.alter)
        _wait_until_there(admin, planned.create)
    except KafkaException as error:
        message = f"the broker did not do it: {error.args[0].str()}"
        raise LocalStackError(message) from error
    return planned


def _alteration(topic: Topic, found: ActualTopic) -> Alteration:
    declared = topic.settings()
    changes: dict[str, str | None] = {
        name: value for name, value in declared.items() if not _same(found.settings.get(name), value)
    }
    changes |= {name: None for name in _OPTIONAL if name not in declared and name in found.own_settings}
    return Alteration(topic.name, changes, {name: found.settings[name] for name in changes if name in found.settings})


def _same(found: str | None, declared: str) -> bool:
    # Kafka returns lists (cleanup.policy) in an order of its own
    return found is not None and set(found.split(",")) == set(declared.split(","))


def _conflicts(topic: Topic, found: ActualTopic) -> list[str]:
    sentences = []
    if found.partitions != topic.partitions:
        sentences.append(
            f"{topic.name} has {found.partitions} partitions, {topic.partitions} are declared. More partitions "
            "move keys to other partitions and fewer are impossible: change the declaration, or stop what uses the "
            "topic, delete it and apply again"
        )
    if found.replication_factor != topic.replication_factor:
        sentences.append(
            f"{topic.name} has replication factor {found.replication_factor}, {topic.replication_factor} is declared: "
            "move its replicas with kafka-reassign-partitions, then apply again"
        )
    return sentences


def _actual(admin: AdminClient, declared: Sequence[Topic]) -> dict[str, ActualTopic]:
    found = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
    names = [topic.name for topic in declared if topic.name in found]
    if not names:
        return {}
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    actual = {}
    for resource, future in asked.items():
        entries = future.result(_TIMEOUT_SECONDS)
        partitions = found[resource.name].partitions
        actual[resource.name] = ActualTopic(
            partitions=len(partitions),
            replication_factor=len(partitions[0].replicas),
            settings={name: entry.value for name, entry in entries.items()},
            own_settings=frozenset(
                name for name, entry in entries.items() if entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            ),
        )
    return actual


def _create(admin: AdminClient, topics: Sequence[Topic]) -> None:
    if not topics:
        return
    asked = admin.create_topics(
        [NewTopic(topic.name, topic.partitions, topic.replication_factor, config=topic.settings()) for topic in topics],
        operation_timeout=_TIMEOUT_SECONDS,
    )
    for future in asked.values():
        future.result(_TIMEOUT_SECONDS)


def _alter(admin: AdminClient, alterations: Sequence[Alteration]) -> None:
    if not alterations:
        return
    resources = []
    for alteration in alterations:
        entries = [
            ConfigEntry(
                name,
                value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for name, value in alteration.settings.items()
        ]
        resources.append(ConfigResource(ResourceType.TOPIC, alteration.topic, incremental_configs=entries))
    for future in admin.incremental_alter_configs(resources).values():
        future.result(_TIMEOUT_SECONDS)


def _wait_until_there(admin: AdminClient, topics: Sequence[Topic]) -> None:
    """Return when every partition has a leader: clients started now find all of them."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    missing = {topic.name: topic.partitions for topic in topics}
    while missing:
        found = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        missing = {
            name: partitions
            for name, partitions in missing.items()
            if name not in found or sum(part.leader >= 0 for part in found[name].partitions.values()) < partitions
        }
        if missing and time.monotonic() > deadline:
            message = f"created, but without a leader after {_TIMEOUT_SECONDS:.0f} s: {', '.join(sorted(missing))}"
            raise NotReadyError(message)
        if missing:
            time.sleep(_POLL_SECONDS)
