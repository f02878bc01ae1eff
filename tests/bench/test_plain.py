"""The yardstick does its jobs right: what it makes of a log stands before the oracle. Under three seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import oracle
import plain_enrich
import plain_ingest
import plain_lake
import plain_loop
import plain_session
from filling import is_bad, log_rows
from jobs import JOBS, Job
from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Partition, Polled, Span
from millrace_common.testing import InMemorySchemas, Record
from millrace_schemas import schema_text
from oracle import Expected
from shop_log import Events, events
from shop_records import Columns, catalogue, session_ids
from systems import Assignment

EPOCH_MS = 1_790_000_000_000
COUNT = 20_000
OPEN = 3_000


@dataclass(frozen=True, slots=True)
class Message(Record):
    """A consumed record that knows its partition."""

    stored_partition: int = 0

    def partition(self) -> int:
        return self.stored_partition


@pytest.fixture(scope="module")
def drawn() -> Events:
    runs = list(events(7, COUNT, OPEN))
    return oracle.joined(runs)


def expected_of(drawn: Events, *, with_faults: bool) -> Expected:
    rows = log_rows(0, len(drawn), with_faults=with_faults)
    return oracle.of_events(drawn, rows.number, rows.number[rows.good])


def outputs(
    module: ModuleType, job: Job, wanted: Expected, monkeypatch: pytest.MonkeyPatch
) -> tuple[Mapping[str, pa.Array], int]:
    """Let `module` do `job` on the whole log; return what it wrote, as columns, and how many records it read."""
    tell(job, monkeypatch)
    log, emitted = messages(job, wanted), []

    def run(process: plain_loop.Process) -> None:
        for message in log:
            process(message, lambda key, value: emitted.append((key, value)))

    monkeypatch.setattr(module, "run", run)
    module.main()
    text = job.peer_schema_text()
    decoder = Decoder(InMemorySchemas({9: text}), text, max_value_bytes=10**6, wait=lambda _: None)
    values = [Record(value, key) for key, value in emitted]
    decoded = decoder.decode(Polled(Span(Partition("out", 0), 0, 0, 0), values))
    assert not decoded.rejects
    return dict(zip(decoded.columns.schema.names, decoded.columns.columns, strict=True)), len(log)


def tell(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Assignment(job, "", "", "out", 9, "group", Path("state"), Path("cache"))
    for name, value in work.environment().items():
        monkeypatch.setenv(name, value)


def messages(job: Job, wanted: Expected) -> list[Message]:
    columns, size = Columns(), len(wanted.events)
    rows = log_rows(0, size, with_faults=job.with_faults)
    batch = (
        columns.raw(wanted.events, 0, EPOCH_MS, is_bad(rows, 0, size))
        if job.shape == "raw"
        else columns.enriched(wanted.events, 0, EPOCH_MS)
    )
    values = list(Encoder(schema_text(job.input_subject), 9).encode(batch))
    keys = [key.encode() for key in session_ids(wanted.events.visit).to_pylist()]
    appended_ms = EPOCH_MS + 86_400_000
    return [
        Message(values[number], keys[number], 0, appended_ms, int(wanted.partition[number]))
        for number in rows.number.tolist()
    ]


def ends(wanted: Expected) -> tuple[int, ...]:
    return tuple(len(rows) for rows in wanted.rows)


def test_ingest_lets_through_what_is_good_and_once(drawn: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = expected_of(drawn, with_faults=True)
    columns, read = outputs(plain_ingest, JOBS["ingest"], wanted, monkeypatch)
    check = oracle.EventCheck(wanted)
    check.take({"event_id": columns["eventId"], "event_type": columns["eventType"]})
    verdict = check.verdict(ends(wanted))
    assert (verdict.problem, verdict.outputs, read) == ("", COUNT - 2, COUNT + 20)


GOOD: dict[str, Any] = {
    "eventId": "e",
    "userId": None,
    "sessionId": "s",
    "eventType": "purchase",
    "timestamp": EPOCH_MS,
    "properties": {"amount": "12.50"},
    "context": {"userAgent": "a", "ip": "::1", "platform": "web", "referrer": None},
}


@pytest.mark.parametrize(
    "change",
    [
        {"eventId": ""},
        {"userId": ""},
        {"sessionId": ""},
        {"properties": {"amount": "12.505"}},
        {"properties": {}},
        {"properties": {"amount": "1", "page": "\0"}},
        {"properties": {"amount": "1"} | {f"p{n}": "" for n in range(1_000)}},
        {"timestamp": EPOCH_MS + 300_001},
        {"timestamp": EPOCH_MS - 8 * 86_400_000},
        {"context": {**GOOD["context"], "ip": "1.2.3"}},
    ],
)
def test_ingest_keeps_each_rule_of_the_product(change: dict[str, Any]) -> None:
    assert plain_ingest.is_valid(GOOD, EPOCH_MS)
    assert not plain_ingest.is_valid({**GOOD, **change}, EPOCH_MS)


def test_enrich_joins_products_and_sorts_devices(drawn: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, products = expected_of(drawn, with_faults=False), catalogue()
    facts = zip(
        products.brands.to_pylist(), products.categories.to_pylist(), products.prices_cents.tolist(), strict=True
    )
    known = dict(zip(products.ids.to_pylist(), facts, strict=True))
    monkeypatch.setattr(plain_enrich, "read_products", lambda: known)
    columns, _ = outputs(plain_enrich, JOBS["enrich"], wanted, monkeypatch)
    check = oracle.EventCheck(wanted)
    check.take(columns)
    assert check.verdict(ends(wanted)).problem == ""
    ours = Columns().enriched(wanted.events, 0, EPOCH_MS)
    for name in ("device_type", "user_id", "product_id", "product_price_cents", "client_session_id"):
        assert columns[name].equals(ours.column(name)), name


def test_sessions_are_those_of_the_oracle(drawn: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = expected_of(drawn, with_faults=False)
    columns, _ = outputs(plain_session, JOBS["session"], wanted, monkeypatch)
    check = oracle.SessionCheck(wanted, EPOCH_MS)
    check.take(columns)
    verdict = check.verdict(ends(wanted))
    assert verdict.problem == ""
    assert verdict.outputs > 500


def test_rows_of_the_lake_have_the_columns_types(drawn: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(JOBS["lake"], monkeypatch)
    wanted = expected_of(drawn.take(np.arange(100)), with_faults=False)
    reads = plain_loop.parsed("BENCH_INPUT_SCHEMA")
    rows = [
        plain_lake.row_of(plain_loop.decode(reads, message.value() or b""))
        for message in messages(JOBS["lake"], wanted)
    ]
    table = pa.Table.from_pylist(rows, schema=plain_lake.schema_of(reads))
    ours = Columns().enriched(wanted.events, 0, EPOCH_MS)
    assert table.column_names == ours.schema.names
    for name in ("event_id", "event_date", "product_price_cents", "is_bot", "properties"):
        assert table.column(name).to_pylist() == ours.column(name).to_pylist(), name
    times = table.column("event_time").combine_chunks().cast(pa.timestamp("ms", "UTC")).view(pa.int64())
    assert times.equals(ours.column("event_time").view(pa.int64()))
