"""The operator: exit codes are outcomes, output is the log and the result, and no process outlives its task."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from millrace_dags.operators import MillraceOperator
from millrace_dags.processes import Command, Running

DEADLINE_SECONDS = 20


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], MillraceOperator]:
    """Return a function that makes an operator whose `millrace` is this line of shell."""

    def made(line: str) -> MillraceOperator:
        program = tmp_path / "millrace"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setenv("MILLRACE_DAGS_MILLRACE", str(program))
        return MillraceOperator(
            task_id="one", arguments=["batch", "x"], environment={"WORD": "said"}, skip_exit_code=99
        )

    return made


class Pushed:
    """Takes what a task leaves for others."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    def xcom_push(self, key: str, value: str) -> None:
        self.given[key] = value


def gone(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def test_result_is_what_it_printed(operator: Callable[[str], MillraceOperator]) -> None:
    run = operator('echo "$1 $2"; echo $WORD; echo noise >&2')
    assert run.execute(Context()) == ["batch x", "said"]


@pytest.mark.parametrize(
    ("line", "expected", "message"),
    [
        ("echo why; exit 99", AirflowSkipException, "^why$"),
        ("exit 2", AirflowFailException, "ended with 2"),
        ("echo no such table >&2; exit 1", AirflowException, "ended with 1: no such table"),
        ("echo 1 error; exit 1", AirflowException, "ended with 1: 1 error"),
        ("kill -9 $$", AirflowException, "ended with -9"),
    ],
)
def test_exit_code_is_the_outcome(
    operator: Callable[[str], MillraceOperator], line: str, expected: type[Exception], message: str
) -> None:
    pushed: Any = Pushed()
    with pytest.raises(expected, match=message) as ended:
        operator(line).execute(Context(ti=pushed))
    assert type(ended.value) is expected
    assert pushed.given == ({"skipped": "why"} if expected is AirflowSkipException else {})


def test_task_that_is_ended_ends_all_it_has_started(
    operator: Callable[[str], MillraceOperator], tmp_path: Path
) -> None:
    run = operator(f"sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait")

    def end_it() -> None:
        wait_until((tmp_path / "own").exists)
        run.on_kill()

    threading.Thread(target=end_it, daemon=True).start()
    with pytest.raises(AirflowException, match="ended with -15"):
        run.execute(Context())
    for name in ("own", "child"):
        wait_until(partial(gone, tmp_path / name))


def test_command_dies_with_a_task_that_is_killed(tmp_path: Path) -> None:
    project = Path(__file__).parents[3]
    code = (
        "from pathlib import Path; from millrace_dags.processes import *;"
        f"Running(Command(['sh', '-c', 'echo $$ > {tmp_path}/own; sleep 600'], Path({str(project)!r}), {{}}))"
        ".wait(print)"
    )
    task = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])  # noqa: S603
    wait_until(lambda: (tmp_path / "own").exists() and (tmp_path / "own").read_text().strip() != "")
    os.kill(task.pid, signal.SIGKILL)
    task.wait()
    wait_until(partial(gone, tmp_path / "own"))


def test_long_complaints_do_not_block_it(tmp_path: Path) -> None:
    said: list[str] = []
    lines = "import sys; [print('x' * 99, file=sys.stderr) for _ in range(9999)]; print('done')"
    command = Command([sys.executable, "-c", lines], Path(__file__).parents[3], {})
    ended = Running(command).wait(said.append)
    assert (ended.exit_code, ended.lines, len(said)) == (0, ("done",), 10_000)


def test_program_may_mean_something_else_by_the_code_of_wrong_usage(
    operator: Callable[[str], MillraceOperator],
) -> None:
    run = operator("exit 2")
    run.usage_exit_code = None
    with pytest.raises(AirflowException) as ended:
        run.execute(Context())
    assert type(ended.value) is AirflowException
