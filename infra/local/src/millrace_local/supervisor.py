"""The supervisor of a local stack, a process of its own: `python -m millrace_local.supervisor --work-dir DIR`.

It is told what to run over its control port (millrace_local.control) and knows nothing of Kafka or services.
It ends when it is told to, when it gets SIGTERM or SIGINT, or when its owner dies; its children end with it, always.
"""

import argparse
import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from millrace_local import record
from millrace_local.control import ControlAddress, Note, serve
from millrace_local.probes import Prober
from millrace_local.processes import Identity, ProcessSpec, start
from millrace_local.supervision import ProcessState, Supervision

ALREADY_RUNNING: Final = 3

_STEP_SECONDS: Final = 0.1
_OWNER_CHECK_SECONDS: Final = 0.5
_STARTING_PROBE_SECONDS: Final = 0.1
_RUNNING_PROBE_SECONDS: Final = 2.0
_ROTATION_CHECK_SECONDS: Final = 10.0
_LONGEST_LOG_BYTES: Final = 16 << 20

_log = logging.getLogger(__name__)


class Supervisor:
    """Runs a supervision until it is told to stop; the target of the control server."""

    def __init__(self, work_dir: Path, owner: Identity | None) -> None:
        """Prepare for `work_dir`; nothing runs yet."""
        self._work_dir = work_dir
        self._logs_dir = work_dir / "logs"
        self._owner = owner
        self._note: Note = {}
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._supervision = Supervision(self._start, time.monotonic)

    def status(self) -> tuple[list[ProcessState], Note]:
        """Return what is wanted and runs, and the commands' note."""
        return self._supervision.states(), self._note

    def apply(self, specs: Sequence[ProcessSpec], note: Note) -> None:
        """Let exactly `specs` run, unless everything is being stopped."""
        if not self._stopping.is_set():
            self._note = note
            self._supervision.want(specs)
            self._woken.set()

    def release(self) -> None:
        """Outlive the owner."""
        self._owner = None

    def stop(self) -> None:
        """Stop everything, then end."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        """Do the work; returns when everything has stopped."""
        me = Identity.of(os.getpid())
        if me is None:
            return
        token = secrets.token_urlsafe(32)
        server = serve(self, token)
        control = ControlAddress(server.server_address[1], token)
        for work in (server.serve_forever, self._probe):
            threading.Thread(target=work, daemon=True).start()
        recorded: tuple[tuple[str, Identity], ...] | None = None
        owner_checked = rotated = 0.0
        try:
            while True:
                now = time.monotonic()
                if now - owner_checked >= _OWNER_CHECK_SECONDS:
                    owner_checked = now
                    self._follow_owner()
                if now - rotated >= _ROTATION_CHECK_SECONDS:
                    rotated = now
                    self._rotate_logs()
                if self._stopping.is_set():
                    self._supervision.want([])
                self._supervision.step()
                running = self._supervision.identities()
                if running != recorded:
                    record.write(self._work_dir, record.StackRecord(me, control, dict(running)))
                    recorded = running
                if self._stopping.is_set() and not running:
                    return
                self._woken.wait(_STEP_SECONDS)
                self._woken.clear()
        finally:
            self._supervision.kill()
            server.shutdown()
            server.server_close()
            record.remove(self._work_dir)

    def _start(self, spec: ProcessSpec) -> "subprocess.Popen[bytes]":
        return start(spec, self._logs_dir / f"{spec.name}.log")

    def _follow_owner(self) -> None:
        owner = self._owner
        if owner is not None and not owner.alive and not self._stopping.is_set():
            _log.warning("the command that owns this stack (process %d) is gone: stopping", owner.pid)
            self.stop()

    def _probe(self) -> None:
        """Ask every process again and again, often while it starts."""
        prober = Prober()
        asked: dict[Identity, float] = {}
        while not self._stopping.wait(_STARTING_PROBE_SECONDS):
            for state in self._supervision.states():
                now = time.monotonic()
                if state.identity is None or (state.ready and now - asked[state.identity] < _RUNNING_PROBE_SECONDS):
                    continue
                asked[state.identity] = now
                self._supervision.mark_ready(state.identity, prober.is_ready(state.spec.probe))
            alive = {identity for _, identity in self._supervision.identities()}
            asked = {identity: when for identity, when in asked.items() if identity in alive}

    def _rotate_logs(self) -> None:
        """Keep a log and the one before it. The writers append, so they go on at the start of an emptied file."""
        for log in self._logs_dir.glob("*.log"):
            with contextlib.suppress(OSError):  # somebody removes it, or the disk is full: no reason to stop a stack
                if log.stat().st_size > _LONGEST_LOG_BYTES:
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                    os.truncate(log, 0)


def main() -> None:
    """Run a supervisor; exit code 3 if the work directory has one already."""
    parser = argparse.ArgumentParser(prog="millrace_local.supervisor", description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--owner", type=Identity.parse, metavar="PID@CREATED", help="stop when this process is gone")
    arguments = parser.parse_args()
    work_dir: Path = arguments.work_dir
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    if record.lock(work_dir) is None:
        sys.exit(ALREADY_RUNNING)
    (work_dir / "logs").mkdir(exist_ok=True)
    supervisor = Supervisor(work_dir, arguments.owner)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    supervisor.run()


if __name__ == "__main__":
    main()
