"""What enrich makes of each kind of event."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Outcome
from millrace_common.testing import avro_datum, polled
from millrace_enrich.enricher import Enricher
from millrace_enrich.processor import EnrichProcessor
from millrace_enrich.products import ProductTable
from millrace_schemas import schema_text

if TYPE_CHECKING:
    from tests.golden.conftest import GoldenCase

SERVICE = "enrich"
TOPIC = "user-events.valid"
SUBJECT = "user-events.enriched"


def test_enrich_golden(golden_case: "GoldenCase") -> None:
    decoder = Decoder(
        golden_case.schemas, schema_text("user-events"), max_value_bytes=262_144, wait=lambda seconds: None
    )
    encoder = Encoder(schema_text(SUBJECT), 1)
    processor = EnrichProcessor(SUBJECT, decoder, Enricher(encoder.schema, products(golden_case.folder)), encoder)
    records = [record for _, record in golden_case.records()]
    outcome = processor.encode(processor.enrich(processor.decode(polled(TOPIC, records))))
    assert isinstance(outcome, Outcome)
    assert outcome.counts.balanced
    rejected = [{"line": r.row, "stage": r.stage, "reason": r.reason, "detail": r.detail} for r in outcome.rejects]
    expected = [
        {"topic": output.topic, "key": (key or b"").decode(), "datum": avro_datum(schema, value)}
        for schema in [schema_text(SUBJECT)]
        for output in outcome.outputs
        for key, value in zip(output.keys, output.values, strict=True)
        if value is not None
    ]
    golden_case.check(expected=expected, rejected=rejected)


def products(folder: Path) -> ProductTable:
    """Return the catalogue all cases share."""
    table = ProductTable()
    rows = json.loads((folder.parent / "products.json").read_text())
    table.upsert(pa.RecordBatch.from_pylist(rows))
    return table
