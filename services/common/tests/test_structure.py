import io
import json
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_common import structure

# Every kind of type that columns can hold, and lists in lists.
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Everything",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b", "c"]}},
        {"name": "text", "type": ["null", "string"]},
        {"name": "flag", "type": "boolean"},
        {"name": "small", "type": "float"},
        {"name": "large", "type": "double"},
        {"name": "pairs", "type": {"type": "map", "values": "string"}},
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Item",
                    "fields": [
                        {"name": "count", "type": "int"},
                        {"name": "tags", "type": {"type": "array", "items": "string"}},
                    ],
                },
            },
        },
    ],
}
PARSED = fastavro.parse_schema(json.loads(json.dumps(SCHEMA).replace("logicalType", "plainType")))
LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text("aä€", max_size=5)
ITEMS = st.fixed_dictionaries({"count": st.integers(-(2**31), 2**31 - 1), "tags": st.lists(TEXTS, max_size=3)})
DATUMS = st.fixed_dictionaries(
    {
        "number": LONGS,
        "at": LONGS,
        "kind": st.sampled_from("abc"),
        "text": st.none() | TEXTS,
        "flag": st.booleans(),
        "small": st.just(1.5),
        "large": st.floats(allow_nan=False),
        "pairs": st.dictionaries(TEXTS, TEXTS, max_size=5),
        "items": st.lists(ITEMS, max_size=3),
    }
)


def datum(value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, PARSED, value)
    return out.getvalue()


def whole(*datums: bytes, schema: Any = SCHEMA) -> list[bool]:
    """Judge the datums of a run, with a header's bytes between them."""
    lengths = np.array([len(data) for data in datums], dtype=np.int64)
    ends = np.cumsum(lengths + 5)
    run = b"".join(b"\0\0\0\0\1" + data for data in datums)
    return [bool(verdict) for verdict in structure.whole(schema, run, ends - lengths, ends)]


def reads(data: bytes) -> bool:
    """Return whether the per-record library reads all of `data`, whatever bytes its strings have."""
    stream = io.BytesIO(data)
    try:
        fastavro.schemaless_reader(stream, PARSED, None)
    except UnicodeDecodeError:
        return True
    except Exception:
        return False
    return stream.tell() == len(data)


@given(st.lists(DATUMS, min_size=1, max_size=5))
def test_good_datums_are_whole(values: list[dict[str, Any]]) -> None:
    assert all(whole(*map(datum, values)))


@given(st.lists(DATUMS, min_size=3, max_size=3), st.data())
def test_only_the_one_that_was_cut_or_lengthened_is_not(values: list[dict[str, Any]], data: st.DataObject) -> None:
    first, middle, last = map(datum, values)
    cut = middle[: data.draw(st.integers(0, len(middle) - 1))]
    assert whole(first, cut, last) == [True, False, True]
    assert whole(first, middle + data.draw(st.binary(min_size=1)), last) == [True, False, True]


@given(DATUMS, st.data())
def test_what_is_whole_with_other_bytes_in_it_is_so_for_the_reference(
    value: dict[str, Any], data: st.DataObject
) -> None:
    good = datum(value)
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + data.draw(st.binary(min_size=1, max_size=3)) + good[at + 1 :]
    assert reads(changed) or whole(good, changed, good) == [True, False, True]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_any_bytes_have_a_verdict(datums: list[bytes]) -> None:
    assert all(reads(data) for data, verdict in zip(datums, whole(*datums), strict=True) if verdict)


def test_a_list_in_blocks_that_say_their_size_is_walked() -> None:
    schema = {"type": "array", "items": "string"}
    blocks = b"\x03\x06\x02a\x02" + b"b" + b"\x02\x02c\x00"  # two in six bytes, then one, then the end
    assert whole(blocks, blocks[:-1], schema=schema) == [True, False]


def test_a_long_list_is_left_to_others() -> None:
    schema = {"type": "array", "items": "null"}
    assert whole(b"\x80\x02\x00", b"\x82\x02\x00", schema=schema) == [True, False]  # of 128 and 129


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"type": "array", "items": "int"}, b"\x02\x00" * 5_000 + b"\x00"),
        ({"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}, b"\x02\x00"),
    ],
)
def test_there_is_no_verdict_where_a_walk_would_be_long_or_cannot_know_the_type(schema: Any, data: bytes) -> None:
    with pytest.raises(structure.NoVerdictError):
        whole(data, schema=schema)


def test_a_length_below_zero_is_not_whole() -> None:
    assert whole(b"\x00", b"\x01", schema="string") == [True, False]  # of no bytes, and of -1
