"""What a service stands for in processes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from millrace_local.processes import ProcessSpec
from millrace_local.services import SERVICES, Service, Surroundings, in_other_lane, metrics_ports, process_specs
from millrace_schemas import topics

# Runs a module, and sends SIGTERM at the moment when it first imports something large.
_STOPPED_WHILE_IMPORTING = """
import os, runpy, signal, sys
class Striker:
    def find_spec(self, name, path, target=None):
        if name == "confluent_kafka":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Striker())
runpy.run_module(sys.argv[1], run_name="__main__")
"""
_SURROUNDINGS = Surroundings("127.0.0.1:1", "http://127.0.0.1:2", Path("/work"), 9400)


def specs_of(*services: Service, running: dict[str, ProcessSpec] | None = None) -> dict[str, ProcessSpec]:
    return {spec.name: spec for spec in process_specs(services, _SURROUNDINGS, running or {})}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_that_is_stopped_while_it_is_imported_ends_well(service: Service, tmp_path: Path) -> None:
    environment = specs_of(service)[service.name].environment
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _STOPPED_WHILE_IMPORTING, service.module],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told
    assert "told to stop before the start" in told.stdout + told.stderr


def test_a_service_is_told_its_surroundings() -> None:
    environment = specs_of(SERVICES[0])["ingest"].environment
    assert environment == {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "SCHEMA_REGISTRY_URL": "http://127.0.0.1:2",
        "STATE_URI": "/work/state",
        "LAKE_URI": "/work/lake",
        "INSTANCE": "0",
        "LANE": "",
        "METRICS_PORT": "9400",
    }


def test_own_settings_of_a_service_win_but_for_its_port() -> None:
    service = replace(SERVICES[0], environment={"LAKE_URI": "elsewhere", "MAX_AGE_SECONDS": "0", "METRICS_PORT": "1"})
    environment = specs_of(service)["ingest"].environment
    assert (environment["LAKE_URI"], environment["MAX_AGE_SECONDS"]) == ("elsewhere", "0")
    assert environment["METRICS_PORT"] == "9400"


def test_live_services_have_ports_in_a_row_and_others_any() -> None:
    lane = in_other_lane(SERVICES, "backfill", {})
    ports = metrics_ports([*SERVICES, *lane], 9400, {})
    assert [ports[service.title] for service in SERVICES] == [9400, 9401, 9402, 9403]
    assert len(set(ports.values())) == 8
    assert all(20_000 <= ports[service.title] < 32_000 for service in lane)


def test_a_process_that_runs_keeps_its_port_when_others_come() -> None:
    one = specs_of(SERVICES[0])
    more = specs_of(replace(SERVICES[0], processes=3), SERVICES[1], running=one)
    assert more["ingest"] == one["ingest"]
    assert [more[name].environment["INSTANCE"] for name in ("ingest", "ingest-1", "ingest-2")] == ["0", "1", "2"]
    again = specs_of(replace(SERVICES[0], processes=3), SERVICES[1], running=more)
    assert again == more


def test_a_lane_has_names_groups_and_topics_of_its_own() -> None:
    lane = in_other_lane(SERVICES[:1], "backfill", {"MAX_AGE_SECONDS": "0"})[0]
    assert lane.title == "ingest.backfill"
    assert lane.group == "millrace-ingest.backfill"
    assert lane.topics == ("user-events.backfill", "transactions.backfill")
    environment = specs_of(lane)["ingest.backfill"].environment
    assert (environment["LANE"], environment["MAX_AGE_SECONDS"]) == ("backfill", "0")


def test_a_service_survives_json() -> None:
    service = replace(SERVICES[0], lane="x", processes=2, environment={"A": "1"}, pythons=("/other/python",))
    assert Service.of_json(service.as_json()) == service


def test_a_service_noted_by_an_older_release_runs_with_this_interpreter() -> None:
    stored = SERVICES[0].as_json()
    del stored["pythons"]
    assert Service.of_json(stored) == SERVICES[0]


def test_processes_of_two_releases_run_side_by_side() -> None:
    specs = specs_of(replace(SERVICES[0], processes=3, pythons=("/old/python", "/new/python")))
    assert [spec.argv[0] for spec in specs.values()] == ["/old/python", "/new/python", "/old/python"]
    assert specs_of(SERVICES[0])["ingest"].argv == (sys.executable, "-m", "millrace_ingest")


def test_every_input_is_a_declared_topic() -> None:
    declared = {topic.name for topic in topics()}
    assert {topic for service in SERVICES for topic in service.inputs} <= declared


def test_a_command_called_by_another_path_restarts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = specs_of(SERVICES[0])
    folder, name = os.path.split(sys.executable)
    monkeypatch.setattr(sys, "executable", f"{folder}/../{os.path.basename(folder)}/{name}")
    assert specs_of(SERVICES[0]) == before
