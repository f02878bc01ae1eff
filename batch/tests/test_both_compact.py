"""Spark's OPTIMIZE and lake's own merging of files, at once on one day of one table: no row is lost or doubled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from millrace_batch import compact, conflicts
from millrace_batch.lake import Lake
from millrace_lake import compaction
from millrace_lake.compaction import Merge
from stream_tables import DAY, StreamTable

pytestmark = pytest.mark.spark

Open = Callable[[str], StreamTable]
NOW_MS = 1_772_452_800_000
FILES = 6


@dataclass
class BeforeCommit:
    """Delta tells its observer of each step of a transaction; `meanwhile` runs before the first that commits."""

    meanwhile: Callable[[], None]
    began: int = 0

    class Java:
        implements = ("org.apache.spark.sql.delta.TransactionExecutionObserver",)

    def startingTransaction(self, start: Any) -> Any:  # noqa: N802  # Scala's names, here and below
        return start.apply()

    def preparingCommit(self, prepare: Any) -> Any:  # noqa: N802
        self.began += 1
        if self.began == 1:
            self.meanwhile()
        return prepare.apply()

    def createChild(self) -> "BeforeCommit":  # noqa: N802
        return self

    def beginDoCommit(self) -> None:  # noqa: N802
        pass

    def beginBackfill(self) -> None:  # noqa: N802
        pass

    def beginPostCommit(self) -> None:  # noqa: N802
        pass

    def transactionCommitted(self) -> None:  # noqa: N802
        pass

    def transactionAborted(self) -> None:  # noqa: N802
        pass


@contextmanager
def before_sparks_commit(spark: SparkSession, meanwhile: Callable[[], None]) -> Iterator[BeforeCommit]:
    """Run `meanwhile` when Spark has read and written, and is about to commit for the first time."""
    gateway: Any = spark.sparkContext._gateway
    gateway.start_callback_server()
    observing: Any = gateway.jvm.org.apache.spark.sql.delta.TransactionExecutionObserver
    before = observing.getObserver()
    observer = BeforeCommit(meanwhile)
    observing.setObserver(observer)
    try:
        yield observer
    finally:
        observing.setObserver(before)
        gateway.shutdown_callback_server()


@pytest.fixture
def stream(stream_table: Open) -> StreamTable:
    """Return the stream's table events with a day of small files."""
    table = stream_table("events")
    for number in range(FILES):
        table.append([{"event_id": f"e-{number}-{row}"} for row in range(3)])
    return table


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that compact would have paused between two tries."""
    seconds: list[float] = []
    monkeypatch.setattr(compact, "retried", partial(conflicts.retried, pause=seconds.append))
    return seconds


def merge(stream: StreamTable) -> Merge | None:
    """Merge the day's files as lake does between two commits."""
    return compaction.compact(stream.writer, DAY, FILES, NOW_MS)


def assert_whole(stream: StreamTable, operations: list[str], *later: str) -> None:
    """See each row once, these commits behind the first, one file, and the stream going on behind them."""
    uri = stream.writer.uri
    wanted = [*(f"e-{number}-{row}" for number in range(FILES) for row in range(3)), *later]
    assert sorted(pl.scan_delta(uri).collect()["event_id"]) == sorted(wanted)
    table = DeltaTable(uri)
    assert len(table.file_uris()) == 1
    log = reversed(table.history(table.version() - FILES))
    assert [info["operation"] for info in log] == operations
    stream.append([{"event_id": "e-next"}])
    assert sorted(pl.scan_delta(uri).collect()["event_id"]) == sorted([*wanted, "e-next"])


def test_optimize_that_lake_has_overtaken_is_tried_again(
    spark: SparkSession, lake: Lake, stream: StreamTable, pauses: list[float]
) -> None:
    merges = []

    def lake_is_faster() -> None:
        merges.append(merge(stream))
        # What came after it is to be compacted by the second try, or the second try would have nothing to do.
        stream.append([{"event_id": "e-later"}])

    with before_sparks_commit(spark, lake_is_faster) as observer:
        compact.run(spark, lake, compact.Params(DAY))
    assert merges == [Merge(DAY, FILES, 3 * FILES)]
    assert pauses == [1.0]
    assert observer.began >= 2
    assert_whole(stream, ["WRITE", "WRITE", "OPTIMIZE"], "e-later")


def test_lakes_merge_that_optimize_has_overtaken_is_left_to_it(
    spark: SparkSession, lake: Lake, stream: StreamTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite = stream.writer.files.rewrite

    def spark_is_faster(*asked: Any) -> Any:
        merged = rewrite(*asked)
        compact.run(spark, lake, compact.Params(DAY))
        return merged

    monkeypatch.setattr(stream.writer.files, "rewrite", spark_is_faster)
    assert merge(stream) is None
    assert_whole(stream, ["OPTIMIZE"])
    assert merge(stream) is None
