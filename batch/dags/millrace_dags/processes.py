"""Running a command so that none of it outlives the task, and every line of it gets into the task's log."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

# The project's own, run by its path: it imports nothing.
_LEASH: Final = "infra/local/src/millrace_local/leash.py"
_PROGRESS: Final = "[Stage "
_KEPT_LINES: Final = 50
_STOP_SECONDS: Final = 20.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        argv: the program and its arguments.
        project: the checkout, and the working directory.
        environment: added to this process's own.
    """

    argv: Sequence[str]
    project: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended.

    Attributes:
        exit_code: negative: it was killed by this signal.
        lines: the last lines of its standard output.
        complaint: the last line of its standard error, or if there is none, of its standard output.
    """

    exit_code: int
    lines: tuple[str, ...]
    complaint: str


class Running:
    """A command that runs, in a process group of its own; it dies with this process, however that goes."""

    def __init__(self, command: Command) -> None:
        """Start it. Call this on the main thread: the leash is tied to the thread that starts it (prctl(2))."""
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(command.project / _LEASH), str(os.getpid()), *command.argv],
            cwd=command.project,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def wait(self, say: Say) -> Ended:
        """Pass on each line as it comes, until it has ended."""
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        complaints: deque[str] = deque(maxlen=_KEPT_LINES)
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: S101, PT018  # for the types
        beside = threading.Thread(target=_pass_on, args=(self._process.stderr, complaints, say), daemon=True)
        beside.start()
        _pass_on(self._process.stdout, lines, say)
        exit_code = self._process.wait()
        beside.join(_STOP_SECONDS)
        last = complaints or lines
        return Ended(exit_code, tuple(lines), last[-1] if last else "")

    def stop(self) -> None:
        """End it, and all it has started, if it still runs: ask first, then kill."""
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _pass_on(stream: IO[str], kept: deque[str], say: Say) -> None:
    for line in map(str.rstrip, stream):
        # Spark draws a bar there, over and over.
        if line and not line.startswith(_PROGRESS):
            kept.append(line)
            say(line)
