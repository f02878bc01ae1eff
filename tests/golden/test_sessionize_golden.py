"""What sessionize makes of short logs, where max_events is 4 and max_duration an hour.

`tick.json`, if it is there, is what the clock says after the log.
"""

import json
from typing import TYPE_CHECKING

from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Assigned, Decoded, Outcome, Partition, Replayed, Tick
from millrace_common.testing import avro_datum, polled
from millrace_schemas import schema_text
from millrace_sessionize.processor import Destination, SessionProcessor
from millrace_sessionize.rules import SessionRules

if TYPE_CHECKING:
    from tests.golden.conftest import GoldenCase

SERVICE = "sessionize"
TOPIC = "user-events.enriched"


def test_sessionize_golden(golden_case: "GoldenCase") -> None:
    decoder = Decoder(golden_case.schemas, schema_text(TOPIC), max_value_bytes=262_144, wait=lambda seconds: None)
    sessions, updates, late_events = (
        Destination(topic, Encoder(schema_text(topic), 1))
        for topic in ("session-metrics", "session-updates", "late-events")
    )
    processor = SessionProcessor(
        rules=SessionRules(max_duration_ms=3_600_000, max_events=4),
        sessions=sessions,
        updates=updates,
        late_events=late_events,
        idle_timeout_ms=60_000,
        update_interval_ms=0,
    )
    here = Partition(TOPIC, 0)
    run = polled(TOPIC, [record for _, record in golden_case.records()])
    items: list[Assigned | Replayed | Tick | Decoded] = [
        Assigned(here, 1, None),
        Replayed(here, 1, 0, None),
        decoder.decode(run),
    ]
    clock = golden_case.folder / "tick.json"
    ticks = [Tick(here, 1, len(run.records), **json.loads(clock.read_text()))] if clock.exists() else []
    outcomes = [out for item in [*items, *ticks] for out in processor.step(item) if isinstance(out, Outcome)]
    assert all(outcome.counts.balanced for outcome in outcomes)
    golden_case.check(
        expected=[
            {"topic": output.topic, "key": (key or b"").decode(), "datum": avro_datum(schema_text(output.topic), value)}
            for outcome in outcomes
            for output in outcome.outputs
            for key, value in zip(output.keys, output.values, strict=True)
            if value is not None
        ],
        rejected=[
            {"line": reject.row, "stage": reject.stage, "reason": reject.reason, "detail": reject.detail}
            for outcome in outcomes
            for reject in outcome.rejects
        ],
    )
