"""Comparing declared topics with actual ones."""

from dataclasses import replace

from millrace_local.topics import ActualTopic, plan, replicated
from millrace_schemas import Topic, topics

_DECLARED = topics("local")


def as_declared(topic: Topic, **settings: str) -> ActualTopic:
    own = {**topic.settings(), **settings}
    return ActualTopic(
        topic.partitions, topic.replication_factor, {"max.message.bytes": "1048588", **own}, frozenset(own)
    )


_ACTUAL = {topic.name: as_declared(topic) for topic in _DECLARED}


def test_nothing_is_planned_when_all_is_as_declared() -> None:
    assert plan(_DECLARED, _ACTUAL).empty


def test_one_broker_keeps_one_copy_and_three_keep_three_of_which_two_must_be_in_sync() -> None:
    assert replicated(_DECLARED, 1) == _DECLARED
    three = replicated(_DECLARED, 3)
    assert {topic.replication_factor for topic in three} == {3}
    assert {topic.settings()["min.insync.replicas"] for topic in three} == {"2"}


def test_every_missing_topic_is_created() -> None:
    assert plan(_DECLARED, {}).create == _DECLARED


def test_a_setting_that_differs_is_altered_and_said_with_both_values() -> None:
    topic = next(topic for topic in _DECLARED if topic.name == "user-events")
    (alteration,) = plan(_DECLARED, {**_ACTUAL, topic.name: as_declared(topic, **{"retention.ms": "1000"})}).alter
    assert dict(alteration.settings) == {"retention.ms": "604800000"}
    assert str(alteration) == "user-events: retention.ms 1000 -> 604800000"


def test_a_limit_that_is_no_longer_declared_is_taken_off() -> None:
    topic = next(topic for topic in _DECLARED if topic.name == "user-events")
    (alteration,) = plan(_DECLARED, {**_ACTUAL, topic.name: as_declared(topic, **{"max.message.bytes": "1"})}).alter
    assert dict(alteration.settings) == {"max.message.bytes": None}
    assert str(alteration) == "user-events: max.message.bytes 1 -> default"


def test_settings_nobody_declares_are_left_alone() -> None:
    topic = _DECLARED[0]
    assert plan(_DECLARED, {**_ACTUAL, topic.name: as_declared(topic, **{"segment.ms": "1000"})}).empty


def test_the_order_of_a_list_is_no_difference() -> None:
    topic = next(topic for topic in _DECLARED if topic.cleanup == "compact,delete")
    turned = as_declared(topic, **{"cleanup.policy": "delete,compact"})
    assert plan(_DECLARED, {**_ACTUAL, topic.name: turned}).empty


def test_another_partition_count_is_a_conflict_with_what_to_do() -> None:
    topic = _DECLARED[0]
    (sentence,) = plan(_DECLARED, {**_ACTUAL, topic.name: replace(_ACTUAL[topic.name], partitions=9)}).conflicts
    assert f"{topic.name} has 9 partitions, {topic.partitions} are declared" in sentence
    assert "delete it and apply again" in sentence


def test_another_replication_factor_is_a_conflict_with_what_to_do() -> None:
    topic = _DECLARED[0]
    found = replace(_ACTUAL[topic.name], replication_factor=3)
    (sentence,) = plan(_DECLARED, {**_ACTUAL, topic.name: found}).conflicts
    assert "replication factor 3, 1 is declared" in sentence
    assert "kafka-reassign-partitions" in sentence
