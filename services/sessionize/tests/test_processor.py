"""What each kind of item brings about."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bytewax.testing import TestingSink, TestingSource, run_main

from millrace_common.codec import Decoder, Encoder
from millrace_common.records import (
    Assigned,
    Counts,
    Decoded,
    Outcome,
    Partition,
    Polled,
    Replayed,
    SinkItem,
    Span,
    Tick,
)
from millrace_common.testing import InMemorySchemas, Record, avro_datum, avro_value
from millrace_schemas import schema_text
from millrace_sessionize.flow import build_flow
from millrace_sessionize.processor import Destination, SessionProcessor
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.shapes import MAX_TIME_MS
from millrace_sessionize.testing import batch, event

HERE = Partition("user-events.enriched", 2)
RULES = SessionRules(gap_ms=1_000, allowed_lateness_ms=100)
ENRICHED = schema_text("user-events.enriched")


def processor(*, idle_timeout_ms: int = 60_000, update_interval_ms: int = 10_000) -> SessionProcessor:
    sessions, updates, late = (
        Destination(topic, Encoder(schema_text(topic), 7))
        for topic in ("session-metrics", "session-updates", "late-events")
    )
    made = SessionProcessor(RULES, sessions, updates, late, idle_timeout_ms, update_interval_ms)
    made.step(Assigned(HERE, 1, None))
    made.step(Replayed(HERE, 1, 0, None))
    return made


def run_of(*rows: dict[str, Any], first: int = 0, generation: int = 1, **span: bool) -> Decoded:
    records = [Record(b"", stored_offset=first + i) for i in range(len(rows))]
    polled = Polled(Span(HERE, generation, first, first + len(rows), **span), records)
    return Decoded(polled, batch(rows), np.arange(len(rows), dtype=np.int64))


def tick(now_ms: int, *, idle_ms: int = 0, generation: int = 1) -> Tick:
    return Tick(HERE, generation, 5, now_ms, idle_ms)


def outcomes(items: list[SinkItem]) -> list[Outcome]:
    return [item for item in items if isinstance(item, Outcome)]


def produced(outcome: Outcome) -> list[tuple[str, str, dict[str, Any] | None]]:
    return [
        (output.topic, (key or b"").decode(), None if value is None else avro_datum(schema_text(output.topic), value))
        for output in outcome.outputs
        for key, value in zip(output.keys, output.values, strict=True)
    ]


def test_closed_session_goes_out_keyed_by_client_session_id() -> None:
    (outcome,) = outcomes(processor().step(run_of(event(0), event(5_000, client_session_id="b"))))
    ((topic, key, row),) = produced(outcome)
    assert (topic, key) == ("session-metrics", "a")
    assert row is not None
    assert (row["session_id"], row["ended_at"], row["closed_by"], row["revision"]) == ("a-0", 0, "gap", 1)
    assert outcome.counts == Counts(read=2, forwarded=2)
    assert outcome.watermark_ms == 4_900


def test_late_event_keeps_every_field_and_says_how_late_it_is() -> None:
    late = event(
        100, event_id="x", properties=[("page", "/p")], user_id="u", product_price_cents=5, client_session_id="c"
    )
    (outcome,) = outcomes(processor().step(run_of(event(5_000), late)))
    ((topic, key, row),) = produced(outcome)
    assert (topic, key) == ("late-events", "c")
    assert row is not None
    assert (row["watermark"], row["lateness_ms"]) == (4_900, 3_800)
    assert (row["event_id"], row["properties"], row["user_id"], row["product_price_cents"]) == (
        "x",
        {"page": "/p"},
        "u",
        5,
    )
    assert outcome.counts == Counts(read=2, forwarded=1, late=1)


def test_event_at_an_impossible_time_is_dead_and_moves_no_watermark() -> None:
    run = run_of(event(5), event(6), event(7))
    times = pa.array([5, MAX_TIME_MS + 1, 7]).cast(pa.timestamp("ms"))
    columns = run.columns.set_column(2, run.columns.schema.field(2), times)
    (outcome,) = outcomes(processor().step(Decoded(run.polled, columns, run.rows)))
    assert [(reject.row, reject.reason) for reject in outcome.rejects] == [(1, "event_time_out_of_range")]
    assert outcome.counts == Counts(read=3, forwarded=2, dead=1)
    assert outcome.watermark_ms == -93


def test_replay_brings_about_nothing() -> None:
    fresh = processor()
    fresh.step(Assigned(HERE, 2, None))
    run = run_of(event(0), event(5_000, client_session_id="b"), event(0), generation=2, muted=True)
    assert [outcome.outputs for outcome in outcomes(fresh.step(run))] == [()]
    fresh.step(Replayed(HERE, 2, 3, 4_900))
    (outcome,) = outcomes(fresh.step(run_of(event(9_000, client_session_id="c"), first=3, generation=2)))
    assert [key for topic, key, _ in produced(outcome) if topic == "session-metrics"] == ["b"]


def test_items_of_an_older_generation_bring_about_nothing() -> None:
    fresh = processor()
    fresh.step(Assigned(HERE, 2, None))
    assert fresh.step(run_of(event(0))) == []
    assert outcomes(fresh.step(tick(10**9, idle_ms=10**9))) == []


def test_snapshot_is_handed_out_when_due_and_restores() -> None:
    first, second = processor(), processor()
    (outcome,) = outcomes(first.step(run_of(event(0, page="/x"), snapshot_due=True)))
    assert outcome.state is not None
    second.step(Assigned(HERE, 2, outcome.state))
    second.step(Replayed(HERE, 2, 1, outcome.watermark_ms))
    (closing,) = outcomes(second.step(run_of(event(9_000, client_session_id="b"), first=1, generation=2)))
    assert [(topic, key) for topic, key, _ in produced(closing)] == [
        ("session-metrics", "a"),
        ("session-updates", "a-0"),  # it may have been published by who wrote the snapshot
    ]


def test_idle_partition_closes_what_is_over_in_a_sealed_outcome_with_a_snapshot() -> None:
    fresh = processor(update_interval_ms=0)
    fresh.step(run_of(event(0)))
    assert outcomes(fresh.step(tick(1_100, idle_ms=60_000))) == []  # would close nothing yet
    assert outcomes(fresh.step(tick(1_101, idle_ms=59_999))) == []  # not idle for long enough
    (outcome,) = outcomes(fresh.step(tick(61_101, idle_ms=60_000)))
    assert [key for _, key, _ in produced(outcome)] == ["a"]
    assert outcome.sealed
    assert outcome.state is not None
    assert (outcome.watermark_ms, outcome.span.first_offset, outcome.span.next_offset) == (61_001, 5, 5)


def test_idle_advance_can_be_switched_off() -> None:
    fresh = processor(idle_timeout_ms=0, update_interval_ms=0)
    fresh.step(run_of(event(0)))
    assert outcomes(fresh.step(tick(10**9, idle_ms=10**9))) == []


def test_open_sessions_are_published_once_an_interval_and_only_when_they_changed() -> None:
    fresh = processor()
    fresh.step(run_of(event(0)))
    published = [outcomes(fresh.step(tick(now))) for now in (100_000, 109_999, 110_000)]
    assert [len(found) for found in published] == [1, 0, 0]
    ((topic, key, row),) = produced(published[0][0])
    assert (topic, key) == ("session-updates", "a-0")
    assert row is not None
    assert row["event_count"] == 1
    fresh.step(run_of(event(1), first=1))
    assert len(outcomes(fresh.step(tick(120_000)))) == 1


def test_partitions_publish_one_after_another() -> None:
    fresh = processor()
    published = []
    for now in range(100_000, 125_000, 1_000):
        fresh.step(run_of(event(now), first=now))
        published += [now] * len(outcomes(fresh.step(tick(now))))
    # At once, then a phase of 0.236 intervals early, then each interval.
    assert HERE.phase == pytest.approx(0.236, abs=0.001)
    assert published == [100_000, 108_000, 118_000]


def test_renamed_session_gets_a_tombstone_with_the_event_that_renames_it() -> None:
    fresh = processor()
    fresh.step(run_of(event(500)))
    fresh.step(tick(100_000))
    (outcome,) = outcomes(fresh.step(run_of(event(400), first=1)))
    assert produced(outcome) == [("session-updates", "a-500", None)]


def test_nothing_is_published_when_updates_are_off() -> None:
    fresh = processor(update_interval_ms=0)
    fresh.step(run_of(event(0)))
    assert outcomes(fresh.step(tick(10**9))) == []


def test_flow_cuts_sessions_from_bytes_to_bytes_in_order() -> None:
    def value(at_ms: int, key: str) -> bytes:
        row = {**event(at_ms, client_session_id=key), "event_time": at_ms, "received_at": at_ms, "event_date": 0}
        return avro_value(ENRICHED, 3, {**row, "properties": {}})

    records = [
        Record(raw, b"k", i) for i, raw in enumerate([value(0, "a"), b"\0junk", value(5_000, "b"), value(0, "c")])
    ]
    source: list[Any] = [
        Assigned(HERE, 1, None),
        Replayed(HERE, 1, 0, None),
        Polled(Span(HERE, 1, 0, 4), records),
        tick(1_000_000, idle_ms=60_000),
    ]
    decoder = Decoder(InMemorySchemas({3: ENRICHED}), ENRICHED, max_value_bytes=10_000, wait=lambda seconds: None)
    out: list[SinkItem] = []
    fresh = processor(update_interval_ms=0)
    run_main(build_flow(TestingSource(source), TestingSink(out), decoder.decode, fresh))  # type: ignore[no-untyped-call]
    assert [type(item).__name__ for item in out] == ["Assigned", "Replayed", "Outcome", "Outcome", "Tick"]
    first, second = outcomes(out)
    assert first.counts == Counts(read=4, forwarded=2, dead=1, late=1)
    assert [(topic, key) for topic, key, _ in produced(first)] == [("session-metrics", "a"), ("late-events", "c")]
    assert [reject.row for reject in first.rejects] == [1]
    assert [(topic, key) for topic, key, _ in produced(second)] == [("session-metrics", "b")]
    assert second.sealed


def test_large_state_is_published_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_sessionize.processor.UPDATES_PER_OUTCOME", 2)
    fresh = processor()
    fresh.step(run_of(*(event(0, client_session_id=str(i)) for i in range(5))))
    assert [len(outcome.outputs[0].values) for outcome in outcomes(fresh.step(tick(100_000)))] == [2, 2, 1]
