"""The broker: one Kafka node, broker and controller in one process (KRaft), on the loopback address."""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from millrace_local.artifacts import Artifacts
from millrace_local.errors import NotReadyError
from millrace_local.ports import LOOPBACK, Ports, SideDoor
from millrace_local.processes import Probe, ProcessSpec

NAME: Final = "kafka"

# 512 MB holds four partitions a topic at 50,000 records/s; one collector thread is enough for it and starts soonest.
# The compiler is left alone: stopping it at its first tier saves nothing at start and costs throughput.
_JVM: Final = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
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


def server_properties(data_dir: Path, ports: Ports, side_door: SideDoor | None = None) -> str:
    """Return the broker's configuration file."""
    listeners = {"CLIENTS": ports.kafka} | ({"SIDE": side_door.port} if side_door is not None else {})
    advertised = listeners | ({"SIDE": side_door.advertised_port} if side_door is not None else {})
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        # Static on purpose: a dynamic quorum keeps the port in its log, and ports may differ from run to run.
        "controller.quorum.voters": f"1@{LOOPBACK}:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": _addresses({**listeners, "CONTROLLER": ports.controller}),
        "advertised.listeners": _addresses(advertised),
        "inter.broker.listener.name": "CLIENTS",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,SIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data_dir.as_posix(),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": _INTERNAL_PARTITIONS,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": _INTERNAL_PARTITIONS,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": _INTERNAL_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())


def prepare(
    java: Path, artifacts: Artifacts, folder: Path, ports: Ports, side_door: SideDoor | None = None
) -> ProcessSpec:
    """Write the broker's configuration into `folder`, format its storage if that is new, and return the process to run.

    Raises:
        NotReadyError: formatting failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    properties, data = folder / "server.properties", folder / "data"
    properties.write_text(server_properties(data, ports, side_door), encoding="utf-8")
    if not (data / "meta.properties").exists():
        _format(java, artifacts, properties)
    return ProcessSpec(
        name=NAME,
        argv=(str(java), *_JVM, *_LOGGING, "-cp", artifacts.kafka_class_path, "kafka.Kafka", str(properties)),
        probe=Probe("kafka", f"{LOOPBACK}:{ports.kafka}"),
        stop_rank=_STOP_RANK,
        grace_seconds=_GRACE_SECONDS,
    )


def _format(java: Path, artifacts: Artifacts, properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
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
