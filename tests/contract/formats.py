"""What a release leaves for the next one, beside records: snapshots, commit metadata, ledger rows, Delta commits.

    python tests/contract/formats.py

writes it as this release does into `written/<number>/`, once before each release that changes any of it. What is there
never changes: a stack in the field holds it while processes of two releases run side by side.
"""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from millrace_common.codec import RowEncoder
from millrace_common.ledger import LedgerRow
from millrace_common.positions import metadata_text
from millrace_common.records import Counts, Partition
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_ingest.app import STATE_VERSION as INGEST_VERSION
from millrace_ingest.dedup import SeenIds
from millrace_ingest.fingerprints import fingerprints
from millrace_lake.ledger import row_app_id
from millrace_lake.tables import tables
from millrace_lake.writer import Store, TableWriter
from millrace_schemas import schema_text
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.snapshot import STATE_VERSION as SESSIONIZE_VERSION
from millrace_sessionize.state import OpenSessions
from millrace_sessionize.testing import batch, event

HERE: Final = Path(__file__).parent / "written"
FACTS: Final = "written.json"
TOPIC_ID: Final = "topic-id-of-22-letters"
OFFSET: Final = 100
START_MS: Final = 1_772_370_000_000
MINUTE_MS: Final = 60_000
WINDOW_MS: Final = 60 * MINUTE_MS
LEDGER_SCHEMA_ID: Final = 9
EVENTS: Final = Partition("user-events", 3)
ENRICHED: Final = Partition("user-events.enriched", 3)
LATE: Final = Partition("late-events", 3)

IDS: Final = [f"event-{number}" for number in range(50)]
ROW: Final = LedgerRow(
    service="lake",
    instance="lake-0",
    partition=LATE,
    topic_id=TOPIC_ID,
    first_offset=0,
    next_offset=OFFSET,
    counts=Counts(read=90, forwarded=70, dead=10, duplicate=6, late=4),
    emitted={"dead-letters": 10, "late-events": 4},
    committed_at_ms=START_MS,
)
METADATA: Final[tuple[dict[str, Any], ...]] = (
    {"watermark_ms": None, "topic_id": TOPIC_ID, "brake": []},
    {"watermark_ms": 0, "topic_id": TOPIC_ID, "brake": [1_000, 3, 420, 0]},
    {"watermark_ms": START_MS, "topic_id": TOPIC_ID, "brake": []},
    {"watermark_ms": -5, "topic_id": TOPIC_ID, "brake": [10**9, 10**9] * 12},
)


def enriched_before() -> pa.RecordBatch:
    """Return what sessionize had read when its snapshot was taken: sessions of every kind, one nearly full."""
    rows = [
        event(START_MS, client_session_id="bounce", page="/", referrer="https://example.org/", country_code="DE"),
        event(START_MS + 1, client_session_id="müller", page="/a", user_id="u-1", product_id="p-1", is_bot=True),
        event(START_MS + 2, client_session_id="müller", event_type="purchase", amount_cents=1_999, product_id="p-2"),
        event(START_MS - 40 * MINUTE_MS, client_session_id="two", page="/old", device_type="mobile"),
        event(START_MS, client_session_id="two", page="/new", event_type="search"),
    ]
    rows += [
        event(START_MS + number, client_session_id="busy", event_type="click", page=f"/{number % 7}")
        for number in range(99)
    ]
    return batch(rows)


def enriched_after() -> pa.RecordBatch:
    """Return what it reads next: more of the same sessions, and time that ends some of them."""
    return batch(
        [
            event(START_MS + 5 * MINUTE_MS, client_session_id="busy", event_type="add_to_cart", product_id="p-1"),
            event(START_MS + 5 * MINUTE_MS, client_session_id="busy", page="/cut"),
            event(START_MS + 6 * MINUTE_MS, client_session_id="müller", user_id="u-2", page="/a"),
            event(START_MS - 20 * MINUTE_MS, client_session_id="two", page="/between"),
            event(START_MS + 50 * MINUTE_MS, client_session_id="last"),
        ]
    )


RULES: Final = SessionRules(max_events=100)


def seen_ids() -> SeenIds:
    """Return what ingest remembers."""
    seen = SeenIds(WINDOW_MS)
    seen.add(fingerprints([pa.array(IDS)]), np.arange(len(IDS), dtype=np.int64) * 1_000 + START_MS)
    return seen


def open_sessions() -> OpenSessions:
    """Return what sessionize remembers."""
    state = OpenSessions(RULES)
    state.apply(enriched_before())
    return state


def table_store(folder: Path) -> Store:
    """Return the lake in `folder`."""
    return Store(str(folder), {}, retry_seconds=1.0, wait=lambda seconds: None)


def write(folder: Path) -> None:
    """Write everything into the new `folder`."""
    state = folder / "state"
    for service, number, partition, table in (
        ("ingest", INGEST_VERSION, EVENTS, seen_ids().snapshot()),
        ("sessionize", SESSIONIZE_VERSION, ENRICHED, open_sessions().snapshot()),
    ):
        SnapshotStore(str(state), service, number).write(Snapshot(partition, OFFSET, TOPIC_ID, START_MS, table))
    writer = TableWriter(tables(["late_events"])[0], table_store(folder / "lake"))
    writer.positions([row_app_id(ROW)])
    writer.append([], [ROW], START_MS)
    encoder = RowEncoder(schema_text("ledger"), LEDGER_SCHEMA_ID)
    facts: dict[str, Any] = {
        "release": version("millrace-common"),
        "state_versions": {"ingest": INGEST_VERSION, "sessionize": SESSIONIZE_VERSION},
        "commit_metadata": [{"text": metadata_text(**fields), **fields} for fields in METADATA],
        "ledger": {"schema": 1, "value_hex": encoder.encode(ROW.as_record()).hex(), "row": asdict(ROW)},
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Write the next number."""
    number = max((int(path.name) for path in HERE.iterdir()), default=0) + 1 if HERE.exists() else 1
    folder = HERE / str(number)
    folder.mkdir(parents=True)
    write(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
