"""The schema registry: Apicurio behind its Confluent-compatible interface, storing in Kafka."""

from pathlib import Path
from typing import Final

from millrace_local.artifacts import Artifacts
from millrace_local.ports import LOOPBACK
from millrace_local.processes import Probe, ProcessSpec

NAME: Final = "registry"

# A hundred schemas and a request now and then: a small heap, one collector thread, the quick compiler only.
_JVM: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_STOP_RANK: Final = 1
_GRACE_SECONDS: Final = 10.0

_ENVIRONMENT: Final = {
    "APICURIO_STORAGE_KIND": "kafkasql",
    # Start-up waits for one empty poll; the default of 5 s is half of it.
    "APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT": "100",
    # Its in-memory database opens 20 connections at start by default.
    "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
    "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
    "QUARKUS_HTTP_HOST": LOOPBACK,
    "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
    "QUARKUS_LOG_CATEGORY__IO_APICURIO__LEVEL": "WARN",
    "QUARKUS_LOG_CONSOLE_FORMAT": "%d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c %s%e%n",
    "QUARKUS_BANNER_ENABLED": "false",
}


def registry_url(port: int) -> str:
    """Return the address clients use."""
    return f"http://{LOOPBACK}:{port}/apis/ccompat/v7"


def prepare(java: Path, artifacts: Artifacts, port: int, bootstrap_servers: str) -> ProcessSpec:
    """Return the process to run. It may start together with the brokers: it waits for them."""
    return ProcessSpec(
        name=NAME,
        argv=(str(java), *_JVM, "-jar", str(artifacts.registry_jar)),
        probe=Probe("http", f"{registry_url(port)}/subjects"),
        environment={
            **_ENVIRONMENT,
            "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": bootstrap_servers,
            "QUARKUS_HTTP_PORT": str(port),
        },
        stop_rank=_STOP_RANK,
        grace_seconds=_GRACE_SECONDS,
    )
