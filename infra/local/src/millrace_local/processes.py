"""Operating-system processes: what to run, which one it was, starting it on a leash, ending it for sure."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psutil

_LEASH: Final = Path(__file__).with_name("leash.py")
# Start times are exact to a clock tick, a hundredth of a second.
_SAME_START_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Probe:
    """How to see that a process is ready.

    Attributes:
        kind: kafka (the broker names itself in its metadata) or http (the URL answers 200).
        target: host:port, or a URL.
    """

    kind: Literal["kafka", "http"]
    target: str


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process that shall run.

    Attributes:
        name: unique in a stack; its log is NAME.log.
        argv: the command.
        probe: tells when it is ready.
        environment: added to the supervisor's own.
        stop_rank: processes of a lower rank stop first.
        grace_seconds: from SIGTERM to SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_rank: int = 0
    grace_seconds: float = 10.0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "ProcessSpec":
        """Return what `as_json` was called on."""
        return cls(**{**stored, "argv": tuple(stored["argv"]), "probe": Probe(**stored["probe"])})


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever: process ids are used again, a process id with its start time is not.

    Attributes:
        pid: its number.
        created: when it started, seconds since the machine did: unlike the time of day, nobody sets that anew.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the identity of the process that has this number now, None if there is none."""
        try:
            return cls(pid, _created(psutil.Process(pid)))
        except psutil.Error:
            return None

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Return the identity that was written as PID@CREATED."""
        pid, created = text.split("@")
        return cls(int(pid), float(created))

    def __str__(self) -> str:
        """Return it as PID@CREATED."""
        return f"{self.pid}@{self.created}"

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process() is not None

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(_created(process) - self.created) < _SAME_START_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def terminate(self) -> None:
        """Ask it to stop, if it still runs."""
        if process := self._process():
            with contextlib.suppress(psutil.Error):
                process.terminate()

    def kill(self, wait_seconds: float = 5.0) -> None:
        """End it, if it still runs, and wait until it is gone."""
        if process := self._process():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(wait_seconds)


def _created(process: psutil.Process) -> float:
    return round(process.create_time() - psutil.boot_time(), 2)


def end(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    """End those that still run, and return them."""
    left = tuple(identity for identity in identities if identity.alive)
    for identity in left:
        identity.kill()
    return left


def start(spec: ProcessSpec, log_file: Path) -> "subprocess.Popen[bytes]":
    """Start `spec` on a leash; its output is appended to `log_file`. Call it on the main thread.

    The leash is tied to the calling thread (prctl(2)), so a thread that ends would take the process with it.
    """
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            leashed(spec.argv),
            env={**os.environ, **spec.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def leashed(argv: Sequence[str]) -> list[str]:
    """Return the command line of `argv` on a leash: what it starts dies with this process, however that goes."""
    return [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *argv]
