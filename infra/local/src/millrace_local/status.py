"""What `millrace status` says, as data and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from confluent_kafka import KafkaException
from rich.console import Group, RenderableType
from rich.table import Table

from millrace_local.services import Service
from millrace_local.stack import Stack
from millrace_local.supervision import ProcessState


@dataclass(frozen=True, slots=True)
class PartStatus:
    """The broker, the registry, or a service with all its processes.

    Attributes:
        name: in its lane.
        pids: of the processes that run now.
        restarts: after dying on their own, since the stack started.
        ready: whether all its processes are.
        lag: offsets not committed yet; None before the first commit, when unknown, and for broker and registry.
    """

    name: str
    pids: tuple[int, ...]
    restarts: int
    ready: bool
    lag: int | None = None


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A running stack.

    Attributes:
        kafka_bootstrap_servers: the brokers' addresses.
        schema_registry_url: the registry's Confluent-compatible address.
        lake: folder of the Delta tables.
        work_dir: folder of everything.
        addresses: of every process: host:port of the broker, URLs of the others.
        infrastructure: brokers and registry.
        services: the stream processors.
        problem: why no lag is known, a sentence; empty if the broker answers.
    """

    kafka_bootstrap_servers: str
    schema_registry_url: str
    lake: str
    work_dir: str
    addresses: Mapping[str, str]
    infrastructure: tuple[PartStatus, ...]
    services: tuple[PartStatus, ...]
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return asdict(self)


def status(stack: Stack) -> StackStatus:
    """Ask supervisor and broker; a broker that does not answer is a problem in what is returned.

    Raises:
        NotRunningError: the stack is gone.
    """
    # Imported here: it takes most of the time that a quick command needs.
    from millrace_local.lag import Lags  # noqa: PLC0415

    states = stack.states()
    services = stack.services()
    try:
        with Lags(stack.bootstrap_servers) as lags:
            return summarise(stack, states, services, lags.of(services))
    except KafkaException as error:
        problem = f"the broker at {stack.bootstrap_servers} does not answer: {error.args[0].str()}"
        return replace(summarise(stack, states, services, {}), problem=problem)


def summarise(
    stack: Stack, states: Sequence[ProcessState], services: Sequence[Service], behind: Mapping[str, int | None]
) -> StackStatus:
    """Put what is known together; pure."""
    by_name = {state.spec.name: state for state in states}
    of_services = {name for service in services for name in service.process_names()}
    return StackStatus(
        kafka_bootstrap_servers=stack.bootstrap_servers,
        schema_registry_url=stack.registry_url,
        lake=str(stack.lake),
        work_dir=str(stack.work_dir),
        addresses={state.spec.name: state.spec.probe.target.removesuffix("/readyz") for state in states}
        | {"registry": stack.registry_url},
        infrastructure=tuple(_part(name, [state]) for name, state in by_name.items() if name not in of_services),
        services=tuple(
            _part(
                service.title,
                [by_name[name] for name in service.process_names() if name in by_name],
                behind.get(service.title),
            )
            for service in services
        ),
    )


def render(found: StackStatus) -> RenderableType:
    """Return the page a person reads."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("name", "state", "pids", "restarts", "lag", "address"):
        table.add_column(heading, justify="right" if heading in {"restarts", "lag"} else "left")
    for part in (*found.infrastructure, *found.services):
        table.add_row(
            part.name,
            "[green]ready[/]" if part.ready else "[yellow]starting[/]" if part.pids else "[red]down[/]",
            " ".join(str(pid) for pid in part.pids),
            str(part.restarts),
            "" if part.lag is None else f"{part.lag:,}",
            found.addresses.get(part.name, ""),
        )
    return Group(table, "", f"lake  {found.lake}", f"logs  {found.work_dir}/logs")


def _part(name: str, states: Sequence[ProcessState], lag: int | None = None) -> PartStatus:
    return PartStatus(
        name=name,
        pids=tuple(state.identity.pid for state in states if state.identity is not None),
        restarts=sum(state.restarts for state in states),
        ready=bool(states) and all(state.ready for state in states),
        lag=lag,
    )
