import platform
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from millrace_common.service import Parts, StoppedError
from millrace_common.settings import ServiceSettings

SETTINGS = ServiceSettings(
    kafka_bootstrap_servers="127.0.0.1:1", schema_registry_url="http://127.0.0.1:1", state_uri="/nowhere"
)


@dataclass
class Sink:
    """Notes that it was told to commit."""

    commits: list[str] = field(default_factory=list)

    @property
    def writer(self) -> "Sink":
        return self

    def commit_if_due(self) -> None:
        self.commits.append("if due")


def test_what_is_done_is_committed_before_a_wait_that_may_outlast_the_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping = threading.Event()
    parts = Parts("ingest", SETTINGS, stopping)
    parts.wait(0.0)  # nothing to commit to yet
    sink = Sink()
    monkeypatch.setattr(parts, "_sink", cast("Any", sink))
    parts.wait(0.0)
    assert sink.commits == ["if due"]
    stopping.set()
    with pytest.raises(StoppedError):
        parts.wait(60.0)
    assert sink.commits == ["if due"] * 2


def test_every_client_bears_the_name_of_its_process_and_misses_a_lost_answer_soon() -> None:
    parts = Parts("enrich", SETTINGS, threading.Event())
    assert parts.client == SETTINGS.kafka_client() | {"client.id": "enrich-0", "socket.timeout.ms": 10_000}


HOLES = """
import pathlib, sys
from millrace_common.service import _give_memory_back

def resident_mib():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

if sys.argv[1] == "give back":
    _give_memory_back()
bytearray(16 * 2**20)  # freed: without a word, blocks up to this size are kept from now on
blocks = [bytearray(b"x" * (8 * 2**20)) for _ in range(20)]
before = resident_mib()
del blocks[::2]
print(before - resident_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large blocks")
def test_large_blocks_that_are_freed_between_others_go_back_to_the_system() -> None:
    def given_back(what: str) -> int:
        argv = [sys.executable, "-c", HOLES, what]
        ran = subprocess.run(argv, check=True, capture_output=True, timeout=60)  # noqa: S603
        return int(ran.stdout)

    assert given_back("give back") >= 79
    assert given_back("keep") < 40
