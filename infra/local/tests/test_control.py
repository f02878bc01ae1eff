"""Commands and supervisor talking over the loopback address."""

import http.client
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from millrace_local import record
from millrace_local.control import ControlAddress, ControlClient, Note, serve
from millrace_local.errors import LocalStackError, NotRunningError
from millrace_local.ports import free_port
from millrace_local.processes import Identity, Probe, ProcessSpec
from millrace_local.supervision import ProcessState

_SPEC = ProcessSpec("a", ("run",), Probe("http", "http://127.0.0.1:1/readyz"), {"A": "1"}, 1, 2.0)
_STATE = ProcessState(_SPEC, Identity(7, 1.5), restarts=3, ready=True)


class Noting:
    """A supervisor that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def status(self) -> tuple[list[ProcessState], Note]:
        return [_STATE], {"key": "value"}

    def apply(self, specs: Sequence[ProcessSpec], note: Note) -> None:
        self.asked.append((list(specs), note))

    def release(self) -> None:
        self.asked.append("release")

    def stop(self) -> None:
        self.asked.append("stop")


@pytest.fixture
def target() -> Noting:
    return Noting()


@pytest.fixture
def address(target: Noting) -> Iterator[ControlAddress]:
    with serve(target, "secret") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ControlAddress(server.server_address[1], "secret")
        server.shutdown()


def test_everything_that_is_asked_arrives(target: Noting, address: ControlAddress) -> None:
    client = ControlClient(address)
    assert client.status() == ([_STATE], {"key": "value"})
    client.apply([_SPEC], {"n": 1})
    client.release()
    client.stop()
    assert target.asked == [([_SPEC], {"n": 1}), "release", "stop"]


def test_without_the_token_nothing_is_done_or_said(target: Noting, address: ControlAddress) -> None:
    with pytest.raises(NotRunningError, match="401"):
        ControlClient(ControlAddress(address.port, "guess")).stop()
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=5)
    connection.request("GET", "/status")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (401, b"{}")
    connection.close()
    assert target.asked == []


def test_nobody_there_is_not_running() -> None:
    with pytest.raises(NotRunningError, match="does not answer"):
        ControlClient(ControlAddress(free_port(), "x")).status()


def test_the_record_is_read_back_and_for_its_owner_only(tmp_path: Path) -> None:
    written = record.StackRecord(Identity(1, 2.0), ControlAddress(3, "t"), {"kafka": Identity(4, 5.0)})
    record.write(tmp_path, written)
    record.write(tmp_path, written)
    assert record.read(tmp_path) == written
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"supervisor": 1}'])
def test_a_broken_record_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert record.read(tmp_path) is None


def test_a_lock_is_held_once_and_free_again(tmp_path: Path) -> None:
    first = record.lock(tmp_path)
    assert first is not None
    assert record.lock(tmp_path) is None
    os.close(first)
    again = record.lock(tmp_path)
    assert again is not None
    os.close(again)


def test_a_work_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalStackError, match="cannot be written .*--work-dir"):
        record.lock(tmp_path / "file")
