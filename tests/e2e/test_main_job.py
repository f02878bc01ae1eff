"""The main job on real input and on simulated traffic with every fault, held against readings that share no code."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from pyspark.sql import SparkSession

from millrace_batch import daily_metrics, sessions
from millrace_batch.lake import Lake
from millrace_generator.reference import read_file, read_sessions, usable
from millrace_generator.truth import read_truth
from millrace_local import stack as stacks
from millrace_local.supervision import ProcessState

pytestmark = pytest.mark.e2e

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "rees46-2019-10-01.csv"
DBT_PROJECT = Path(__file__).parents[2] / "dbt"
TIMEOUT_SECONDS = 480
SERVICES = ("ingest", "enrich", "sessionize", "lake")
SESSION_FIELDS = (
    *("session_id", "event_count", "page_views", "clicks", "searches", "add_to_carts", "purchases"),
    *("unique_pages", "unique_products", "revenue_cents", "user_id", "closed_by"),
)
FAULTS = ("--duplicates=0.05", "--malformed=0.01", "--invalid=0.01", "--late=0.02", "--out-of-order=120s")


@dataclass(frozen=True)
class Demo:
    """A finished `millrace demo`."""

    work_dir: Path
    report: dict[str, Any]

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_delta(str(self.work_dir / "lake" / name))


def demo_command(work_dir: Path, *arguments: str, night: bool = False) -> list[str]:
    report = work_dir.with_suffix(".json")
    return [
        *(sys.executable, "-m", "millrace_local", "demo"),
        *("--ports", "auto", "--work-dir", str(work_dir), "--report", str(report), *arguments),
        *(("--dbt-project", str(DBT_PROJECT)) if night else ("--skip-batch",)),
    ]


def run_demo(work_dir: Path, *arguments: str, night: bool = False) -> Demo:
    done = subprocess.run(
        demo_command(work_dir, *arguments, night=night),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return finished(work_dir)


def finished(work_dir: Path) -> Demo:
    return Demo(work_dir, json.loads(work_dir.with_suffix(".json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def sample() -> Path:
    if not SAMPLE.exists():
        pytest.skip("the real sample is not beside the project (../shared/data)")
    return SAMPLE


@pytest.fixture(autouse=True)
def _nothing_stays_running(tmp_path: Path) -> Iterator[None]:
    yield
    left = processes_of(tmp_path)
    assert not left, [" ".join(process.cmdline()) for process in left]


def processes_of(folder: Path) -> Sequence[psutil.Process]:
    """Return every process whose command line, working directory or environment names `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            places = [*process.cmdline(), *(f"{k}={v}" for k, v in process.environ().items() if k.endswith("_URI"))]
        except psutil.Error:
            continue
        if any(str(folder) in place for place in places) and process.pid != psutil.Process().pid:
            found.append(process)
    return found


def test_sessions_and_marts_of_the_real_sample_equal_a_plain_reading(sample: Path, tmp_path: Path) -> None:
    demo = run_demo(tmp_path / "demo", "--events", str(sample), night=True)
    rows = [row for row in read_file(sample) if usable(row)]
    check_sample(demo, rows)
    assert demo.report["duplicates"] == 0
    assert demo.report["rejects"] == {}
    assert demo.report["balanced"] is True
    assert demo.report["in_flight"] == 0
    check_marts(demo.report["night"], rows)


def test_shuffling_and_sending_twice_change_nothing(sample: Path, tmp_path: Path) -> None:
    shuffled = tmp_path / "shuffled.csv"
    shuffle(sample, shuffled, timedelta(seconds=240))
    demo = run_demo(tmp_path / "demo", "--events", str(shuffled), "--events", str(shuffled))
    rows = [row for row in read_file(sample) if usable(row)]
    check_sample(demo, rows)
    assert demo.report["duplicates"] == len(rows) + demo.report["tables"]["transactions"]
    assert demo.report["late"] == 0


@pytest.mark.spark
def test_every_injected_fault_is_found_again_although_every_service_is_killed(
    tmp_path: Path, spark: SparkSession
) -> None:
    """With late events, the stream's sessions are not those of all events; after the batch they are."""
    work_dir, truth_file = tmp_path / "demo", tmp_path / "truth.ndjson"
    command = demo_command(work_dir, "--rate=300", "--seconds=40", "--seed=7", "--truth", str(truth_file), *FAULTS)
    kills: Counter[str] = Counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            kill_services(process, work_dir, truth_file, kills)
            output, _ = process.communicate(timeout=480)
        except BaseException:
            process.terminate()
            process.communicate(timeout=60)
            raise
    assert process.returncode == 0, output
    assert set(kills) == set(SERVICES), f"not every service was killed: {kills}"
    demo = finished(work_dir)
    check_truth(demo, truth_file)
    check_batch(demo, spark, truth_file)


def test_interrupt_leaves_nothing_running_and_the_next_run_starts_clean(tmp_path: Path) -> None:
    work_dir = tmp_path / "demo"
    command = demo_command(work_dir, "--seconds=60")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_until(lambda: "lake" in states(work_dir), 120)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert not processes_of(work_dir)
    demo = run_demo(work_dir, "--seconds=3")
    assert demo.report["balanced"] is True
    assert demo.report["events"] >= 1_400


def check_sample(demo: Demo, rows: list[dict[str, str]]) -> None:
    events = demo.table("events")
    assert len(events) == events["event_id"].n_unique() == len(rows)
    assert (demo.table("sessions")["revision"] == 1).all()
    expected = Counter(
        (s.client_session_id, s.started_at, s.ended_at, s.event_count, s.page_views, s.add_to_carts, s.purchases)
        + (s.unique_products, s.revenue_cents)
        for s in read_sessions(rows)
    )
    columns = ("client_session_id", "started_at", "ended_at", "event_count", "page_views", "add_to_carts")
    found = Counter(demo.table("sessions").select(*columns, "purchases", "unique_products", "revenue_cents").rows())
    assert found == expected


def check_marts(night: dict[str, Any], rows: list[dict[str, str]]) -> None:
    sessions = read_sessions(rows)
    purchases = [row for row in rows if row["event_type"] == "purchase"]
    assert night["marts"] == {
        "2019-10-01": {
            "sessions": len(sessions),
            "converted_sessions": sum(session.purchases > 0 for session in sessions),
            "revenue_cents": sum(int(Decimal(row["price"]) * 100) for row in purchases),
            # a client session that buys several things in one second makes one order
            "orders": len({(row["user_session"], row["event_time"]) for row in purchases}),
            "daily_active_users": len({row["user_id"] for row in rows}),
        }
    }
    assert night["agrees"]
    (report,) = night["reports"]
    assert "<h1>Quality of 2019-10-01</h1>\n<p>errors: 0, " in Path(report).read_text(encoding="utf-8")


def check_truth(demo: Demo, truth_file: Path) -> None:
    truth = read_truth(truth_file)
    totals = truth["totals"][0]
    assert demo.report["balanced"] is True, demo.report["problems"]
    events = demo.table("events")
    assert len(events) == events["event_id"].n_unique() == totals["events"]
    assert demo.report["tables"]["transactions"] == totals["orders"]
    assert demo.report["duplicates"] == sum(totals["duplicates"].values())
    assert Counter(demo.table("dead_letters")["reason"]) == Counter(totals["malformed"]) + Counter(totals["invalid"])
    assert set(demo.table("late_events")["event_id"]) == {line["event_id"] for line in truth["late"]}
    assert sessions_in(demo.table("sessions")) == sessions_of(truth["session"])


def check_batch(demo: Demo, spark: SparkSession, truth_file: Path) -> None:
    """Let the batch mend what came late, and hold it against what the generator knows of all events."""
    truth, lake = read_truth(truth_file), Lake(str(demo.work_dir / "lake"))
    totals = truth["totals"][0]
    streamed, complete = sessions_of(truth["session"]), sessions_of(truth["session_with_late"])
    for day in sorted(demo.table("events")["event_date"].unique()):
        sessions.run(spark, lake, sessions.Params(day))
        daily_metrics.run(spark, lake, daily_metrics.Params(day))

    found = demo.table("reconciliation")
    differing = {session[0] for session in (streamed - complete) + (complete - streamed)}
    assert len(differing) > totals["late"] / 2
    assert set(found["session_id"]) == differing
    assert set(found["cause"]) == {"late"}

    revisions = demo.table("sessions")
    assert sessions_in(revisions.filter(pl.col("revision") == 1)) == streamed
    newest = pl.col("revision") == pl.col("revision").max().over("session_id")
    assert sessions_in(revisions.filter(newest & (pl.col("closed_by") != "replaced"))) == complete

    by_day = demo.table("fact_daily_metrics").select("events", "sessions", "revenue_cents", "orders").sum()
    assert by_day.row(0, named=True) == {
        "events": totals["events"],
        "sessions": totals["sessions_with_late"],
        "revenue_cents": totals["revenue_cents"],
        "orders": demo.report["orders"],
    }


def sessions_in(table: pl.DataFrame) -> Counter[tuple[Any, ...]]:
    return Counter(table.select(SESSION_FIELDS).rows())


def sessions_of(lines: Sequence[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(line[field] for field in SESSION_FIELDS) for line in lines)


def kill_services(
    process: "subprocess.Popen[str]", work_dir: Path, truth_file: Path, kills: Counter[str], rounds: int = 2
) -> None:
    """SIGKILL every service a few times while records are sent, the next one when the last one is ready again."""
    wait_until(lambda: truth_file.exists() or process.poll() is not None, 180)
    for service in SERVICES * rounds:
        victim = states(work_dir)[service]
        assert victim.identity is not None
        os.kill(victim.identity.pid, signal.SIGKILL)
        kills[service] += 1
        wait_until(partial(is_back, work_dir, victim), 60)


def is_back(work_dir: Path, victim: ProcessState) -> bool:
    now = states(work_dir)[victim.spec.name]
    return now.ready and now.identity != victim.identity


def states(work_dir: Path) -> dict[str, ProcessState]:
    stack = stacks.attach(work_dir)
    return {} if stack is None else {state.spec.name: state for state in stack.states()}


def shuffle(source: Path, target: Path, most: timedelta) -> None:
    chance = random.Random(46)
    with source.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    moved = sorted(rows, key=lambda row: at(row[0]) + chance.random() * most)
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *moved])


def at(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S UTC")  # noqa: DTZ007  # only differences matter


def wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.1)
