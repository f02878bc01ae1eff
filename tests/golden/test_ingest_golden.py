"""What ingest makes of each kind of good, bad and repeated record."""

from datetime import timedelta
from typing import TYPE_CHECKING

from millrace_common.codec import Decoder
from millrace_common.records import Assigned, Outcome, Partition
from millrace_common.testing import polled
from millrace_ingest import events, orders
from millrace_ingest.checks import Limits
from millrace_ingest.processor import IngestProcessor, Stream
from millrace_schemas import schema_text

if TYPE_CHECKING:
    from tests.golden.conftest import GoldenCase

SERVICE = "ingest"


def test_ingest_golden(golden_case: "GoldenCase") -> None:
    processor = processor_for(golden_case)
    expected, rejected, duplicates = [], [], 0
    for topic in ("user-events", "transactions"):
        records = [record for name, record in golden_case.records() if name == topic]
        processor.drop_duplicates(Assigned(Partition(topic, 0), 1, None))
        outcome = processor.drop_duplicates(processor.validate(processor.decode(polled(topic, records))))
        assert isinstance(outcome, Outcome)
        assert outcome.counts.balanced
        duplicates += outcome.counts.duplicate
        rejected += [
            {"line": records[r.row].offset(), "stage": r.stage, "reason": r.reason, "detail": r.detail}
            for r in outcome.rejects
        ]
        line_of = {record.value(): record.offset() for record in reversed(records)}
        for output in outcome.outputs:
            expected += [
                {"topic": output.topic, "line": line_of[value], "key": (key or b"").decode()}
                for key, value in zip(output.keys, output.values, strict=True)
            ]
    assert len(expected) + len(rejected) + duplicates == len(golden_case.lines)
    golden_case.check(expected=expected, rejected=sorted(rejected, key=lambda line: int(line["line"])))


def processor_for(golden_case: "GoldenCase") -> IngestProcessor:
    def stream(topic: str, subject: str, module: object) -> Stream:
        decoder = Decoder(golden_case.schemas, schema_text(subject), max_value_bytes=262_144, wait=lambda seconds: None)
        return Stream(topic, f"{topic}.valid", decoder, module.RULES, module.identify)  # type: ignore[attr-defined]

    return IngestProcessor(
        streams={
            "user-events": stream("user-events", "user-events", events),
            "transactions": stream("transactions", "transactions", orders),
        },
        limits=Limits(max_ahead_ms=300_000, max_age_ms=7 * 86_400_000, max_properties=1_000),
        dedup_window=timedelta(hours=1),
    )
