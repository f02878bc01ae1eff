import json
from typing import Any

import pyarrow as pa
import pytest

from millrace_common import avro
from millrace_common.avro import IncompatibleSchemaError

Field = dict[str, Any]


def record(*fields: Field) -> dict[str, Any]:
    return avro.parse(json.dumps({"type": "record", "name": "R", "namespace": "n", "fields": list(fields)}))


def named(name: str, kind: object, **others: object) -> Field:
    return {"name": name, "type": kind} | others


def resolve(writer: dict[str, Any], reader: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    batch = pa.RecordBatch.from_pylist(rows, schema=avro.arrow_schema(writer))
    target = avro.arrow_schema(reader)
    resolved = avro.resolve(batch, reader, target)
    assert resolved.schema.equals(target)
    resolved.validate(full=True)
    rows_back: list[dict[str, Any]] = resolved.to_pylist()
    return rows_back


def inner(name: str, *fields: Field) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


STRING = named("a", "string")


def test_fields_come_in_the_readers_order_and_no_others() -> None:
    writer = record(STRING, named("b", "int"), named("c", "long"))
    reader = record(named("c", "long"), STRING)
    assert resolve(writer, reader, [{"a": "x", "b": 1, "c": 2}]) == [{"c": 2, "a": "x"}]


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [
        ("string", "none", "none"),
        ("int", 3, 3),
        ("double", 0.5, 0.5),
        ("boolean", True, True),
        (["null", "string"], None, None),
        ({"type": "array", "items": "string"}, [], []),
        ({"type": "array", "items": "string"}, ["x"], ["x"]),
        ({"type": "map", "values": "string"}, {}, []),
        ({"type": "map", "values": "string"}, {"k": "v"}, [("k", "v")]),
        ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, "Y", "Y"),
        (inner("I", named("b", "int"), named("s", "string")), {"b": 1, "s": "t"}, {"b": 1, "s": "t"}),
    ],
)
def test_a_missing_field_gets_its_default(kind: object, default: object, value: object) -> None:
    reader = record(STRING, named("new", kind, default=default))
    assert resolve(record(STRING), reader, [{"a": "x"}, {"a": "y"}]) == [
        {"a": "x", "new": value},
        {"a": "y", "new": value},
    ]


def test_a_missing_field_without_default_is_incompatible() -> None:
    with pytest.raises(IncompatibleSchemaError, match="field new is missing and has no default"):
        resolve(record(STRING), record(STRING, named("new", "int")), [])


@pytest.mark.parametrize(
    ("given", "wanted", "value"),
    [
        ("int", "long", 2**31 - 1),
        ("int", "double", -(2**31)),
        ("int", "float", 3),
        ("long", "double", 2**52),
        ("float", "double", 0.5),
    ],
)
def test_numbers_are_promoted_as_avro_says(given: str, wanted: str, value: float) -> None:
    assert resolve(record(named("n", given)), record(named("n", wanted)), [{"n": value}]) == [{"n": value}]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("long", "int"),
        ("double", "float"),
        ("double", "long"),
        ("string", "int"),
        ("int", "string"),
        ("boolean", "int"),
        ("int", "boolean"),
        ({"type": "map", "values": "string"}, "string"),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
        ({"type": "array", "items": "string"}, {"type": "map", "values": "string"}),
        (inner("I", named("b", "long")), inner("I", named("b", "int"))),
        (inner("I", named("b", "long")), inner("I", named("c", "long"))),
        (["null", "string"], "string"),
        ("null", "string"),
        (inner("I", named("b", ["null", "long"])), inner("I", named("b", "long"))),
        ({"type": "map", "values": ["null", "long"]}, {"type": "map", "values": "long"}),
    ],
)
def test_what_avro_does_not_promote_is_incompatible(given: object, wanted: object) -> None:
    with pytest.raises(IncompatibleSchemaError):
        resolve(record(named("f", given)), record(named("f", wanted)), [])


def test_nested_records_are_resolved_inside() -> None:
    writer = record(named("in", inner("I", named("b", "int"), named("gone", "string"))))
    reader = record(named("in", inner("I", named("new", "string", default="d"), named("b", "long"))))
    assert resolve(writer, reader, [{"in": {"b": 7, "gone": "x"}}]) == [{"in": {"new": "d", "b": 7}}]


def test_an_optional_nested_record_stays_null_where_it_is_null() -> None:
    writer = record(named("in", ["null", inner("I", named("b", "int"))]))
    reader = record(named("in", ["null", inner("I", named("b", "long"), named("c", "int", default=5))]))
    rows: list[dict[str, Any]] = [{"in": None}, {"in": {"b": 1}}, {"in": None}]
    assert resolve(writer, reader, rows) == [{"in": None}, {"in": {"b": 1, "c": 5}}, {"in": None}]


def test_items_of_lists_are_resolved_inside() -> None:
    writer = record(named("l", {"type": "array", "items": inner("I", named("b", "int"))}))
    reader = record(
        named("l", {"type": "array", "items": inner("I", named("b", "double"), named("c", "int", default=1))})
    )
    rows: list[dict[str, Any]] = [{"l": [{"b": 1}, {"b": 2}]}, {"l": []}, {"l": [{"b": 3}]}]
    assert resolve(writer, reader, rows) == [
        {"l": [{"b": 1.0, "c": 1}, {"b": 2.0, "c": 1}]},
        {"l": []},
        {"l": [{"b": 3.0, "c": 1}]},
    ]


def test_an_optional_list_stays_null_where_it_is_null() -> None:
    writer = record(named("l", ["null", {"type": "array", "items": "int"}]))
    reader = record(named("l", ["null", {"type": "array", "items": "long"}]))
    rows: list[dict[str, Any]] = [{"l": [1]}, {"l": None}, {"l": [2, 3]}]
    assert resolve(writer, reader, rows) == rows


def test_a_required_field_may_become_optional() -> None:
    assert resolve(record(STRING), record(named("a", ["null", "string"])), [{"a": "x"}]) == [{"a": "x"}]


def test_equal_schemas_pass_untouched() -> None:
    batch = pa.RecordBatch.from_pylist([{"a": "x"}], schema=avro.arrow_schema(record(STRING)))
    assert avro.resolve(batch, record(STRING), batch.schema) is batch


@pytest.mark.parametrize("text", ['"string"', '{"type": "array", "items": "int"}', "{", "[]"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"record|JSON|double quotes|Expecting"):
        avro.parse(text)


def test_a_name_is_full_with_its_namespace() -> None:
    assert avro.full_name(record()) == "n.R"
    assert avro.full_name({"name": "a.b.R", "namespace": "n"}) == "a.b.R"
    assert avro.full_name({"name": "R"}) == "R"
