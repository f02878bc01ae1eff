"""millrace demo, and millrace generate with the lanes of a local stack."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from millrace_common.settings import load
from millrace_generator import Plan, Target, replay_plan
from millrace_generator.commands import make_app
from millrace_generator.display import progress_display
from millrace_generator.faults import with_faults
from millrace_generator.options import TrafficOptions, with_options
from millrace_generator.scenarios import window_plan
from millrace_generator.sender import StoppableClock
from millrace_generator.traffic import one_after_another
from millrace_local import console, demo, night, options
from millrace_local import stack as stacks
from millrace_local.errors import LocalStackError
from millrace_local.lanes import lane_running
from millrace_local.ports import Ports
from millrace_local.report import render
from millrace_local.settings import LocalSettings

_SHOP_TIME: Final = timedelta(hours=3)
# Gap and allowed lateness, 35 minutes together, and time for the demo itself to get there.
_SHOP_ENDED_BEFORE: Final = timedelta(minutes=40)
_SECONDS: Final = 30.0
_EVENTS_PER_SECOND: Final = 500.0


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(name="demo")(with_options(run_demo, TrafficOptions))
    app.add_typer(make_app(_running, partial(lane_running, say=console.say)), name="generate")


def run_demo(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    traffic: TrafficOptions,
    events: Annotated[
        list[Path] | None,
        typer.Option("--events", help="Replay this REES46 file (.csv, .csv.gz); several are sent one after another."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write the page as JSON to this file.")] = None,
    keep_up: Annotated[bool, typer.Option("--keep-up", help="Leave the stack running.")] = False,
    skip_batch: Annotated[bool, typer.Option("--skip-batch", help="Leave the night out.")] = False,
    dbt_project: Annotated[Path, typer.Option("--dbt-project", help="The models of the warehouse.")] = Path("dbt"),
    work_dir: options.WorkDir = options.WORK_DIR,
    ports: options.PortsFrom = options.PortChoice.FIXED,
    kafka_port: options.KafkaPort = options.PORTS.kafka,
    controller_port: options.ControllerPort = options.PORTS.controller,
    registry_port: options.RegistryPort = options.PORTS.registry,
    metrics_port: options.MetricsPort = options.PORTS.metrics,
) -> None:
    """Start everything, send traffic, wait for its last row and session, check the books, run the night, show it."""
    files = events or []
    if traffic.truth is not None and len(set(files)) < len(files):
        message = "--truth knows each event once: give each --events file once"
        raise typer.BadParameter(message)
    plan = with_faults(_plan(traffic, files), traffic.faults)
    settings = options.stack_settings(work_dir, ports, Ports(kafka_port, controller_port, registry_port, metrics_port))
    tools = None if skip_batch else _night_tools(dbt_project)
    clock = StoppableClock(traffic.seconds) if files and traffic.seconds is not None else StoppableClock()
    with console.download_bar() as download, progress_display(console.err) as sending, _interruptible(clock):
        result = demo.run(
            demo.DemoOptions(
                stack=settings,
                plan=plan,
                rate=traffic.pace or ("max" if files else _EVENTS_PER_SECOND),
                history=bool(files),
                truth=traffic.truth,
                keep_up=keep_up,
                night=tools,
            ),
            demo.Watchers(console.say, download, sending, clock),
        )
    render(result, console.out)
    if report is not None:
        report.write_text(json.dumps(result.as_json(), indent=2) + "\n", encoding="utf-8")
    raise typer.Exit(0 if result.good else 1)


def _night_tools(dbt_project: Path) -> night.Tools:
    """Find all that the night needs, before anything is started that would be for nothing."""
    with console.download_bar("Delta for Spark") as download:
        return night.find_tools(load(LocalSettings), dbt_project, download)


def _plan(traffic: TrafficOptions, files: list[Path]) -> Plan:
    if files:
        plan = one_after_another([replay_plan(file) for file in files])
        if not plan.expected_events:
            message = f"no usable row in {', '.join(str(file) for file in files)}"
            raise LocalStackError(message)
        return plan
    rate = traffic.pace if isinstance(traffic.pace, float) else _EVENTS_PER_SECOND
    end = datetime.now(UTC) - _SHOP_ENDED_BEFORE
    wanted = max(1, round(rate * (traffic.seconds or _SECONDS)))
    return window_plan(end - _SHOP_TIME, end, wanted, seed=traffic.seed)


def _running(work_dir: Path) -> Target | None:
    stack = stacks.attach(work_dir)
    return None if stack is None else Target(stack.bootstrap_servers, stack.registry_url)


@contextmanager
def _interruptible(clock: StoppableClock) -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C is, so that it stops everything that was started too."""

    def interrupt(number: int, frame: object) -> None:
        clock.stop()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
