"""CPU time a record of the steps of ingest and enrich, on random events in memory: one core, median of runs.

`python tests/bench/bench_steps.py`; what a whole service does beside Kafka is measured by `make bench`.
"""

import random
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

import pyarrow as pa

from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Assigned, Partition, Polled
from millrace_common.testing import InMemorySchemas, Record, avro_value, polled
from millrace_enrich.enricher import Enricher
from millrace_enrich.processor import EnrichProcessor
from millrace_enrich.products import ProductTable
from millrace_ingest import events
from millrace_ingest.checks import Limits
from millrace_ingest.processor import IngestProcessor, Stream
from millrace_schemas import schema_text

T = TypeVar("T")
R = TypeVar("R")

RECORDS: Final = 5_000
RUNS: Final = 40
T0_MS: Final = 1_760_000_000_000
SCHEMA: Final = schema_text("user-events")


def main() -> None:
    """Print microseconds a record, by step."""
    random.seed(1)
    runs = [polled("user-events", [record(n * RECORDS + row) for row in range(RECORDS)]) for n in range(RUNS)]
    ingest(runs)
    enrich(runs)


def ingest(runs: Sequence[Polled]) -> None:
    """Measure ingest from an empty memory on."""
    stream = Stream("user-events", "user-events.valid", new_decoder(), events.RULES, events.identify)
    processor = IngestProcessor({"user-events": stream}, Limits(300_000, 0, 1_000), timedelta(hours=1))
    processor.drop_duplicates(Assigned(Partition("user-events", 0), 1, None))
    decoded = timed("ingest: decode", processor.decode, runs)
    timed("ingest: decode, 1 % cut off", processor.decode, [with_cuts(run, 0.01) for run in runs])
    validated = timed("ingest: validate", processor.validate, decoded)
    timed("ingest: drop duplicates", processor.drop_duplicates, validated)


def enrich(runs: Sequence[Polled]) -> None:
    """Measure enrich with 30,000 products."""
    encoder = Encoder(schema_text("user-events.enriched"), 2)
    products = ProductTable()
    rows = [
        {"productId": str(n), "brand": "acme", "category": f"shelf.{n % 100}", "price": 33.2} for n in range(30_000)
    ]
    products.upsert(pa.RecordBatch.from_pylist(rows))
    processor = EnrichProcessor("user-events.enriched", new_decoder(), Enricher(encoder.schema, products), encoder)
    decoded = timed("enrich: decode", processor.decode, runs)
    enriched = timed("enrich: enrich", processor.enrich, decoded)
    timed("enrich: encode", processor.encode, enriched)


def with_cuts(run: Polled, share: float) -> Polled:
    """Return `run` with half a record in place of `share` of its records."""
    records = list(run.records)
    for row in range(0, len(records), round(1 / share)):
        value = records[row].value() or b""
        records[row] = Record(value[: len(value) // 2], b"key", row, T0_MS)
    return Polled(run.span, records)


def new_decoder() -> Decoder:
    """Return a decoder of user-events."""
    return Decoder(InMemorySchemas({1: SCHEMA}), SCHEMA, max_value_bytes=262_144, wait=time.sleep)


def timed(name: str, step: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Run `step` over `items` and print the median run."""
    results, seconds = [], []
    for item in items:
        begin = time.process_time()
        results.append(step(item))
        seconds.append(time.process_time() - begin)
    median = sorted(seconds)[len(seconds) // 2]
    sys.stdout.write(f"{name:28s} {median / RECORDS * 1e6:.3f} µs a record\n")
    return results


def record(number: int) -> Record:
    """Return a random event of a shop with 30,000 products."""
    kind = random.choices(["page_view", "add_to_cart", "purchase"], [90, 7, 3])[0]
    product = str(int(random.paretovariate(0.5)) % 30_000)
    properties = {"productId": product, "brand": "acme", "price": "33.20", "page": f"/product/{product}"}
    if kind == "purchase":
        properties["amount"] = "33.20"
    datum: dict[str, Any] = {
        "eventId": str(uuid.UUID(int=random.getrandbits(128))),
        "userId": str(random.randrange(10**9)),
        "sessionId": str(uuid.UUID(int=random.getrandbits(128))),
        "eventType": kind,
        "timestamp": T0_MS,
        "properties": properties,
        "context": {
            "userAgent": f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{random.randrange(100, 140)}.0.0.0",
            "ip": f"81.2.{random.randrange(8)}.{random.randrange(256)}",
            "platform": "web",
            "referrer": None,
        },
    }
    return Record(avro_value(SCHEMA, 1, datum), b"key", number, T0_MS + number)


if __name__ == "__main__":
    main()
