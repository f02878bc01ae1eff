"""Reading what a run has written, and asking the oracle about it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from filling import Log
from jobs import PARTITIONS, Job
from millrace_common.codec import Decoder
from millrace_common.records import Partition, Polled, Span
from millrace_common.registry import SchemaRegistry
from millrace_local.reading import Library, runs
from millrace_local.stack import Stack
from millrace_schemas import schema_text
from oracle import Check, EventCheck, Expected, SessionCheck, Verdict
from running import Run
from systems import System

_LARGEST_BYTES: Final = 16_777_216
_COLUMNS: Final = ("event_id", "event_type", "product_brand", "product_category")


def check(stack: Stack, job: Job, system: System, done: Run, log: Log, wanted: Expected) -> Verdict:
    """Read all that `done` has written, as a read_committed reader does, and return what is wrong with it."""
    checker: Check = EventCheck(wanted)
    if job.outputs_are == "sessions":
        checker = SessionCheck(wanted, log.epoch_ms, system.closing)
    if job.name == "lake":
        for part in _table_parts(Path(done.output)):
            checker.take(part)
    else:
        text = schema_text(job.output_subject) if system.writes_product_schema else job.peer_schema_text()
        for columns, unreadable in _topic_parts(stack, done.output, text):
            checker.take(columns)
            checker.unreadable(unreadable)
    return checker.verdict(done.committed)


def _topic_parts(stack: Stack, topic: str, text: str) -> Iterator[tuple[Mapping[str, pa.Array], int]]:
    registry = SchemaRegistry({"url": stack.registry_url})
    decoder = Decoder(registry, text, max_value_bytes=_LARGEST_BYTES, wait=lambda _: None)
    library = Library(stack.bootstrap_servers, stack.registry_url, stack.lake)
    for place, messages in runs(library, [Partition(topic, index) for index in range(PARTITIONS)]):
        found = decoder.decode(Polled(Span(place, 0, 0, 0), messages))
        columns = dict(zip(found.columns.schema.names, found.columns.columns, strict=True))
        if "eventId" in columns:
            columns = {"event_id": columns["eventId"], "event_type": columns["eventType"]}
        yield columns, len(found.rejects)


def _table_parts(table: Path) -> Iterator[Mapping[str, pa.Array]]:
    """Yield a table file by file: the whole of it would be large."""
    for uri in DeltaTable(str(table)).file_uris():
        rows = pl.read_parquet(uri, columns=list(_COLUMNS))
        yield {name: rows.get_column(name).to_arrow().cast(pa.string()) for name in _COLUMNS}
