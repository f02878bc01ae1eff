import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace_generator.errors import InputError
from millrace_generator.faults import Faults, with_faults
from millrace_generator.partitions import partition_for
from millrace_generator.reference import read_file, read_sessions
from millrace_generator.replay import replay_plan
from millrace_generator.scenarios import window_plan
from millrace_generator.traffic import EVENTS, ORDERS, TOPICS, Event, FaultKind, Order, Plan, Record, SchemaIds
from millrace_generator.truth import Truth, read_truth, truth_file

IDS = {topic: 101 + index for index, topic in enumerate(TOPICS)}
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
FAULTS = Faults(duplicates=0.05, malformed=0.02, invalid=0.03, late=0.03, out_of_order=timedelta(seconds=120), seed=5)
PARTITIONS = 4


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Four hours of a shop, made once and kept."""
    made = window_plan(START, START + timedelta(hours=4), 9_000)
    return replace(made, records=partial(_again, tuple(made.records(IDS))))


def _again(records: tuple[Record, ...], schema_ids: SchemaIds) -> Iterator[Record]:
    return iter(records)


def truth_of(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    out = io.StringIO()
    truth = Truth(out, plan, PARTITIONS)
    truth(list(plan.records(IDS)))
    truth.finish()
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, out.getvalue().splitlines()):
        lines.setdefault(line["type"], []).append(line)
    return lines


def by_gap_alone(events: list[Event]) -> list[tuple[str, int, int, int, int]]:
    """Sessions where nothing is late and nothing runs away: sort a client's events and cut at the gaps."""
    found = []
    by_client: dict[str, list[Event]] = {}
    for event in events:
        by_client.setdefault(event.session_id, []).append(event)
    for client, mine in sorted(by_client.items()):
        mine.sort(key=lambda event: event.time_ms)
        runs = [[mine[0]]]
        for event in mine[1:]:
            if event.time_ms - runs[-1][-1].time_ms > 30 * 60_000:
                runs.append([])
            runs[-1].append(event)
        for run in runs:
            revenue = sum(event.amount_cents or 0 for event in run)
            found.append((client, run[0].time_ms, run[-1].time_ms, len(run), revenue))
    return found


def summaries(lines: list[dict[str, Any]]) -> list[tuple[str, int, int, int, int]]:
    names = ("client_session_id", "started_ms", "ended_ms", "event_count", "revenue_cents")
    return sorted(tuple(line[name] for name in names) for line in lines)


def events_of(plan: Plan) -> list[Event]:
    return [r.about for r in plan.records(IDS) if r.good and isinstance(r.about, Event)]


def test_sessions_of_faultless_traffic_are_those_the_gaps_make(plan: Plan) -> None:
    lines = truth_of(plan)
    assert summaries(lines["session"]) == by_gap_alone(events_of(plan))
    assert "session_with_late" not in lines
    assert "late" not in lines


def test_sessions_with_late_events_are_those_of_the_same_traffic_on_time(plan: Plan) -> None:
    lines = truth_of(with_faults(plan, FAULTS))
    assert summaries(lines["session_with_late"]) == by_gap_alone(events_of(plan))
    assert len(lines["late"]) > 100


def test_streamed_sessions_and_late_events_hold_every_event_once(plan: Plan) -> None:
    lines = truth_of(with_faults(plan, FAULTS))
    [totals] = lines["totals"]
    in_sessions = sum(line["event_count"] for line in lines["session"])
    assert in_sessions + len(lines["late"]) == totals["events"] == len(events_of(plan))
    assert (totals["sessions"], totals["late"]) == (len(lines["session"]), len(lines["late"]))
    assert len({line["session_id"] for line in lines["session"]}) == len(lines["session"])


def test_late_events_came_after_everything_they_could_join_was_over(plan: Plan) -> None:
    faulty = with_faults(plan, FAULTS)
    lines = truth_of(faulty)
    largest = [0] * PARTITIONS
    behind = {}
    for record in faulty.records(IDS):
        if record.good and isinstance(record.about, Event):
            partition = partition_for(record.key, PARTITIONS)
            behind[record.about.event_id] = largest[partition] - record.about.time_ms
            largest[partition] = max(largest[partition], record.about.time_ms)
    for line in lines["late"]:
        assert line["lateness_ms"] == behind[line["event_id"]] - 35 * 60_000 > 0


def test_events_out_of_order_change_no_session(plan: Plan) -> None:
    lines = truth_of(with_faults(plan, Faults(out_of_order=timedelta(seconds=120))))
    assert summaries(lines["session"]) == by_gap_alone(events_of(plan))
    assert lines["totals"][0]["out_of_order"] > 100


def test_totals_are_the_counts_of_what_was_sent(plan: Plan) -> None:
    faulty = with_faults(plan, FAULTS)
    lines = truth_of(faulty)
    [totals] = lines["totals"]
    records = list(faulty.records(IDS))
    for kind, name in ((FaultKind.MALFORMED, "malformed"), (FaultKind.INVALID, "invalid")):
        reasons = Counter(r.fault.reason for r in records if r.fault and r.fault.kind == kind)
        assert totals[name] == reasons == Counter(line["reason"] for line in lines[name])
    repeated = Counter(r.topic for r in records if r.fault and r.fault.kind == FaultKind.DUPLICATE)
    assert totals["duplicates"] == repeated == Counter(line["topic"] for line in lines["duplicate"])
    orders = [r.about for r in records if r.good and isinstance(r.about, Order)]
    assert (totals["orders"], totals["order_cents"]) == (len(orders), sum(order.total_cents for order in orders))
    assert repeated[ORDERS] > 0
    assert totals["revenue_cents"] == sum(event.amount_cents or 0 for event in events_of(plan))


def test_real_file_has_the_sessions_of_a_plain_reading(shared_file: Path) -> None:
    lines = truth_of(replay_plan(shared_file))
    expected = {
        session.session_id: (
            session.event_count,
            session.page_views,
            session.add_to_carts,
            session.purchases,
            session.unique_products,
            session.revenue_cents,
        )
        for session in read_sessions(read_file(shared_file))
    }
    names = ("event_count", "page_views", "add_to_carts", "purchases", "unique_products", "revenue_cents")
    assert {line["session_id"]: tuple(line[name] for name in names) for line in lines["session"]} == expected


def test_file_ends_with_totals_and_says_when_an_error_ended_it(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "truth.ndjson"
    first = next(record for record in plan.records(IDS) if record.topic == EVENTS)
    with pytest.raises(RuntimeError), truth_file(path, plan) as begin:
        begin({EVENTS: PARTITIONS})[0]([first])
        raise RuntimeError
    lines = read_truth(path)
    assert list(lines) == ["run", "session", "totals"]
    assert lines["totals"][0]["ended_by_error"] is True
    assert lines["run"][0]["partitions"] == PARTITIONS


def test_no_truth_is_kept_where_none_is_asked_for(plan: Plan) -> None:
    with truth_file(None, plan) as begin:
        assert begin({EVENTS: PARTITIONS}) == ()


def test_file_that_cannot_be_written_is_an_input_error(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError), truth_file(tmp_path / "none" / "truth", plan):
        pass
