"""Measures the whole pipeline: latency against rate, an hour-old table, memory, restarts, cost.

    python tests/bench/pipeline.py [--quick] [--json FILE] [--work-dir FOLDER]

Broker, registry and load share the first core, the services the second. `make bench` does the same.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import polars as pl

import aging
import latency
import restart
from aging import Aged
from figures import Figure, Section, figure
from latency import Run
from millrace_common.errors import MillraceError
from millrace_generator import Plan, Target, normal_plan, send
from millrace_local import starting
from millrace_local.draining import wait_until_through
from millrace_local.open_loop import LoadError, go_first, live, made_beforehand, read_lake, read_results
from millrace_local.ports import ANY
from millrace_local.services import SERVICES, Service
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack, wait_until
from millrace_local.watching import cpu_seconds, watching

MILLRACE: Final = "millrace"
RSS_GOAL_BYTES: Final = 400 * 2**20
RUSH_GOAL_SECONDS: Final = 30.0

_LOAD_CORE: Final = 0
_SERVICE_CORE: Final = 1
_LOAD_PAGE: Final = Path("docs/reference/load.json")
_RUSH: Final = "rush to 50,000/s long"
_CURVE_POINTS: Final = 12
_PATIENCE_SECONDS: Final = 120.0
_LAKE: Final = "lake"
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        rates: events a second, each measured by itself.
        broker_warm_seconds: traffic before anything is measured: a JVM compiles what it does often.
        warm_seconds: at each rate, the beginning of the traffic, not measured.
        seconds: at each rate, measured.
        tries: at a rate, until a run counts.
        aged: the table is made as old as this before a rate, with the rows that rate brings.
        sessions: that sessionize has open when it is killed.
        behind: offsets since its snapshots, about.
        restarts: how often it is killed.
    """

    rates: Sequence[float]
    broker_warm_seconds: float
    warm_seconds: float
    seconds: float
    tries: int
    aged: timedelta
    sessions: int
    behind: int
    restarts: int


FULL: Final = Size((100.0, 3_000.0, 20_000.0), 60.0, 5.0, 30.0, 2, timedelta(hours=1), 1_000_000, 200_000, 2)
QUICK: Final = Size((100.0, 3_000.0), 10.0, 2.0, 8.0, 1, timedelta(minutes=5), 50_000, 20_000, 1)
AGED_RATES: Final = (100.0, 3_000.0)
"""Rates whose hour the table is aged with."""


def measured(quick: bool, folder: Path) -> list[Section]:
    """Measure everything, or less of it, in a folder within `folder`; return what it adds to the page.

    Raises:
        MillraceError: a stack does not start, or what was sent does not come through.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="pipeline-", dir=folder) as mine:
        return sections(QUICK if quick else FULL, Path(mine))


def sections(size: Size, folder: Path) -> list[Section]:
    """Measure everything and return what it adds to the page; stacks are kept in `folder`.

    Raises:
        MillraceError: a stack does not start, or what was sent does not come through.
    """
    with pinned_stack(folder / "latency", SERVICES) as stack:
        runs, hours = open_loops(stack, size)
    with pinned_stack(folder / "restart", [restart.SERVICE]) as stack:
        opened = restart.measure(stack, size.sessions, size.behind, size.restarts)
    return [
        latency_section(runs),
        aging_section(hours),
        memory_section(runs, opened),
        cost_section(runs),
        *rush_sections(_LOAD_PAGE),
    ]


@contextmanager
def pinned_stack(work_dir: Path, services: Sequence[Service]) -> Iterator[Stack]:
    """Run a stack while the block runs: services on one core, everything else, the caller included, on the other."""
    before = os.sched_getaffinity(0)
    load, service = ({_LOAD_CORE}, {_SERVICE_CORE}) if {_LOAD_CORE, _SERVICE_CORE} <= before else (before, before)
    os.sched_setaffinity(0, load)
    stack = starting.start(StackSettings(work_dir=work_dir, ports=ANY), service_count=len(services))
    try:
        starting.prepare(stack)
        pin(stack.supervisor.pid, service)  # what it starts from now on, services, inherits it
        stack.set_services(services)
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
        os.sched_setaffinity(0, before)


def pin(pid: int, cores: set[int]) -> None:
    """Let all threads of a process, and what they start from now on, run on `cores` only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def open_loops(stack: Stack, size: Size) -> tuple[list[Run], dict[float, list[Aged]]]:
    """Measure each rate, on a table that is as old as `size` wants; return the runs, and how the table aged."""
    warm_up(stack, max(AGED_RATES), size.broker_warm_seconds)
    runs, hours = [], {}
    for rate in size.rates:
        if rate in AGED_RATES:
            hours[rate] = aged(stack, rate, size.aged)
        tried: list[Run] = []
        while len(tried) < size.tries and not any(not run.void for run in tried):
            tried.append(open_loop(stack, rate, size.warm_seconds, size.seconds))
        runs.append(latency.best(tried))
    return runs, hours


def aged(stack: Stack, rate: float, length: timedelta) -> list[Aged]:
    """Stop lake, make its table older by `length` of commits at `rate`, and start lake again."""
    interval = aging.interval_seconds()
    wait_until_through(stack, SERVICES)
    stack.stop_services([_LAKE])
    rows = aging.rows_of(stack.lake)
    commits = round(length.total_seconds() / interval)
    found = aging.age(stack.lake, rows, commits=commits, rows_each=round(rate * interval))
    stack.set_services(SERVICES)
    stack.wait_ready()
    return found


def warm_up(stack: Stack, rate: float, seconds: float) -> None:
    """Send traffic that is not measured."""
    target = Target(stack.bootstrap_servers, stack.registry_url)
    send(normal_plan(datetime.now(UTC), timedelta(seconds=seconds), per_second=rate), target, rate="live")
    wait_until_through(stack, SERVICES)


def open_loop(stack: Stack, rate: float, warm_seconds: float, seconds: float) -> Run:
    """Send so many events a second and see when each can be read; those of the first seconds do not count.

    Raises:
        LoadError: records could not be sent, or nothing comes through.
    """
    make_plan = partial(plan, rate, warm_seconds + seconds)
    with live(stack, make_plan, (read_results, read_lake)) as traffic, watching(stack) as watch:
        if not traffic.flowing.wait(_PATIENCE_SECONDS):
            message = "nothing comes through"
            raise LoadError(message)
        wait_until(lambda: False, warm_seconds)
        began, before = time.time(), cpu_seconds(stack)
        traffic.finish()
        wait_until_through(stack, SERVICES)
        after = cpu_seconds(stack)
        results, rows = (traffic.latencies(reader).filter(pl.col("at") >= began) for reader in (0, 1))
    return Run(
        per_second=rate,
        seconds=seconds,
        results=latency.latency(results),
        rows=latency.latency(rows),
        worst_lateness_seconds=latency.worst_lateness_seconds(results),
        cpu_seconds={name: after[name] - before[name] for name in before},
        peak_rss_bytes=watch.peak_rss_bytes,
    )


def plan(rate: float, seconds: float) -> Plan:
    """Return traffic from now on, and let its sender go first once it is made."""
    return made_beforehand(
        normal_plan(datetime.now(UTC), timedelta(seconds=seconds), seed=2, per_second=rate), go_first
    )


def latency_section(runs: Sequence[Run]) -> Section:
    """Return how long events take, against rate."""
    figures: list[Figure] = []
    missed = []
    for run in runs:
        job = f"open loop at {run.per_second:,.0f}/s"
        figures += (
            figure(job, MILLRACE, "p50_seconds", run.results.p50_seconds),
            figure(job, MILLRACE, "p99_seconds", run.results.p99_seconds),
            figure(job, MILLRACE, "row_in_lake_p99_seconds", run.rows.p99_seconds),
            figure(job, MILLRACE, "generator_worst_lateness_seconds", run.worst_lateness_seconds),
        )
        if run.void:
            missed.append(f"at {run.per_second:,.0f}/s the load generator was too late for the run to count")
        if run.results.p99_seconds >= latency.RESULT_GOAL_SECONDS:
            missed.append(f"at {run.per_second:,.0f}/s p99 is {run.results.p99_seconds:.3f} s, the goal 0.5 s")
        if run.per_second in AGED_RATES and run.rows.p99_seconds >= latency.ROW_GOAL_SECONDS:
            missed.append(f"at {run.per_second:,.0f}/s a row takes {run.rows.p99_seconds:.1f} s, the goal is 10 s")
    return Section("Latency against rate", latency.table(runs), figures, missed)


def aging_section(hours: dict[float, list[Aged]]) -> Section:
    """Return how commits of the lake fare while its table gets older."""
    lines: list[str] = []
    figures: list[Figure] = []
    for rate, aged_by in hours.items():
        points = aging.curve(aged_by, _CURVE_POINTS, aging.interval_seconds())
        lines += [f"With the rows of {rate:,.0f} events/s, a commit every {aging.interval_seconds():.0f} s:\n"]
        lines += [*aging.table(points), ""]
        job = f"lake over {points[-1].minutes:.0f} minutes at {rate:,.0f}/s"
        figures += (
            figure(job, MILLRACE, "commit_seconds", *(one.commit_seconds for one in aged_by)),
            figure(job, MILLRACE, "live_files", *(float(one.live_files) for one in aged_by)),
        )
    return Section("Commits of an aging table", lines, figures)


def memory_section(runs: Sequence[Run], opened: restart.Open) -> Section:
    """Return the memory of each process, and what open sessions cost."""
    services = {service.title for service in SERVICES}
    figures = [
        figure(f"open loop at {run.per_second:,.0f}/s", name, "peak_rss_mib", peak / _MIB)
        for run in runs
        for name, peak in run.peak_rss_bytes.items()
    ]
    missed = [
        f"{name} needed {peak / _MIB:.0f} MiB at {run.per_second:,.0f}/s, the goal is {RSS_GOAL_BYTES / _MIB:.0f}"
        for run in runs
        for name, peak in run.peak_rss_bytes.items()
        if name in services and peak > RSS_GOAL_BYTES
    ]
    job = f"{opened.sessions:,} open sessions"
    figures += (
        figure(job, restart.SERVICE.title, "bytes_per_open_session", opened.bytes_per_session),
        figure(job, restart.SERVICE.title, "rss_mib", opened.rss_bytes / _MIB),
        figure(job, restart.SERVICE.title, "restart_seconds", *(one.through_seconds for one in opened.restarts)),
        figure(job, restart.SERVICE.title, "restored_seconds", *(one.restored_seconds for one in opened.restarts)),
        figure(
            job, restart.SERVICE.title, "predicted_restart_seconds", *(one.predicted_seconds for one in opened.restarts)
        ),
    )
    lines = [
        "Peak resident memory of each process with its children, MiB:\n",
        *latency.memory_table(runs),
        "",
        f"With {opened.sessions:,} sessions open sessionize has {opened.rss_bytes / _MIB:.0f} MiB, "
        f"{opened.bytes_per_session:.0f} bytes for each. Killed with SIGKILL, seconds from then on:\n",
        *restart.table(opened),
    ]
    return Section("Memory and restarts", lines, figures, missed)


def cost_section(runs: Sequence[Run]) -> Section:
    """Return the CPU time that a million events cost."""
    figures: list[Figure] = []
    for run in runs:
        job, cost = f"open loop at {run.per_second:,.0f}/s", latency.cpu_per_million(run)
        figures += (figure(job, name, "cpu_seconds_per_million_events", value) for name, value in cost.items())
        figures.append(figure(job, MILLRACE, "cpu_seconds_per_million_events", sum(cost.values())))
    lines = [
        "CPU-seconds per million events; at low rates most of it is what a process costs that waits.\n",
        *latency.cost_table(runs),
    ]
    return Section("Cost", lines, figures)


def rush_sections(numbers: Path) -> list[Section]:
    """Return what `make load` has measured of a rush to 50,000/s; nothing if it has not been run."""
    if not numbers.exists():
        return []
    found = json.loads(numbers.read_text(encoding="utf-8")).get(_RUSH)
    if found is None:
        return []
    seconds = found["recovery_seconds"]
    missed = []
    if seconds is None or seconds > RUSH_GOAL_SECONDS:
        missed.append(f"the lag of a rush was gone after {seconds} s, the goal is {RUSH_GOAL_SECONDS:.0f} s")
    line = (
        f"{found['about']}: the lag was gone {'never' if seconds is None else f'after {seconds} s'}, {found['lost']} "
        f"events lost, {found['doubled']} doubled ([load](load.md), {found['run']['at']} UTC)."
    )
    figures = [] if seconds is None else [figure("rush to 50,000/s", MILLRACE, "lag_gone_seconds", seconds)]
    return [Section("A rush", [line], figures, missed)]


def main() -> int:
    """Measure and print; return the exit code: 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description="Measure the whole pipeline.")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to put the figures")
    parser.add_argument("--work-dir", type=Path, default=Path(".millrace/bench"))
    arguments = parser.parse_args()
    try:
        found = measured(arguments.quick, arguments.work_dir.resolve())
    except MillraceError as error:
        print(f"the pipeline could not be measured: {error}", file=sys.stderr)
        return 1
    for section in found:
        print(f"## {section.title}\n", *section.lines, "", *(f"MISSED: {one}" for one in section.missed), sep="\n")
    if arguments.json is not None:
        figures = [one.as_json() for section in found for one in section.figures]
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
