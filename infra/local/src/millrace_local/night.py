"""The night of a demo: every job for each day that sessions began on, dbt, the marts held against the stream, quality.

All Spark jobs share one session, since its start costs more than most of them. Nothing it starts is left when it ends.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import psutil
from py4j.protocol import Py4JError
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from millrace_batch import jobs, quality_report
from millrace_batch import spark as spark_sessions
from millrace_batch.lake import Lake
from millrace_batch.night import Night
from millrace_batch.spark import Jars
from millrace_local import artifacts, headlines, postgres
from millrace_local.dbt import Dbt, find_dbt
from millrace_local.errors import NotReadyError
from millrace_local.headlines import Compared, Headlines, NightReport
from millrace_local.settings import LocalSettings
from millrace_local.spark_jars import spark_jars
from millrace_local.stack import tail

_COMPACT: Final = "compact"
_LOAD: Final = "load_warehouse"
_QUALITY: Final = "quality"
_SPARK_JOBS: Final = (
    *(_COMPACT, "sessions", "daily_metrics", "user_segments", "user_features"),
    "recommendation_features",
)
_STOP_SECONDS: Final = 20.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a night needs besides a lake.

    Attributes:
        jars: for Spark.
        dbt: with the models of the warehouse.
    """

    jars: Jars
    dbt: Dbt


def find_tools(settings: LocalSettings, dbt_project: Path, progress: artifacts.Progress) -> Tools:
    """Find, download or build what a night needs; with a filled cache this takes milliseconds.

    Raises:
        LocalStackError: something is missing and cannot be had: a JDK, Delta's jars, dbt.
        CompilerError: the log stores do not compile.
    """
    return Tools(dbt=find_dbt(dbt_project), jars=spark_jars(settings, progress))


def run(work_dir: Path, tools: Tools, say: Say) -> NightReport:
    """Run the night on the lake of `work_dir`, into the Postgres of `work_dir`, which is stopped at the end.

    Raises:
        BatchError: a job could not be done, found what nothing explains, or a check that must hold does not.
        LocalStackError: Spark or Postgres does not start, or dbt failed.
    """
    lake, logs, reports = work_dir / "lake", work_dir / "logs", work_dir / "reports"
    steps = _Steps(say)
    stream = with_sessions(headlines.of_stream(lake), say)
    days = sorted(stream)
    # Quality comes last and asks Spark, which is slow to start and idles cheaply: it stays until then.
    with _spark(tools.jars, logs / "spark.log", steps) as session:
        _spark_jobs(session, lake, days, steps)
        compared = _warehouse(work_dir, stream, tools.dbt, steps)
        for day in days:
            with steps.step(_QUALITY, day):
                outcome = jobs.run(_QUALITY, Night(day, Lake(str(lake)), lambda: session, report_dir=reports))
            for line in outcome.lines:
                say(line)
    return NightReport(compared, steps.seconds, tuple(quality_report.path_of(reports, day) for day in days))


def with_sessions(stream: Mapping[date, Headlines], say: Say) -> Mapping[date, Headlines]:
    """Return the days that sessions began on. One that has only the end of sessions of the day before has no night."""
    for day in sorted(day for day, figures in stream.items() if not figures.sessions):
        say(f"the night of {day} is left out: no session began on it")
    return {day: figures for day, figures in stream.items() if figures.sessions}


class _Steps:
    """Says each step as it begins, and adds up how long they take."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, day: date | None = None) -> Iterator[None]:
        self.say(name if day is None else f"the night of {day}: {name}")
        began = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def _spark_jobs(session: SparkSession, lake: Path, days: Sequence[date], steps: _Steps) -> None:
    today = datetime.now(UTC).date()
    for day in days:
        night = Night(day, Lake(str(lake)), lambda: session)
        for name in _SPARK_JOBS:
            if name == _COMPACT and day >= today:
                steps.say(f"the night of {day}: {name} is left out, the day is not over")
                continue
            with steps.step(name, day):
                outcome = jobs.run(name, night)
            if name == "sessions":
                steps.say("; ".join(outcome.lines))


def _warehouse(work_dir: Path, stream: Mapping[date, Headlines], dbt: Dbt, steps: _Steps) -> Compared:
    """Load the days into a Postgres that runs only as long, build the marts, and read their figures."""
    lake = work_dir / "lake"
    server = postgres.of_work_dir(work_dir)
    try:
        with steps.step("starting Postgres"):
            dsn = server.start()
        for day in sorted(stream):
            with steps.step(_LOAD, day):
                jobs.run(_LOAD, Night(day, Lake(str(lake)), _no_spark, lambda: dsn))
        with steps.step("dbt build"):
            steps.say(f"dbt: {dbt.build(dsn, work_dir / 'logs')}")
        return Compared(stream, headlines.corrected(stream, lake), headlines.of_marts(dsn))
    finally:
        server.stop()


@contextmanager
def _spark(jars: Jars, log: Path, steps: _Steps) -> Iterator[SparkSession]:
    """Give a session whose Java process is gone at the end, however that comes."""
    before = set(psutil.Process().children())
    on_interrupt = signal.getsignal(signal.SIGINT)
    # What waits for Java tells the root logger of an interrupt at length; that is no news to who pressed Ctrl-C.
    into_log = logging.FileHandler(log)
    logging.getLogger().addHandler(into_log)
    try:
        with steps.step("starting Spark"), _output_into(log):
            session = _session(jars, log)
        # Spark's own handler asks Java to cancel the jobs, over a connection that may be in use at that moment.
        signal.signal(signal.SIGINT, on_interrupt)
        yield session
        session.stop()
    except Py4JError as error:
        # An interrupt cuts the connection to Java, and a job that cleans up behind it fails for that.
        if not _begins_with_interrupt(error):
            raise
        raise KeyboardInterrupt from error
    finally:
        # Java ends by itself, but only after this process, and is seen running until then.
        _end([child for child in psutil.Process().children() if child not in before])
        logging.getLogger().removeHandler(into_log)
        into_log.close()


def _begins_with_interrupt(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _session(jars: Jars, log: Path) -> SparkSession:
    try:
        return spark_sessions.session(jars, options=spark_sessions.SMALL_TABLES)
    except PySparkRuntimeError as error:
        message = f"Spark does not start:\n{tail(log)}"
        raise NotReadyError(message) from error


@contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Have the processes that are started in here write what they print to `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        with log.open("ab") as file:
            for number in kept:
                os.dup2(file.fileno(), number)
        yield
    finally:
        for number, saved in kept.items():
            os.dup2(saved, number)
            os.close(saved)


def _end(children: Sequence[psutil.Process]) -> None:
    """End processes and all that they have started, and wait until they have: Java removes its files first."""
    every = list(children)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            every += child.children(recursive=True)
    for process in every:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(every, _STOP_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, _STOP_SECONDS)


def _no_spark() -> SparkSession:
    message = "this step runs without Spark"
    raise AssertionError(message)
