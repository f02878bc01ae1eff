"""A crash at any edge of a commit, and what stands afterwards."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_lives import P0, Broker, CrashError, Rows, assign, generation, ids, run, start
from millrace_lake import history
from millrace_lake.tables import TableSpec, tables
from millrace_lake.writer import Store

EDGES = (
    "before dead letters",
    "after dead letters",
    "before Delta commit",
    "after Delta commit",
    "before group offsets",
    None,
)


def rows_of(spec: TableSpec) -> Rows:
    """Return a maker of rows that differ in their id only, cheap enough for many examples."""

    def column(field: pa.Field, good: Sequence[str]) -> pa.Array:
        if field.name == "session_id":
            return pa.array(good, pa.string())
        value = "x" if pa.types.is_string(field.type) else 20_000
        numbers = pa.array([value] * len(good))
        return (numbers.cast(pa.int32()) if pa.types.is_date32(field.type) else numbers).cast(field.type)

    return lambda good: pa.RecordBatch.from_arrays([column(field, good) for field in spec.schema], schema=spec.schema)


@settings(max_examples=40)
@given(
    borders=st.lists(st.integers(1, 39), max_size=8).map(lambda cuts: sorted({0, 40, *cuts})),
    commits=st.sets(st.integers(0, 9)),
    crashes=st.lists(st.sampled_from(EDGES), max_size=4),
)
def test_any_batch_borders_and_any_crash_give_each_record_once(
    borders: list[int], commits: set[int], crashes: list[str | None]
) -> None:
    with TemporaryDirectory() as folder:
        check_crashes(Path(folder), borders, commits, list(crashes))


def check_crashes(folder: Path, borders: list[int], commits: set[int], crashes: list[str | None]) -> None:
    spec = tables(["sessions"])[0]
    store, broker = Store(str(folder), {}, 1.0, lambda seconds: None), Broker()
    while True:  # one round a life of the process
        process = start(spec, store, broker)
        begin = assign(process, P0)[P0]
        broker.crash_at = crashes.pop() if crashes else None
        try:
            for number, (first, end) in enumerate(zip(borders, borders[1:], strict=False)):
                if end <= begin:
                    continue
                process.commits.take(run(rows_of(spec), P0, max(first, begin), end, generation(process, P0), dead=7))
                if number in commits:
                    process.commits.close()
            process.commits.close()
        except CrashError:
            continue
        break
    assert ids(process.writer) == sorted(f"0-{offset}" for offset in range(40) if offset % 7)
    assert broker.letters == [offset for offset in range(40) if not offset % 7]
    ledger = history.ledger_rows(process.writer.uri)
    assert [row.first_offset for row in ledger] == [0, *(row.next_offset for row in ledger[:-1])]
    assert ledger[-1].next_offset == 40
    assert all(row.counts.balanced for row in ledger)
    assert broker.group[P0].offset == 40
