"""Every subject against its released versions: what one writes, the other reads.

released/<subject>/<version>.avsc are the versions that records in topics may have been written with; they never change.
A changed schema gets the next number there once it is registered anywhere but on a laptop.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from fastavro.utils import generate_many

from millrace_schemas import SUBJECTS, schema_text, topics

_RELEASED = Path(__file__).parent / "released"
_SAMPLES = 50

Schema = dict[str, Any]


def current(subject: str) -> Schema:
    schema: Schema = json.loads(schema_text(subject))
    return schema


def released(subject: str) -> list[Schema]:
    files = sorted((_RELEASED / subject).glob("*.avsc"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def with_field(schema: Schema, field: Schema) -> Schema:
    return {**schema, "fields": [*schema["fields"], field]}


def written(schema: Schema) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield sample records and their bytes."""
    parsed = fastavro.parse_schema(schema)
    for record in generate_many(parsed, _SAMPLES):
        content = io.BytesIO()
        fastavro.schemaless_writer(content, parsed, record)
        yield record, content.getvalue()


def read(content: bytes, writer: Schema, reader: Schema) -> dict[str, Any]:
    stream = io.BytesIO(content)
    record = fastavro.schemaless_reader(stream, fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    assert not stream.read()
    assert isinstance(record, dict)
    return record


def assert_reads(writer: Schema, reader: Schema) -> None:
    """Assert that `reader` reads everything `writer` writes, with the values of all fields both know."""
    common = {field["name"] for field in writer["fields"]} & {field["name"] for field in reader["fields"]}
    for _, content in written(writer):
        own = read(content, writer, writer)
        found = read(content, writer, reader)
        assert found.keys() == {field["name"] for field in reader["fields"]}
        assert {name: found[name] for name in common} == {name: own[name] for name in common}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_records_of_every_released_version_are_readable_now(subject: str) -> None:
    versions = released(subject)
    assert versions, f"{subject} has no released version"
    for version in versions:
        assert_reads(writer=version, reader=current(subject))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_consumers_of_every_released_version_read_what_is_written_now(subject: str) -> None:
    for version in released(subject):
        assert_reads(writer=current(subject), reader=version)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_optional_field_can_be_added_in_both_directions(subject: str) -> None:
    later = with_field(current(subject), {"name": "added_later", "type": ["null", "string"], "default": None})
    assert_reads(writer=current(subject), reader=later)
    assert_reads(writer=later, reader=current(subject))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_required_field_cannot_be_added(subject: str) -> None:
    later = with_field(current(subject), {"name": "added_later", "type": "string"})
    with pytest.raises(SchemaResolutionError, match="added_later"):
        assert_reads(writer=current(subject), reader=later)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_optional_field_defaults_to_null(subject: str) -> None:
    for field in current(subject)["fields"]:
        if isinstance(field["type"], list):
            assert field["type"][0] == "null", f"{field['name']}: null is not first"
            assert "default" in field, f"{field['name']} has no default"
            assert field["default"] is None


def test_full_names_are_unique() -> None:
    names = [f"{current(subject)['namespace']}.{current(subject)['name']}" for subject in SUBJECTS]
    assert len(set(names)) == len(names)


def test_every_topic_has_a_subject_and_every_subject_a_topic() -> None:
    assert {topic.subject for topic in topics()} == set(SUBJECTS)


def test_a_late_event_is_an_enriched_event_and_how_late_it_was() -> None:
    late = current("late-events")["fields"]
    assert late[:-2] == current("user-events.enriched")["fields"]
    assert [field["name"] for field in late[-2:]] == ["watermark", "lateness_ms"]


def test_an_open_session_has_the_fields_of_a_closed_one_but_its_end() -> None:
    closed = [field for field in current("session-metrics")["fields"] if field["name"] not in {"closed_by", "revision"}]
    assert current("session-updates")["fields"] == closed


def test_a_topic_and_what_derives_from_it_have_the_same_partitions() -> None:
    for profile in ("local", "production"):
        partitions = {topic.name: topic.partitions for topic in topics(profile)}
        events = {
            partitions[name] for name in partitions if name.startswith(("user-events", "session-", "late-events"))
        }
        assert events == {partitions["user-events"]}
        assert partitions["transactions.valid"] == partitions["transactions"]


def test_a_topic_holds_the_largest_record_of_the_topic_it_derives_from() -> None:
    brokers_default_bytes = 1_048_588
    largest = {topic.name: topic.max_message_bytes or brokers_default_bytes for topic in topics()}
    assert largest["user-events.valid"] >= largest["user-events"]
    assert largest["user-events.enriched"] > largest["user-events.valid"]
    assert largest["late-events"] >= largest["user-events.enriched"]
    assert largest["dead-letters"] > max(size for name, size in largest.items() if name != "dead-letters")


def test_production_keeps_three_copies_and_inputs_the_brokers_clock() -> None:
    production = {topic.name: topic for topic in topics("production")}
    assert all(topic.replication_factor == 3 for topic in production.values())
    inputs = ("user-events", "transactions", "products", "user-profiles")
    assert {name for name, topic in production.items() if topic.log_append_time} == set(inputs)
    assert [production[name].partitions for name in inputs] == [24, 12, 6, 6]


def test_a_lane_is_the_same_topics_under_other_names() -> None:
    live, lane = topics(), topics(lane="backfill")
    assert [topic.name for topic in lane] == [f"{topic.name}.backfill" for topic in live]
    assert [topic.settings() for topic in lane] == [topic.settings() for topic in live]
