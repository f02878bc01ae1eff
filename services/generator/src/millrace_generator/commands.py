"""The commands of `millrace generate`."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from millrace_common.errors import MillraceError
from millrace_generator.display import print_report, progress_display
from millrace_generator.errors import InputError
from millrace_generator.faults import Faults, with_faults
from millrace_generator.lag import LagThrottle
from millrace_generator.options import Options, with_options
from millrace_generator.replay import replay_plan
from millrace_generator.resuming import transactions
from millrace_generator.scenarios import backfill_plan, normal_plan, spike_plan
from millrace_generator.schedule import Rate
from millrace_generator.sender import StoppableClock
from millrace_generator.sending import Resumed, Target, send
from millrace_generator.stack import FindStack, find_target
from millrace_generator.traffic import Plan
from millrace_generator.truth import truth_file

BACKFILL: Final = "backfill"
"""The lane of history."""


def _nothing_to_finish() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Work:
    """What a command sends.

    Attributes:
        plan: without faults.
        resumed: through what, and from where on; None: all of it, and nobody notes how far it gets.
        finish: called when it is through.
    """

    plan: Plan
    resumed: Resumed | None = None
    finish: Callable[[], None] = _nothing_to_finish


OpenWork = Callable[[Target, str], AbstractContextManager[Work]]
"""Opens what is to be sent to a cluster in a lane."""

LaneRunning = Callable[[Path, str], AbstractContextManager[None]]
"""Has the stack of a work folder run a lane for as long as records are sent into it."""

# Gap and allowed lateness, 35 minutes together, and some: when all is sent its sessions can be closed.
_HISTORY_ENDED_BEFORE: Final = timedelta(minutes=40)
_NORMAL_SECONDS: Final = 60.0
_PEAK_SECONDS: Final = 10.0
_PEAK_PER_SECOND: Final = 3_000.0
_FAILED: Final = 1
_INTERRUPTED: Final = 130


def make_app(find_stack: FindStack, lane_running: LaneRunning) -> typer.Typer:
    """Return the commands; `lane_running` surrounds what is sent into another lane than the live one."""
    app = typer.Typer(no_args_is_help=True, help="Send shop traffic: a file's, or a simulated shop's.")

    def history(options: Options, open_work: OpenWork) -> None:
        lane = BACKFILL if options.lane is None else options.lane
        _run(options, open_work, options.pace or "max", lane, find_stack, lane_running, options.seconds)

    def live(options: Options, make_plan: Callable[[], Plan], rate: Rate = "live") -> None:
        _run(options, _whole(make_plan), rate, options.lane or "", find_stack, lane_running, None)

    @app.command()
    @with_options
    def replay(
        options: Options, file: Annotated[Path, typer.Argument(help="CSV in the REES46 format, plain or gzip.")]
    ) -> None:
        """Replay a file of real shop events, through the backfill lane; sent twice, it changes nothing."""
        history(options, _whole(lambda: _replay_plan(file)))

    @app.command()
    @with_options
    def normal(options: Options) -> None:
        """Send an ordinary day from now on: 10 to 100 events a second by the time of day, or a rate of your own."""
        length = timedelta(seconds=options.seconds or _NORMAL_SECONDS)
        pace = options.pace
        per_second = pace if isinstance(pace, float) else None
        live(
            options,
            lambda: normal_plan(datetime.now(UTC), length, seed=options.seed, per_second=per_second),
            "max" if pace == "max" else "live",
        )

    @app.command()
    @with_options
    def spike(
        options: Options,
        baseline: Annotated[float, typer.Option(min=0.001, help="Events a second before and after.")] = 500.0,
        before: Annotated[float, typer.Option(min=0, help="Seconds before the peak.")] = 10.0,
        after: Annotated[float, typer.Option(min=0, help="Seconds after the peak.")] = 30.0,
    ) -> None:
        """Send a rush from now on: a baseline, a peak of so many events a second, and the baseline again."""
        peak = options.pace or _PEAK_PER_SECOND
        if not isinstance(peak, float):
            message = "a spike has a height: --rate takes a number here"
            raise typer.BadParameter(message)
        live(
            options,
            lambda: spike_plan(
                datetime.now(UTC),
                baseline=baseline,
                peak=peak,
                before=timedelta(seconds=before),
                during=timedelta(seconds=options.seconds or _PEAK_SECONDS),
                after=timedelta(seconds=after),
                seed=options.seed,
            ),
        )

    @app.command()
    @with_options
    def backfill(
        options: Options,
        days: Annotated[float, typer.Option(min=0.001, help="Days of history, up to 40 minutes ago.")] = 365.0,
        events_per_day: Annotated[float, typer.Option(min=1, help="On average.")] = 20_000.0,
        anew: Annotated[bool, typer.Option("--anew", help="Begin at the beginning, even if one was cut.")] = False,
    ) -> None:
        """Send a year of history through the backfill lane; live traffic goes first. Goes on where it was cut."""
        history(options, partial(_backfill, options, days, events_per_day, anew))

    return app


def _run(
    options: Options,
    open_work: OpenWork,
    rate: Rate,
    lane: str,
    find_stack: FindStack,
    lane_running: LaneRunning,
    seconds: float | None,
) -> None:
    console = Console(stderr=True)
    try:
        faults = options.faults
        target = find_target(options.work_dir, options.bootstrap_servers, options.registry_url, find_stack)
        # Another cluster's lanes are its operators' business.
        ours = bool(lane) and options.bootstrap_servers is None
        with open_work(target, lane) as found:
            work = replace(found, plan=with_faults(found.plan, faults))
            if work.resumed is not None and work.resumed.skip:
                console.print(f"going on after {work.resumed.skip:,} records", highlight=False)
            with lane_running(options.work_dir, lane) if ours else nullcontext():
                clock = StoppableClock() if seconds is None else StoppableClock(seconds)
                code = _send(console, work, target, rate, lane, options.truth, clock)
                if code:  # the lane is not to wait for what was not sent
                    raise typer.Exit(code)
            work.finish()
    except MillraceError as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        raise typer.Exit(_FAILED) from error


def _send(
    console: Console,
    work: Work,
    target: Target,
    rate: Rate,
    lane: str,
    truth: Path | None,
    clock: StoppableClock,
) -> int:
    interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(number, signal.SIG_DFL)  # the second time it ends at once
        clock.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    # Only what goes through another lane can wait for the live one.
    throttling = closing(LagThrottle(target, lane, clock.now)) if lane else nullcontext(lambda: False)
    with (
        truth_file(truth, work.plan) as observers,
        progress_display(console) as progress,
        throttling as throttle,
    ):
        report = send(
            work.plan,
            target,
            rate=rate,
            lane=lane,
            observers=observers,
            progress=progress,
            throttle=throttle,
            clock=clock,
            resumed=work.resumed,
        )
    print_report(console, report)
    if report.failed:
        return _FAILED
    return _INTERRUPTED if interrupted else 0


def _whole(make_plan: Callable[[], Plan]) -> OpenWork:
    """Return how to open a plan that is sent from its beginning."""
    return lambda target, lane: nullcontext(Work(make_plan()))


@contextmanager
def _backfill(
    options: Options, days: float, events_per_day: float, anew: bool, target: Target, lane: str
) -> Iterator[Work]:
    """Give the history up to now, or what is left of the one that was cut."""
    faults = {field.name: getattr(options.faults, field.name) for field in fields(Faults)}
    asked = {"days": days, "events_per_day": events_per_day, **faults, "seed": options.seed}
    asked["out_of_order"] = options.faults.out_of_order.total_seconds()
    with transactions(target, lane) as history:
        until = datetime.now(UTC) - _HISTORY_ENDED_BEFORE
        bookmark = history.resume(asked, round(until.timestamp() * 1000), anew=anew)
        end = datetime.fromtimestamp(bookmark.end_ms / 1000, UTC)
        plan = backfill_plan(end, days, events_per_day=events_per_day, seed=options.seed)
        yield Work(plan, Resumed(history, bookmark.sent), history.finish)


def _replay_plan(file: Path) -> Plan:
    console = Console(stderr=True)
    with console.status("reading the file"):
        plan = replay_plan(file)
    skipped = plan.facts["rows_skipped"]
    if isinstance(skipped, dict) and skipped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        console.print(f"{sum(skipped.values()):,} rows skipped: {reasons}", highlight=False)
    if not plan.expected_events:
        message = f"{file}: no usable row"
        raise InputError(message)
    return plan
