"""The commands of `millrace generate`."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from millrace_common.errors import MillraceError
from millrace_generator.display import print_report, progress_display
from millrace_generator.errors import InputError
from millrace_generator.faults import with_faults
from millrace_generator.lag import LagThrottle
from millrace_generator.options import Options, with_options
from millrace_generator.replay import replay_plan
from millrace_generator.scenarios import backfill_plan, normal_plan, spike_plan
from millrace_generator.schedule import Rate
from millrace_generator.sender import StoppableClock
from millrace_generator.sending import Target, send
from millrace_generator.stack import FindStack, find_target
from millrace_generator.traffic import Plan
from millrace_generator.truth import truth_file

BACKFILL: Final = "backfill"
"""The lane of history."""

LaneRunning = Callable[[Path, str], AbstractContextManager[None]]
"""Has the stack of a work folder run a lane for as long as records are sent into it."""

_NORMAL_SECONDS: Final = 60.0
_PEAK_SECONDS: Final = 10.0
_PEAK_PER_SECOND: Final = 3_000.0
_FAILED: Final = 1
_INTERRUPTED: Final = 130


def make_app(find_stack: FindStack, lane_running: LaneRunning) -> typer.Typer:
    """Return the commands; `lane_running` surrounds what is sent into another lane than the live one."""
    app = typer.Typer(no_args_is_help=True, help="Send shop traffic: a file's, or a simulated shop's.")

    def history(options: Options, make_plan: Callable[[], Plan]) -> None:
        lane = BACKFILL if options.lane is None else options.lane
        _run(options, make_plan, options.pace or "max", lane, find_stack, lane_running, options.seconds)

    def live(options: Options, make_plan: Callable[[], Plan], rate: Rate = "live") -> None:
        _run(options, make_plan, rate, options.lane or "", find_stack, lane_running, None)

    @app.command()
    @with_options
    def replay(
        options: Options, file: Annotated[Path, typer.Argument(help="CSV in the REES46 format, plain or gzip.")]
    ) -> None:
        """Replay a file of real shop events, through the backfill lane; sent twice, it changes nothing."""
        history(options, lambda: _replay_plan(file))

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
        days: Annotated[float, typer.Option(min=0.001, help="Days of history before now.")] = 365.0,
        events_per_day: Annotated[float, typer.Option(min=1, help="On average.")] = 20_000.0,
    ) -> None:
        """Send a year of history through the backfill lane, as fast as it takes it; live traffic goes first."""
        history(
            options, lambda: backfill_plan(datetime.now(UTC), days, events_per_day=events_per_day, seed=options.seed)
        )

    return app


def _run(
    options: Options,
    make_plan: Callable[[], Plan],
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
        plan = with_faults(make_plan(), faults)
        # Another cluster's lanes are its operators' business.
        ours = bool(lane) and options.bootstrap_servers is None
        with lane_running(options.work_dir, lane) if ours else nullcontext():
            clock = StoppableClock() if seconds is None else StoppableClock(seconds)
            code = _send(console, plan, target, rate, lane, options.truth, clock)
            if code:  # the lane is not to wait for what was not sent
                raise typer.Exit(code)
    except MillraceError as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        raise typer.Exit(_FAILED) from error


def _send(
    console: Console,
    plan: Plan,
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
        truth_file(truth, plan) as observers,
        progress_display(console) as progress,
        throttling as throttle,
    ):
        report = send(
            plan,
            target,
            rate=rate,
            lane=lane,
            observers=observers,
            progress=progress,
            throttle=throttle,
            clock=clock,
        )
    print_report(console, report)
    if report.failed:
        return _FAILED
    return _INTERRUPTED if interrupted else 0


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
