"""The brokers: Kafka nodes, each broker and controller in one process (KRaft), on the loopback address; mostly one."""

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from millrace_local.artifacts import Artifacts
from millrace_local.errors import LocalStackError, NotReadyError
from millrace_local.ports import LOOPBACK, Ports, SideDoor, free_port
from millrace_local.processes import Probe, ProcessSpec

NAME: Final = "kafka"

# 512 MB holds four partitions a topic at 50,000 records/s; one collector thread is enough for it and starts soonest.
# The compiler is left alone: stopping it at its first tier saves nothing at start and costs throughput.
_JVM: Final = ("-Xms128m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
_HEAP: Final = "-Xmx512m"
# Several share the traffic, and the machine.
_HEAP_OF_SEVERAL: Final = "-Xmx352m"
_LOGGING: Final = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    # It warns at every client that leaves without closing its connection first.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.network.Selector=error",
)
_STOP_RANK: Final = 2
_GRACE_SECONDS: Final = 20.0
_FORMAT_TIMEOUT_SECONDS: Final = 60
# Enough for a handful of groups and producers; the default of 50 each makes the first client wait for 100 partitions.
_INTERNAL_PARTITIONS: Final = 4
_MOST_REPLICAS: Final = 3
# Leaders move this long after a broker has died; the default of 9 s is for garbage collectors and networks.
_SESSION_MS: Final = 6_000
_HEARTBEAT_MS: Final = 1_000
# How many brokers the data in a folder belongs to.
_COUNT_FILE: Final = "brokers"


@dataclass(frozen=True, slots=True)
class Node:
    """One broker, which is a controller too.

    Attributes:
        number: 1, 2, ...
        port: for clients.
        controller_port: for the other controllers.
        side_door: where it listens besides; None: nowhere.
    """

    number: int
    port: int
    controller_port: int
    side_door: SideDoor | None = None

    @property
    def name(self) -> str:
        """Its process's name: kafka, kafka-2, kafka-3, ..."""
        return process_name(self.number)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"{LOOPBACK}:{self.port}"

    def folder(self, folder: Path) -> Path:
        """Return its own folder in that of the brokers."""
        return folder if self.number == 1 else folder / str(self.number)


def process_name(number: int) -> str:
    """Return the name of the process of a broker."""
    return NAME if number == 1 else f"{NAME}-{number}"


def nodes(ports: Ports, count: int, side_door: SideDoor | None = None) -> tuple[Node, ...]:
    """Return `count` brokers: the first at the given ports, with the side door, the others at any free ones."""
    found = [Node(1, ports.kafka, ports.controller, side_door)]
    taken = {ports.kafka, ports.controller, ports.registry}
    for number in range(2, count + 1):
        port = free_port(frozenset(taken))
        controller_port = free_port(frozenset({*taken, port}))
        taken |= {port, controller_port}
        found.append(Node(number, port, controller_port))
    return tuple(found)


def replicas(brokers: int) -> tuple[int, int]:
    """Return replication factor and min.insync.replicas for so many brokers: with three, any one may be away."""
    return min(brokers, _MOST_REPLICAS), 2 if brokers >= _MOST_REPLICAS else 1


def server_properties(data_dir: Path, node: Node, all_nodes: Sequence[Node]) -> str:
    """Return the configuration file of `node`."""
    door = node.side_door
    listeners = {"CLIENTS": node.port} | ({"SIDE": door.port} if door is not None else {})
    advertised = listeners | ({"SIDE": door.advertised_port} if door is not None else {})
    factor, in_sync = replicas(len(all_nodes))
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        # Static on purpose: a dynamic quorum keeps the port in its log, and ports may differ from run to run.
        "controller.quorum.voters": ",".join(
            f"{voter.number}@{LOOPBACK}:{voter.controller_port}" for voter in all_nodes
        ),
        "controller.listener.names": "CONTROLLER",
        "listeners": _addresses({**listeners, "CONTROLLER": node.controller_port}),
        "advertised.listeners": _addresses(advertised),
        "inter.broker.listener.name": "CLIENTS",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,SIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data_dir.as_posix(),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": _INTERNAL_PARTITIONS,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.num.partitions": _INTERNAL_PARTITIONS,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": _INTERNAL_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Of topics that others create: the registry's.
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        "broker.session.timeout.ms": _SESSION_MS,
        "broker.heartbeat.interval.ms": _HEARTBEAT_MS,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def prepare(java: Path, artifacts: Artifacts, folder: Path, all_nodes: Sequence[Node]) -> tuple[ProcessSpec, ...]:
    """Write each broker's configuration into `folder`, format storage that is new, and return the processes to run.

    Raises:
        LocalStackError: the folder holds data of another number of brokers.
        NotReadyError: formatting failed.
    """
    _refuse_other_count(folder, len(all_nodes))
    cluster_id = _cluster_id(folder)
    specs = []
    for node in all_nodes:
        own = node.folder(folder)
        own.mkdir(parents=True, exist_ok=True)
        properties, data = own / "server.properties", own / "data"
        properties.write_text(server_properties(data, node, all_nodes), encoding="utf-8")
        if not (data / "meta.properties").exists():
            _format(java, artifacts, properties, cluster_id)
        heap = _HEAP if len(all_nodes) == 1 else _HEAP_OF_SEVERAL
        specs.append(
            ProcessSpec(
                name=node.name,
                argv=(
                    *(str(java), *_JVM, heap, *_LOGGING, "-cp", artifacts.kafka_class_path),
                    *("kafka.Kafka", str(properties)),
                ),
                probe=Probe("kafka", node.address),
                stop_rank=_STOP_RANK,
                grace_seconds=_GRACE_SECONDS,
            )
        )
    return tuple(specs)


def _refuse_other_count(folder: Path, count: int) -> None:
    """Note in `folder` that its data is that of `count` brokers."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / _COUNT_FILE
    before = int(noted.read_text(encoding="utf-8")) if noted.exists() else 1 if (folder / "data").exists() else count
    if before != count:
        message = (
            f"{folder} holds the data of {before} broker{'s' * (before > 1)}: start with --brokers {before}, or remove "
            "it with `millrace down --purge`"
        )
        raise LocalStackError(message)
    noted.write_text(str(count), encoding="utf-8")


def _cluster_id(folder: Path) -> str:
    """Return the id in the first broker's storage, or a new one."""
    written = folder / "data" / "meta.properties"
    lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
    known = [line.partition("=")[2] for line in lines if line.startswith("cluster.id=")]
    return known[0] if known else base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _format(java: Path, artifacts: Artifacts, properties: Path, cluster_id: str) -> None:
    tool = [str(java), "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", artifacts.kafka_class_path]
    # --ignore-formatted: killed between two of its files, it starts over
    command = [
        *tool,
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        f"--cluster-id={cluster_id}",  # it may begin with a dash
        "-c",
        str(properties),
    ]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, timeout=_FORMAT_TIMEOUT_SECONDS
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        message = f"the broker's storage could not be formatted: {reason[-1] if reason else done.returncode}"
        raise NotReadyError(message)
