from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from millrace_common.codec import Decoder
from millrace_common.records import Partition, Polled, Span
from millrace_generator.errors import InputError
from millrace_generator.faults import OUT_OF_ORDER_SHARE, Faults, with_faults
from millrace_generator.scenarios import window_plan
from millrace_generator.traffic import EVENTS, ORDERS, TOPICS, Event, FaultKind, Order, Plan, Record, SchemaIds
from millrace_schemas import schema_text

IDS = {topic: 101 + index for index, topic in enumerate(TOPICS)}
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
ALL = Faults(duplicates=0.05, malformed=0.04, invalid=0.06, late=0.02, out_of_order=timedelta(seconds=120), seed=3)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Three hours of a shop, made once and kept."""
    made = window_plan(START, START + timedelta(hours=3), 12_000)
    return replace(made, records=partial(_again, tuple(made.records(IDS))))


def _again(records: tuple[Record, ...], schema_ids: SchemaIds) -> Iterator[Record]:
    return iter(records)


def ids(records: list[Record]) -> Counter[tuple[str, str]]:
    """Return what good records are about, with how often."""
    found: Counter[tuple[str, str]] = Counter()
    for record in records:
        if isinstance(record.about, Event):
            found["event", record.about.event_id] += 1
        elif isinstance(record.about, Order):
            found["order", record.about.transaction_id + record.about.status] += 1
    return found


def test_without_faults_the_plan_stays_as_it_is(plan: Plan) -> None:
    assert with_faults(plan, Faults(seed=9)) is plan


def test_every_good_record_is_sent_exactly_once(plan: Plan) -> None:
    good = [record for record in with_faults(plan, ALL).records(IDS) if record.good]
    assert ids(good) == ids(list(plan.records(IDS)))
    assert Counter(record.value for record in good) == Counter(record.value for record in plan.records(IDS))


def test_sending_order_never_goes_back_in_time(plan: Plan) -> None:
    at = [record.at_ms for record in with_faults(plan, ALL).records(IDS)]
    assert at == sorted(at)


def test_same_seed_makes_the_same_faults_and_another_seed_others(plan: Plan) -> None:
    first = list(with_faults(plan, ALL).records(IDS))
    assert list(with_faults(plan, ALL).records(IDS)) == first
    assert list(with_faults(plan, replace(ALL, seed=4)).records(IDS)) != first


def test_shares_are_as_asked_for(plan: Plan) -> None:
    records = list(with_faults(plan, ALL).records(IDS))
    good = sum(record.good and record.topic in (EVENTS, ORDERS) for record in records)
    events = sum(record.good and record.topic == EVENTS for record in records)
    kinds = Counter(record.fault.kind for record in records if record.fault)
    assert kinds[FaultKind.DUPLICATE] / good == pytest.approx(ALL.duplicates, rel=0.2)
    assert kinds[FaultKind.MALFORMED] / good == pytest.approx(ALL.malformed, rel=0.2)
    assert kinds[FaultKind.INVALID] / good == pytest.approx(ALL.invalid, rel=0.2)
    assert kinds[FaultKind.HELD_BACK] / events == pytest.approx(ALL.late, rel=0.25)
    assert kinds[FaultKind.OUT_OF_ORDER] / events == pytest.approx(OUT_OF_ORDER_SHARE, rel=0.2)


def test_duplicate_repeats_bytes_and_key_after_the_original(plan: Plan) -> None:
    seen: set[tuple[bytes, bytes]] = set()
    repeated = 0
    for record in with_faults(plan, ALL).records(IDS):
        if record.good:
            seen.add((record.key, record.value))
        elif record.fault and record.fault.kind == FaultKind.DUPLICATE:
            repeated += 1
            assert (record.key, record.value) in seen
    assert repeated > 300


def test_out_of_order_events_are_never_further_behind_than_asked_for(plan: Plan) -> None:
    limit = timedelta(seconds=120)
    behind = 0
    largest_ms = 0
    for record in with_faults(plan, Faults(out_of_order=limit)).records(IDS):
        if isinstance(record.about, Event):
            behind = max(behind, largest_ms - record.about.time_ms)
            largest_ms = max(largest_ms, record.about.time_ms)
    assert 60_000 < behind <= limit // timedelta(milliseconds=1)


def test_held_back_events_are_the_plans_disorder_behind_at_most(plan: Plan) -> None:
    faulty = with_faults(plan, ALL)
    behind, largest_ms = 0, 0
    for record in faulty.records(IDS):
        if record.good and isinstance(record.about, Event):
            behind = max(behind, largest_ms - record.about.time_ms)
            largest_ms = max(largest_ms, record.about.time_ms)
    assert timedelta(minutes=36) < timedelta(milliseconds=behind) <= faulty.disorder


@pytest.mark.parametrize(
    "wrong", [{"late": 1.5}, {"duplicates": -0.1}, {"out_of_order": timedelta(minutes=5)}, {"malformed": float("nan")}]
)
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Faults(**wrong)  # type: ignore[arg-type]


class Registry:
    """Knows the ids of the plan."""

    def schema(self, schema_id: int) -> str | None:
        return next((schema_text(topic) for topic, known in IDS.items() if known == schema_id), None)


def no_wait(seconds: float) -> None:
    message = "this registry always answers"
    raise AssertionError(message)


class Stored:
    """A record as a consumer hands it out."""

    def __init__(self, record: Record, offset: int) -> None:
        self._record, self._offset = record, offset

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, self._record.at_ms


@pytest.mark.parametrize("topic", [EVENTS, ORDERS])
def test_ingest_refuses_each_broken_record_for_the_reason_that_was_told(plan: Plan, topic: str) -> None:
    checks = pytest.importorskip("millrace_ingest.checks", reason="ingest is not installed beside the generator")
    rules = pytest.importorskip("millrace_ingest.events" if topic == EVENTS else "millrace_ingest.orders").RULES
    faults = replace(ALL, malformed=0.3, invalid=0.3) if topic == EVENTS else replace(ALL, malformed=0.9, invalid=0.9)
    records = [record for record in with_faults(plan, faults).records(IDS) if record.topic == topic]
    stored = [Stored(record, offset) for offset, record in enumerate(records)]
    polled = Polled(Span(Partition(topic, 0), 1, 0, len(stored)), stored)
    decoder = Decoder(Registry(), schema_text(topic), max_value_bytes=262_144, wait=no_wait)
    limits = checks.Limits(max_ahead_ms=300_000, max_age_ms=7 * 86_400_000, max_properties=1_000)
    verdict = checks.validate(decoder.decode(polled), limits, rules)
    refused = {reject.row: (reject.stage, str(reject.reason)) for reject in verdict.rejects}
    dead = (FaultKind.MALFORMED, FaultKind.INVALID)
    expected = {
        row: (record.fault.stage, record.fault.reason)
        for row, record in enumerate(records)
        if record.fault and record.fault.kind in dead
    }
    assert refused == expected
    told = {reason for _, reason in expected.values()}
    assert told >= {"empty_value", "not_framed", "unknown_schema", "wrong_subject", "undecodable", "trailing_bytes"}
    assert told >= {
        "invalid_utf8",
        "too_large",
        "empty_id",
        "nul_in_string",
        "timestamp_in_future",
        "timestamp_too_old",
    }
    assert told >= (
        {"too_many_properties", "invalid_ip", "invalid_amount"}
        if topic == EVENTS
        else {"no_items", "invalid_quantity", "negative_price", "total_mismatch", "unknown_currency"}
    )
    assert int(np.count_nonzero(verdict.valid)) == len(records) - len(expected)


def test_invalid_records_never_carry_the_id_of_a_good_one(plan: Plan) -> None:
    records = list(with_faults(plan, Faults(invalid=1.0)).records(IDS))
    good = {r.about.event_id.encode() for r in records if r.good and isinstance(r.about, Event)}
    broken = [r.value for r in records if r.fault and r.fault.kind == FaultKind.INVALID]
    assert len(good) > 10_000 < len(broken)
    assert not any(value[6:42] in good for value in broken)
