"""Avro schemas seen from Arrow: types, and how columns of an old or new writer become the reader's."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

Schema = str | dict[str, Any] | list[Any]

_PRIMITIVES: Final[Mapping[str, pa.DataType]] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
_LOGICAL: Final[Mapping[tuple[str, str], pa.DataType]] = {
    ("long", "timestamp-millis"): pa.timestamp("ms"),
    ("long", "timestamp-micros"): pa.timestamp("us"),
    ("int", "date"): pa.date32(),
}


class IncompatibleSchemaError(Exception):
    """A writer's columns cannot become the reader's."""


def parse(text: str) -> dict[str, Any]:
    """Return the record schema in `text`.

    Raises:
        ValueError: it is not JSON, or not a record.
    """
    schema = json.loads(text)
    if not isinstance(schema, dict) or schema.get("type") != "record":
        message = "not an Avro record schema"
        raise ValueError(message)
    return schema


def full_name(schema: Mapping[str, Any]) -> str:
    """Return namespace and name of a named schema."""
    name, namespace = str(schema["name"]), schema.get("namespace")
    return name if "." in name or not namespace else f"{namespace}.{name}"


def columnar(schema: Any) -> bool:
    """Return whether pyruhvro 0.4 decodes `schema`; it names types for more, and panics on those."""
    if isinstance(schema, list):
        return all(columnar(branch) for branch in schema)
    if not isinstance(schema, dict):
        return schema not in ("bytes", "fixed")
    if "logicalType" in schema:
        return (schema["type"], schema["logicalType"]) in _LOGICAL
    inner = [schema.get("items", "null"), schema.get("values", "null"), *(f["type"] for f in schema.get("fields", ()))]
    return columnar(schema["type"]) and all(columnar(part) for part in inner)


def arrow_schema(schema: Mapping[str, Any]) -> pa.Schema:
    """Return the Arrow schema of a record's fields: pyruhvro's where it decodes them."""
    if columnar(schema):
        return pyruhvro.avro_to_arrow_schema(json.dumps(schema))
    return pa.schema([_field(field["name"], field["type"], {}) for field in schema["fields"]])


def without_logical_types(schema: Any) -> Any:
    """Return `schema` as plain Avro, so that a far-fetched timestamp is a number and not an error."""
    if isinstance(schema, dict):
        return {name: without_logical_types(value) for name, value in schema.items() if name != "logicalType"}
    if isinstance(schema, list):
        return [without_logical_types(part) for part in schema]
    return schema


def enum_symbols(schema: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the symbols of each top-level field that is an enum."""
    return {
        field["name"]: frozenset(field["type"]["symbols"])
        for field in schema["fields"]
        if isinstance(field["type"], dict) and field["type"]["type"] == "enum"
    }


def resolve(columns: pa.RecordBatch, reader: Mapping[str, Any], target: pa.Schema) -> pa.RecordBatch:
    """Return `columns` in the reader's shape: its fields in its order, promoted types, defaults for what is missing.

    Raises:
        IncompatibleSchemaError: a field has another type, or is missing and has no default.
    """
    if columns.schema.equals(target):
        return columns
    arrays = [
        _resolve_field(columns, declared, wanted) for declared, wanted in zip(reader["fields"], target, strict=True)
    ]
    return pa.record_batch(arrays, schema=target)


def _resolve_field(columns: pa.RecordBatch, declared: Mapping[str, Any], wanted: pa.Field) -> pa.Array:
    index = columns.schema.get_field_index(wanted.name)
    if index >= 0:
        _refuse_null(columns.schema.field(index), wanted)
        return _promote(columns.column(index), wanted.type, declared)
    if "default" not in declared:
        message = f"field {wanted.name} is missing and has no default"
        raise IncompatibleSchemaError(message)
    return pa.repeat(pa.scalar(declared["default"], wanted.type), columns.num_rows)


def _promote(array: pa.Array, wanted: pa.DataType, declared: Mapping[str, Any]) -> pa.Array:
    if array.type.equals(wanted):
        return array
    if pa.types.is_struct(array.type) and pa.types.is_struct(wanted):
        record = _record_of(declared["type"])
        inner = resolve(pa.RecordBatch.from_struct_array(array), record, pa.schema(list(wanted)))
        return pa.StructArray.from_arrays(inner.columns, fields=list(wanted), mask=pc.is_null(array))
    if pa.types.is_list(array.type) and pa.types.is_list(wanted):
        items = {"type": _branch(declared["type"])["items"]}
        values = _promote(array.values, wanted.value_type, items)
        return pa.ListArray.from_arrays(array.offsets, values, type=wanted, mask=pc.is_null(array))
    if _promotable(array.type, wanted):
        return array.cast(wanted)
    message = f"field {declared.get('name', 'item')} is {array.type}, not {wanted}"
    raise IncompatibleSchemaError(message)


def _refuse_null(given: pa.Field, wanted: pa.Field) -> None:
    """Check that no null can come into a field that must have a value: later steps count on it."""
    if (given.nullable or pa.types.is_null(given.type)) and not wanted.nullable:
        message = f"field {wanted.name} may be null"
        raise IncompatibleSchemaError(message)


def _promotable(given: pa.DataType, wanted: pa.DataType) -> bool:
    # https://avro.apache.org/docs/1.12.0/specification/#schema-resolution
    order = [pa.int32(), pa.int64(), pa.float32(), pa.float64()]
    if given in order and wanted in order:
        return order.index(given) <= order.index(wanted)
    return {given, wanted} == {pa.string(), pa.binary()} or pa.types.is_null(given)


def _record_of(schema: Any) -> Mapping[str, Any]:
    branch = _branch(schema)
    return branch if isinstance(branch, dict) else {"fields": []}


def _branch(schema: Any) -> Any:
    """Return the one non-null branch of an optional type, or the type itself."""
    if isinstance(schema, list):
        return next(part for part in schema if part != "null")
    return schema


def _field(name: str, schema: Schema, named: dict[str, pa.DataType]) -> pa.Field:
    if isinstance(schema, list):
        branches = [part for part in schema if part != "null"]
        if len(branches) != 1:
            message = f"field {name}: a union of several types has no Arrow column"
            raise ValueError(message)
        return pa.field(name, _type(branches[0], named), nullable="null" in schema)
    return pa.field(name, _type(schema, named), nullable=False)


def _type(schema: Any, named: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(schema, str):
        return named[schema] if schema in named else _PRIMITIVES[schema]
    kind = schema["type"]
    if kind == "record":
        named[schema["name"]] = pa.struct([_field(f["name"], f["type"], named) for f in schema["fields"]])
        return named[schema["name"]]
    if kind == "enum":
        named[schema["name"]] = pa.string()
        return pa.string()
    if kind == "array":
        return pa.list_(pa.field("item", _type(schema["items"], named)))
    if kind == "map":
        return pa.map_(pa.string(), pa.field("value", _type(schema["values"], named), nullable=False))
    logical = _LOGICAL.get((kind, schema.get("logicalType", "")))
    return logical if logical is not None else _type(kind, named)
