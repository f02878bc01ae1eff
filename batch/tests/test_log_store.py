"""Commits of Spark and of delta-rs to one table: of two for one version, exactly one is made, and the other is told."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JJavaError
from pyspark.core.context import SparkContext
from pyspark.sql import SparkSession

from millrace_batch.errors import CompilerError
from millrace_batch.lake import Lake
from millrace_batch.log_store import CLASSES, build
from millrace_batch.spark import Jars
from stream_tables import StreamTable

pytestmark = pytest.mark.spark

Open = Callable[[str], StreamTable]
# Commits that each engine makes in the race, and how many of them to one table: each commit lists the table's log.
RACE_COMMITS = int(os.environ.get("RACE_COMMITS", "1000"))
ROUND_COMMITS = 500
LEAD = 8
STANDSTILL_SECONDS = 60


@dataclass
class Lines:
    """The lines of a commit as Java iterates over them; `meanwhile` runs before the first is given out."""

    lines: list[str]
    meanwhile: Callable[[], None]

    class Java:
        implements = ("java.util.Iterator",)

    def hasNext(self) -> bool:  # noqa: N802  # Java's name
        return bool(self.lines)

    def next(self) -> str:
        self.meanwhile()
        return self.lines.pop(0)


@dataclass
class LogStore:
    """Spark's half of the race: commits by the log store alone, thousands in the time of some real ones."""

    context: SparkContext
    log_dir: Path
    class_name: str = CLASSES["file"]
    jvm: Any = field(init=False)
    store: Any = field(init=False)
    conf: Any = field(init=False)

    def __post_init__(self) -> None:
        self.jvm = self.context._jvm
        self.conf = self.context._jsc.hadoopConfiguration()
        loader = self.jvm.java.lang.Thread.currentThread().getContextClassLoader()
        java_class = self.jvm.java.lang.Class.forName(self.class_name, True, loader)
        (constructor,) = java_class.getConstructors()
        arguments = cast("Any", self.context._gateway).new_array(self.jvm.java.lang.Object, 1)
        arguments[0] = self.conf
        self.store = constructor.newInstance(arguments)

    def commit(self, version: int, app_id: str, number: int) -> bool:
        """Try to make a version; False if somebody else has."""
        return self.write(f"{version:020}.json", self.jvm.java.util.List.of(transaction(app_id, number)).iterator())

    def write(self, name: str, lines: Any, *, overwrite: bool = False) -> bool:
        path = self.jvm.org.apache.hadoop.fs.Path(f"file:{self.log_dir}/{name}")
        try:
            self.store.write(path, lines, overwrite, self.conf)
        except Py4JJavaError as error:
            if error.java_exception.getClass().getName() != "java.nio.file.FileAlreadyExistsException":
                raise
            return False
        return True


def transaction(app_id: str, number: int) -> str:
    return json.dumps({"txn": {"appId": app_id, "version": number, "lastUpdated": 0}})


def commit_with_delta_rs(table: DeltaTable, app_id: str, number: int) -> bool:
    """Try to make the version behind the one that `table` has seen; False if somebody else has."""
    made = True
    try:
        table.create_write_transaction(
            [],
            "append",
            table.schema(),
            ["event_date"],
            commit_properties=CommitProperties(max_commit_retries=0, app_transactions=[Transaction(app_id, number)]),
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
    except CommitFailedError:
        made = False
    except DeltaError as error:
        if not is_gap(error):
            raise
        refresh(table)
        return table.transaction_version(app_id) == number
    refresh(table)
    return made


def is_gap(error: DeltaError) -> bool:
    """Whether a folder was listed while names came and went: then one may lack, and the next be there."""
    return "Expected contiguous commit files" in str(error)


def refresh(table: DeltaTable) -> None:
    """Take the table to its newest version."""
    while True:
        try:
            table.update_incremental()
        except DeltaError as error:
            if not is_gap(error):
                raise
        else:
            return


@pytest.fixture
def log_dir(lake: Lake, stream_table: Open) -> Path:
    """Return the log of a table that has version 0 and nothing else."""
    return Path(stream_table("events").writer.uri) / "_delta_log"


@pytest.fixture
def log_store(spark: SparkSession, log_dir: Path) -> LogStore:
    return LogStore(spark.sparkContext, log_dir)


@pytest.fixture
def callbacks(spark: SparkSession) -> Iterator[None]:
    """Let Java call Python back."""
    gateway: Any = spark.sparkContext._gateway
    gateway.start_callback_server()
    yield
    gateway.shutdown_callback_server()


def race(log_store: LogStore, commits: int) -> None:
    """Let both engines make so many commits, as fast as they can, neither far ahead: alone it would not race."""
    made = {"spark": 0, "delta-rs": 0}
    moved = threading.Condition()

    def has_made_one(engine: str, other: str) -> None:
        with moved:
            made[engine] += 1
            moved.notify()
            assert moved.wait_for(lambda: made[engine] - made[other] <= LEAD, STANDSTILL_SECONDS)

    def spark_commits() -> None:
        version = 0
        while made["spark"] < commits:
            version += 1
            if log_store.commit(version, "spark", made["spark"]):
                has_made_one("spark", "delta-rs")

    def stream_commits() -> None:
        table = DeltaTable(str(log_store.log_dir.parent))
        while made["delta-rs"] < commits:
            if commit_with_delta_rs(table, "delta-rs", made["delta-rs"]):
                has_made_one("delta-rs", "spark")

    with ThreadPoolExecutor() as pool:
        for half in [pool.submit(spark_commits), pool.submit(stream_commits)]:
            half.result()


def commits_in(log_dir: Path) -> dict[str, list[int]]:
    """Return the number of each commit that is in the log, by who made it."""
    found: dict[str, list[int]] = {"spark": [], "delta-rs": []}
    for path in sorted(log_dir.glob("[0-9]*.json"))[1:]:
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        (txn,) = [action["txn"] for action in actions if "txn" in action]
        found[txn["appId"]].append(txn["version"])
    return found


@pytest.mark.timeout(3600)
def test_no_commit_of_either_engine_is_lost_in_a_race(spark: SparkSession, tmp_path: Path) -> None:
    for first in range(0, RACE_COMMITS, ROUND_COMMITS):
        log_dir = Path(StreamTable(str(tmp_path / str(first)), "events").writer.uri) / "_delta_log"
        commits = min(ROUND_COMMITS, RACE_COMMITS - first)
        race(LogStore(spark.sparkContext, log_dir), commits)
        assert commits_in(log_dir) == {"spark": list(range(commits)), "delta-rs": list(range(commits))}


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize(
    ("store", "is_told", "survivor"),
    [(CLASSES["file"], True, "delta-rs"), ("io.delta.storage.LocalLogStore", False, "spark")],
    ids=["ours", "Delta's own"],
)
def test_commit_of_the_stream_while_spark_writes_the_same_version_is_kept_by_our_store_alone(
    spark: SparkSession, log_dir: Path, store: str, is_told: bool, survivor: str
) -> None:
    def stream_commits() -> None:
        assert commit_with_delta_rs(DeltaTable(str(log_dir.parent)), "delta-rs", 0)

    lines = Lines([transaction("spark", 0)], stream_commits)
    made = LogStore(spark.sparkContext, log_dir, store).write(f"{1:020}.json", lines)
    assert made is not is_told
    assert commits_in(log_dir)[survivor] == [0]


def test_name_that_is_taken_is_refused_though_a_look_does_not_find_it(log_store: LogStore) -> None:
    """A link to nowhere stands for the name that is taken behind a look: only creating it can tell."""
    name = log_store.log_dir / f"{1:020}.json"
    name.symlink_to("nowhere")
    assert not log_store.commit(1, "spark", 0)
    assert name.is_symlink()


def test_commit_appears_whole_and_leaves_nothing_beside_it(log_store: LogStore) -> None:
    assert log_store.commit(1, "spark", 0)
    assert not log_store.commit(1, "spark", 1)
    assert commits_in(log_store.log_dir)["spark"] == [0]
    assert sorted(path.name for path in log_store.log_dir.iterdir()) == [f"{n:020}.json" for n in (0, 1)]


@pytest.mark.usefixtures("callbacks")
def test_failed_commit_leaves_nothing(log_store: LogStore) -> None:
    def break_off() -> None:
        raise OSError

    with pytest.raises(Py4JJavaError):
        log_store.write(f"{1:020}.json", Lines(["x"], break_off))
    assert [path.name for path in log_store.log_dir.iterdir()] == [f"{0:020}.json"]


def test_overwriting_replaces(log_store: LogStore) -> None:
    of = log_store.jvm.java.util.List.of
    assert log_store.write("_last_checkpoint", of("first").iterator(), overwrite=True)
    assert log_store.write("_last_checkpoint", of("second", "Wörter").iterator(), overwrite=True)
    assert (log_store.log_dir / "_last_checkpoint").read_text(encoding="utf-8") == "second\nWörter\n"


def test_appends_of_spark_and_of_the_stream_all_arrive(spark: SparkSession, lake: Lake, stream_table: Open) -> None:
    stream, spark_appends, stream_appends = stream_table("sessions"), 8, 40
    stream.append([{"session_id": "first"}])
    first = lake.read(spark, "sessions").collect()[0].asDict()
    schema = lake.read(spark, "sessions").schema
    failures: list[BaseException] = []

    def append() -> None:
        try:
            for number in range(stream_appends):
                stream.append([{"session_id": f"stream-{number}"}])
        except BaseException as error:  # it is asserted below
            failures.append(error)

    thread = threading.Thread(target=append)
    thread.start()
    for number in range(spark_appends):
        rows = spark.createDataFrame([first | {"session_id": f"spark-{number}"}], schema)
        rows.write.format("delta").mode("append").save(lake.table_uri("sessions"))
    thread.join()
    assert not failures
    found = pl.scan_delta(lake.table_uri("sessions")).select("session_id").collect()["session_id"].to_list()
    wanted = ["first", *(f"stream-{n}" for n in range(stream_appends)), *(f"spark-{n}" for n in range(spark_appends))]
    assert sorted(found) == sorted(wanted)


def test_source_that_does_not_compile_is_said_and_leaves_nothing(
    jars: Jars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "java").mkdir()
    (tmp_path / "java" / "Broken.java").write_text("class Broken {")
    monkeypatch.setattr("millrace_batch.log_store._source_dir", lambda: tmp_path / "java")
    cache = tmp_path / "cache"
    with pytest.raises(CompilerError, match="reached end of file"):
        build(Path("javac"), jars.delta, cache)
    assert not list(cache.iterdir())
