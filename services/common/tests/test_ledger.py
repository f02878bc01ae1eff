from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.records import Counts, Partition

PLACE = Partition("user-events", 1)


def row(
    first: int, following: int, *, service: str = "ingest", place: Partition = PLACE, topic_id: str = "t"
) -> LedgerRow:
    read = following - first
    return LedgerRow(service, f"{service}-0", place, topic_id, first, following, Counts(read, read), {}, 0)


def sentences(rows: list[LedgerRow]) -> list[str]:
    return [str(gap) for gap in find_gaps(rows)]


def test_rows_that_tile_have_no_gap_in_any_order() -> None:
    assert sentences([row(5, 9), row(0, 5), row(9, 9), row(9, 12)]) == []


def test_a_hole_is_named_with_service_partition_and_offsets() -> None:
    assert sentences([row(0, 5), row(7, 9)]) == ["ingest: a hole at user-events[1] offsets 5 to 7"]


def test_an_overlap_is_named() -> None:
    assert sentences([row(0, 5), row(3, 9)]) == ["ingest: an overlap at user-events[1] offsets 3 to 5"]


def test_a_row_twice_is_an_overlap() -> None:
    assert sentences([row(0, 5), row(0, 5)]) == ["ingest: an overlap at user-events[1] offsets 0 to 5"]


def test_a_row_without_offsets_is_no_overlap_but_may_lie_behind_a_hole() -> None:
    assert sentences([row(0, 5), row(3, 3), row(0, 0)]) == []
    assert sentences([row(0, 5), row(7, 7)]) == ["ingest: a hole at user-events[1] offsets 5 to 7"]


def test_a_short_row_inside_a_long_one_does_not_hide_the_rest_of_the_overlap() -> None:
    gaps = sentences([row(0, 10), row(2, 3), row(5, 12)])
    assert "ingest: an overlap at user-events[1] offsets 5 to 10" in gaps


def test_a_sum_that_does_not_balance_is_named() -> None:
    wrong = replace(row(0, 5), counts=Counts(read=5, forwarded=2, dead=1, duplicate=1))
    assert sentences([wrong]) == ["ingest: a wrong sum at user-events[1] offsets 0 to 5"]


def test_services_partitions_and_topic_ids_have_books_of_their_own() -> None:
    assert sentences([row(0, 5), row(7, 9, service="enrich")]) == []
    assert sentences([row(0, 5), row(7, 9, place=Partition("user-events", 2))]) == []
    assert sentences([row(0, 50), row(0, 9, topic_id="created again")]) == []


def test_every_service_with_a_hole_is_named() -> None:
    rows = [row(first, last, service=service) for service in ("a", "b") for first, last in ((0, 1), (2, 3))]
    assert [gap.service for gap in find_gaps(rows)] == ["a", "b"]


@pytest.mark.parametrize("counts", [Counts(), Counts(4, 1, 1, 1, 1), Counts(2, 2)])
def test_balanced_means_every_record_went_somewhere(counts: Counts) -> None:
    assert counts.balanced
    assert not (counts + Counts(read=1)).balanced


tilings = st.lists(st.integers(1, 50), min_size=3, max_size=30).map(
    lambda lengths: [row(sum(lengths[:n]), sum(lengths[: n + 1])) for n in range(len(lengths))]
)


@given(tilings, st.data())
def test_any_tiling_is_exact_and_loses_it_with_any_inner_row_gone_or_moved(
    rows: list[LedgerRow], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert find_gaps(shuffled) == []
    victim = data.draw(st.sampled_from(rows[1:-1]))
    without = [other for other in shuffled if other is not victim]
    assert [gap.kind for gap in find_gaps(without)] == ["a hole"]
    shift = data.draw(st.integers(-20, 20).filter(bool))
    moved = replace(victim, first_offset=victim.first_offset + shift, next_offset=victim.next_offset + shift)
    assert find_gaps([*without, moved]) != []


@given(tilings, st.data())
def test_a_row_again_is_an_overlap_wherever_it_is(rows: list[LedgerRow], data: st.DataObject) -> None:
    assert find_gaps([*rows, data.draw(st.sampled_from(rows))]) != []
