"""Topics and schemas on the real broker and the real registry."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from millrace_local import schemas, topics
from millrace_local.errors import SchemaConflictError, TopicConflictError
from millrace_local.lag import Lags
from millrace_local.probes import quiet_admin
from millrace_local.services import Service
from millrace_local.stack import Stack
from millrace_schemas import SUBJECTS, Topic, schema_text
from millrace_schemas import topics as declared_topics

pytestmark = pytest.mark.broker

MILLRACE = (sys.executable, "-m", "millrace_local")

_COMMAND_SECONDS = 60.0


def millrace(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": stack.registry_url,
    }
    return subprocess.run(
        [*MILLRACE, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=_COMMAND_SECONDS
    )


def breaking(subject: str) -> str:
    """Return the subject's schema with a field that old records lack."""
    schema = json.loads(schema_text(subject))
    schema["fields"].append({"name": "required_later", "type": "string"})
    return json.dumps(schema)


@pytest.fixture(scope="module")
def registry(local_stack: Stack) -> SchemaRegistryClient:
    return schemas.client(local_stack.registry_url)


@pytest.fixture
def topic(local_stack: Stack, request: pytest.FixtureRequest) -> Iterator[Topic]:
    """A topic of the test's own, as user-events is declared."""
    name = f"test.{request.node.name}"
    yield replace(declared_topics()[0], name=name)
    for future in quiet_admin(local_stack.bootstrap_servers).delete_topics([name]).values():
        future.exception(10)


def test_topics_are_applied_once_and_the_second_time_changes_nothing(local_stack: Stack, topic: Topic) -> None:
    admin = quiet_admin(local_stack.bootstrap_servers)
    assert topics.apply(admin, [topic]).create == (topic,)
    assert topics.apply(admin, [topic]).empty
    found = admin.list_topics(topic.name, timeout=10).topics[topic.name]
    assert len(found.partitions) == topic.partitions


def test_a_changed_setting_is_altered_in_place_and_a_dropped_one_taken_off(local_stack: Stack, topic: Topic) -> None:
    admin = quiet_admin(local_stack.bootstrap_servers)
    topics.apply(admin, [replace(topic, retention=timedelta(days=1), max_message_bytes=2_000_000)])
    changed = topics.apply(admin, [topic])
    assert dict(changed.alter[0].settings) == {"retention.ms": "604800000", "max.message.bytes": None}
    assert topics.apply(admin, [topic]).empty


def test_another_partition_count_is_refused_and_nothing_is_done(local_stack: Stack, topic: Topic) -> None:
    admin = quiet_admin(local_stack.bootstrap_servers)
    topics.apply(admin, [topic])
    other = replace(topic, partitions=9, retention=timedelta(days=1))
    with pytest.raises(TopicConflictError, match="has 4 partitions, 9 are declared"):
        topics.apply(admin, [other])
    assert topics.apply(admin, [topic]).empty


def test_the_topics_command_applies_a_lane_and_says_when_nothing_is_to_do(local_stack: Stack) -> None:
    first = millrace(local_stack, "topics", "apply", "--lane", "test")
    assert first.returncode == 0, first.stderr
    assert "created user-events.test: 4 partitions" in first.stdout
    second = millrace(local_stack, "topics", "apply", "--lane", "test")
    assert second.stdout == "nothing to do: every topic is as declared\n"
    refused = millrace(local_stack, "topics", "apply", "--profile", "production")
    assert refused.returncode == 1
    assert "user-events has 4 partitions, 24 are declared" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_subject_is_registered_and_the_second_time_changes_nothing(
    local_stack: Stack, registry: SchemaRegistryClient
) -> None:
    assert not any(done.changed for done in schemas.register(registry, schemas.declared()))
    assert {registry.get_compatibility(subject) for subject in SUBJECTS} == {schemas.COMPATIBILITY}
    said = millrace(local_stack, "schemas", "register")
    assert (said.returncode, said.stdout) == (0, "nothing to do: every subject is registered\n"), said.stderr
    assert millrace(local_stack, "schemas", "check").returncode == 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_registry_refuses_an_incompatible_change(registry: SchemaRegistryClient, subject: str) -> None:
    with pytest.raises(SchemaRegistryError) as raised:
        registry.register_schema(subject, Schema(breaking(subject), "AVRO"))
    assert raised.value.http_status_code == 409


def test_a_refused_schema_is_said_with_the_registrys_reason(registry: SchemaRegistryClient) -> None:
    with pytest.raises(SchemaConflictError, match="user-events: the registry refuses it: .*required_later"):
        schemas.register(registry, {"user-events": breaking("user-events")})


def test_check_names_the_version_and_the_field_and_changes_nothing(registry: SchemaRegistryClient) -> None:
    before = registry.get_versions("user-events")
    (problem,) = schemas.check(registry, {"user-events": breaking("user-events")})
    assert "not compatible with version 1" in problem
    assert "new field required_later has no default" in problem
    assert registry.get_versions("user-events") == before


def test_check_accepts_what_could_be_registered(registry: SchemaRegistryClient) -> None:
    schema = json.loads(schema_text("user-events"))
    schema["fields"].append({"name": "optional_later", "type": ["null", "string"], "default": None})
    assert schemas.check(registry, {"user-events": json.dumps(schema), "new-subject": schema_text("ledger")}) == ()


def test_compatibility_holds_against_every_version_not_only_the_last(registry: SchemaRegistryClient) -> None:
    def versioned(*fields: dict[str, object]) -> str:
        return json.dumps({"type": "record", "name": "T", "fields": [{"name": "id", "type": "string"}, *fields]})

    # With the last version alone, dropping a field and adding it again with another type would pass.
    schemas.register(registry, {"test-transitive": versioned({"name": "x", "type": "string", "default": ""})})
    schemas.register(registry, {"test-transitive": versioned()})
    later = {"test-transitive": versioned({"name": "x", "type": "int", "default": 0})}
    assert "not compatible with version 1" in schemas.check(registry, later)[0]
    with pytest.raises(SchemaConflictError):
        schemas.register(registry, later)


def test_lag_is_what_is_stable_and_not_committed(local_stack: Stack, topic: Topic) -> None:
    admin = quiet_admin(local_stack.bootstrap_servers)
    topics.apply(admin, [topic])
    service = Service(f"lag-{topic.name}", "m", (topic.name,))
    producer = Producer({"bootstrap.servers": local_stack.bootstrap_servers, "transactional.id": topic.name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(5):
        producer.produce(topic.name, b"x", partition=0)
    producer.commit_transaction(30)  # 5 records and the marker
    with Lags(local_stack.bootstrap_servers) as lags:
        assert lags.of([service]) == {service.title: None}

    producer.begin_transaction()
    producer.produce(topic.name, b"x", partition=0)  # open: not stable, so not behind
    producer.flush(30)
    consumer = Consumer({"bootstrap.servers": local_stack.bootstrap_servers, "group.id": service.group})
    consumer.commit(offsets=[TopicPartition(topic.name, 0, 2)], asynchronous=False)
    consumer.close()
    with Lags(local_stack.bootstrap_servers) as lags:
        assert lags.of([service]) == {service.title: 4}
    with Lags(local_stack.bootstrap_servers, IsolationLevel.READ_UNCOMMITTED) as lags:
        assert lags.of([service]) == {service.title: 5}
    producer.abort_transaction(30)
