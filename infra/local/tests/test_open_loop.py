from dataclasses import replace

import polars as pl

from millrace_generator import Plan, Progress
from millrace_generator.traffic import EVENTS, Event, Fault, FaultKind, Record
from millrace_local.open_loop import _Intended, added_files, latencies, made_beforehand


def test_latency_counts_from_the_intended_time_to_the_first_reading() -> None:
    sent = pl.DataFrame({"event_id": ["a", "b"], "intended_ms": [1_000.0, 2_000.0], "late_ms": [0.0, 10.0]})
    read = pl.DataFrame({"event_id": ["a", "a", "x"], "read_ms": [1_500.0, 1_250.0, 9.0]})
    assert latencies(sent, read).sort("event_id").rows() == [("a", 1.0, 0.0, 0.25), ("b", 2.0, 0.01, None)]


def test_an_event_is_late_by_when_its_chunk_was_handed_over() -> None:
    def record(event_id: str, at_ms: int, *, good: bool = True) -> Record:
        about = Event(event_id, None, "s", "page_view", at_ms)
        return Record(EVENTS, b"", b"", at_ms, about, None if good else Fault(FaultKind.MALFORMED))

    intended = _Intended()
    intended.progress(Progress("", 1, 3, 1, elapsed_seconds=0.002, worst_lateness_seconds=0.0))
    intended.progress(Progress("", 3, 3, 4, elapsed_seconds=0.150, worst_lateness_seconds=0.0))
    intended([record("a", 5_000), record("bad", 5_050, good=False), record("b", 5_100), record("c", 5_150)])
    assert intended.frame()["late_ms"].to_list() == [2.0, 50.0, 0.0]
    assert intended.frame()["intended_ms"].diff().to_list() == [None, 100.0, 50.0]


def test_files_of_a_compaction_are_not_new_rows() -> None:
    commit = "\n".join(
        (
            '{"add": {"path": "event_date=2026-01-01/a.parquet", "dataChange": true}}',
            '{"add": {"path": "event_date=2026-01-01/b.parquet", "dataChange": false}}',
            '{"remove": {"path": "event_date=2026-01-01/c.parquet", "dataChange": false}}',
            '{"commitInfo": {}}',
        )
    )
    assert added_files(commit) == ["event_date=2026-01-01/a.parquet"]


def test_records_are_made_before_the_first_is_taken() -> None:
    made: list[int] = []

    def record(number: int) -> Record:
        made.append(number)
        return Record(EVENTS, b"", b"", number)

    plan = Plan("", 3, lambda ids: iter(()), lambda ids: map(record, range(3)))
    found: list[list[int]] = []
    records = made_beforehand(plan, lambda: found.append(list(made))).records({})
    assert found == [[0, 1, 2]]
    assert [one.at_ms for one in records] == [0, 1, 2]
    assert made_beforehand(replace(plan, title="same")).title == "same"
