"""The steps of ingest together: nothing lost, nothing invented, the same whatever the batches and the restarts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import pytest
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.codec import Decoder
from millrace_common.records import Assigned, Outcome, Partition, Polled, Replayed, SinkItem, SourceItem, Tick
from millrace_common.testing import InMemorySchemas, Record, avro_value, polled, with_offsets
from millrace_ingest import events, orders
from millrace_ingest.checks import Limits
from millrace_ingest.flow import build_flow
from millrace_ingest.processor import IngestProcessor, Stream
from millrace_schemas import schema_text

EVENTS: Final = schema_text("user-events")
ORDERS: Final = schema_text("transactions")
SCHEMAS: Final = InMemorySchemas({1: EVENTS, 2: ORDERS})
WINDOW: Final = timedelta(seconds=10)
T0_MS: Final = 1_760_000_000_000
PARTITION: Final = Partition("user-events", 0)


def decoder(schema: str) -> Decoder:
    return Decoder(SCHEMAS, schema, max_value_bytes=262_144, wait=lambda seconds: None)


def new_processor(window: timedelta = WINDOW) -> IngestProcessor:
    streams = (
        Stream("user-events", "user-events.valid", decoder(EVENTS), events.RULES, events.identify),
        Stream("transactions", "transactions.valid", decoder(ORDERS), orders.RULES, orders.identify),
    )
    return IngestProcessor({stream.topic: stream for stream in streams}, Limits(300_000, 0, 1_000), window)


def event(event_id: str = "e-1", **changes: Any) -> dict[str, Any]:
    return {
        "eventId": event_id,
        "userId": None,
        "sessionId": "s-1",
        "eventType": "click",
        "timestamp": T0_MS,
        "properties": {},
        "context": {"userAgent": "", "ip": "10.0.0.1", "platform": "web", "referrer": None},
    } | changes


def order(**changes: Any) -> dict[str, Any]:
    return {
        "transactionId": "t-1",
        "userId": "u-1",
        "orderItems": [{"productId": "p-1", "quantity": 3, "price": 0.1, "category": ""}],
        "totalAmount": 0.3,
        "currency": "EUR",
        "paymentMethod": "card",
        "status": "paid",
        "timestamp": T0_MS,
    } | changes


def event_record(event_id: str, after_ms: int = 0, **changes: Any) -> Record:
    return Record(avro_value(EVENTS, 1, event(event_id, **changes)), b"s-1", 0, T0_MS + after_ms)


def step(processor: IngestProcessor, item: SourceItem) -> SinkItem:
    return processor.drop_duplicates(processor.validate(processor.decode(item)))


def outcome(processor: IngestProcessor, run: Polled) -> Outcome:
    result = step(processor, run)
    assert isinstance(result, Outcome)
    return result


def order_reasons(*data: dict[str, Any]) -> list[str]:
    processor = new_processor()
    step(processor, Assigned(Partition("transactions", 0), 1, None))
    records = with_offsets(Record(avro_value(ORDERS, 2, datum), b"t-1", 0, T0_MS) for datum in data)
    return [reject.reason for reject in outcome(processor, polled("transactions", records)).rejects]


good = st.builds(event_record, st.sampled_from("abcdef"), st.integers(0, 30_000))
invalid = st.builds(
    lambda event_id, after_ms: event_record(event_id, after_ms, sessionId=""),
    st.sampled_from("abcdef"),
    st.integers(0, 30_000),
)
garbage = st.builds(lambda data, after_ms: Record(data, None, 0, T0_MS + after_ms), st.binary(), st.integers(0, 30_000))
logs = st.lists(st.one_of(good, good, good, invalid, garbage), max_size=40).map(with_offsets)


def process(
    processor: IngestProcessor, log: Sequence[Record], borders: Sequence[int], *, muted: bool = False
) -> list[tuple[str, int, object]]:
    """Return what came of each record of `log`, by offset, in batches cut at `borders`."""
    start = log[0].offset() if log else 0
    edges = sorted({0, len(log), *(border - start for border in borders if start <= border <= start + len(log))})
    seen: list[tuple[str, int, object]] = []
    for first, end in pairwise(edges):
        run = polled("user-events", log[first:end], muted=muted)
        result = outcome(processor, run)
        if muted:
            assert not result.outputs
            assert not result.rejects
            continue
        assert result.counts.balanced
        assert result.counts.read == end - first
        offset_of = {id(record.value()): record.offset() for record in run.records}
        seen += [("dead", run.records[r.row].offset(), (r.stage, r.reason)) for r in result.rejects]
        for output in result.outputs:
            rows = zip(output.values, output.keys, strict=True)
            seen += [("forwarded", offset_of[id(value)], key) for value, key in rows]
    return sorted(seen, key=lambda entry: entry[1])


def fresh() -> IngestProcessor:
    processor = new_processor()
    step(processor, Assigned(PARTITION, 1, None))
    return processor


@given(logs, st.lists(st.integers(0, 40)))
def test_batch_borders_change_nothing(log: list[Record], borders: list[int]) -> None:
    assert process(fresh(), log, borders) == process(fresh(), log, [])


@given(logs, st.integers(0, 40), st.integers(0, 40))
def test_snapshot_and_muted_replay_equal_never_having_stopped(
    log: list[Record], snapshot_at: int, crash_at: int
) -> None:
    snapshot_at, crash_at = sorted(min(at, len(log)) for at in (snapshot_at, crash_at))
    whole = process(fresh(), log, [])
    before = fresh()
    run = polled("user-events", log[:snapshot_at])
    state = outcome(before, replace(run, span=replace(run.span, snapshot_due=True))).state
    assert state is not None
    after = new_processor()
    step(after, Assigned(PARTITION, 2, state))
    process(after, log[snapshot_at:crash_at], [], muted=True)
    assert process(after, log[crash_at:], []) == [entry for entry in whole if entry[1] >= crash_at]


@given(logs)
def test_forwarded_records_are_the_originals(log: list[Record]) -> None:
    result = outcome(fresh(), polled("user-events", log))
    originals = {(record.value(), record.key()) for record in log}
    for output in result.outputs:
        assert output.topic == "user-events.valid"
        assert set(zip(output.values, output.keys, strict=True)) <= originals


def test_a_refused_record_does_not_mark_its_id_as_seen() -> None:
    log = with_offsets([event_record("a", sessionId=""), event_record("a"), event_record("a")])
    counts = outcome(fresh(), polled("user-events", log)).counts
    assert (counts.dead, counts.forwarded, counts.duplicate) == (1, 1, 1)


def test_partitions_remember_separately() -> None:
    processor = fresh()
    step(processor, Assigned(Partition("user-events", 1), 1, None))
    log = [event_record("a")]
    assert outcome(processor, polled("user-events", log)).counts.forwarded == 1
    assert outcome(processor, polled("user-events", log, partition=1)).counts.forwarded == 1


def test_a_new_assignment_forgets() -> None:
    processor = fresh()
    log = [event_record("a")]
    assert outcome(processor, polled("user-events", log)).counts.forwarded == 1
    step(processor, Assigned(PARTITION, 2, None))
    assert outcome(processor, polled("user-events", log)).counts.forwarded == 1


def test_what_is_no_run_passes_through() -> None:
    processor = new_processor()
    items: list[SourceItem] = [
        Assigned(PARTITION, 1, None),
        Replayed(PARTITION, 1, 0, None),
        Tick(PARTITION, 1, 0, T0_MS, 0),
    ]
    assert [step(processor, item) for item in items] == items


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -0.01])
def test_a_price_must_be_a_finite_number_from_zero_up(price: float) -> None:
    items = [{"productId": "p-1", "quantity": 1, "price": price, "category": ""}]
    assert order_reasons(order(orderItems=items, totalAmount=price)) == ["negative_price"]


@pytest.mark.parametrize("total", [float("nan"), float("inf"), 0.3101, 0.2899])
def test_a_total_off_by_more_than_a_cent_is_refused(total: float) -> None:
    assert order_reasons(order(totalAmount=total)) == ["total_mismatch"]


@pytest.mark.parametrize("total", [0.3, 0.31, 0.29, 0.30000000000000004])
def test_a_total_off_by_a_cent_passes(total: float) -> None:
    assert order_reasons(order(totalAmount=total)) == []


def test_orders_around_one_without_items_keep_their_own_items() -> None:
    bad = {"productId": "p-2", "quantity": 0, "price": 1.0, "category": ""}
    data = [
        order(transactionId="1"),
        order(transactionId="2", orderItems=[]),
        order(transactionId="3", orderItems=[bad]),
    ]
    assert order_reasons(*data) == ["no_items", "invalid_quantity"]


def test_the_flow_emits_one_outcome_for_each_run_in_order() -> None:
    out: list[SinkItem] = []
    runs: list[SourceItem] = [Assigned(PARTITION, 1, None)]
    runs += [polled("user-events", [event_record(name)]) for name in ("a", "b", "a")]
    runs.append(Tick(PARTITION, 1, 3, T0_MS, 0))
    run_main(build_flow(TestingSource(runs), TestingSink(out), new_processor()))  # type: ignore[no-untyped-call]
    assert [type(item) for item in out] == [Assigned, Outcome, Outcome, Outcome, Tick]
    assert [item.counts.forwarded for item in out if isinstance(item, Outcome)] == [1, 1, 0]


def test_step_ids_stay_as_they_are() -> None:
    flow = build_flow(TestingSource([]), TestingSink([]), new_processor())
    names = [step.step_id.removeprefix("millrace_ingest.") for step in flow.substeps]
    assert names == ["read_records", "decode_records", "validate_records", "drop_duplicates", "commit_outcomes"]
