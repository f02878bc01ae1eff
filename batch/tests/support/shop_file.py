"""A REES46 file as the tables that the stream makes of it: the same code without the brokers between."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from millrace_common.codec import Decoder
from millrace_common.testing import InMemorySchemas, Record, polled
from millrace_enrich.enricher import Enricher
from millrace_enrich.products import ProductTable
from millrace_generator import traffic
from millrace_generator.replay import replay_plan
from millrace_lake.tables import tables
from millrace_schemas import SUBJECTS, schema_text
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.testing import enriched_schema
from session_logs import Row, Streamed, stream

_IDS = {subject: number for number, subject in enumerate(SUBJECTS, start=1)}


@dataclass(frozen=True)
class ShopFile:
    """What the stream makes of a file.

    Attributes:
        events: rows of table events.
        transactions: rows of table transactions.
        streamed: sessions and late events.
    """

    events: list[Row]
    transactions: list[Row]
    streamed: Streamed


def shop_file(path: Path) -> ShopFile:
    """Return the file at `path` through the generator, enrich, sessionize's reference and lake's conversion."""
    plan = replay_plan(path)
    products = ProductTable()
    products.upsert(_decoded("products", list(plan.upserts(_IDS))))
    records = [record for record in plan.records(_IDS) if record.good]
    sent = _decoded("user-events", [record for record in records if record.topic == traffic.EVENTS])
    received_ms = sent.column("timestamp").to_numpy(zero_copy_only=False).astype("int64")
    enriched = Enricher(enriched_schema(), products).enrich(sent, received_ms)
    orders = _decoded("transactions", [record for record in records if record.topic != traffic.EVENTS])
    return ShopFile(
        events=_rows("events", enriched),
        transactions=_rows("transactions", orders),
        streamed=stream(enriched.to_pylist(), SessionRules(), partitions=4),
    )


def _decoded(subject: str, records: list[traffic.Record]) -> pa.RecordBatch:
    schemas = InMemorySchemas({number: schema_text(name) for name, number in _IDS.items()})
    decoder = Decoder(schemas, schema_text(subject), max_value_bytes=262_144, wait=lambda seconds: None)
    run = [Record(one.value, one.key, number, one.at_ms) for number, one in enumerate(records)]
    return decoder.decode(polled(subject, run)).columns


def _rows(table: str, columns: pa.RecordBatch) -> list[Row]:
    spec = tables([table])[0]
    return list(spec.convert(columns, spec.schema).to_pylist())
