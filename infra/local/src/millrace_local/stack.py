"""A local stack: broker, registry and services under a supervisor, seen from the commands' side."""

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from millrace_local import kafka, record
from millrace_local.control import ControlClient
from millrace_local.errors import LocalStackError, NotReadyError, NotRunningError
from millrace_local.processes import Identity, end
from millrace_local.services import Service, Surroundings, process_specs
from millrace_local.supervision import ProcessState

READY_TIMEOUT_SECONDS: Final = 120.0
STOP_TIMEOUT_SECONDS: Final = 60.0

_POLL_SECONDS: Final = 0.05
# A process that dies this often before it was ready will not come up by waiting.
_HOPELESS_AFTER_DEATHS: Final = 3
# A demo leaves it in its work directory, so that the next one knows that it may start clean there.
DEMO_MARK: Final = "demo.json"
_FOLDERS: Final = ("airflow", "dbt", "kafka", "lake", "logs", "reports", "state", "warehouse")
_FILES: Final = ("stack.json", "stack.lock", "start.lock", DEMO_MARK)
_TAIL_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack. Get one from `attach`, or from millrace_local.starting.

    Attributes:
        work_dir: absolute.
        supervisor: the process that runs it.
        control: talks to that process.
        bootstrap_servers: the brokers' addresses.
        registry_url: the registry's Confluent-compatible address.
    """

    work_dir: Path
    supervisor: Identity
    control: ControlClient
    bootstrap_servers: str
    registry_url: str

    @property
    def lake(self) -> Path:
        """Where the Delta tables are."""
        return self.work_dir / "lake"

    @property
    def brokers(self) -> int:
        """How many brokers it has."""
        return self.bootstrap_servers.count(",") + 1

    def broker_names(self) -> tuple[str, ...]:
        """Return the names of the brokers' processes."""
        return tuple(kafka.process_name(number) for number in range(1, self.brokers + 1))

    def states(self) -> list[ProcessState]:
        """Return every process that shall run.

        Raises:
            NotRunningError: the stack is gone.
        """
        return self.control.status()[0]

    def services(self) -> tuple[Service, ...]:
        """Return the services that shall run.

        Raises:
            NotRunningError: the stack is gone.
        """
        return tuple(Service.of_json(stored) for stored in self.control.status()[1]["services"])

    def set_services(self, services: Sequence[Service]) -> None:
        """Let exactly `services` run from now on; those that differ are restarted, the rest is left alone.

        Raises:
            LocalStackError: two services have the same name and lane.
            NotRunningError: the stack is gone.
        """
        titles = [service.title for service in services]
        if len(set(titles)) != len(titles):
            message = f"a service is named twice: {', '.join(sorted(titles))}"
            raise LocalStackError(message)
        states, note = self.control.status()
        running = {state.spec.name: state.spec for state in states}
        surroundings = Surroundings(
            bootstrap_servers=self.bootstrap_servers,
            registry_url=self.registry_url,
            work_dir=self.work_dir,
            first_metrics_port=note["first_metrics_port"],
        )
        before = {name for stored in note["services"] for name in Service.of_json(stored).process_names()}
        kept = [spec for name, spec in running.items() if name not in before]
        specs = process_specs(services, surroundings, running)
        self.control.apply([*kept, *specs], {**note, "services": [service.as_json() for service in services]})

    def add_services(self, services: Sequence[Service]) -> None:
        """Start `services` beside the others (a lane, say)."""
        self.set_services([*self.services(), *services])

    def stop_services(self, titles: Collection[str]) -> None:
        """Stop the services with these titles and wait until they have."""
        going = [service for service in self.services() if service.title in titles]
        names = {name for service in going for name in service.process_names()}
        identities = [state.identity for state in self.states() if state.spec.name in names and state.identity]
        self.set_services([service for service in self.services() if service.title not in titles])
        wait_until(lambda: not any(identity.alive for identity in identities), STOP_TIMEOUT_SECONDS)

    def change_service(
        self, title: str, environment: Mapping[str, str] | None = None, processes: int | None = None
    ) -> None:
        """Restart one service with settings added to its environment, or run it in another number of processes.

        Raises:
            LocalStackError: there is no service of that title.
        """
        services = self.services()
        if title not in {service.title for service in services}:
            message = f"no service {title}: there are {', '.join(service.title for service in services)}"
            raise LocalStackError(message)
        self.set_services(
            [
                replace(
                    service,
                    environment={**service.environment, **(environment or {})},
                    processes=service.processes if processes is None else processes,
                )
                if service.title == title
                else service
                for service in services
            ]
        )

    def wait_ready(self, names: Collection[str] | None = None, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Return when the named processes (None: all that shall run) are ready.

        Raises:
            NotReadyError: one keeps dying or is not ready in time; the message has the end of its log.
            NotRunningError: the stack is gone.
        """
        deadline = time.monotonic() + timeout_seconds
        deaths_before = {state.spec.name: state.restarts for state in self.states()}
        while True:
            waiting = [
                state for state in self.states() if (names is None or state.spec.name in names) and not state.ready
            ]
            if not waiting:
                return
            for state in waiting:
                if state.restarts - deaths_before.get(state.spec.name, 0) >= _HOPELESS_AFTER_DEATHS:
                    message = f"{state.spec.name} does not come up:\n{self.log_tail(state.spec.name)}"
                    raise NotReadyError(message)
            if time.monotonic() > deadline:
                name = waiting[0].spec.name
                message = f"{name} was not ready in {timeout_seconds:.0f} s:\n{self.log_tail(name)}"
                raise NotReadyError(message)
            time.sleep(_POLL_SECONDS)

    def log_tail(self, name: str, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of a process's log, and where the rest is."""
        return tail(log_file(self.work_dir, name), lines)

    def release(self) -> None:
        """Let the stack outlive this process; until then it stops when this process ends."""
        self.control.release()

    def stop(self) -> None:
        """Stop services, registry and broker, in this order, and wait until all are gone."""
        stop(self.work_dir)


def attach(work_dir: Path) -> Stack | None:
    """Return the stack that runs in `work_dir`, None if there is none."""
    work_dir = work_dir.resolve()
    found = record.read(work_dir)
    if found is None or not found.supervisor.alive:
        return None
    control = ControlClient(found.control)
    try:
        note = control.status()[1]
    except NotRunningError:  # between two runs
        return None
    if "bootstrap_servers" not in note:
        return None
    return Stack(work_dir, found.supervisor, control, note["bootstrap_servers"], note["registry_url"])


def require(work_dir: Path) -> Stack:
    """Return the stack that runs in `work_dir`.

    Raises:
        NotRunningError: there is none.
    """
    stack = attach(work_dir)
    if stack is None:
        message = f"no stack runs in {work_dir}: start one with `millrace up --work-dir {work_dir}`"
        raise NotRunningError(message)
    return stack


def holds_data(work_dir: Path) -> bool:
    """Return whether a stack has left topics, tables or state in `work_dir`."""
    return any((work_dir / folder).exists() for folder in ("kafka", "lake", "state"))


def purge(work_dir: Path) -> None:
    """Remove what stacks have left in `work_dir` (topics, lake, state, logs, reports) and no other file.

    Raises:
        LocalStackError: a stack is being started there.
    """
    if record.lock(work_dir) is None:
        message = f"a stack is being started in {work_dir}: nothing was removed"
        raise LocalStackError(message)
    for folder in _FOLDERS:
        shutil.rmtree(work_dir / folder, ignore_errors=True)
    for file in _FILES:
        (work_dir / file).unlink(missing_ok=True)


def log_file(work_dir: Path, name: str) -> Path:
    """Return where the output of a process goes."""
    return work_dir / "logs" / f"{name}.log"


def stop(work_dir: Path) -> bool:
    """Stop what runs in `work_dir`, whatever state it is in, and wait; return whether anything did run."""
    work_dir = work_dir.resolve()
    found = record.read(work_dir)
    if found is None:
        return False
    was_running = found.supervisor.alive
    if was_running:
        try:
            ControlClient(found.control).stop()
        except NotRunningError:
            found.supervisor.terminate()
        if not wait_until(lambda: not found.supervisor.alive, STOP_TIMEOUT_SECONDS):
            found.supervisor.kill()  # its children go with it, or are ended next
    return bool(clean_up(work_dir)) or was_running


def clean_up(work_dir: Path) -> tuple[Identity, ...]:
    """End what a supervisor that crashed has left behind, and forget it; return what was ended.

    Where the kernel ties children to the supervisor (Linux) there is nothing to end.
    """
    found = record.read(work_dir)
    if found is None or found.supervisor.alive:
        return ()
    left = end(found.children.values())
    record.remove(work_dir)
    return left


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log and where the rest is."""
    try:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        last = []
    return "\n".join([*(f"  {line}" for line in last), f"  (all of it: {log})"])


def wait_until(done: Callable[[], bool], timeout_seconds: float) -> bool:
    """Ask `done` until it says yes, and return True; False after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
