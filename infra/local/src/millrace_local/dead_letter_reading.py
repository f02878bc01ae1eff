"""Reading dead letters, and what is in them: their fields, and whether the lake has a record of the same id."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl
import pyarrow as pa
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from millrace_common.codec import Decoder
from millrace_common.records import Partition, Polled, Span
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_local.dead_letters import Letter
from millrace_local.errors import LocalStackError
from millrace_local.reading import Library, decoded, decoder
from millrace_schemas import in_lane

TOPIC: Final = "dead-letters"

_DAY_MS: Final = 86_400_000
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Subject:
    """What makes two records of a topic the same, and where the lake has them.

    Attributes:
        name: the Avro subject of the values.
        identity: its columns that tell records apart, an id first.
        day_of: its column whose UTC day the table is partitioned by.
        table: of the lake.
        table_identity: the table's columns of `identity`.
        day: the table's partition column.
    """

    name: str
    identity: tuple[str, ...]
    day_of: str
    table: str
    table_identity: tuple[str, ...]
    day: str = "event_date"


_EVENTS: Final = Subject("user-events", ("eventId",), "timestamp", "events", ("event_id",))
_ORDERS: Final = Subject(
    "transactions",
    ("transactionId", "status", "timestamp"),
    "timestamp",
    "transactions",
    ("transaction_id", "status", "occurred_at"),
)
_SUBJECTS: Final = {
    "user-events": _EVENTS,
    "user-events.valid": _EVENTS,
    "user-events.enriched": Subject("user-events.enriched", ("event_id",), "event_time", "events", ("event_id",)),
    "transactions": _ORDERS,
    "transactions.valid": _ORDERS,
    "late-events": Subject("late-events", ("event_id",), "event_time", "late_events", ("event_id",)),
    "session-metrics": Subject(
        "session-metrics", ("session_id", "revision"), "started_at", "sessions", ("session_id", "revision"),
        "session_date",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Raw:
    """The record in a letter, as a decoder wants it."""

    letter: Letter

    def key(self) -> bytes | None:
        return self.letter.key

    def value(self) -> bytes | None:
        return self.letter.value

    def offset(self) -> int:
        return self.letter.source_offset

    def timestamp(self) -> tuple[int, int]:
        return 0, self.letter.source_timestamp_ms


class Reader:
    """Reads dead letters, and the records in them."""

    def __init__(self, library: Library) -> None:
        """Connect nothing yet."""
        self.library = library
        self.registry = SchemaRegistry({"url": library.registry_url})
        self.topology = Topology(AdminClient({"bootstrap.servers": library.bootstrap_servers, "log_level": 0}))
        self.topic = in_lane(TOPIC, library.lane)
        self._decoders: dict[str, Decoder] = {}

    def partitions(self) -> list[Partition]:
        """Return the partitions of dead-letters.

        Raises:
            StartupError: there is no such topic.
        """
        return [
            Partition(self.topic, index) for index in range(self.topology.partition_counts([self.topic])[self.topic])
        ]

    def letters(self, partition: Partition) -> Iterator[Letter]:
        """Yield the letters of one partition that committed transactions hold, in order.

        Raises:
            KafkaException: it cannot be read.
            LocalStackError: there is something else in the topic, or the registry does not answer.
        """
        for run in decoded(self.library, self.registry, TOPIC, [partition]):
            for bad in run.rejects:
                message = f"{partition} offset {run.polled.records[bad.row].offset()} is no dead letter: {bad.detail}"
                raise LocalStackError(message)
            columns = _plain(run.columns).to_pylist()
            for row, fields in zip(run.rows.tolist(), columns, strict=True):
                yield _letter(partition, run.polled.records[row].offset(), fields)

    def contents(self, letters: Sequence[Letter]) -> list[dict[str, Any] | None]:
        """Return the fields of the record in each letter, times as epoch ms; None where it cannot be decoded.

        Raises:
            LocalStackError: the registry does not answer.
        """
        found: list[dict[str, Any] | None] = [None] * len(letters)
        for topic in {letter.source.topic for letter in letters}:
            subject = self._subject(topic)
            if subject is None:
                continue
            rows = [row for row, letter in enumerate(letters) if letter.source.topic == topic]
            raw = [_Raw(letters[row]) for row in rows]
            run = self._decoder(subject.name).decode(Polled(Span(Partition(topic, 0), 0, 0, 0), raw))
            for row, fields in zip(run.rows.tolist(), _plain(run.columns).to_pylist(), strict=True):
                found[rows[row]] = fields
        return found

    def in_lake(self, letters: Sequence[Letter]) -> list[bool]:
        """Return for each letter whether the lake has a record of the same id; False where it cannot be decoded.

        Raises:
            LocalStackError: the registry does not answer.
        """
        found = [False] * len(letters)
        records: dict[Subject, dict[int, Mapping[str, Any]]] = {}
        for row, (letter, fields) in enumerate(zip(letters, self.contents(letters), strict=True)):
            subject = self._subject(letter.source.topic)
            if subject is not None and fields is not None:
                records.setdefault(subject, {})[row] = fields
        for subject, mine in records.items():
            stored = self._stored(subject, list(mine.values()))
            for row, record in mine.items():
                found[row] = tuple(record[name] for name in subject.identity) in stored
        return found

    def _stored(self, subject: Subject, records: Sequence[Mapping[str, Any]]) -> set[tuple[object, ...]]:
        """Return the identities in the subject's table that records with the days and first ids of `records` have."""
        uri = str(self.library.lake / subject.table)
        if not DeltaTable.is_deltatable(uri):
            return set()
        days = list(_dates({record[subject.day_of] // _DAY_MS for record in records}))
        ids = sorted({record[subject.identity[0]] for record in records})
        columns = [pl.col(name) for name in subject.table_identity]
        found = (
            pl.scan_delta(uri)
            .filter(pl.col(subject.day).is_in(pl.Series(days, dtype=pl.Date).implode()))
            .filter(columns[0].is_in(pl.Series(ids, dtype=pl.String).implode()))
            .select(columns)
            .with_columns(pl.selectors.datetime().dt.epoch("ms"))
            .collect()
        )
        return set(found.iter_rows())

    def _subject(self, topic: str) -> Subject | None:
        return _SUBJECTS.get(topic.removesuffix(f".{self.library.lane}") if self.library.lane else topic)

    def _decoder(self, subject: str) -> Decoder:
        known = self._decoders.get(subject)
        if known is None:
            known = decoder(self.registry, subject)
            self._decoders[subject] = known
        return known


def _letter(place: Partition, offset: int, fields: Mapping[str, Any]) -> Letter:
    return Letter(
        place=place,
        offset=offset,
        service=fields["service"],
        stage=fields["stage"],
        reason=fields["reason"],
        detail=fields["detail"],
        source=Partition(fields["source_topic"], fields["source_partition"]),
        source_offset=fields["source_offset"],
        source_timestamp_ms=fields["source_timestamp"],
        key=fields["key"],
        value=fields["value"],
        occurred_at_ms=fields["occurred_at"],
    )


def _plain(columns: pa.RecordBatch) -> pa.RecordBatch:
    """Return `columns` with times as epoch ms: a producer can send one that Python has no date for."""
    return pa.record_batch(
        [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in columns.columns],
        names=columns.schema.names,
    )


def _dates(days: set[int]) -> Iterator[date]:
    """Yield the dates of days since 1970; what is no date is in no table."""
    for day in days:
        try:
            yield _EPOCH + timedelta(days=day)
        except OverflowError:
            continue
