"""Confluent-framed Avro to Arrow columns and back.

A frame is a zero byte, the writer schema's id (4 bytes, big endian) and the datum. pyruhvro decodes a list of datums
about fifty times faster than a per-record library, but it fails a whole list for one bad record and overlooks trailing
bytes. So a run is decoded as if a frame were one Avro record, `{magic, id, value, end}`: the header needs no slicing,
and `end` is a random sentinel appended to each frame, which comes out right only where the datum ended exactly at its
last byte. If the list is refused, a walk over its structure tells which records to leave out. If that does not tell,
the list is halved until the bad ones are alone. A per-record decoder then says what is wrong with each.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from millrace_common import avro, structure
from millrace_common.columns import Binaries, Bools, Int64s, rows_with_text, string_bytes
from millrace_common.errors import RegistryUnavailableError
from millrace_common.records import Decoded, Polled, Reject
from millrace_common.registry import Schemas

_log = logging.getLogger(__name__)

DECODE: Final = "decode"
MAGIC: Final = b"\x00"
HEADER_BYTES: Final = 5
_LAST_OF_ASCII: Final = 0x7F
_MAGIC: Final = pa.scalar(False)  # noqa: FBT003  # made once: to see what type a value has, pyarrow tries to import things


class Reason(StrEnum):
    """Why a record could not be decoded: the closed list of stage `decode`."""

    EMPTY_VALUE = "empty_value"
    NOT_FRAMED = "not_framed"
    TOO_LARGE = "too_large"
    UNKNOWN_SCHEMA = "unknown_schema"
    WRONG_SUBJECT = "wrong_subject"
    INCOMPATIBLE_SCHEMA = "incompatible_schema"
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNDECODABLE = "undecodable"
    TRAILING_BYTES = "trailing_bytes"
    INVALID_UTF8 = "invalid_utf8"


def frame(schema_id: int, datum: bytes) -> bytes:
    """Return `datum` behind the header of `schema_id`."""
    return MAGIC + schema_id.to_bytes(4, "big") + datum


class Encoder:
    """Encodes columns as framed datums of one schema."""

    def __init__(self, schema: str, schema_id: int) -> None:
        """Prepare for `schema`, registered as `schema_id`.

        Raises:
            ValueError: pyruhvro cannot encode the schema (bytes, fixed, decimal and the like).
        """
        parsed = avro.parse(schema)
        if not avro.columnar(parsed):
            message = "the schema has a type that cannot be encoded in columns"
            raise ValueError(message)
        self._schema = avro.arrow_schema(parsed)
        self._framed = _framed(schema, with_end=False)
        self._id_bytes = schema_id.to_bytes(4, "big")

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema a batch must have, to the letter."""
        return self._schema

    def encode(self, batch: pa.RecordBatch) -> Binaries:
        """Return one framed value for each row of `batch`.

        Raises:
            ValueError: a column's type is not the schema's, or a field that must have a value has a null
                (it would silently become "" or 0).
        """
        if batch.num_rows == 0:
            return Binaries(pa.array([], pa.binary()))
        for column, field in zip(batch.columns, self._schema, strict=True):
            if not column.type.equals(field.type) or (not field.nullable and column.null_count):
                message = f"column {field.name}: {column.type} with {column.null_count} nulls is not {field}"
                raise ValueError(message)
        value = pa.StructArray.from_arrays(batch.columns, fields=list(self._schema))
        # As an array from the start: a float scalar would turn a signalling NaN, some ids are one, into a quiet one.
        schema_id = pa.array(np.frombuffer(self._id_bytes * len(value), dtype="<f4"))
        framed = pa.record_batch([pa.repeat(_MAGIC, len(value)), schema_id, value], names=["magic", "id", "value"])
        return Binaries(pyruhvro.serialize_record_batch(framed, self._framed, 1)[0])


class RowEncoder:
    """Encodes one record at a time as a framed datum: for records that are few, or have types columns cannot encode."""

    def __init__(self, schema: str, schema_id: int) -> None:
        """Prepare for `schema`, registered as `schema_id`."""
        self._parsed = fastavro.parse_schema(avro.without_logical_types(avro.parse(schema)))
        self._schema_id = schema_id

    def encode(self, record: Mapping[str, object]) -> bytes:
        """Return the framed datum of `record`; times are epoch milliseconds.

        Raises:
            ValueError: a field is missing, or no type of its union fits.
            TypeError: a field has another type.
        """
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, self._parsed, record, strict=True)
        return frame(self._schema_id, datum.getvalue())


@dataclass(frozen=True, slots=True)
class _Writer:
    """One writer schema: how to read its datums, and what is wrong with it, if anything is."""

    schema_id: int
    header: bytes
    problem: tuple[Reason, str] | None = None
    columns: pa.Schema | None = None
    framed: str | None = None
    schema: Any = None
    parsed: Any = None
    extra_symbols: dict[str, frozenset[str]] | None = None


class Decoder:
    """Decodes runs of framed records into the columns of one reader schema.

    A record whose schema cannot be looked up because the registry does not answer is never rejected for that: decoding
    waits.
    """

    def __init__(
        self, registry: Schemas, reader_schema: str, *, max_value_bytes: int, wait: Callable[[float], None]
    ) -> None:
        """Prepare for one reader schema; nothing is looked up yet.

        Args:
            registry: answers for schema ids not seen yet.
            reader_schema: Avro text whose fields come out.
            max_value_bytes: the largest frame accepted.
            wait: called with seconds while the registry does not answer.
        """
        self._registry = registry
        self._reader = avro.parse(reader_schema)
        self._name = avro.full_name(self._reader)
        self._target = avro.arrow_schema(self._reader)
        self._symbols = avro.enum_symbols(self._reader)
        self._max_value_bytes = max_value_bytes
        self._wait = wait
        self._writers: dict[bytes, _Writer] = {}
        self._sentinel = os.urandom(8)
        self._end = np.frombuffer(self._sentinel, dtype="<u8")[0]
        self._latest: _Writer | None = None

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of decoded columns."""
        return self._target

    def decode(self, polled: Polled) -> Decoded:
        """Return the readable records of `polled` as columns and every other one as a reject.

        Nothing is raised for bad bytes.
        """
        values = [record.value() for record in polled.records]
        whole = self._decode_uniform(values)
        if whole is not None:
            return Decoded(polled, whole, np.arange(len(values), dtype=np.int64))
        return self._decode_mixed(polled, values)

    def _decode_uniform(self, values: Sequence[bytes | None]) -> pa.RecordBatch | None:
        """Return the columns if all of `values` are whole datums of the writer seen last, else None."""
        writer = self._latest
        if writer is None or writer.framed is None:
            return None
        try:
            longest = max(map(len, values), default=0)  # type: ignore[arg-type]  # it says so if one is None
        except TypeError:
            return None
        if longest > self._max_value_bytes:
            return None
        decoded = self._decode_frames(writer, values)  # type: ignore[arg-type]  # no None in values
        if decoded is None or not decoded[1].all():
            return None
        columns, unknown = self._finish(writer, decoded[0])
        return None if unknown.any() else columns

    def _decode_mixed(self, polled: Polled, values: Sequence[bytes | None]) -> Decoded:
        rejects: list[Reject] = []
        rows_of: dict[bytes, list[int]] = {}
        for row, value in enumerate(values):
            problem = self._frame_problem(value)
            if problem is None and value is not None:
                rows_of.setdefault(value[:HEADER_BYTES], []).append(row)
            elif problem is not None:
                rejects.append(Reject(row, DECODE, *problem))
        parts: list[pa.RecordBatch] = []
        rows: list[int] = []
        for header, members in rows_of.items():
            writer = self._writer(header)
            if writer.problem is not None:
                rejects += (Reject(row, DECODE, *writer.problem) for row in members)
                continue
            self._latest = writer
            for columns, part_rows in self._decode_group(writer, values, members, rejects):
                part, unknown = self._finish(writer, columns)
                if unknown.any():
                    bad = np.flatnonzero(unknown)
                    rejects += (Reject(part_rows[i], DECODE, Reason.UNKNOWN_SYMBOL, "enum symbol") for i in bad)
                    part = part.filter(pa.array(~unknown))
                    part_rows = [row for row, is_bad in zip(part_rows, unknown, strict=True) if not is_bad]  # noqa: PLW2901
                parts.append(part)
                rows += part_rows
        columns = pa.Table.from_batches(parts, self._target).combine_chunks()
        batches = columns.to_batches()
        batch = batches[0] if batches else _empty(self._target)
        order = np.argsort(np.array(rows, dtype=np.int64))
        if not np.array_equal(order, np.arange(len(order))):
            batch = batch.take(pa.array(order))
        rejects.sort(key=lambda reject: reject.row)
        return Decoded(polled, batch, np.sort(np.array(rows, dtype=np.int64)), tuple(rejects))

    def _frame_problem(self, value: bytes | None) -> tuple[Reason, str] | None:
        if not value:
            return Reason.EMPTY_VALUE, "the value is null" if value is None else "the value has no bytes"
        if len(value) < HEADER_BYTES or value[:1] != MAGIC:
            return Reason.NOT_FRAMED, f"{len(value)} bytes, first byte {value[0]}: no magic byte 0 and 4-byte schema id"
        if len(value) > self._max_value_bytes:
            return Reason.TOO_LARGE, f"{len(value)} bytes, {self._max_value_bytes} allowed"
        return None

    def _decode_group(
        self, writer: _Writer, values: Sequence[bytes | None], rows: list[int], rejects: list[Reject]
    ) -> Iterable[tuple[pa.RecordBatch, list[int]]]:
        """Yield the decodable parts of `rows`, all of one writer, and append a reject for each of the others."""
        frames = [values[row] or b"" for row in rows]
        decoded = self._decode_frames(writer, frames) if writer.framed is not None else None
        if decoded is not None:
            columns, good = decoded
            yield columns.filter(pa.array(good)), [row for row, whole in zip(rows, good, strict=True) if whole]
        elif writer.framed is None or len(rows) == 1:
            good = np.zeros(len(rows), dtype=np.bool_)
        else:
            good = _whole(writer, frames)
            if good.all():  # it does not see what is wrong
                middle = len(rows) // 2
                yield from self._decode_group(writer, values, rows[:middle], rejects)
                yield from self._decode_group(writer, values, rows[middle:], rejects)
            elif good.any():
                kept = [row for row, whole in zip(rows, good, strict=True) if whole]
                yield from self._decode_group(writer, values, kept, rejects)
        for row in (row for row, whole in zip(rows, good, strict=True) if not whole):
            yield from self._decode_alone(writer, values[row] or b"", row, rejects)

    def _decode_frames(self, writer: _Writer, frames: Sequence[bytes]) -> tuple[pa.RecordBatch, Bools] | None:
        """Return the columns and which rows are good datums of `writer`; None if it is not known which are."""
        sentinel = self._sentinel
        try:
            decoded = pyruhvro.deserialize_array([frame + sentinel for frame in frames], writer.framed)
        except Exception:  # any malformed record, without saying which; the caller finds out
            return None
        value = decoded.column(2)
        header = int(np.frombuffer(writer.header[1:], dtype="<u4")[0])
        good: Bools = (
            (np.asarray(decoded.column(1)).view("<u4") == header)
            & (np.asarray(decoded.column(3)).view("<u8") == self._end)
            & ~np.asarray(decoded.column(0))
        )
        # Decoding does not look at string bytes: https://arrow.apache.org/docs/format/Columnar.html wants UTF-8.
        good[rows_with_text(value, _not_utf8)] = False
        return pa.RecordBatch.from_struct_array(value), good

    def _decode_alone(
        self, writer: _Writer, value: bytes, row: int, rejects: list[Reject]
    ) -> Iterable[tuple[pa.RecordBatch, list[int]]]:
        datum = io.BytesIO(value[HEADER_BYTES:])
        try:
            record = fastavro.schemaless_reader(datum, writer.parsed, None)
            left = len(value) - HEADER_BYTES - datum.tell()
            if left:
                rejects.append(Reject(row, DECODE, Reason.TRAILING_BYTES, f"{left} bytes behind the datum"))
                return
            columns = pa.RecordBatch.from_pylist([record], schema=writer.columns)
        except UnicodeDecodeError as error:
            rejects.append(Reject(row, DECODE, Reason.INVALID_UTF8, str(error)))
        except Exception as error:  # whatever bytes can do to a decoder ends here, as a dead letter
            detail = f"{type(error).__name__}: {error}"[:500]
            rejects.append(Reject(row, DECODE, Reason.UNDECODABLE, detail))
        else:
            yield columns, [row]

    def _finish(self, writer: _Writer, columns: pa.RecordBatch) -> tuple[pa.RecordBatch, Bools]:
        """Return `columns` in the reader's shape, and which rows hold an enum symbol the reader does not know."""
        resolved = avro.resolve(columns, self._reader, self._target)
        unknown = np.zeros(resolved.num_rows, dtype=np.bool_)
        for name, extra in (writer.extra_symbols or {}).items():
            unknown |= np.asarray(pc.is_in(resolved.column(name), pa.array(sorted(extra))))
        return resolved, unknown

    def _writer(self, header: bytes) -> _Writer:
        known = self._writers.get(header)
        if known is not None:
            return known
        schema_id = int.from_bytes(header[1:], "big")
        text = self._look_up(schema_id)
        if text is None:  # not remembered: it may be registered a moment later
            return _Writer(schema_id, header, (Reason.UNKNOWN_SCHEMA, f"the registry has no schema {schema_id}"))
        writer = self._prepare(schema_id, header, text)
        self._writers[header] = writer
        return writer

    def _look_up(self, schema_id: int) -> str | None:
        while True:
            try:
                return self._registry.schema(schema_id)
            except RegistryUnavailableError as error:
                _log.warning("waiting for the schema registry", extra={"error": str(error)})
                self._wait(1.0)

    def _prepare(self, schema_id: int, header: bytes, text: str) -> _Writer:
        try:
            schema = avro.parse(text)
            name = avro.full_name(schema)
            if name != self._name:
                return _Writer(schema_id, header, (Reason.WRONG_SUBJECT, f"schema {schema_id} is {name}"))
            columns = avro.arrow_schema(schema)
            avro.resolve(_empty(columns), self._reader, self._target)
        except Exception as error:  # anybody may register anything under this name; it ends here, as dead letters
            return _Writer(schema_id, header, (Reason.INCOMPATIBLE_SCHEMA, f"schema {schema_id}: {error}"))
        symbols = {
            field: extra
            for field, has in avro.enum_symbols(schema).items()
            if (extra := has - self._symbols.get(field, has))
        }
        return _Writer(
            schema_id=schema_id,
            header=header,
            columns=columns,
            framed=_framed(text, with_end=True) if avro.columnar(schema) else None,
            schema=schema,
            parsed=fastavro.parse_schema(avro.without_logical_types(schema)),
            extra_symbols=symbols,
        )


def _whole(writer: _Writer, frames: Sequence[bytes]) -> Bools:
    """Return which frames look whole; all of them if that cannot be told."""
    lengths = np.fromiter(map(len, frames), dtype=np.int64, count=len(frames))
    ends = np.cumsum(lengths)
    try:
        return structure.whole(writer.schema, b"".join(frames), ends - lengths + HEADER_BYTES, ends)
    except structure.NoVerdictError:
        return np.ones(len(frames), dtype=np.bool_)


def _not_utf8(strings: pa.StringArray) -> Int64s:
    """Return the rows whose bytes are no UTF-8; a column of ASCII is known to have none at a tenth of the price."""
    if string_bytes(strings).max(initial=0) <= _LAST_OF_ASCII:
        return np.empty(0, dtype=np.int64)
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        texts = strings.view(pa.binary()).to_pylist()
        return np.array([row for row, text in enumerate(texts) if text and not _is_utf8(text)], dtype=np.int64)
    return np.empty(0, dtype=np.int64)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _framed(schema: str, *, with_end: bool) -> str:
    fields: list[dict[str, Any]] = [
        {"name": "magic", "type": "boolean"},
        {"name": "id", "type": "float"},
        {"name": "value", "type": json.loads(schema)},
    ]
    if with_end:
        fields.append({"name": "end", "type": "double"})
    return json.dumps({"type": "record", "name": "Frame", "fields": fields})


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)
