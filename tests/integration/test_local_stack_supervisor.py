"""The supervisor as a real process with small pretended services: nothing outlives it, nothing stays dead."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace_local import record
from millrace_local import stack as stacks
from millrace_local.control import ControlClient
from millrace_local.errors import NotReadyError, NotRunningError
from millrace_local.ports import free_port
from millrace_local.processes import Identity, Probe, ProcessSpec
from millrace_local.stack import Stack
from millrace_local.starting import start_supervisor
from millrace_local.supervision import ProcessState

_DEADLINE_SECONDS = 30.0

# Answers 200 to everything on its METRICS_PORT; deaf ones ignore SIGTERM.
_SERVICE = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("DEAF") else lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
print("hello from", os.environ.get("WHO", "nobody"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["METRICS_PORT"])), Handler).serve_forever()
"""
_OWNER = """
import sys, time
from pathlib import Path
from millrace_local.starting import start_supervisor
start_supervisor(Path(sys.argv[1]), "", "")
print("up", flush=True)
time.sleep(60)
"""


def service(name: str, **environment: str) -> ProcessSpec:
    port = free_port()
    return ProcessSpec(
        name,
        (sys.executable, "-c", _SERVICE),
        Probe("http", f"http://127.0.0.1:{port}/readyz"),
        {"METRICS_PORT": str(port), **environment},
        grace_seconds=1.0 if "DEAF" in environment else 10.0,
    )


def wait_for(done: Callable[[], bool]) -> bool:
    return stacks.wait_until(done, _DEADLINE_SECONDS)


def gone(*identities: Identity) -> bool:
    return wait_for(lambda: not any(identity.alive for identity in identities))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A supervisor with nothing to do."""
    started = start_supervisor(tmp_path, "", "")
    yield started
    started.stop()


def run(stack: Stack, *specs: ProcessSpec) -> None:
    stack.control.apply(specs, {})
    stack.wait_ready()


def state_of(stack: Stack, name: str) -> ProcessState:
    return next(state for state in stack.states() if state.spec.name == name)


def identity_of(stack: Stack, name: str) -> Identity:
    identity = state_of(stack, name).identity
    assert identity is not None
    return identity


def test_a_killed_process_is_started_again_and_counted(stack: Stack) -> None:
    run(stack, service("a"), service("b"))
    first, other = identity_of(stack, "a"), identity_of(stack, "b")
    for restarts in (1, 2):
        identity_of(stack, "a").kill()
        assert wait_for(lambda: state_of(stack, "a").restarts == restarts)  # noqa: B023
        stack.wait_ready()
    assert identity_of(stack, "a") != first
    assert identity_of(stack, "b") == other
    log = stacks.log_file(stack.work_dir, "supervisor").read_text()
    assert "a died (exit code -9), starts again in 0.5 s" in log
    assert "a died (exit code -9), starts again in 1.0 s" in log


def test_one_service_is_restarted_with_a_changed_environment(stack: Stack) -> None:
    a, b = service("a", WHO="one"), service("b")
    run(stack, a, b)
    other = identity_of(stack, "b")
    run(stack, ProcessSpec(a.name, a.argv, a.probe, {**a.environment, "WHO": "two"}), b)
    assert stacks.log_file(stack.work_dir, "a").read_text().splitlines() == ["hello from one", "hello from two"]
    assert identity_of(stack, "b") == other
    assert state_of(stack, "a").restarts == 0


def test_a_process_that_cannot_start_is_reported_with_the_end_of_its_log(stack: Stack) -> None:
    broken = ProcessSpec("a", (sys.executable, "-c", "raise SystemExit('no such setting')"), Probe("http", ""))
    stack.control.apply([broken], {})
    with pytest.raises(NotReadyError, match=r"a does not come up:\n(.|\n)*no such setting"):
        stack.wait_ready()


def test_a_command_that_does_not_exist_is_a_death_like_any_other(stack: Stack) -> None:
    stack.control.apply([ProcessSpec("a", ("/no/such/program",), Probe("http", "")), service("b")], {})
    stack.wait_ready(["b"])
    assert wait_for(lambda: state_of(stack, "a").restarts > 0)


def test_stop_ends_everything_also_what_does_not_listen(stack: Stack) -> None:
    run(stack, service("a"), service("deaf", DEAF="1"))
    identities = [identity_of(stack, name) for name in ("a", "deaf")]
    stack.stop()
    assert not any(identity.alive for identity in [*identities, stack.supervisor])
    assert record.read(stack.work_dir) is None
    assert "deaf did not stop within 1 s: killed" in stacks.log_file(stack.work_dir, "supervisor").read_text()
    with pytest.raises(NotRunningError):
        stack.states()
    assert stacks.stop(stack.work_dir) is False


def test_nothing_outlives_a_supervisor_that_is_killed(stack: Stack) -> None:
    run(stack, service("a"), service("deaf", DEAF="1"))
    identities = [identity_of(stack, name) for name in ("a", "deaf")]
    stack.supervisor.kill()
    if sys.platform == "linux":
        assert gone(*identities)
    assert record.read(stack.work_dir) is not None, "a crash leaves its record"
    assert stacks.attach(stack.work_dir) is None
    stacks.clean_up(stack.work_dir)
    assert gone(*identities)
    assert record.read(stack.work_dir) is None


def test_one_work_directory_has_one_supervisor(stack: Stack) -> None:
    command = [sys.executable, "-m", "millrace_local.supervisor", "--work-dir", str(stack.work_dir)]
    assert subprocess.run(command, check=False, timeout=_DEADLINE_SECONDS).returncode == 3
    assert stack.supervisor.alive
    assert stack.states() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_everything_ends_with_the_command_that_owns_it(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        found = record.read(tmp_path)
        assert found is not None
        stack = Stack(tmp_path, found.supervisor, ControlClient(found.control), "", "")
        run(stack, service("a"))
        child = identity_of(stack, "a")
        os.kill(owner.pid, number)
    assert gone(child, stack.supervisor)
    assert record.read(tmp_path) is None


def test_a_released_stack_outlives_its_owner(tmp_path: Path) -> None:
    code = _OWNER.replace("start_supervisor(Path", "stack = start_supervisor(Path").replace(
        'print("up"', 'stack.release(); print("up"'
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()
    found = record.read(tmp_path)
    assert found is not None
    until = time.monotonic() + 1.5  # three times as long as it would take to notice
    assert not stacks.wait_until(lambda: not found.supervisor.alive or time.monotonic() > until, 1.2)
    assert stacks.stop(tmp_path) is True
    assert gone(found.supervisor)


def test_a_supervisor_ends_orderly_when_it_is_told_to_by_a_signal(stack: Stack) -> None:
    run(stack, service("a"))
    child = identity_of(stack, "a")
    stack.supervisor.terminate()
    assert gone(child, stack.supervisor)
    assert "a stopped (exit code 0)" in stacks.log_file(stack.work_dir, "supervisor").read_text()
