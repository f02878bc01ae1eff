"""millrace up, status, logs, down."""

import json
import time
from typing import Annotated, Final

import typer

from millrace_local import console, log_reading, options, postgres
from millrace_local import stack as stacks
from millrace_local import status as stack_status
from millrace_local.errors import LocalStackError
from millrace_local.ports import Ports

_FOLLOW_SECONDS: Final = 0.2


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(up)
    app.command()(status)
    app.command()(logs)
    app.command()(down)


def up(
    work_dir: options.WorkDir = options.WORK_DIR,
    ports: options.PortsFrom = options.PortChoice.FIXED,
    kafka_port: options.KafkaPort = options.PORTS.kafka,
    controller_port: options.ControllerPort = options.PORTS.controller,
    registry_port: options.RegistryPort = options.PORTS.registry,
    metrics_port: options.MetricsPort = options.PORTS.metrics,
    brokers: options.Brokers = 1,
) -> None:
    """Start broker, registry, topics, schemas and all services; returns when they are ready."""
    # Imported here: of these commands, this one alone needs what can start a stack, and that takes a second to import.
    from millrace_local.services import SERVICES  # noqa: PLC0415
    from millrace_local.starting import up as start_everything  # noqa: PLC0415

    running = stacks.attach(work_dir)
    if running is not None:
        console.out.print(f"Millrace is running already in {running.work_dir}")
        console.out.print(stack_status.render(stack_status.status(running)))
        return
    started = time.monotonic()
    chosen = Ports(kafka_port, controller_port, registry_port, metrics_port)
    with console.download_bar() as progress:
        settings = options.stack_settings(work_dir, ports, chosen, brokers)
        stack = start_everything(settings, SERVICES, console.say, progress)
    stack.release()
    # From here on the data is a person's: the next demo must not start clean over it.
    (stack.work_dir / stacks.DEMO_MARK).unlink(missing_ok=True)
    console.out.print(f"Millrace is up, in {time.monotonic() - started:.0f} s")
    console.out.print(stack_status.render(stack_status.status(stack)))
    console.out.print("\nNext: millrace status | logs | down", style="dim")


def status(work_dir: options.WorkDir = options.WORK_DIR, as_json: options.Json = False) -> None:
    """Show addresses, processes, restarts and how far each service is behind; exits 1 if the broker does not answer."""
    found = stack_status.status(stacks.require(work_dir))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        console.out.print(stack_status.render(found))
    if found.problem:
        raise LocalStackError(found.problem)


def logs(
    name: Annotated[str | None, typer.Argument(help="A service, kafka, registry or supervisor.")] = None,
    work_dir: options.WorkDir = options.WORK_DIR,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines to begin with.")] = 20,
) -> None:
    """Show the last lines of the logs, of all processes or of one."""
    names = log_reading.choose(work_dir, name)
    width = max(len(one) for one in names)
    readers = [log_reading.LogReader(work_dir, one) for one in names]
    first = True
    while True:
        for reader in readers:
            added = list(reader.new_lines())
            for line in added[-lines or len(added) :] if first else added:
                typer.echo(line if name else f"{reader.name:<{width}} | {line}")
        if not follow:
            return
        first = False
        time.sleep(_FOLLOW_SECONDS)


def down(
    work_dir: options.WorkDir = options.WORK_DIR,
    purge: Annotated[bool, typer.Option("--purge", help="Remove topics, lake, state and logs too.")] = False,
) -> None:
    """Stop services, registry and broker, and the local Postgres; keeps the data."""
    was_running = stacks.stop(work_dir)
    postgres.of_work_dir(work_dir).stop()
    console.out.print("Millrace is down" if was_running else f"no stack runs in {work_dir}")
    if purge:
        stacks.purge(work_dir)
        console.out.print(f"removed its data from {work_dir}")
