"""Starting a local stack: files, Java, ports, supervisor, topics, schemas, services."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import millrace_schemas
from millrace_local import artifacts, kafka, record, registry, schemas, topics
from millrace_local.control import ControlClient
from millrace_local.errors import LocalStackError, NotReadyError
from millrace_local.java import find_java
from millrace_local.ports import settle
from millrace_local.probes import quiet_admin
from millrace_local.processes import Identity
from millrace_local.services import Service
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack, attach, clean_up, log_file, tail, wait_until

_SUPERVISOR_START_SECONDS: Final = 30.0

Say = Callable[[str], None]


def _nobody_listens(line: str) -> None:
    pass


def up(
    settings: StackSettings,
    services: Sequence[Service],
    say: Say = _nobody_listens,
    progress: artifacts.Progress = artifacts.ignore_progress,
) -> Stack:
    """Start a whole stack and return when everything in it is ready. What was started is stopped if that fails.

    The stack belongs to this process, and stops when it ends, until `Stack.release` is called.

    Raises:
        MillraceError: one of its kinds says what is missing and what to do.
    """
    stack = start(settings, say, progress, service_count=len(services))
    try:
        prepare(stack, say=say)
        say("starting services")
        stack.set_services(services)
        stack.wait_ready()
    except BaseException:  # Ctrl-C too: nothing half started is left
        stack.stop()
        raise
    return stack


def start(
    settings: StackSettings,
    say: Say = _nobody_listens,
    progress: artifacts.Progress = artifacts.ignore_progress,
    service_count: int = 0,
) -> Stack:
    """Start broker and registry in `settings.work_dir` and return at once; they are not ready yet.

    The stack belongs to this process, and stops when it ends, until `Stack.release` is called. Ports for
    `service_count` services are checked beforehand, so that nothing is started in vain.

    Raises:
        LocalStackError: one of its kinds says what is missing and what to do.
    """
    work_dir = settings.work_dir.resolve()
    starting = record.lock(work_dir, "start.lock")
    if starting is None:
        message = f"another command is starting or stopping the stack in {work_dir}: wait for it"
        raise LocalStackError(message)
    try:
        running = attach(work_dir)
        if running is not None:
            message = f"a stack runs in {work_dir} already (supervisor: process {running.supervisor.pid})"
            raise LocalStackError(message)
        clean_up(work_dir)
        java = find_java(settings.local.java_home)
        ports = settle(settings.ports, service_count)
        files = artifacts.fetch(settings.local.cache_dir.resolve(), settings.local.maven_url, progress)
        say("starting broker and registry")
        nodes = kafka.nodes(ports, settings.brokers, settings.side_door)
        bootstrap_servers = ",".join(node.address for node in nodes)
        specs = [
            *kafka.prepare(java, files, work_dir / "kafka", nodes),
            registry.prepare(java, files, ports.registry, bootstrap_servers),
        ]
        stack = start_supervisor(work_dir, bootstrap_servers, registry.registry_url(ports.registry))
        note = {
            "bootstrap_servers": stack.bootstrap_servers,
            "registry_url": stack.registry_url,
            "first_metrics_port": ports.metrics,
            "services": [],
        }
        stack.control.apply(specs, note)
        return stack
    finally:
        os.close(starting)


def prepare(stack: Stack, lane: str = "", say: Say = _nobody_listens) -> None:
    """Wait for broker and registry, and give them every topic (of `lane`) and every schema. Twice is the same as once.

    Raises:
        LocalStackError: one of its kinds says why not.
        RegistryUnavailableError: the registry does not answer although it is ready.
    """
    stack.wait_ready(stack.broker_names())
    say("creating topics")
    declared = topics.replicated(millrace_schemas.topics("local", lane), stack.brokers)
    topics.apply(quiet_admin(stack.bootstrap_servers), declared)
    stack.wait_ready([registry.NAME])
    say("registering schemas")
    schemas.register(schemas.client(stack.registry_url), schemas.declared())


def start_supervisor(work_dir: Path, bootstrap_servers: str, registry_url: str) -> Stack:
    """Start a supervisor that runs nothing yet, owned by this process.

    Raises:
        NotReadyError: it did not start; the message has the end of its log.
    """
    me = Identity.of(os.getpid())
    command = [sys.executable, "-m", "millrace_local.supervisor", "--work-dir", str(work_dir), "--owner", str(me)]
    log = log_file(work_dir, "supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        # A session of its own: Ctrl-C reaches the command, which then decides.
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def found() -> record.StackRecord | None:
        written = record.read(work_dir)
        return written if written is not None and written.supervisor.pid == process.pid else None

    wait_until(lambda: found() is not None or process.poll() is not None, _SUPERVISOR_START_SECONDS)
    written = found()
    if written is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        message = f"the supervisor did not start:\n{tail(log)}"
        raise NotReadyError(message)
    return Stack(work_dir, written.supervisor, ControlClient(written.control), bootstrap_servers, registry_url)
