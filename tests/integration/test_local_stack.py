"""The local stack from outside: what up, status, logs and down do, and what they leave when they are interrupted."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from millrace_local import record
from millrace_local import stack as stacks
from millrace_local.ports import ANY, free_port
from millrace_local.processes import Identity
from millrace_local.services import Service
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack
from millrace_local.starting import start_supervisor, up
from millrace_local.status import status

pytestmark = pytest.mark.broker

MILLRACE = (sys.executable, "-m", "millrace_local")

_DEADLINE_SECONDS = 90.0
_SERVICE = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
names = ("INSTANCE", "LANE", "IDLE_TIMEOUT_SECONDS")
print({name: os.environ[name] for name in names if name in os.environ}, flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["METRICS_PORT"])), Handler).serve_forever()
"""


def millrace(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MILLRACE, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=_DEADLINE_SECONDS,
    )


def wait_for(done: Callable[[], bool]) -> bool:
    return stacks.wait_until(done, _DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole stack with one small service."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "small_service.py").write_text(_SERVICE)
    service = Service("small", "small_service", ("user-events",), environment={"PYTHONPATH": str(folder)})
    stack = up(StackSettings(folder / "work", ANY), [service])
    yield stack
    stack.stop()


def test_status_tells_addresses_and_processes(running: Stack) -> None:
    told = millrace("status", "--json", "--work-dir", running.work_dir)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["kafka_bootstrap_servers"] == running.bootstrap_servers
    assert found["lake"] == str(running.work_dir / "lake")
    (service,) = found["services"]
    assert (service["name"], service["restarts"], service["lag"], len(service["pids"])) == ("small", 0, None, 1)
    assert [(part["name"], part["ready"]) for part in found["infrastructure"]] == [("kafka", True), ("registry", True)]


def test_up_where_a_stack_runs_says_so_and_changes_nothing(running: Stack) -> None:
    before = {state.spec.name: state.identity for state in running.states()}
    told = millrace("up", "--work-dir", running.work_dir)
    assert told.returncode == 0, told.stderr
    assert "running already" in told.stdout
    assert {state.spec.name: state.identity for state in running.states()} == before


def test_a_service_is_restarted_with_a_changed_setting_and_scaled(running: Stack) -> None:
    infrastructure = [state.identity for state in running.states()[:2]]
    running.change_service("small", environment={"IDLE_TIMEOUT_SECONDS": "1"}, processes=2)
    running.wait_ready()
    assert "'INSTANCE': '0', 'LANE': '', 'IDLE_TIMEOUT_SECONDS': '1'" in running.log_tail("small")
    assert "'INSTANCE': '1', 'LANE': '', 'IDLE_TIMEOUT_SECONDS': '1'" in running.log_tail("small-1")
    assert len(status(running).services[0].pids) == 2
    running.change_service("small", processes=1)
    assert wait_for(lambda: len(running.states()) == 3)
    assert [state.identity for state in running.states()[:2]] == infrastructure


def test_a_lane_is_started_and_stopped_beside_the_live_services(running: Stack) -> None:
    live = running.services()
    lane = Service("small", "small_service", ("user-events",), "backfill", environment=live[0].environment)
    running.add_services([lane])
    running.wait_ready()
    assert "'LANE': 'backfill'" in running.log_tail("small.backfill")
    running.stop_services({"small.backfill"})
    assert running.services() == live


def test_logs_of_one_and_of_all_processes_are_shown(running: Stack) -> None:
    one = millrace("logs", "supervisor", "--work-dir", running.work_dir)
    assert "kafka started" in one.stdout
    every = millrace("logs", "--work-dir", running.work_dir)
    assert any(line.startswith("small ") and "| {'INSTANCE'" in line for line in every.stdout.splitlines())
    wrong = millrace("logs", "nobody", "--work-dir", running.work_dir)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "there are" in wrong.stderr


def test_a_killed_broker_comes_back_with_its_topics(running: Stack) -> None:
    def kafka() -> Identity | None:
        return running.states()[0].identity

    before = kafka()
    assert before is not None
    before.kill()
    assert wait_for(lambda: kafka() not in (None, before))
    running.wait_ready()
    told = millrace("topics", "apply", "--work-dir", running.work_dir)
    assert told.stdout == "nothing to do: every topic is as declared\n", told.stderr


def test_nothing_is_bound_to_other_addresses_than_the_loopback_one(running: Stack) -> None:
    import psutil  # noqa: PLC0415

    pids = [state.identity.pid for state in running.states() if state.identity] + [running.supervisor.pid]
    listening = {
        connection.laddr.ip
        for pid in pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        told = millrace("up", "--work-dir", tmp_path, "--ports", "fixed", MILLRACE_KAFKA_PORT=str(port))
    assert told.returncode == 1
    assert f"port {port} is taken by" in told.stderr
    assert "--kafka-port or MILLRACE_KAFKA_PORT" in told.stderr
    assert "Traceback" not in told.stderr
    assert record.read(tmp_path) is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_up_leaves_no_process(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [*MILLRACE, "up", "--ports", "auto", "--work-dir", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert wait_for(lambda: (found := record.read(tmp_path)) is not None and len(found.children) == 2)
        found = record.read(tmp_path)
        assert found is not None
        process.send_signal(number)
        _, told = process.communicate(timeout=_DEADLINE_SECONDS)
    assert process.returncode == code
    assert b"Traceback" not in told
    everything = [found.supervisor, *found.children.values()]
    assert wait_for(lambda: not any(identity.alive for identity in everything))
    assert record.read(tmp_path) is None


def test_down_is_idempotent_and_purge_removes_the_data_and_nothing_else(tmp_path: Path) -> None:
    stack = start_supervisor(tmp_path, "", "")
    for folder in ("kafka", "lake", "state"):
        (tmp_path / folder).mkdir()
    told = millrace("down", "--work-dir", tmp_path)
    assert (told.returncode, told.stdout) == (0, "Millrace is down\n")
    assert not stack.supervisor.alive
    assert (tmp_path / "kafka").is_dir()
    (tmp_path / "mine.txt").write_text("mine")
    again = millrace("down", "--purge", "--work-dir", tmp_path)
    assert again.returncode == 0
    assert again.stdout.startswith(f"no stack runs in {tmp_path}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_commands_without_a_stack_say_how_to_start_one(tmp_path: Path) -> None:
    told = millrace("status", "--work-dir", tmp_path)
    assert told.returncode == 1
    assert told.stderr == f"millrace: no stack runs in {tmp_path}: start one with `millrace up --work-dir {tmp_path}`\n"


@pytest.mark.parametrize(("command", "mute"), [("status", False), ("ledger", True)])
def test_a_broker_that_does_not_answer_is_a_sentence(tmp_path: Path, command: str, mute: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        if mute:  # the system accepts connections, and nobody ever reads from them
            listener.listen()
        broker = f"127.0.0.1:{listener.getsockname()[1]}"
        stack = start_supervisor(tmp_path, broker, "http://127.0.0.1:1/none")
        stack.control.apply([], {"bootstrap_servers": broker, "registry_url": stack.registry_url, "services": []})
        began = time.monotonic()
        told = millrace(command, "--work-dir", tmp_path)
        took_seconds = time.monotonic() - began
        stack.stop()
    assert told.returncode == 1, told.stdout
    assert told.stderr.startswith(f"millrace: the broker at {broker} does not answer: "), told.stderr
    assert told.stderr.count("\n") == 1
    assert took_seconds < 30


def test_wrong_usage_exits_with_2() -> None:
    assert millrace("up", "--kafka-port", "many").returncode == 2
    assert millrace("nothing").returncode == 2
