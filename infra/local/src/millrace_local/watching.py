"""How a running stack bears its load: how far services are behind, what they keep in memory, what they cost."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final

import psutil
from confluent_kafka import KafkaException

from millrace_local.lag import Lags
from millrace_local.stack import Stack

_POLL_SECONDS: Final = 0.2


@dataclass(slots=True)
class Watch:
    """How far each service is behind, and the memory of each process with its children, as they change.

    Attributes:
        lags: epoch seconds, and the lag of each service; None before its first commit.
        peak_rss_bytes: by process name.
    """

    stack: Stack
    lags: list[tuple[float, Mapping[str, int | None]]] = field(default_factory=list)
    peak_rss_bytes: dict[str, int] = field(default_factory=dict)

    def look(self, lags: Lags) -> None:
        """Take note of the present."""
        for name, now in rss_bytes(self.stack).items():
            self.peak_rss_bytes[name] = max(now, self.peak_rss_bytes.get(name, 0))
        live = [service for service in self.stack.services() if not service.lane]
        try:
            found = lags.of(live)
        except KafkaException:
            return
        self.lags.append((time.time(), found))

    def recovered_at(self, peak_began: float, not_before: float) -> float | None:
        """Return when, after `not_before`, no service was further behind than at most before the peak; None: never."""
        before = [lags for at, lags in self.lags if at < peak_began]
        usual = {title: max((lags[title] or 0 for lags in before), default=0) for title in self.lags[-1][1]}
        return next(
            (
                at
                for at, lags in self.lags
                if at >= not_before and all((behind or 0) <= usual[title] for title, behind in lags.items())
            ),
            None,
        )


@contextmanager
def watching(stack: Stack) -> Iterator[Watch]:
    """Look several times a second while the block runs."""
    watch, stopping = Watch(stack), Event()

    def work() -> None:
        with Lags(stack.bootstrap_servers) as lags:
            while not stopping.wait(_POLL_SECONDS):
                watch.look(lags)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stopping.set()
        thread.join()


def rss_bytes(stack: Stack) -> dict[str, int]:
    """Return the resident memory of each process with its children, by name; 0 for one that does not run."""
    return {name: int(total) for name, total in _totals(stack, lambda process: process.memory_info().rss).items()}


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Return the CPU time that each process and its children have used so far, by name; 0 for one that does not run."""
    return _totals(stack, _cpu_seconds)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _totals(stack: Stack, of: Callable[[psutil.Process], float]) -> dict[str, float]:
    return {state.spec.name: _total(state.identity.pid, of) for state in stack.states() if state.identity is not None}


def _total(pid: int, of: Callable[[psutil.Process], float]) -> float:
    try:
        process = psutil.Process(pid)
        return sum(of(one) for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0.0
