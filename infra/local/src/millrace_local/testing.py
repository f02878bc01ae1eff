"""A real broker and registry for tests, on free ports, gone for sure afterwards.

In a conftest.py `from millrace_local.testing import local_stack` makes a session-wide fixture; `local_broker` is for
use by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millrace_local.ports import ANY
from millrace_local.settings import StackSettings
from millrace_local.stack import Stack
from millrace_local.starting import prepare, start


@contextmanager
def local_broker(work_dir: Path, *, prepared: bool = True) -> Iterator[Stack]:
    """Run broker and registry in `work_dir` while the block runs; with all topics and schemas if `prepared`.

    No service runs. The stack also stops when the test process dies, even by SIGKILL.
    """
    stack = start(StackSettings(work_dir=work_dir, ports=ANY))
    try:
        if prepared:
            prepare(stack)
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker with every topic and a registry with every schema, once per test session."""
    with local_broker(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
