"""What status says, from pretended facts."""

import io
import json
from pathlib import Path

from rich.console import Console

from millrace_common.records import Partition
from millrace_local.control import ControlAddress, ControlClient
from millrace_local.lag import lag
from millrace_local.processes import Identity, Probe, ProcessSpec
from millrace_local.services import Service
from millrace_local.stack import Stack
from millrace_local.status import render, summarise
from millrace_local.supervision import ProcessState

_STACK = Stack(
    Path("/work"),
    Identity(1, 0.0),
    ControlClient(ControlAddress(1, "token")),
    "127.0.0.1:9092",
    "http://127.0.0.1:8081/x",
)


def state(name: str, pid: int | None, restarts: int = 0, *, kind: str = "http") -> ProcessState:
    probe = Probe("kafka", "127.0.0.1:9092") if kind == "kafka" else Probe("http", f"http://127.0.0.1:{pid}/readyz")
    identity = None if pid is None else Identity(pid, 0.0)
    return ProcessState(ProcessSpec(name, ("x",), probe), identity, restarts, ready=pid is not None)


_STATES = [
    state("kafka", 10, kind="kafka"),
    state("registry", 11, restarts=1),
    state("ingest", 12, restarts=2),
    state("ingest-1", None, restarts=1),
]
_SERVICES = [Service("ingest", "m", ("user-events",), processes=2)]


def test_status_has_the_promised_keys() -> None:
    found = json.loads(json.dumps(summarise(_STACK, _STATES, _SERVICES, {"ingest": 7}).as_json()))
    assert found["kafka_bootstrap_servers"] == "127.0.0.1:9092"
    assert found["schema_registry_url"] == "http://127.0.0.1:8081/x"
    assert (found["work_dir"], found["lake"]) == ("/work", "/work/lake")
    assert found["addresses"] == {
        "kafka": "127.0.0.1:9092",
        "registry": "http://127.0.0.1:8081/x",
        "ingest": "http://127.0.0.1:12",
        "ingest-1": "http://127.0.0.1:None",
    }
    assert found["services"] == [{"name": "ingest", "pids": [12], "restarts": 3, "ready": False, "lag": 7}]
    assert [part["name"] for part in found["infrastructure"]] == ["kafka", "registry"]


def test_unknown_lag_is_null() -> None:
    assert summarise(_STACK, _STATES, _SERVICES, {"ingest": None}).services[0].lag is None


def test_the_page_names_every_part() -> None:
    page = io.StringIO()
    Console(width=120, file=page).print(render(summarise(_STACK, _STATES, _SERVICES, {"ingest": 1234})))
    assert all(word in page.getvalue() for word in ("kafka", "registry", "ingest", "1,234", "starting", "/work/lake"))


def test_lag_is_null_before_the_first_commit() -> None:
    assert lag({}, {Partition("t", 0): (0, 5)}) is None


def test_lag_sums_over_partitions_and_counts_one_without_commit_from_its_start() -> None:
    kept = {Partition("t", 0): (0, 10), Partition("t", 1): (4, 10), Partition("u", 0): (0, 3)}
    assert lag({Partition("t", 0): 7, Partition("u", 0): 3}, kept) == 3 + 6


def test_lag_ignores_offsets_that_retention_has_removed_and_is_never_negative() -> None:
    assert lag({Partition("t", 0): 2}, {Partition("t", 0): (5, 9)}) == 4
    assert lag({Partition("t", 0): 12}, {Partition("t", 0): (5, 9)}) == 0
