import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from millrace_local.stack import wait_until
from process_tree import ProcessTree

_BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def started() -> Iterator[Start]:
    processes = []

    def start(code: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_cpu_of_an_ended_child_counts(started: Start) -> None:
    burn = _BURN.format(seconds=0.3)
    parent = started(
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)\ninput()"
    )
    tree = ProcessTree(parent.pid)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"done\n"
    assert len(tree.members()) == 1
    assert 0.25 <= tree.used().cpu_seconds < 2


def test_cpu_of_a_running_child_counts(started: Start) -> None:
    burn = _BURN.format(seconds=0.4) + "time.sleep(60)"
    parent = started(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])")
    tree = ProcessTree(parent.pid)
    assert wait_until(lambda: tree.used().cpu_seconds >= 0.3, 20)
    assert len(tree.members()) == 2
    tree.kill()
    parent.wait(10)


def test_child_whose_parent_ended_belongs_on(started: Start, tmp_path: Path) -> None:
    program = tmp_path / "starter.py"
    program.write_text(
        "import subprocess, sys, time\n"
        "left = int(sys.argv[1])\n"
        "if left:\n"
        "    subprocess.Popen([sys.executable, __file__, str(left - 1)])\n"
        "time.sleep(60)\n"
    )
    parent = started(f"import sys; sys.argv = ['', '2']; __file__ = {str(program)!r}; exec(open(__file__).read())")
    tree = ProcessTree(parent.pid)
    assert wait_until(lambda: len(tree.members()) == 3, 20)
    child = parent_of_another(tree)
    [grandchild] = child.children()
    child.kill()
    assert wait_until(lambda: not grandchild.parent() or grandchild.ppid() != child.pid, 10)
    assert grandchild in tree.members()
    tree.kill()
    assert wait_until(lambda: not grandchild.is_running() or grandchild.status() == "zombie", 10)


def parent_of_another(tree: ProcessTree) -> psutil.Process:
    return next(member for member in tree.members()[1:] if member.children())


def test_cpu_time_never_falls(started: Start) -> None:
    parent = started(_BURN.format(seconds=0.3) + "input()")
    tree = ProcessTree(parent.pid)
    assert wait_until(lambda: tree.used().cpu_seconds >= 0.2, 20)
    parent.kill()
    parent.wait(10)
    assert tree.used().cpu_seconds >= 0.2
