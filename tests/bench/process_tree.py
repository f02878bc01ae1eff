"""What a process and everything it has started have used: CPU seconds, ended children included, and memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Used:
    """Of a process tree.

    Attributes:
        cpu_seconds: user and system time since the start, of all that ever belonged to it.
        rss_mib: resident memory now.
    """

    cpu_seconds: float
    rss_mib: float


class ProcessTree:
    """A process and what it has started, counted from outside.

    The time of a child that has ended is with its parent, if the parent has waited for it. A child whose parent ended
    first belongs on: it is known by then.
    """

    def __init__(self, pid: int) -> None:
        """Begin with one process.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        self._root = psutil.Process(pid)
        self._known = {self._root}
        self._cpu_seconds = 0.0

    def used(self) -> Used:
        """Return what it has used; CPU time never falls."""
        cpu_seconds = rss_mib = 0.0
        for process in self.members():
            try:
                times = process.cpu_times()
                rss_mib += process.memory_info().rss / _MIB
            except psutil.Error:  # it has just ended
                continue
            cpu_seconds += times.user + times.system + times.children_user + times.children_system
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds)
        return Used(self._cpu_seconds, rss_mib)

    def members(self) -> list[psutil.Process]:
        """Return those that are there, the first one first."""
        for process in list(self._known):
            try:
                self._known.update(process.children(recursive=True))
            except psutil.Error:
                self._known.discard(process)
        return sorted(self._known, key=lambda process: (process != self._root, process.pid))

    def kill(self) -> None:
        """End all of it."""
        for process in self.members():
            try:
                process.kill()
            except psutil.Error:
                continue


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, on one core while the block runs, if the machine has it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(cpu: int) -> float:
    """Return how long a core of this machine has worked since the start."""
    times = psutil.cpu_times(percpu=True)[cpu]
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - times.guest - times.guest_nice)
