"""The brokers' configuration; that it works is seen on real ones."""

from pathlib import Path

import pytest

from millrace_local import kafka
from millrace_local.artifacts import Artifacts
from millrace_local.errors import LocalStackError
from millrace_local.kafka import Node, nodes, replicas, server_properties
from millrace_local.ports import Ports, SideDoor

PORTS = Ports(9092, 9093, 8081, 9400)
_TOOL = """#!/bin/sh
for last; do :; done
data=$(sed -n 's/^log.dirs=//p' "$last")
mkdir -p "$data"
for argument; do
  case $argument in --cluster-id=*) echo "cluster.id=${argument#*=}" > "$data/meta.properties";; esac
done
"""


def properties(node: Node, all_nodes: tuple[Node, ...]) -> dict[str, str]:
    text = server_properties(Path("/data"), node, all_nodes)
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_first_broker_has_the_given_ports_and_the_others_free_ones() -> None:
    found = nodes(PORTS, 3)
    assert [node.name for node in found] == ["kafka", "kafka-2", "kafka-3"]
    assert found[0].address == "127.0.0.1:9092"
    ports = {port for node in found for port in (node.port, node.controller_port)} | {PORTS.registry}
    assert len(ports) == 7


def test_all_brokers_vote_and_each_listens_on_its_own_ports() -> None:
    three = (Node(1, 11, 12), Node(2, 21, 22), Node(3, 31, 32))
    second = properties(three[1], three)
    assert second["node.id"] == "2"
    assert second["controller.quorum.voters"] == "1@127.0.0.1:12,2@127.0.0.1:22,3@127.0.0.1:32"
    assert second["listeners"] == "CLIENTS://127.0.0.1:21,CONTROLLER://127.0.0.1:22"
    assert second["advertised.listeners"] == "CLIENTS://127.0.0.1:21"


def test_clients_of_the_side_door_are_told_where_something_in_between_listens() -> None:
    first, second = nodes(PORTS, 2, SideDoor(port=5, advertised_port=6))
    found = properties(first, (first, second))
    assert found["listeners"] == "CLIENTS://127.0.0.1:9092,SIDE://127.0.0.1:5,CONTROLLER://127.0.0.1:9093"
    assert found["advertised.listeners"] == "CLIENTS://127.0.0.1:9092,SIDE://127.0.0.1:6"
    assert "SIDE" not in properties(second, (first, second))["listeners"]


@pytest.mark.parametrize(("brokers", "expected"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 2)), (5, (3, 2))])
def test_with_three_brokers_any_one_may_be_away(brokers: int, expected: tuple[int, int]) -> None:
    assert replicas(brokers) == expected
    all_nodes = nodes(PORTS, brokers)
    found = properties(all_nodes[0], all_nodes)
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        assert found[f"{topic}.replication.factor"] == str(expected[0])
        assert found[f"{topic}.min.isr"] == str(expected[1])
    assert found["offsets.topic.replication.factor"] == str(expected[0])


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """What formats storage, as far as that is looked at."""
    tool = tmp_path / "java"
    tool.write_text(_TOOL)
    tool.chmod(0o755)
    return tool


def test_all_storage_is_of_one_cluster_also_when_formatting_was_interrupted(tmp_path: Path, java: Path) -> None:
    files, folder = Artifacts(tmp_path, tmp_path), tmp_path / "kafka"
    specs = kafka.prepare(java, files, folder, nodes(PORTS, 3))
    assert [spec.probe.target for spec in specs][0] == "127.0.0.1:9092"
    storage = [folder / "data", folder / "2" / "data", folder / "3" / "data"]
    ids = {(data / "meta.properties").read_text() for data in storage}
    assert len(ids) == 1
    (storage[2] / "meta.properties").unlink()
    kafka.prepare(java, files, folder, nodes(PORTS, 3))
    assert {(data / "meta.properties").read_text() for data in storage} == ids


@pytest.mark.parametrize(("before", "now"), [(1, 3), (3, 1)])
def test_data_of_another_number_of_brokers_is_refused(tmp_path: Path, java: Path, before: int, now: int) -> None:
    files, folder = Artifacts(tmp_path, tmp_path), tmp_path / "kafka"
    kafka.prepare(java, files, folder, nodes(PORTS, before))
    with pytest.raises(LocalStackError, match=f"data of {before} broker.*--brokers {before}.*--purge"):
        kafka.prepare(java, files, folder, nodes(PORTS, now))
    kafka.prepare(java, files, folder, nodes(PORTS, before))


def test_data_from_before_brokers_were_counted_is_that_of_one(tmp_path: Path, java: Path) -> None:
    files, folder = Artifacts(tmp_path, tmp_path), tmp_path / "kafka"
    kafka.prepare(java, files, folder, nodes(PORTS, 1))
    (folder / "brokers").unlink()
    with pytest.raises(LocalStackError, match="data of 1 broker:"):
        kafka.prepare(java, files, folder, nodes(PORTS, 3))
