"""One stack under open-loop traffic, and the hands that hurt it. A fault counts when it was seen to strike."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from millrace_common.errors import MillraceError
from millrace_common.records import Partition
from millrace_generator import (
    Faults,
    Plan,
    SendReport,
    StoppableClock,
    Target,
    send,
    truth_file,
    window_plan,
    with_faults,
)
from millrace_generator.traffic import EVENTS, ORDERS, Event, Order, Record
from millrace_local.draining import without_idle_advance
from millrace_local.ports import ANY, SideDoor
from millrace_local.processes import Identity
from millrace_local.services import SERVICES, Service
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack, log_file, wait_until
from millrace_local.starting import up
from millrace_local.supervision import ProcessState

TITLES: Final = tuple(service.title for service in SERVICES)
FAULTS: Final = Faults(
    duplicates=0.05, malformed=0.01, invalid=0.01, late=0.01, out_of_order=timedelta(seconds=120), seed=4
)

# Snapshots so often that every kill finds a few, of different ages.
_SNAPSHOT_SECONDS: Final = 2
# All sessions of this window are over when it ends: gap and allowed lateness are 35 minutes together.
_SHOP_ENDED_BEFORE: Final = timedelta(minutes=40)
# So long that events held back for up to 90 minutes of it come in the least time too, whatever the hour.
_SHOP_TIME: Final = timedelta(days=2)
# ingest takes what is at most 7 days old.
_LONGEST_SHOP_TIME: Final = timedelta(days=6)
# Traffic is planned for so many times the least length, and stopped when the faults are over.
_PLENTY: Final = 10
_PATIENCE_SECONDS: Final = 120.0


class TortureError(MillraceError):
    """A fault could not be put to work, so that the arm proves nothing."""


@dataclass(frozen=True, slots=True)
class Form:
    """How hard an arm is.

    Attributes:
        name: of the form, for the page.
        rate: records a second.
        least_seconds: traffic flows at least so long.
        rounds: how often each fault of an arm is repeated.
        outage_seconds: how long a dependency stays away.
        silent_seconds: how long a partition gets no records.
    """

    name: str
    rate: float
    least_seconds: float
    rounds: int
    outage_seconds: float
    silent_seconds: float


SHORT: Final = Form("short", rate=400.0, least_seconds=30.0, rounds=1, outage_seconds=10.0, silent_seconds=40.0)
LONG: Final = Form("long", rate=2_000.0, least_seconds=60.0, rounds=5, outage_seconds=30.0, silent_seconds=210.0)


@dataclass(slots=True)
class Sent:
    """What was handed to the producer: an observer of the generator.

    Attributes:
        event_ids: of good events.
        orders: good ones, by id and status.
        records: all that ingest reads, bad ones and duplicates included.
    """

    records: int = 0
    event_ids: Counter[str] = field(default_factory=Counter)
    orders: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, records: Sequence[Record], /) -> None:
        for record in records:
            self.records += record.topic in (EVENTS, ORDERS)
            if record.good and isinstance(record.about, Event):
                self.event_ids[record.about.event_id] += 1
            elif record.good and isinstance(record.about, Order):
                self.orders[record.about.transaction_id, record.about.status] += 1


class Traffic:
    """The generator in a thread: an open loop, so nothing that happens to the stack makes it slower.

    Attributes:
        change_record: what is sent in place of a record, from now on; some seconds of traffic are made already. It must
            say the same, as the truth reads what the record is about.
    """

    def __init__(
        self, stack: Stack, form: Form, seed: int, *, length: int, change: Callable[[Plan, Form], Plan]
    ) -> None:
        """Begin to send what `change` makes of a plan for `length` arms."""
        self.truth = stack.work_dir / "truth.ndjson"
        self.sent = Sent()
        self.change_record: Callable[[Record], Record] = _as_it_is
        self._clock = StoppableClock()
        self._began = time.monotonic()
        self._least_seconds = form.least_seconds
        made = change(with_faults(_plan(form, seed, length), replace(FAULTS, seed=seed)), form)
        plan = replace(made, records=lambda ids: (self.change_record(record) for record in made.records(ids)))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traffic")
        self._report: Future[SendReport] = self._thread.submit(self._send, plan, stack, form.rate)

    def _send(self, plan: Plan, stack: Stack, rate: float) -> SendReport:
        with truth_file(self.truth, plan) as observers:
            return send(
                plan,
                Target(stack.bootstrap_servers, stack.registry_url, {"log_level": 0}),
                rate=rate,
                observers=lambda partitions: [*observers(partitions), self.sent],
                clock=self._clock,
            )

    def begun(self) -> bool:
        """Return whether the first records are on their way."""
        return bool(self.sent.event_ids) or self._report.done()

    def finish(self) -> SendReport:
        """Go on until the least time is over, then stop and wait for the last acknowledgement.

        Raises:
            TortureError: it had ended before, so that faults hit a stack at rest, or records could not be sent.
        """
        over = self._began + self._least_seconds
        wait_until(lambda: time.monotonic() >= over or self._report.done(), self._least_seconds)
        if self._report.done():
            message = f"the traffic ended before the faults: {self._report.result()}"
            raise TortureError(message)
        report = self.close()
        if report.failed:
            message = f"{report.failed} records could not be sent: {report.first_failure}"
            raise TortureError(message)
        return report

    def close(self) -> SendReport:
        """Stop."""
        self._clock.stop()
        self._thread.shutdown()
        return self._report.result()


@dataclass(slots=True)
class Bench:
    """A running stack, and what was done to it so far.

    Attributes:
        stack: broker, registry and services, ready at first.
        traffic: what is sent to it.
        chance: decides every moment and victim.
        form: how hard it gets.
        struck: faults that were seen to have struck, by their name.
        recoveries_seconds: from a kill until all of its victims were ready again.
        previous: the interpreter of an installation of the previous release, for arms that need one.
        dead_besides: dead letters to expect for what an arm sent besides the traffic, as (topic, stage, reason,
            SHA-256 of the value).
        given_up: rows, by table, that an arm knows to be lost because it took their records away from the broker.
        moved: positions that the operator has set, as (service, partition, offset).
    """

    stack: Stack
    traffic: Traffic
    chance: Random
    form: Form
    previous: Path | None = None
    struck: Counter[str] = field(default_factory=Counter)
    recoveries_seconds: list[float] = field(default_factory=list)
    dead_besides: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    given_up: dict[str, Counter[Any]] = field(default_factory=dict)
    moved: list[tuple[str, Partition, int]] = field(default_factory=list)
    _restarts: int = 0

    def state(self, name: str) -> ProcessState:
        """Return the state of one process."""
        return next(state for state in self.stack.states() if state.spec.name == name)

    def identity(self, name: str) -> Identity:
        """Wait for the process of that name, and return it."""
        return self._running(name)[0]

    def kill(self, names: Sequence[str], number: signal.Signals) -> None:
        """Send `number` to these processes at once; returns when the supervisor has seen each of them die."""
        before = {name: self._running(name) for name in names}
        for identity, _ in before.values():
            os.kill(identity.pid, number)
        for name, (_, deaths) in before.items():
            self.until(partial(self._has_died, name, deaths), f"{name} survived {number.name}")
            self.struck[f"{number.name} {name.split('-')[0]}"] += 1

    def kill_and_wait(self, names: Sequence[str], number: signal.Signals) -> None:
        """Kill, start again at once, wait until ready and note how long that took."""
        began = time.monotonic()
        self.kill(names, number)
        self.start_again(names)
        self.stack.wait_ready()
        self.recoveries_seconds.append(time.monotonic() - began)

    def start_again(self, names: Sequence[str]) -> None:
        """Start services anew without the pause that the supervisor makes after many deaths; others keep theirs."""
        self._restarts += 1
        for name in set(names) & {service.title for service in self.stack.services()}:
            self.stack.change_service(name, {"TORTURE_START": str(self._restarts)})

    def _running(self, name: str) -> tuple[Identity, int]:
        """Wait for the process of that name; return it, and how often the ones before it died."""
        self.until(lambda: self.state(name).identity is not None, f"{name} does not run")
        state = self.state(name)
        if state.identity is None:
            message = f"{name} died on its own:\n{self.stack.log_tail(name)}"
            raise TortureError(message)
        return state.identity, state.restarts

    def _has_died(self, name: str, deaths: int) -> bool:
        return self.state(name).restarts > deaths

    def said(self, name: str, words: str) -> int:
        """Return how often the log of a process has these words."""
        return self.log(name).count(words)

    def log(self, name: str) -> str:
        """Return all that a process has said; nothing if it has not been started yet."""
        file = log_file(self.stack.work_dir, name)
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def pause(self, longest_seconds: float) -> None:
        """Let the traffic flow for a while, as chance has it."""
        self.last(self.chance.uniform(0, longest_seconds))

    def last(self, seconds: float) -> None:
        """Let things be as they are for so long."""
        wait_until(lambda: False, seconds)

    def until(self, done: Callable[[], bool], complaint: str, *, after_seconds: float = 0.0) -> None:
        """Wait for `done`, which cannot come before `after_seconds`.

        Raises:
            TortureError: it did not come about.
        """
        if not wait_until(done, after_seconds + _PATIENCE_SECONDS):
            raise TortureError(complaint)


def _as_it_is(record: Record) -> Record:
    return record


def _plan(form: Form, seed: int, length: int) -> Plan:
    end = datetime.now(UTC) - _SHOP_ENDED_BEFORE
    records = round(form.rate * form.least_seconds * _PLENTY * length)
    return window_plan(end - min(_SHOP_TIME * length, _LONGEST_SHOP_TIME), end, records, seed=seed)


@contextmanager
def running_stack(
    work_dir: Path, environment: Mapping[str, str], *, side_door: SideDoor | None = None, brokers: int = 1
) -> Iterator[Stack]:
    """Run a whole stack while the block runs; every service is told `environment`."""
    store = work_dir / "snapshots"
    store.mkdir(parents=True)
    (work_dir / "state").symlink_to(store)  # so that one rename puts something else in its place
    settings = StackSettings(work_dir, ANY, side_door=side_door, brokers=brokers)
    stack = up(settings, _services(environment))
    try:
        yield stack
    finally:
        stack.stop()


def _services(environment: Mapping[str, str]) -> tuple[Service, ...]:
    told = {"SNAPSHOT_INTERVAL_SECONDS": str(_SNAPSHOT_SECONDS), **environment}
    return tuple(
        replace(service, environment={**service.environment, **told}) for service in without_idle_advance(SERVICES)
    )
