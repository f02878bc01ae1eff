"""What a reset would change and cost, from pretended facts; what the command refuses before it asks anybody."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.records import Counts, Partition
from millrace_local.audit import Evidence, Topic, audit
from millrace_local.cli import app
from millrace_local.reset import Found, Move, TargetError, To, choose, find_input, plan

PLACE = Partition("user-events", 1)


def found(kept: tuple[int, int], position: int | None, accounted: int | None = None, *, lost: bool = False) -> Found:
    return Found(PLACE, "id", kept, position, accounted if position is None else position, unaccounted=lost)


def planned(given: Found, to: To) -> Move:
    move = plan(given, to)
    assert move is not None
    return move


def row(first: int, following: int, read: int | None = None, *, topic_id: str = "id") -> LedgerRow:
    count = following - first if read is None else read
    return LedgerRow("ingest", "ingest-0", PLACE, topic_id, first, following, Counts(count, count), {}, 0)


def problems_after(rows: list[LedgerRow], kept: tuple[int, int], committed: int) -> tuple[str, ...]:
    """Return what the proof says when every kept offset holds a record."""
    topic = Topic("id", {1: np.arange(*kept)}, {1: kept[0]})
    evidence = Evidence(
        rows, {"user-events": topic}, {"ingest": ["user-events"]}, {}, {}, True, {}, frozenset(), quiet=True
    )
    return audit(replace(evidence, committed={("ingest", PLACE): committed})).problems


def test_lost_input_is_skipped_without_being_asked_for_consent_and_the_books_balance() -> None:
    move = planned(found((120, 200), 80), "earliest")
    assert (move.offset, move.ranges, move.costs) == (120, ((80, 120),), ())
    assert str(move) == (
        "user-events[1] goes on at offset 120 (it was 80); in the ledger, offsets 80 to 119 are skipped"
    )
    rows = [row(0, 80), *move.rows("ingest", "reset", 7), row(120, 150)]
    assert problems_after(rows, (120, 150), 150) == ()
    assert problems_after([row(0, 80), row(120, 150)], (120, 150), 150) != ()


def test_the_ledger_row_of_a_reset_says_that_nothing_was_read() -> None:
    (written,) = planned(found((120, 200), 80), "earliest").rows("ingest", "reset", 7)
    assert written == LedgerRow("ingest", "reset", PLACE, "id", 80, 120, Counts(), {}, 7)


def test_skipping_records_that_are_there_costs_consent_and_the_proof_names_them() -> None:
    move = planned(found((120, 200), 80), "latest")
    assert move.ranges == ((80, 120), (120, 200))
    assert len(move.costs) == 1
    assert "offsets 120 to 199 are still there and will be skipped" in move.costs[0]
    assert problems_after([row(0, 80), *move.rows("ingest", "reset", 0)], (120, 200), 200) == (
        "ingest: read 0 records at user-events[1] offsets 120 to 200, where the topic holds 80",
    )


def test_what_is_set_aside_costs_consent_and_gets_its_rows_with_its_dead_letters() -> None:
    move = planned(replace(found((120, 200), 80), sets_aside=True), "latest")
    assert (move.ranges, move.aside) == (((80, 120), (120, 200)), (120, 200))
    assert [(written.first_offset, written.next_offset) for written in move.rows("ingest", "reset", 0)] == [(80, 120)]
    (cost,) = move.costs
    assert "offsets 120 to 199 are still there and will be skipped; from then on they become dead letters" in cost
    assert planned(replace(found((0, 200), 80), sets_aside=True), 50).aside is None
    assert planned(replace(found((120, 200), 80), sets_aside=True), "earliest").aside is None


def test_going_back_costs_consent_and_the_proof_names_the_overlap() -> None:
    move = planned(found((0, 200), 80), 50)
    assert (move.offset, move.ranges) == (50, ((50, 50),))
    assert len(move.costs) == 1
    assert "offsets 50 to 79 will be processed again" in move.costs[0]
    rows = [row(0, 80), *move.rows("ingest", "reset", 0)]
    assert find_gaps(rows) == []
    assert [str(gap) for gap in find_gaps([*rows, row(50, 90)])] == [
        "ingest: an overlap at user-events[1] offsets 50 to 80"
    ]


def test_a_recreated_topic_doubles_nothing() -> None:
    move = planned(found((0, 30), None), "earliest")
    assert (move.offset, move.ranges, move.costs) == (0, ((0, 0),), ())
    rows = [row(0, 80, topic_id="old"), *move.rows("ingest", "reset", 0)]
    assert problems_after(rows, (0, 0), 0) == ()
    assert problems_after(rows[:1], (0, 0), 0) != ()


def test_the_proof_keeps_a_recreated_topic_and_the_one_before_apart() -> None:
    old = replace(row(0, 80, topic_id="old"), counts=Counts(80, 79, 1), emitted={"out": 79, "dead-letters": 1})
    new = replace(row(0, 30), counts=Counts(30, 29, 1), emitted={"out": 29, "dead-letters": 1})
    read = LedgerRow("enrich", "enrich-0", Partition("out", 1), "o", 0, 108, Counts(108, 108), {}, 0)
    evidence = Evidence(
        rows=[old, new, read],
        topics={
            "user-events": Topic("id", {1: np.arange(30)}, {1: 0}),
            "out": Topic("o", {1: np.arange(108)}, {1: 0}),
            "dead-letters": Topic("d", {1: np.arange(2)}, {1: 0}),
        },
        inputs={"ingest": ["user-events"], "enrich": ["out"]},
        committed={("ingest", PLACE): 30, ("enrich", read.partition): 108},
        dead_letters={("ingest", PLACE): np.array([7, 7])},
        dead_letters_whole=True,
        tables={},
        truncated=frozenset(),
        quiet=True,
    )
    assert audit(evidence).problems == ()
    thrice = replace(evidence, dead_letters={("ingest", PLACE): np.array([7, 7, 7])})
    assert "user-events[1] offset 7 is in dead-letters 3 times" in audit(thrice).problems[0]
    lost = replace(evidence, topics={**evidence.topics, "out": Topic("o", {1: np.arange(107)}, {1: 0})})
    assert any("out holds 107 records, the ledger says 108" in problem for problem in audit(lost).problems)
    # What was produced to a topic that is gone cannot be counted any more.
    again = replace(evidence, rows=[old, new, read, replace(read, topic_id="p", next_offset=0, counts=Counts())])
    fewer = {**evidence.topics, "out": Topic("p", {1: np.arange(0)}, {1: 0})}
    assert audit(replace(again, topics=fewer, committed={("ingest", PLACE): 30})).problems == ()


def test_records_of_a_recreated_topic_are_not_skipped_without_consent() -> None:
    move = planned(found((5, 30), None), "latest")
    assert move.ranges == ((5, 30),)
    assert "offsets 5 to 29 are still there" in move.costs[0]


def test_where_the_group_lost_its_offset_the_ledger_says_where_to_go_on() -> None:
    lost = found((0, 200), None, accounted=80)
    back = planned(lost, "earliest")
    assert "offsets 0 to 79 will be processed again" in back.costs[0]
    assert "use --to 80" in back.costs[1]
    on = planned(lost, 80)
    assert (on.ranges, on.costs) == (((80, 80),), ())
    assert planned(found((100, 200), None, accounted=80), "earliest").ranges == ((80, 100),)


def test_a_partition_processed_nobody_knows_how_far_costs_consent() -> None:
    assert "nothing says how far" not in str(planned(found((0, 9), None), "earliest").costs)
    (cost,) = planned(found((0, 9), None, lost=True), "earliest").costs
    assert "neither group nor ledger says how far" in cost


def test_a_topic_that_lost_its_end_gives_offsets_a_second_time() -> None:
    (cost,) = planned(found((0, 60), 80), "latest").costs
    assert "lost offsets 60 to 79" in cost
    first, second = planned(found((0, 60), 80), "earliest").costs
    assert "offsets 0 to 59 will be processed again" in first
    assert second == cost


def test_an_offset_that_is_not_kept_is_refused() -> None:
    for offset in (119, 201):
        with pytest.raises(TargetError, match=rf"user-events\[1\] has offsets 120 to 200, not {offset}"):
            plan(found((120, 200), 80), offset)
    assert planned(found((120, 200), 80), 200).offset == 200


@given(st.data())
def test_a_second_time_changes_nothing_and_rows_lead_from_the_ledgers_end_to_the_offset(data: st.DataObject) -> None:
    first = data.draw(st.integers(0, 50))
    end = data.draw(st.integers(first, 80))
    position = data.draw(st.none() | st.integers(0, 100))
    given = found((first, end), position, data.draw(st.none() | st.integers(0, 100)))
    offsets: list[To] = ["earliest", "latest", data.draw(st.integers(first, end))]
    to = data.draw(st.sampled_from(offsets))
    move = plan(given, to)
    if move is None:
        return
    begin = first if given.accounted is None else given.accounted
    rows = move.rows("ingest", "reset", 0)
    assert (rows[0].first_offset, rows[-1].next_offset) == (min(begin, move.offset), move.offset)
    assert find_gaps([*([row(0, begin)] if begin else []), *rows]) == []
    assert not any(written.first_offset < first < written.next_offset for written in rows)
    again = replace(given, position=move.offset, accounted=max(begin, move.offset))
    assert plan(again, to) is None


def test_a_topic_is_found_with_its_lane_or_without() -> None:
    assert [find_input("lake", topic, lane)[1] for topic, lane in (("late-events", ""), ("late-events", "x"))] == [
        "late-events",
        "late-events.x",
    ]
    for topic, lane in (
        ("user-events.backfill", ""),
        ("user-events.backfill", "backfill"),
        ("user-events", "backfill"),
    ):
        service, in_lane = find_input("ingest", topic, lane)
        assert (service.group, in_lane) == ("millrace-ingest.backfill", "user-events.backfill")
    assert find_input("enrich", "user-events.valid", "")[0].lane == ""


@pytest.mark.parametrize(
    ("service", "topic", "lane", "problem"),
    [
        ("nobody", "user-events", "", "there is no service nobody: there are ingest, enrich, sessionize, lake"),
        ("ingest", "user-events.valid", "", "ingest does not read user-events.valid, it reads user-events, trans"),
        ("ingest", "user-eventsx", "", "does not read user-eventsx"),
        ("ingest", "user-events.a", "b", r"ingest\.b does not read user-events\.a, it reads user-events\.b"),
    ],
)
def test_an_unknown_service_or_topic_is_named(service: str, topic: str, lane: str, problem: str) -> None:
    with pytest.raises(TargetError, match=problem):
        find_input(service, topic, lane)


def test_an_unknown_partition_is_named() -> None:
    assert choose("t", 2, None) == [Partition("t", 0), Partition("t", 1)]
    assert choose("t", 2, 1) == [Partition("t", 1)]
    with pytest.raises(TargetError, match="t has partitions 0 to 1, not 2"):
        choose("t", 2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        "nobody --topic user-events --to earliest",
        "ingest --topic products --to earliest",
        "ingest --topic user-events --to soon",
        "ingest --topic user-events --to -1",
        "ingest --topic user-events",
        "ingest --to earliest",
        "ingest --topic user-events --partition -1 --to earliest",
        "ingest --topic user-events --to earliest --bootstrap-servers 127.0.0.1:1",
        "ingest --topic user-events --to earliest --bootstrap-servers 127.0.0.1:1 --registry-url http://127.0.0.1:1",
        "lake --topic late-events --to earliest --bootstrap-servers 127.0.0.1:1",
    ],
)
def test_wrong_usage_exits_with_2(arguments: str) -> None:
    assert CliRunner().invoke(app, ["reset", *arguments.split()]).exit_code == 2
