from dataclasses import replace

import polars as pl

from millrace_generator import Plan
from millrace_generator.traffic import EVENTS, Record
from millrace_local.open_loop import added_files, latencies, made_beforehand


def test_latency_counts_from_the_intended_time_to_the_first_reading() -> None:
    sent = pl.DataFrame({"event_id": ["a", "b"], "intended_ms": [1_000.0, 2_000.0]})
    read = pl.DataFrame({"event_id": ["a", "a", "x"], "read_ms": [1_500.0, 1_250.0, 9.0]})
    assert latencies(sent, read).sort("event_id").rows() == [("a", 1.0, 0.25), ("b", 2.0, None)]


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
    records = made_beforehand(plan).records({})
    assert made == [0, 1, 2]
    assert [one.at_ms for one in records] == [0, 1, 2]
    assert made_beforehand(replace(plan, title="same")).title == "same"
