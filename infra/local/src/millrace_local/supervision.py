"""Keeping a set of processes running: what is wanted is compared with what runs, and one step closes the gap."""

import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from millrace_local.processes import Identity, ProcessSpec

FIRST_BACK_OFF_SECONDS: Final = 0.5
LONGEST_BACK_OFF_SECONDS: Final = 30.0
HEALTHY_AFTER_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


def back_off_seconds(failures: int) -> float:
    """Return the pause after the given number of failures in a row (1, 2, ...): it doubles up to half a minute."""
    doublings = min(failures - 1, 10)
    return min(FIRST_BACK_OFF_SECONDS * 2.0**doublings, LONGEST_BACK_OFF_SECONDS)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What became of a wanted process.

    Attributes:
        spec: what is wanted.
        identity: the running process; None between two runs.
        restarts: how often it was started again after dying on its own.
        ready: whether its probe has answered since it started.
    """

    spec: ProcessSpec
    identity: Identity | None
    restarts: int
    ready: bool


@dataclass(slots=True)
class _Run:
    """A started process."""

    spec: ProcessSpec
    process: "subprocess.Popen[bytes]"
    identity: Identity
    started_seconds: float
    ready: bool = False
    asked_to_stop_seconds: float | None = None
    killed: bool = False


@dataclass(slots=True)
class _Slot:
    """A name under which at most one process runs."""

    wanted: ProcessSpec | None
    run: _Run | None = None
    restarts: int = 0
    failures: int = 0
    not_before_seconds: float = 0.0


class Supervision:
    """Starts, restarts and stops processes until what runs is what is wanted.

    `want`, `mark_ready` and `states` may be called from any thread, `step` from the main thread only.
    """

    def __init__(self, start: Callable[[ProcessSpec], "subprocess.Popen[bytes]"], clock: Callable[[], float]) -> None:
        """Begin with nothing wanted. `start` runs a process; `clock` gives monotonic seconds."""
        self._start = start
        self._clock = clock
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.RLock()

    def want(self, specs: Sequence[ProcessSpec]) -> None:
        """Make `specs` all that shall run; what runs with another spec under the same name is restarted at once."""
        by_name = {spec.name: spec for spec in specs}
        with self._lock:
            for name, slot in self._slots.items():
                if name not in by_name:
                    slot.wanted = None
            for name, spec in by_name.items():
                slot = self._slots.setdefault(name, _Slot(spec))
                if slot.wanted != spec:
                    slot.wanted, slot.failures, slot.not_before_seconds = spec, 0, 0.0

    def mark_ready(self, identity: Identity, ready: bool) -> None:
        """Note what the probe of a process said."""
        with self._lock:
            for slot in self._slots.values():
                if slot.run is not None and slot.run.identity == identity:
                    slot.run.ready = ready

    def states(self) -> list[ProcessState]:
        """Return every wanted process."""
        with self._lock:
            return [
                ProcessState(
                    slot.wanted,
                    None if slot.run is None else slot.run.identity,
                    slot.restarts,
                    slot.run is not None and slot.run.ready and slot.run.spec == slot.wanted,
                )
                for slot in self._slots.values()
                if slot.wanted is not None
            ]

    def identities(self) -> tuple[tuple[str, Identity], ...]:
        """Return every running process by name, those that are stopping included."""
        with self._lock:
            return tuple((name, slot.run.identity) for name, slot in self._slots.items() if slot.run is not None)

    def step(self) -> None:
        """Take note of what died, and start and stop what is due. Never waits."""
        with self._lock:
            now = self._clock()
            for name, slot in self._slots.items():
                if slot.run is not None and (code := slot.run.process.poll()) is not None:
                    self._ended(name, slot, code, now)
            stopping = [
                slot.run for slot in self._slots.values() if slot.run is not None and slot.run.spec != slot.wanted
            ]
            lowest = min((run.spec.stop_rank for run in stopping), default=0)
            for run in stopping:
                if run.spec.stop_rank == lowest:
                    self._stop(run, now)
            for slot in self._slots.values():
                if slot.run is None and slot.wanted is not None and now >= slot.not_before_seconds:
                    self._run(slot, slot.wanted, now)
            self._slots = {name: slot for name, slot in self._slots.items() if slot.wanted or slot.run}

    def kill(self) -> None:
        """End everything at once; for a supervisor that cannot go on."""
        with self._lock:
            for slot in self._slots.values():
                if slot.run is not None:
                    slot.run.process.kill()
                    slot.run.process.wait()

    def _run(self, slot: _Slot, spec: ProcessSpec, now: float) -> None:
        try:
            process = self._start(spec)
        except OSError as error:  # no more processes, no room for the log: it may be better in a moment
            _log.warning("%s could not be started: %s", spec.name, error)
            self._failed(slot, now)
            return
        # It cannot have been reaped, so it has an identity even if it died at once.
        identity = Identity.of(process.pid) or Identity(process.pid, 0.0)
        slot.run = _Run(spec, process, identity, now)
        _log.info("%s started (process %d)", spec.name, process.pid)

    def _stop(self, run: _Run, now: float) -> None:
        if run.asked_to_stop_seconds is None:
            run.asked_to_stop_seconds = now
            run.process.terminate()
        elif not run.killed and now - run.asked_to_stop_seconds >= run.spec.grace_seconds:
            run.killed = True
            _log.warning("%s did not stop within %.0f s: killed", run.spec.name, run.spec.grace_seconds)
            run.process.kill()

    def _ended(self, name: str, slot: _Slot, code: int, now: float) -> None:
        run, slot.run = slot.run, None
        if run is None or run.asked_to_stop_seconds is not None:
            _log.info("%s stopped (exit code %d)", name, code)
            return
        if now - run.started_seconds >= HEALTHY_AFTER_SECONDS:
            slot.failures = 0
        pause_seconds = self._failed(slot, now)
        _log.warning("%s died (exit code %d), starts again in %.1f s", name, code, pause_seconds)

    def _failed(self, slot: _Slot, now: float) -> float:
        slot.failures += 1
        slot.restarts += 1
        pause_seconds = back_off_seconds(slot.failures)
        slot.not_before_seconds = now + pause_seconds
        return pause_seconds
