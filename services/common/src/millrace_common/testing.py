"""In-memory stand-ins for what a flow meets in production; for tests only."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro

from millrace_common.codec import frame
from millrace_common.records import Partition, Polled, Span

_LOG_APPEND_TIME: Final = 2


@dataclass(frozen=True, slots=True)
class Record:
    """A consumed record with given bytes."""

    stored_value: bytes | None
    stored_key: bytes | None = None
    stored_offset: int = 0
    stored_timestamp_ms: int = 0

    def key(self) -> bytes | None:
        """Return the key's bytes."""
        return self.stored_key

    def value(self) -> bytes | None:
        """Return the value's bytes."""
        return self.stored_value

    def offset(self) -> int:
        """Return the offset."""
        return self.stored_offset

    def timestamp(self) -> tuple[int, int]:
        """Return (log append time, epoch ms)."""
        return _LOG_APPEND_TIME, self.stored_timestamp_ms


@dataclass(frozen=True, slots=True)
class InMemorySchemas:
    """A schema registry that always answers."""

    texts: Mapping[int, str]

    def schema(self, schema_id: int) -> str | None:
        """Return the text of `schema_id`, None if there is none."""
        return self.texts.get(schema_id)


def avro_value(schema: str, schema_id: int, datum: Mapping[str, Any]) -> bytes:
    """Return `datum` framed, by a per-record encoder that shares nothing with the codec."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), datum)
    return frame(schema_id, out.getvalue())


def avro_datum(schema: str, value: bytes) -> dict[str, Any]:
    """Return what the framed `value` says, by the same per-record library; logical types stay plain numbers."""
    plain = json.loads(json.dumps(json.loads(schema)).replace('"logicalType"', '"formerLogicalType"'))
    datum = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(plain), None)
    if not isinstance(datum, dict):
        message = f"{type(datum).__name__} is not a record"
        raise TypeError(message)
    return datum


def polled(
    topic: str, records: Sequence[Record], *, partition: int = 0, muted: bool = False, snapshot_due: bool = False
) -> Polled:
    """Return `records`, which have consecutive offsets, as one run of generation 1."""
    first = records[0].offset() if records else 0
    span = Span(Partition(topic, partition), 1, first, first + len(records), muted, snapshot_due)
    return Polled(span, records)


def with_offsets(records: Iterable[Record]) -> list[Record]:
    """Return `records` with offsets 0, 1, 2 ..."""
    return [Record(r.stored_value, r.stored_key, number, r.stored_timestamp_ms) for number, r in enumerate(records)]
