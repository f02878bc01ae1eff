"""Puts a running pipeline under load, a rush and a history beside live traffic, and writes down how it took it.

    python tests/torture/load.py [--long] [--only NAME]... [--report docs/reference/load.md]

Each runs on a stack of its own. Exit code 1 if a record is lost or doubled, the books do not balance, the lag does not
go away, or live traffic waits too long beside history.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import DeltaTable

from load_page import write_report
from millrace_common.errors import MillraceError
from millrace_generator import Plan, Target, backfill_plan, normal_plan, spike_plan
from millrace_generator.commands import BACKFILL
from millrace_generator.resuming import Bookmark, read_bookmark
from millrace_generator.traffic import TOPICS, Event
from millrace_local.audit import audit
from millrace_local.circumstances import circumstances
from millrace_local.draining import wait_until_through
from millrace_local.evidence import gather
from millrace_local.open_loop import LoadError, live
from millrace_local.ports import ANY
from millrace_local.reading import Library
from millrace_local.services import SERVICES
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack, wait_until
from millrace_local.starting import up
from millrace_local.watching import Watch, watching

TIMED: Final = "long"
"""The form whose times count; the short one runs wherever tests run, beside whatever else does."""
LIVE_P99_SECONDS: Final = 2.0
"""The most that live events may take at the 99th percentile beside history."""
RECOVERY_SECONDS: Final = 30.0
"""The most that the lag of a rush may take to go away."""

_LIVE_PER_SECOND: Final = 100.0
_LONGEST_SECONDS: Final = 1_800.0
_PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Rush:
    """A peak between two stretches of a baseline; rates are events a second."""

    baseline: float
    peak: float
    before_seconds: float
    during_seconds: float
    after_seconds: float

    def plan(self) -> Plan:
        """Return it, from now on."""
        before, during, after = (
            timedelta(seconds=seconds) for seconds in (self.before_seconds, self.during_seconds, self.after_seconds)
        )
        return spike_plan(
            datetime.now(UTC), baseline=self.baseline, peak=self.peak, before=before, during=during, after=after
        )


@dataclass(frozen=True, slots=True)
class History:
    """What `millrace generate backfill` is asked for; it is killed after `cut_after` records, and started again."""

    days: float
    events_per_day: float
    cut_after: int
    rate: str = "max"

    def plan(self, end: datetime) -> Plan:
        """Return the same history as the command sends."""
        return backfill_plan(end, self.days, events_per_day=self.events_per_day)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the command's options."""
        return (
            *("--days", f"{self.days:g}", "--events-per-day", f"{self.events_per_day:g}"),
            *("--rate", self.rate),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """How the pipeline took one load.

    Attributes:
        name: of the load.
        form: short or long.
        about: what it was.
        records: sent, history included.
        worst_lateness_seconds: of the generator of live traffic.
        recovery_seconds: from the end of the peak until its last event could be read and no service was further behind
            than before it; None: no peak, or never.
        lost: events missing in the lake.
        doubled: events too many in the lake.
        p50_seconds, p99_seconds: of live events, from their intended time to readable in user-events.enriched; beside
            history, those that were intended while it was sent.
        alone_p99_seconds: the same before history began, or before the peak.
        peak_rss_mib: of each process with its children.
        seconds: what else took how long.
        problems: a sentence each; empty: it held.
    """

    name: str
    form: str
    about: str
    records: int
    worst_lateness_seconds: float
    recovery_seconds: float | None
    lost: int
    doubled: int
    p50_seconds: float
    p99_seconds: float
    alone_p99_seconds: float
    peak_rss_mib: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = ()


def rush(name: str, form: str, shape: Rush, stack: Stack) -> Result:
    """Send a rush and see how it is worked off."""
    before = _in_lake(stack)
    with live(stack, shape.plan) as traffic, watching(stack) as watch:
        report = traffic.finish()
        wait_until_through(stack, SERVICES)
        events = traffic.latencies()
        lost, doubled, problems = _judge(stack, before + Counter(events["event_id"]), ("",))
    began = _least(events["at"]) + shape.before_seconds
    ended = began + shape.during_seconds
    # Every event of the peak is through, those that the generator was late with too, and then nobody is behind.
    peak_read = events.filter(pl.col("at") < ended).select(pl.col("at") + pl.col("seconds"))["at"].max()
    recovered = watch.recovered_at(began, max(ended, float(peak_read)))  # type: ignore[arg-type]  # a float series
    recovery = None if recovered is None else recovered - ended
    if form == TIMED and (recovery is None or recovery > RECOVERY_SECONDS):
        took = "it never was" if recovery is None else f"it took {recovery:.1f} s"
        problems.append(f"the lag was not gone {RECOVERY_SECONDS:.0f} s after the peak: {took}")
    return Result(
        name=name,
        form=form,
        about=f"{shape.baseline:,.0f} → {shape.peak:,.0f} → {shape.baseline:,.0f}/s, "
        f"the peak for {shape.during_seconds:.0f} s",
        records=report.records,
        worst_lateness_seconds=round(report.worst_lateness_seconds, 3),
        recovery_seconds=None if recovery is None else round(recovery, 1),
        lost=lost,
        doubled=doubled,
        p50_seconds=_quantile(events, 0.5),
        p99_seconds=_quantile(events, 0.99),
        alone_p99_seconds=_quantile(events.filter(pl.col("at") < began), 0.99),
        peak_rss_mib=_mib(watch),
        problems=problems,
    )


def history(name: str, form: str, asked: History, stack: Stack) -> Result:
    """Send a history beside live traffic, kill it in the middle, and let it go on."""
    before = _in_lake(stack)
    with live(stack, partial(_live_plan, _LIVE_PER_SECOND)) as traffic, watching(stack) as watch:
        target = Target(stack.bootstrap_servers, stack.registry_url)
        if not traffic.flowing.wait(_PATIENCE_SECONDS):
            message = "no live traffic"
            raise LoadError(message)
        wait_until(lambda: False, 5.0)  # live traffic by itself, to compare
        began = time.time()
        cut = _cut(stack, asked, target)
        resumed = time.time()
        told = subprocess.run(
            _command(stack, asked), capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS
        )
        ended = time.time()
        report = traffic.close()
        wait_until_through(stack, SERVICES)
        events = traffic.latencies()
        expected = Counter(events["event_id"])
        historic = 0
        for record in asked.plan(datetime.fromtimestamp(cut.end_ms / 1000, UTC)).records(dict.fromkeys(TOPICS, 0)):
            historic += 1
            if isinstance(record.about, Event):
                expected[record.about.event_id] += 1
        lost, doubled, problems = _judge(stack, before + expected, ("", BACKFILL))
        bookmark = read_bookmark(target, BACKFILL)
    if told.returncode:
        problems.append(f"the second run exited with {told.returncode}: {told.stderr[-2_000:]}")
    if f"going on after {cut.sent:,} records" not in told.stderr:
        problems.append(f"the second run did not go on after {cut.sent:,} records: {told.stderr[:500]}")
    if bookmark is None or (bookmark.sent, bookmark.over) != (historic, True):
        problems.append(f"{historic:,} records make the history, the bookmark says {bookmark}")
    beside = events.filter(pl.col("at").is_between(began, ended))
    p99 = _quantile(beside, 0.99)
    if form == TIMED and p99 >= LIVE_P99_SECONDS:
        problems.append(f"live events took {p99} s at the 99th percentile beside history")
    return Result(
        name=name,
        form=form,
        about=f"{asked.days:g} days of {asked.events_per_day:,.0f} events beside {_LIVE_PER_SECOND:.0f}/s live, "
        f"killed after {cut.sent:,} records and started again",
        records=report.records + historic,
        worst_lateness_seconds=round(report.worst_lateness_seconds, 3),
        recovery_seconds=None,
        lost=lost,
        doubled=doubled,
        p50_seconds=_quantile(beside, 0.5),
        p99_seconds=p99,
        alone_p99_seconds=_quantile(events.filter(pl.col("at") < began), 0.99),
        peak_rss_mib=_mib(watch),
        seconds={"until killed": round(resumed - began, 1), "the second run": round(ended - resumed, 1)},
        problems=problems,
    )


Run = Callable[[str, str, Stack], Result]
LOADS: Final[Mapping[str, Mapping[str, Run]]] = {
    "short": {
        "rush": lambda name, form, stack: rush(name, form, Rush(100, 1_000, 3, 3, 5), stack),
        "history": lambda name, form, stack: history(
            name, form, History(1, 10_000, cut_after=2_000, rate="2000"), stack
        ),
    },
    "long": {
        "rush to 3,000/s": lambda name, form, stack: rush(name, form, Rush(100, 3_000, 15, 60, 40), stack),
        "rush to 50,000/s": lambda name, form, stack: rush(name, form, Rush(500, 50_000, 15, 10, 60), stack),
        "history": lambda name, form, stack: history(name, form, History(30, 20_000, cut_after=200_000), stack),
    },
}


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Put a running pipeline under load.")
    parser.add_argument("--long", action="store_true", help="the real thing")
    parser.add_argument("--only", action="append", help="only this one; repeatable")
    parser.add_argument("--report", type=Path, help="the page to write; its numbers go beside it as JSON")
    arguments = parser.parse_args()
    form = "long" if arguments.long else "short"
    held = True
    for name, run in LOADS[form].items():
        if arguments.only and name not in arguments.only:
            continue
        work_dir = Path(tempfile.mkdtemp(prefix="load-"))
        before = round(os.getloadavg()[0], 1)
        print(f"{name} ({form}) in {work_dir}; the machine's load before is {before}", flush=True)
        try:
            with running_stack(work_dir / "stack") as stack:
                result = run(name, form, stack)
        except MillraceError as error:
            print(f"{name} could not be finished: {error}", flush=True)
            held = False
            continue
        print(json.dumps(asdict(result), indent=2), flush=True)
        held = held and not result.problems
        if arguments.report is not None:
            write_report(arguments.report, {**asdict(result), "run": {**circumstances(), "load_before": before}})
    return 0 if held else 1


def _live_plan(per_second: float) -> Plan:
    return normal_plan(datetime.now(UTC), timedelta(seconds=_LONGEST_SECONDS), per_second=per_second)


@contextmanager
def running_stack(work_dir: Path) -> Iterator[Stack]:
    """Run a whole stack, with every service as `millrace up` runs it, while the block runs."""
    stack = up(StackSettings(work_dir=work_dir, ports=ANY), SERVICES)
    try:
        yield stack
    finally:
        stack.stop()


def _command(stack: Stack, asked: History) -> list[str]:
    command = (sys.executable, "-m", "millrace_local", "generate", "backfill")
    return [*command, "--work-dir", str(stack.work_dir), *asked.arguments]


def _cut(stack: Stack, asked: History, target: Target) -> Bookmark:
    """Start the history, kill the command when enough of it is sent, and return how far it got.

    Raises:
        LoadError: it was over before.
    """
    with subprocess.Popen(_command(stack, asked), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def enough() -> bool:
            found = read_bookmark(target, BACKFILL)
            return process.poll() is not None or (found is not None and found.sent >= asked.cut_after)

        wait_until(enough, _LONGEST_SECONDS)
        process.send_signal(signal.SIGKILL)
    bookmark = read_bookmark(target, BACKFILL)
    if process.returncode != -signal.SIGKILL or bookmark is None or bookmark.over:
        message = f"the history was not cut: it exited with {process.returncode}, {bookmark}"
        raise LoadError(message)
    return bookmark


def _judge(stack: Stack, expected: Counter[str], lanes: Sequence[str]) -> tuple[int, int, list[str]]:
    """Return how many events the lake misses, how many it has too many, and what the books of `lanes` complain of."""
    found = _in_lake(stack)
    lost, doubled = (expected - found).total(), (found - expected).total()
    problems = [f"{lost} events are missing, {doubled} too many"] if lost or doubled else []
    for lane in lanes:
        books = audit(gather(Library(stack.bootstrap_servers, stack.registry_url, stack.lake, lane)))
        problems += books.problems
        problems += [f"{service} has not read {count} records" for service, count in books.in_flight.items() if count]
    return lost, doubled, problems


def _in_lake(stack: Stack) -> Counter[str]:
    table = str(stack.lake / "events")
    return Counter(pl.read_delta(table)["event_id"]) if DeltaTable.is_deltatable(table) else Counter()


def _least(times: pl.Series) -> float:
    return float(times.min())  # type: ignore[arg-type]  # a float series


def _quantile(events: pl.DataFrame, share: float) -> float:
    """Return a latency; an event that was never read counts as one that takes for ever."""
    quantile = events["seconds"].fill_null(math.inf).quantile(share, "higher")
    if quantile is None:
        message = "no event to measure"
        raise LoadError(message)
    return round(float(quantile), 3)


def _mib(watch: Watch) -> dict[str, int]:
    return {name: round(peak / 2**20) for name, peak in sorted(watch.peak_rss_bytes.items())}


if __name__ == "__main__":
    sys.exit(main())
