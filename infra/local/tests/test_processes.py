"""Processes on a leash, with real ones."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from millrace_local.processes import Identity, Probe, ProcessSpec, end, start

_PROBE = Probe("http", "http://127.0.0.1:1/")
_SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
_DEADLINE_SECONDS = 15.0


def wait_for(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return done()


def test_a_spec_survives_json() -> None:
    spec = ProcessSpec("a", ("x", "y"), _PROBE, {"A": "1"}, 2, 3.0)
    assert ProcessSpec.of_json(spec.as_json()) == spec


def test_output_is_appended_to_the_log_and_the_environment_is_added(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("before\n")
    command = (sys.executable, "-c", "import os, sys; print(os.environ['GIVEN'], file=sys.stderr)")
    assert start(ProcessSpec("a", command, _PROBE, {"GIVEN": "given"}), log).wait() == 0
    assert log.read_text() == "before\ngiven\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_process_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    parent_code = (
        "import sys, time; from pathlib import Path; from millrace_local.processes import *\n"
        f"spec = ProcessSpec('a', {_SLEEP!r}, Probe('http', ''))\n"
        f"print(start(spec, Path({str(log)!r})).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Identity.of(int(parent.stdout.readline()))
        assert child is not None
        assert wait_for(lambda: "up" in log.read_text())
        assert child.alive
        parent.kill()
    assert wait_for(lambda: not child.alive)


def test_end_ends_the_recorded_process_and_no_later_one_with_its_number(tmp_path: Path) -> None:
    process = start(ProcessSpec("a", _SLEEP, _PROBE), tmp_path / "a.log")
    identity = Identity.of(process.pid)
    assert identity is not None
    someone_else = Identity(process.pid, identity.created - 1_000)
    assert end([someone_else]) == ()
    assert identity.alive
    assert end([identity]) == (identity,)
    assert end([identity]) == ()
    process.wait()
