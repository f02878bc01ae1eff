"""The proof on books that balance, and on each way in which they cannot."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from millrace_common.ledger import LedgerRow
from millrace_common.records import Counts, Partition
from millrace_local.audit import Evidence, Topic, Verdict, audit

RAW, VALID = Partition("user-events", 0), Partition("user-events.valid", 0)
PLACE = ("ingest", RAW)


def row(first: int, end: int, counts: Counts, **fields: object) -> LedgerRow:
    known = LedgerRow("ingest", "ingest-0", RAW, "raw-id", first, end, counts, {VALID.topic: counts.forwarded}, 0)
    return replace(known, **fields)  # type: ignore[arg-type]  # fields of the row


def topic(topic_id: str, offsets: Sequence[int], *, first_kept: int = 0, compacted: bool = False) -> Topic:
    return Topic(topic_id, {0: np.array(offsets, np.int64)}, {0: first_kept}, compacted)


# Offsets 0 to 9 of user-events, 5 being a control record; 2 records dead, 1 a duplicate.
ROWS = [row(0, 6, Counts(5, 3, 2, 0, 0)), row(6, 10, Counts(4, 3, 0, 1, 0))]
BALANCED = Evidence(
    rows=ROWS,
    topics={
        RAW.topic: topic("raw-id", [0, 1, 2, 3, 4, 6, 7, 8, 9]),
        VALID.topic: topic("valid-id", [0, 1, 2, 4, 5, 6]),
    },
    inputs={"ingest": [RAW.topic], "enrich": [VALID.topic]},
    committed={PLACE: 10},
    dead_letters={PLACE: np.array([1, 3])},
    dead_letters_whole=True,
    tables={"events": (6, 6)},
    truncated=frozenset(),
    quiet=True,
)


def problem(evidence: Evidence) -> str:
    (only,) = audit(evidence).problems
    return only


def with_raw(evidence: Evidence, raw: Topic) -> Evidence:
    return replace(evidence, topics={**evidence.topics, RAW.topic: raw})


def test_books_that_balance() -> None:
    verdict = audit(BALANCED)
    assert verdict == Verdict(
        problems=(),
        counts={"ingest": Counts(9, 6, 2, 1, 0), "enrich": Counts()},
        in_flight={"ingest": 0, "enrich": 6},
        emitted={VALID.topic: 6},
    )
    assert verdict.balanced


def test_rows_may_come_in_any_order() -> None:
    assert audit(replace(BALANCED, rows=ROWS[::-1])) == audit(BALANCED)


def test_a_lost_record_is_named_with_its_range() -> None:
    raw = topic("raw-id", [0, 1, 2, 3, 4, 6, 7, 8])
    expected = "ingest: read 4 records at user-events[0] offsets 6 to 10, where the topic holds 3"
    assert problem(with_raw(BALANCED, raw)) == expected


def test_a_hole_between_rows_is_named() -> None:
    rows = [ROWS[0], row(7, 10, Counts(3, 3, 0, 0, 0))]
    assert problem(replace(BALANCED, rows=rows)) == "ingest: a hole at user-events[0] offsets 6 to 7"


def test_an_overlap_is_named() -> None:
    rows = [ROWS[0], row(4, 10, Counts(5, 3, 0, 2, 0))]
    assert "an overlap at user-events[0] offsets 4 to 6" in problem(replace(BALANCED, rows=rows))


def test_a_wrong_sum_is_named() -> None:
    rows = [ROWS[0], row(6, 10, Counts(4, 3, 0, 0, 0))]
    assert problem(replace(BALANCED, rows=rows)) == "ingest: a wrong sum at user-events[0] offsets 6 to 10"


def test_records_before_the_first_row_are_a_hole() -> None:
    rows = [row(2, 6, Counts(3, 3, 0, 0, 0)), ROWS[1]]
    evidence = replace(BALANCED, rows=rows, dead_letters={})
    assert problem(evidence) == "ingest: a hole at the start of user-events[0]: 2 records before 2"
    assert audit(replace(evidence, truncated=frozenset({"ingest"}))).balanced


def test_an_offset_committed_outside_its_transaction_is_named() -> None:
    evidence = replace(BALANCED, committed={PLACE: 12})
    assert problem(evidence) == "ingest: the group has committed user-events[0] up to 12, the ledger says 10"
    assert audit(replace(evidence, quiet=False)).balanced


@pytest.mark.parametrize(("offsets", "words"), [([1], "1 dead letters, the ledger says 2"), ([], "no dead letter")])
def test_a_missing_dead_letter_is_named(offsets: list[int], words: str) -> None:
    letters = {PLACE: np.array(offsets)} if offsets else {}
    evidence = replace(BALANCED, dead_letters=letters)
    assert words in problem(evidence)
    assert audit(replace(evidence, dead_letters_whole=False)).balanced, "retention may have removed it"


def test_a_doubled_dead_letter_is_named() -> None:
    problems = audit(replace(BALANCED, dead_letters={PLACE: np.array([1, 3, 3])})).problems
    assert "ingest: user-events[0] offset 3 is in dead-letters 2 times" in problems


def test_a_doubled_output_is_named_and_so_is_a_lost_one() -> None:
    for held, said in (([0, 1, 2, 4, 5, 6, 7], 7), ([0, 1, 2, 4, 5], 5)):
        evidence = replace(BALANCED, topics={**BALANCED.topics, VALID.topic: topic("valid-id", held)})
        assert problem(evidence) == f"user-events.valid holds {said} records, the ledger says 6 were produced"


def test_while_commits_go_on_fewer_outputs_than_rows_prove_nothing() -> None:
    fewer = replace(BALANCED, topics={**BALANCED.topics, VALID.topic: topic("valid-id", [0, 1])}, quiet=False)
    assert audit(fewer).balanced
    more = replace(BALANCED, topics={**BALANCED.topics, VALID.topic: topic("valid-id", range(9))}, quiet=False)
    assert not audit(more).balanced


def test_a_table_with_other_rows_than_its_commits_is_named() -> None:
    assert (
        problem(replace(BALANCED, tables={"events": (7, 6)})) == "lake: table events has 7 rows, its commits appended 6"
    )


def test_records_that_retention_or_compaction_removed_are_no_loss() -> None:
    assert audit(with_raw(BALANCED, topic("raw-id", [7, 8, 9], first_kept=7))).balanced
    assert audit(with_raw(BALANCED, topic("raw-id", [0, 9], compacted=True))).balanced
    assert not audit(with_raw(BALANCED, topic("raw-id", range(11), compacted=True))).balanced


def test_records_behind_the_last_row_are_in_flight() -> None:
    raw = topic("raw-id", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    verdict = audit(with_raw(BALANCED, raw))
    assert (verdict.balanced, verdict.in_flight["ingest"]) == (True, 2)


def test_rows_of_a_topic_that_was_deleted_do_not_count_against_its_successor() -> None:
    old = row(0, 50, Counts(50, 50, 0, 0, 0), topic_id="old-id")
    verdict = audit(replace(BALANCED, rows=[old, *ROWS]))
    assert verdict.counts["ingest"] == Counts(9, 6, 2, 1, 0)
    assert not [said for said in verdict.problems if "overlap" in said or "hole" in said or "read 50" in said]


def test_a_flood_of_problems_is_cut_short_and_counted() -> None:
    rows = [row(n, n + 1, Counts(2, 2, 0, 0, 0)) for n in range(40)]
    raw = topic("raw-id", range(40))
    evidence = with_raw(replace(BALANCED, rows=rows, committed={}, dead_letters={}), raw)
    assert "... and 20 more of this kind" in audit(evidence).problems
