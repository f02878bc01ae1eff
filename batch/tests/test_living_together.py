"""The stream goes on appending to the tables that a job works on, and its tables stay what it and readers know."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

import stream_tables
from millrace_batch import compact, conflicts, daily_metrics, sessions, writing
from millrace_batch.errors import ConflictError
from millrace_batch.lake import Lake
from millrace_lake import history
from millrace_sessionize.rules import SessionRules
from session_logs import START_MS, one_event, stored, true_rows
from stream_tables import APP_ID, DAY, NOON, StreamTable

pytestmark = pytest.mark.spark

Open = Callable[[str], StreamTable]
Row = dict[str, Any]
# What names a row of a table, and the time that says its day.
COLUMNS: Final = {
    "events": ("event_id", "event_time"),
    "late_events": ("event_id", "event_time"),
    "sessions": ("session_id", "started_at"),
    "transactions": ("transaction_id", "occurred_at"),
}
PAUSE_SECONDS: Final = 0.5
EVENTS: Final = [one_event(number, START_MS + 1000 * number, f"k-{number}", START_MS, Random(3)) for number in range(4)]
LOST, *SESSIONS = stored({**row, "revision": 1} for row in true_rows(EVENTS, SessionRules()))
# The rows of the day that a job works on; a row is a commit.
OF_DAY: Final[Mapping[str, list[Row]]] = {
    "events": stored(EVENTS),
    "late_events": [],
    "sessions": SESSIONS,
    "transactions": [{"transaction_id": "o-1"}, {"transaction_id": "o-2"}],
}


@dataclass
class Stream:
    """A table that the stream appends to, and the ids of all that it appended."""

    table: StreamTable
    ids: list[str] = field(default_factory=list)

    def append(self, row: Row) -> None:
        name, _ = COLUMNS[self.table.name]
        self.table.append([row])
        self.ids.append(row[name])

    def append_of_running_day(self) -> None:
        name, time = COLUMNS[self.table.name]
        row = {name: f"running-{len(self.ids)}", time: NOON + timedelta(days=1)}
        self.append(row | ({"revision": 1} if self.table.name == "sessions" else {}))


@contextmanager
def appending(streams: Iterable[Stream]) -> Iterator[None]:
    """Append to each of the tables before the body, all through it, and after it."""
    over, failures = threading.Event(), list[BaseException]()

    def append() -> None:
        try:
            while not over.wait(PAUSE_SECONDS):
                for stream in streams:
                    stream.append_of_running_day()
        except BaseException as error:  # it is asserted below
            failures.append(error)

    for stream in streams:
        stream.append_of_running_day()
    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not failures
    for stream in streams:
        stream.append_of_running_day()


@dataclass(frozen=True)
class Job:
    """What Spark does beside the stream.

    Attributes:
        run: does it.
        tables: of the stream, that there are.
        commits: what Spark did to them, as the log calls it.
        adds: ids of rows that it adds to a table.
        removes: ids of rows that it removes.
    """

    run: Callable[[SparkSession, Lake], object]
    tables: tuple[str, ...]
    commits: Mapping[str, str]
    adds: Mapping[str, str] = field(default_factory=dict)
    removes: Mapping[str, str] = field(default_factory=dict)


def delete_an_event(spark: SparkSession, lake: Lake) -> None:
    gone = f"event_date = DATE'{DAY}' AND event_id = '{EVENTS[0]['event_id']}'"
    spark.sql(f"DELETE FROM {lake.sql_name('events')} WHERE {gone}").collect()


def replace_the_day(spark: SparkSession, lake: Lake) -> None:
    rows = lake.days_with_rows(spark, "sessions", "session_date", DAY, DAY).withColumn("country_code", f.lit("IT"))
    assert writing.replace_day(spark, lake, "sessions", "session_date", DAY, rows)


JOBS: Final = {
    "compact": Job(
        lambda spark, lake: compact.run(spark, lake, compact.Params(DAY)),
        ("events", "sessions"),
        {"events": "OPTIMIZE", "sessions": "OPTIMIZE"},
    ),
    "sessions": Job(
        lambda spark, lake: sessions.run(spark, lake, sessions.Params(DAY)),
        ("events", "late_events", "sessions"),
        {"sessions": "MERGE"},
        adds={"sessions": LOST["session_id"]},
    ),
    "daily_metrics": Job(
        lambda spark, lake: daily_metrics.run(spark, lake, daily_metrics.Params(DAY)),
        ("events", "sessions", "transactions"),
        {},
    ),
    "DELETE": Job(delete_an_event, ("events",), {"events": "DELETE"}, removes={"events": EVENTS[0]["event_id"]}),
    "replaceWhere": Job(replace_the_day, ("sessions",), {"sessions": "WRITE"}),
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_stream_appends_exactly_once_while_a_job_runs(
    spark: SparkSession, lake: Lake, stream_table: Open, job: Job
) -> None:
    streams = [Stream(stream_table(name)) for name in job.tables]
    for stream in streams:
        for row in OF_DAY[stream.table.name]:
            stream.append(row)
    with appending(streams):
        job.run(spark, lake)
    for stream in streams:
        name = stream.table.name
        assert sparks_commits(stream) == ([job.commits[name]] if name in job.commits else [])
        assert_rows(stream, job.adds.get(name), job.removes.get(name))
        assert_restarts_where_it_was(stream, lake)
    for folder in Path(lake.uri).iterdir():
        assert_all_can_read(spark, lake, folder.name)


def sparks_commits(stream: Stream) -> list[str]:
    """Return what Spark did to the table; the stream has committed before the first of it and after the last."""
    by_spark = [
        "Spark" in str(info.get("engineInfo")) and info["operation"]
        for info in reversed(DeltaTable(stream.table.writer.uri).history())
    ]
    assert by_spark[-1] is False
    return [operation for operation in by_spark if operation]


def assert_rows(stream: Stream, added: str | None = None, removed: str | None = None) -> None:
    """See that each row is there once."""
    name, _ = COLUMNS[stream.table.name]
    wanted = Counter(stream.ids) + Counter([added] if added else []) - Counter([removed] if removed else [])
    assert Counter(pl.scan_delta(stream.table.writer.uri).select(name).collect()[name].to_list()) == wanted


def assert_restarts_where_it_was(stream: Stream, lake: Lake) -> None:
    """See that position and ledger tell of each row once, and that a new process of the stream goes on behind them."""
    uri, written = stream.table.writer.uri, len(stream.ids)
    assert history.positions(uri, [APP_ID]) == {APP_ID: written}
    assert [row.first_offset for row in history.ledger_rows(uri)] == list(range(written))
    restarted = StreamTable(lake.uri, stream.table.name)
    assert restarted.rows_written == written
    restarted.append([{}])


def assert_all_can_read(spark: SparkSession, lake: Lake, name: str) -> None:
    """See that the table has no feature beyond the oldest, and that four readers find the same number of rows."""
    table = lake.delta_rs(name)
    protocol = table.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    assert not protocol.reader_features
    assert not protocol.writer_features
    counts = {
        "delta-rs": history.row_count(lake.table_uri(name)),
        "DuckDB": len(duckdb.read_parquet(table.file_uris()).pl()),
        "polars": len(pl.scan_delta(lake.table_uri(name)).collect()),
    }
    assert counts == dict.fromkeys(counts, lake.read(spark, name).count())


def overtaken_correction(spark: SparkSession, lake: Lake, times: int, marks: Path) -> DataFrame:
    """Return a revision that the stream overtakes so often: while Spark reads it, the day has another session."""
    spark.sparkContext.addPyFile(stream_tables.__file__)
    lake_uri = lake.uri
    marks.mkdir()

    def overtake(session_id: str) -> str:
        number = len(list(marks.iterdir()))
        if number < times:
            (marks / str(number)).touch()
            StreamTable(lake_uri, "sessions").append([{"session_id": f"overtaking-{number}", "revision": 1}])
        return session_id

    table = lake.read(spark, "sessions")
    rows = [row.asDict() | {"revision": 2} for row in table.collect()]
    session_id = f.udf(overtake, "string", useArrow=False)("session_id")
    return spark.createDataFrame(rows, table.schema).withColumn("session_id", session_id)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that jobs would have paused between two tries."""
    seconds: list[float] = []
    monkeypatch.setattr(conflicts, "retried", partial(conflicts.retried, pause=seconds.append))
    return seconds


def merge(spark: SparkSession, lake: Lake, rows: DataFrame) -> list[tuple[str, int]]:
    """Do what job sessions does with its corrections; return session and revision of all rows behind it."""
    writing.insert_new(spark, lake, "sessions", ("session_date", "session_id", "revision"), rows, DAY)
    found = pl.scan_delta(lake.table_uri("sessions")).select("session_id", "revision").collect()
    return sorted(found.rows())


def test_merge_that_the_stream_overtakes_is_tried_again(
    spark: SparkSession, lake: Lake, stream_table: Open, tmp_path: Path, pauses: list[float]
) -> None:
    stream_table("sessions").append([SESSIONS[0]])
    found = merge(spark, lake, overtaken_correction(spark, lake, 1, tmp_path / "marks"))
    assert pauses == [1.0]
    name = SESSIONS[0]["session_id"]
    assert found == [(name, 1), (name, 2), ("overtaking-0", 1)]


def test_merge_that_the_stream_always_overtakes_is_given_up_with_nothing_written(
    spark: SparkSession, lake: Lake, stream_table: Open, tmp_path: Path, pauses: list[float]
) -> None:
    stream_table("sessions").append([SESSIONS[0]])
    marks = tmp_path / "marks"
    correction = overtaken_correction(spark, lake, 1000, marks)
    with pytest.raises(ConflictError, match=f"MERGE into sessions, {DAY} was overtaken by other writers 6 times"):
        merge(spark, lake, correction)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    found = pl.scan_delta(lake.table_uri("sessions")).select("session_id", "revision").collect()
    overtaking = len(list(marks.iterdir()))
    assert overtaking >= conflicts.TRIES
    assert sorted(found.rows()) == sorted(
        [(SESSIONS[0]["session_id"], 1), *((f"overtaking-{number}", 1) for number in range(overtaking))]
    )
