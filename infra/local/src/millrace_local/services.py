"""The services of the local stack as data, and the processes they stand for."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from millrace_local.ports import LOOPBACK, free_port
from millrace_local.processes import Probe, ProcessSpec
from millrace_schemas import in_lane

# A service finishes its batch, commits and leaves its group within 5 s.
_GRACE_SECONDS: Final = 8.0
_METRICS_PORT: Final = "METRICS_PORT"


@dataclass(frozen=True, slots=True)
class Service:
    """A stream processor that shall run.

    Attributes:
        name: ingest, enrich, ...; its consumer group is millrace-<name>.
        module: run with `python -m`.
        inputs: topics it reads, without lane.
        lane: empty for the live lane.
        processes: how many share the work.
        environment: settings in addition to the stack's and to what `up` was started with; they win.
        pythons: interpreters that run its processes, in turn; none: this one. Another one runs another release.
    """

    name: str
    module: str
    inputs: tuple[str, ...]
    lane: str = ""
    processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    pythons: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name in its lane: unique in a stack."""
        return in_lane(self.name, self.lane)

    @property
    def group(self) -> str:
        """Its consumer group."""
        return in_lane(f"millrace-{self.name}", self.lane)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it reads, in its lane."""
        return tuple(in_lane(topic, self.lane) for topic in self.inputs)

    def process_names(self) -> tuple[str, ...]:
        """Return the names of its processes: the title, then title-1, title-2, ..."""
        return tuple(self.title if instance == 0 else f"{self.title}-{instance}" for instance in range(self.processes))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "Service":
        """Return what `as_json` was called on."""
        return cls(**{**stored, "inputs": tuple(stored["inputs"]), "pythons": tuple(stored.get("pythons", ()))})


SERVICES: Final = (
    Service("ingest", "millrace_ingest", ("user-events", "transactions")),
    Service("enrich", "millrace_enrich", ("user-events.valid",)),
    Service("sessionize", "millrace_sessionize", ("user-events.enriched",)),
    Service(
        "lake",
        "millrace_lake",
        ("user-events.enriched", "transactions.valid", "session-metrics", "late-events", "dead-letters"),
    ),
)


def in_other_lane(services: Iterable[Service], lane: str, environment: Mapping[str, str]) -> tuple[Service, ...]:
    """Return the same services for `lane`, each told `environment` too."""
    return tuple(
        replace(service, lane=lane, environment={**service.environment, **environment}) for service in services
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every service of a stack is told.

    Attributes:
        bootstrap_servers: of the broker.
        registry_url: of the schema registry.
        work_dir: absolute; state and lake are under it.
        first_metrics_port: of the first live service, the others follow; 0 gives each any free port.
    """

    bootstrap_servers: str
    registry_url: str
    work_dir: Path
    first_metrics_port: int

    @property
    def lake(self) -> Path:
        """Where the Delta tables are."""
        return self.work_dir / "lake"

    @property
    def state(self) -> Path:
        """Where snapshots are."""
        return self.work_dir / "state"


def process_specs(
    services: Sequence[Service], surroundings: Surroundings, running: Mapping[str, ProcessSpec]
) -> tuple[ProcessSpec, ...]:
    """Return the processes `services` stand for; one that runs already keeps its port.

    Raises:
        PortTakenError: there is no free port.
    """
    ports = metrics_ports(services, surroundings.first_metrics_port, running)
    return tuple(
        _process_spec(service, instance, name, surroundings, ports[name])
        for service in services
        for instance, name in enumerate(service.process_names())
    )


def metrics_ports(services: Sequence[Service], first_port: int, running: Mapping[str, ProcessSpec]) -> dict[str, int]:
    """Return a port for each process name of `services`.

    The first process of a live service has a fixed one, so that it can be found; the others get any that is free.
    """
    ports: dict[str, int] = {}
    live = [service for service in services if not service.lane]
    for position, service in enumerate(live):
        if first_port:
            ports[service.title] = first_port + position
    for service in services:
        for name in service.process_names():
            if name in running:
                ports[name] = int(running[name].environment[_METRICS_PORT])
            elif name not in ports:
                ports[name] = free_port(frozenset(ports.values()))
    return ports


def _process_spec(service: Service, instance: int, name: str, surroundings: Surroundings, port: int) -> ProcessSpec:
    pythons = service.pythons or (sys.executable,)
    return ProcessSpec(
        name=name,
        # Written the same by every command, however that was called: a service whose argv changed is restarted.
        argv=(os.path.abspath(pythons[instance % len(pythons)]), "-m", service.module),  # noqa: PTH100  # a link stays one
        probe=Probe("http", f"http://{LOOPBACK}:{port}/readyz"),
        environment={
            "KAFKA_BOOTSTRAP_SERVERS": surroundings.bootstrap_servers,
            # A shell that is set up for a cluster with TLS can start a local stack too.
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "SCHEMA_REGISTRY_URL": surroundings.registry_url,
            "STATE_URI": str(surroundings.state),
            "LAKE_URI": str(surroundings.lake),
            "INSTANCE": str(instance),
            "LANE": service.lane,
            **service.environment,
            _METRICS_PORT: str(port),
        },
        grace_seconds=_GRACE_SECONDS,
    )
