"""Shows a person how a send goes and how it went."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich import progress as bars
from rich.console import Console

from millrace_generator.sending import Progress, SendReport
from millrace_generator.traffic import EVENTS, ORDERS, PRODUCTS, PROFILES, FaultKind

_BAR_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 5.0


@contextmanager
def progress_display(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield what `send` takes as its progress: a bar on a terminal, a plain line every five seconds elsewhere."""
    if not console.is_terminal:
        yield _every(_LINE_SECONDS, lambda now: console.print(_line(now), highlight=False))
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[pace]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console) as bar:
        task = bar.add_task("products", total=None, pace="")

        def show(now: Progress) -> None:
            bar.update(
                task,
                description=now.title,
                completed=now.earlier_events + now.good_events,
                total=max(now.expected_events, now.earlier_events + now.good_events),
                pace=_pace(now),
            )

        yield _every(_BAR_SECONDS, show)


def print_report(console: Console, report: SendReport) -> None:
    """Print what was sent, what was added to it, and how punctually."""
    outcome = "stopped" if report.stopped else "done"
    delivered = report.records - report.failed
    console.print(f"{outcome}: {delivered:,} records delivered in {report.elapsed_seconds:.1f} s", highlight=False)
    names = {EVENTS: "events", ORDERS: "orders", PRODUCTS: "products", PROFILES: "user profiles"}
    good = ", ".join(f"{report.good(topic):,} {name}" for topic, name in names.items() if report.good(topic))
    console.print(f"  good: {good or 'none'}", highlight=False)
    faults = ", ".join(f"{report.faults(kind):,} {kind}" for kind in FaultKind if report.faults(kind))
    if faults:
        console.print(f"  faults: {faults.replace('_', ' ')}", highlight=False)
    if report.worst_lateness_seconds:
        console.print(
            f"  worst lateness of the sender: {report.worst_lateness_seconds * 1000:,.0f} ms", highlight=False
        )
    if report.failed:
        console.print(
            f"  FAILED: {report.failed:,} records were not delivered: {report.first_failure}", highlight=False
        )


def _every(seconds: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    shown = 0.0

    def sometimes(now: Progress) -> None:
        nonlocal shown
        if now.elapsed_seconds - shown >= seconds:
            shown = now.elapsed_seconds
            show(now)

    return sometimes


def _pace(now: Progress) -> str:
    rate = now.records / now.elapsed_seconds if now.elapsed_seconds else 0.0
    return f"{rate:,.0f}/s, at worst {now.worst_lateness_seconds * 1000:,.0f} ms late"


def _line(now: Progress) -> str:
    done = now.earlier_events + now.good_events
    return f"{now.title}: {done:,} of about {now.expected_events:,} events, {_pace(now)}{_time_left(now)}"


def _time_left(now: Progress) -> str:
    """Return how long the rest takes at the pace so far; nothing while that cannot be said."""
    left = now.expected_events - now.earlier_events - now.good_events
    if left <= 0 or not now.good_events:
        return ""
    return f", about {timedelta(seconds=round(left * now.elapsed_seconds / now.good_events))} left"
