"""Whether rows of one schema may go into a table of another.

delta-rs casts what it can, lossily and silently, so we compare.
"""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What lies between a table and the rows for it.

    Attributes:
        added: columns of the rows that the table does not have; they may be added to it.
        conflict: why rows cannot go into the table; None if they can.
    """

    added: tuple[pa.Field, ...]
    conflict: str | None


def compare(table: pa.Schema, rows: pa.Schema) -> SchemaChange:
    """Return what must happen before rows of schema `rows` may be appended to `table`.

    New columns are additive; they become nullable, as older rows have no value. A column the rows lack stays null.
    Any other difference is a conflict.
    """
    conflicts = []
    added = []
    for field in rows:
        index = table.get_field_index(field.name)
        if index < 0:
            added.append(field.with_nullable(True))
        elif not same_type(table.field(index).type, field.type):
            conflicts.append(
                f"column {field.name} is {table.field(index).type} in the table and {field.type} in the rows"
            )
        elif field.nullable and not table.field(index).nullable:
            conflicts.append(f"column {field.name} may be null in the rows but not in the table")
    conflicts += [
        f"column {field.name} must have a value in the table and the rows have none"
        for field in table
        if rows.get_field_index(field.name) < 0 and not field.nullable
    ]
    return SchemaChange(tuple(added), "; ".join(conflicts) or None)


def same_type(one: pa.DataType, other: pa.DataType) -> bool:
    """Return whether two Arrow types are one Delta type; names and nullability inside lists and maps do not count."""
    if _is_string(one) and _is_string(other):
        return True
    if _is_binary(one) and _is_binary(other):
        return True
    if pa.types.is_map(one) and pa.types.is_map(other):
        return same_type(one.key_type, other.key_type) and same_type(one.item_type, other.item_type)
    if _is_list(one) and _is_list(other):
        return same_type(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return [field.name for field in one] == [field.name for field in other] and all(
            same_type(a.type, b.type) for a, b in zip(one, other, strict=True)
        )
    return bool(one.equals(other))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
