"""The whole main job once, from nothing: stack, traffic, every record in the lake, the books, the night."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deltalake import DeltaTable

from millrace_generator import Plan, Progress, SendReport, Target, send
from millrace_generator.schedule import Rate
from millrace_generator.sender import Clock
from millrace_generator.truth import truth_file
from millrace_lake.history import row_count
from millrace_local import artifacts, postgres, starting
from millrace_local import night as nights
from millrace_local import stack as stacks
from millrace_local.audit import audit
from millrace_local.draining import close_sessions, wait_until_through, without_idle_advance
from millrace_local.errors import LocalStackError
from millrace_local.evidence import gather
from millrace_local.latency import seconds_to_lake
from millrace_local.reading import Library
from millrace_local.report import Latency, Report, read_business
from millrace_local.services import SERVICES, Service
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a demo does.

    Attributes:
        stack: where and on which ports.
        plan: the traffic.
        rate: when its records are due.
        history: the traffic is older than ingest accepts; its check of an event's age is switched off.
        truth: where the generator writes what it knows; None: nowhere.
        keep_up: leave the stack running.
        night: what the night needs; None: leave the night out.
    """

    stack: StackSettings
    plan: Plan
    rate: Rate
    history: bool
    truth: Path | None = None
    keep_up: bool = False
    night: nights.Tools | None = None


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who is told what happens (steps, downloads, the generator's progress), and the clock that can stop it."""

    say: Say
    download: artifacts.Progress
    sending: Callable[[Progress], None]
    clock: Clock


def run(options: DemoOptions, watchers: Watchers) -> Report:
    """Run the demo and return what its page shows. Unless kept up, everything it started has ended when this returns.

    Raises:
        MillraceError: a part does not come up, traffic cannot be sent, records get stuck, or a job of the night fails;
            it says which.
    """
    began = time.monotonic()
    begin(options.stack.work_dir, watchers.say)
    with _stack(options, watchers) as stack:
        report = _stream(options, watchers, stack)
        if options.keep_up:
            # As `millrace up` runs them: whoever goes on sends live traffic.
            stack.set_services(SERVICES)
            stack.wait_ready()
        else:
            watchers.say("stopping")
            stack.stop()
        if options.night is not None and not report.verdict.balanced:
            watchers.say("the books do not balance: no night on what is wrong already")
        elif options.night is not None:
            report = replace(report, night=nights.run(stack.work_dir, options.night, watchers.say))
        if options.keep_up:
            stack.release()
    return replace(report, elapsed_seconds=time.monotonic() - began)


def services(history: bool) -> tuple[Service, ...]:
    """Return the services as a demo runs them while traffic flows."""
    return tuple(
        replace(service, environment={**service.environment, "MAX_AGE_SECONDS": "0"})
        if history and service.name == "ingest"
        else service
        for service in without_idle_advance(SERVICES)
    )


def begin(work_dir: Path, say: Say) -> None:
    """Start clean in `work_dir`, but never over what is not a demo's.

    Raises:
        LocalStackError: somebody's stack runs there, or has left events or a warehouse there.
    """
    running, marked = stacks.attach(work_dir), (work_dir / stacks.DEMO_MARK).exists()
    if not marked and (running is not None or _has_events(work_dir) or (work_dir / "warehouse").exists()):
        message = (
            f"{work_dir} belongs to a stack that no demo has started: choose another --work-dir, or stop and remove it "
            f"with `millrace down --purge --work-dir {work_dir}`"
        )
        raise LocalStackError(message)
    if running is not None:
        say(f"stopping the demo that was left running in {work_dir}")
        running.stop()
    postgres.of_work_dir(work_dir).stop()
    if stacks.holds_data(work_dir):
        stacks.purge(work_dir)
        say(f"starting clean: removed what the last run left in {work_dir}")
    work_dir.mkdir(parents=True, exist_ok=True)
    (work_dir / stacks.DEMO_MARK).write_text('{"started_by": "millrace demo"}\n', encoding="utf-8")


def _has_events(work_dir: Path) -> bool:
    table = str(work_dir / "lake" / "events")
    return DeltaTable.is_deltatable(table) and row_count(table) != 0


@contextmanager
def _stack(options: DemoOptions, watchers: Watchers) -> Iterator[Stack]:
    stack = starting.up(options.stack, services(options.history), watchers.say, watchers.download)
    try:
        yield stack
    except BaseException:  # Ctrl-C too: nothing stays running
        watchers.say("stopping")
        stack.stop()
        raise


def _stream(options: DemoOptions, watchers: Watchers, stack: Stack) -> Report:
    """Send the traffic, see all of it through, and check the books."""
    began = time.monotonic()
    if options.history:
        watchers.say("this is history: ingest's check of an event's age is off")
    watchers.say(f"sending {options.plan.title}")
    sent = _send(options, watchers, stack)
    watchers.say(f"sent {sent.records:,} records; waiting until all are through")
    wait_until_through(stack, stack.services())
    watchers.say("closing the sessions that are still open")
    close_sessions(stack, "sessionize")
    wait_until_through(stack, stack.services())
    watchers.say("checking the books")
    return _report(stack, sent, began)


def _send(options: DemoOptions, watchers: Watchers, stack: Stack) -> SendReport:
    with truth_file(options.truth, options.plan) as observers:
        sent = send(
            options.plan,
            Target(stack.bootstrap_servers, stack.registry_url),
            rate=options.rate,
            observers=observers,
            progress=watchers.sending,
            clock=watchers.clock,
        )
    if sent.failed:
        message = f"{sent.failed} records could not be sent: {sent.first_failure}"
        raise LocalStackError(message)
    if sent.stopped:
        raise KeyboardInterrupt
    return sent


def _report(stack: Stack, sent: SendReport, began: float) -> Report:
    library = Library(stack.bootstrap_servers, stack.registry_url, stack.lake)
    evidence = gather(library)
    partitions = len(evidence.topics["user-events"].held)
    seconds = seconds_to_lake(library, evidence.rows, partitions)
    return Report(
        business=read_business(stack.lake),
        verdict=audit(evidence),
        latency=Latency(
            p50_seconds=float(seconds.quantile(0.5) or 0),
            p99_seconds=float(seconds.quantile(0.99) or 0),
            max_seconds=float(seconds.max() or 0),  # type: ignore[arg-type]  # a float series
        )
        if len(seconds)
        else None,
        sent=_sent_by_topic(sent),
        generator_lateness_seconds=sent.worst_lateness_seconds,
        elapsed_seconds=time.monotonic() - began,
        lake=stack.lake,
    )


def _sent_by_topic(sent: SendReport) -> Mapping[str, int]:
    totals: dict[str, int] = {}
    for (topic, _), count in sent.sent.items():
        totals[topic] = totals.get(topic, 0) + count
    return totals
