"""millrace reset."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer
from confluent_kafka import KafkaException
from deltalake.exceptions import DeltaError

from millrace_common.records import Partition
from millrace_common.settings import load
from millrace_common.snapshots import SnapshotStore
from millrace_common.topology import Topology
from millrace_lake.ledger import SERVICE as LAKE
from millrace_lake.settings import LakeSettings
from millrace_lake.writer import Store
from millrace_local import console, options
from millrace_local import stack as stacks
from millrace_local.errors import LocalStackError
from millrace_local.reset import Move, TargetError, To, choose, find_input, plan
from millrace_local.reset_effects import GroupPlaces, Places, TablePlaces, has_members
from millrace_local.reset_writing import Cluster
from millrace_local.services import Service
from millrace_local.stack import Stack, wait_until

_STATEFUL: Final = frozenset({"ingest", "sessionize"})
# A process that was killed stays a member of its group for its session timeout.
_LEAVING_SECONDS: Final = 30.0
_STORE_SECONDS: Final = 30.0
# Their state version does not matter to snapshots that are not restored.
_ANY_VERSION: Final = 0


class ResetSettings(LakeSettings):
    """Where another cluster has everything: the variables of the services, none of them required."""

    kafka_bootstrap_servers: str = ""
    schema_registry_url: str = ""
    lake_uri: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is.

    Attributes:
        client: librdkafka properties.
        registry: of a registry client.
        state_uri: of the snapshots.
        lake_uri: of the tables.
        lake_options: for delta-rs.
        stack: runs the services; None: somebody else does.
    """

    client: Mapping[str, str | int]
    registry: Mapping[str, str]
    state_uri: str
    lake_uri: str
    lake_options: Mapping[str, str] = field(default_factory=dict)
    stack: Stack | None = None

    @classmethod
    def of_stack(cls, stack: Stack) -> "Site":
        """Return that of a local stack."""
        return cls(
            client={"bootstrap.servers": stack.bootstrap_servers},
            registry={"url": stack.registry_url},
            state_uri=str(stack.work_dir / "state"),
            lake_uri=str(stack.lake),
            stack=stack,
        )

    @classmethod
    def of_settings(cls, settings: ResetSettings) -> "Site":
        """Return that of another cluster."""
        return cls(
            client=settings.kafka_client(),
            registry=settings.schema_registry_client(),
            state_uri=settings.state_uri,
            lake_uri=settings.lake_uri,
            lake_options=settings.storage_options,
        )

    def cluster(self, lane: str) -> Cluster:
        """Return its broker and registry, as `lane` uses them."""
        return Cluster(self.client, self.registry, lane)

    def places(self, service: Service, topic: str) -> Places:
        """Return where `service` stands in `topic`.

        Raises:
            TargetError: an address that it takes to find out is not known.
            LocalStackError: no table of the lake is where they should be.
        """
        cluster = self.cluster(service.lane)
        if service.name == LAKE:
            uri = _given(self.lake_uri, "--lake or LAKE_URI")
            return TablePlaces(cluster, topic, Store(uri, self.lake_options, _STORE_SECONDS, time.sleep))
        _given(self.registry["url"], "--registry-url or SCHEMA_REGISTRY_URL")
        if service.name not in _STATEFUL:
            return GroupPlaces(cluster, service, snapshots=None)
        uri = _given(self.state_uri, "--state-uri or STATE_URI")
        return GroupPlaces(cluster, service, SnapshotStore(uri, service.name, _ANY_VERSION))


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(reset)


def reset(  # noqa: PLR0913, PLR0917  # a command's options are its parameters
    service: Annotated[str, typer.Argument(help="ingest, enrich, sessionize or lake.")],
    topic: Annotated[str, typer.Option(help="One of its inputs.")],
    to: Annotated[str, typer.Option(metavar="earliest|latest|N", help="The next offset that it shall read.")],
    partition: Annotated[int | None, typer.Option(min=0, show_default="all", help="Of the topic.")] = None,
    lane: Annotated[str, typer.Option(help="Empty: the lane in the topic's name, else the live one.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Accept that records are skipped or doubled.")] = False,
    work_dir: options.WorkDir = options.WORK_DIR,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            show_default="KAFKA_BOOTSTRAP_SERVERS, else the running local stack",
            help="Another cluster's broker; KAFKA_* and SCHEMA_REGISTRY_* variables tell how to get in.",
        ),
    ] = None,
    registry_url: Annotated[
        str | None, typer.Option(show_default="SCHEMA_REGISTRY_URL", help="That cluster's registry.")
    ] = None,
    state_uri: Annotated[str | None, typer.Option(show_default="STATE_URI", help="Its snapshots.")] = None,
    lake: Annotated[str | None, typer.Option(show_default="LAKE_URI", help="Its tables.")] = None,
) -> None:
    """Say anew from where a service reads, after it refused to go on; its message names this command.

    What is skipped gets a row in the ledger. A local stack's service is stopped and started again; elsewhere it has to
    be stopped before.
    """
    given = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "schema_registry_url": registry_url,
        "state_uri": state_uri,
        "lake_uri": lake,
    }
    try:
        target = _parse(to)
        meant, input_topic = find_input(service, topic, lane)
        settings = load(ResetSettings).model_copy(update={name: value for name, value in given.items() if value})
        other = bool(settings.kafka_bootstrap_servers)
        site = Site.of_settings(settings) if other else Site.of_stack(stacks.require(work_dir))
        places = site.places(meant, input_topic)
        count = Topology(site.cluster(meant.lane).admin()).partition_counts([input_topic])[input_topic]
        partitions = choose(input_topic, count, partition)
        expected = _planned(places, partitions, target)
        if not expected:
            console.out.print(f"nothing to do: {meant.title} stands there already")
            return
        _refuse_costs(_costs(expected), accepted=yes)
        with _stopped(site, meant):
            moves = _planned(places, partitions, target)  # it may have gone on until it stopped
            _refuse_costs([cost for cost in _costs(moves) if cost not in _costs(expected)], accepted=yes)
            for line in [*moves, *(places.move(moves) if moves else [])]:
                console.out.print(str(line), markup=False)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    except KafkaException as error:
        message = f"the broker did not do it: {error.args[0].str()}. The same command again finds out how far it got"
        raise LocalStackError(message) from error
    except (DeltaError, OSError) as error:
        message = f"the store did not do it: {error}. The same command again finds out how far it got"
        raise LocalStackError(message) from error


def _parse(to: str) -> To:
    if to == "earliest":
        return "earliest"
    if to == "latest":
        return "latest"
    if to.isascii() and to.isdigit():
        return int(to)
    message = f"--to takes earliest, latest or an offset, not {to}"
    raise TargetError(message)


def _given(address: str, how: str) -> str:
    if not address:
        message = f"another cluster's addresses have to be given: {how} is missing"
        raise TargetError(message)
    return address


def _planned(places: Places, partitions: Sequence[Partition], to: To) -> list[Move]:
    return [move for found in places.look(partitions) if (move := plan(found, to)) is not None]


def _costs(moves: Sequence[Move]) -> list[str]:
    return [cost for move in moves for cost in move.costs]


def _refuse_costs(costs: Sequence[str], *, accepted: bool) -> None:
    """Say what it costs.

    Raises:
        LocalStackError: nobody has accepted that.
    """
    for cost in costs:
        console.err.print(cost, markup=False)
    if costs and not accepted:
        message = "nothing was changed; add --yes to accept this"
        raise LocalStackError(message)


@contextmanager
def _stopped(site: Site, service: Service) -> Iterator[None]:
    """Have the service stopped while the block runs, and its group empty.

    Raises:
        LocalStackError: somebody is a member of its group.
        NotReadyError: it does not come up again.
    """
    admin = site.cluster(service.lane).admin()
    if site.stack is None:
        _refuse_members(service, has_members(admin, service.group))
        yield
        return
    services = site.stack.services()
    mine = next((running for running in services if running.title == service.title), None)
    if mine is None:
        _refuse_members(service, has_members(admin, service.group))
        yield
        return
    console.say(f"stopping {service.title}")
    site.stack.stop_services({service.title})
    try:
        _refuse_members(service, not wait_until(lambda: not has_members(admin, service.group), _LEAVING_SECONDS))
        yield
    finally:
        console.say(f"starting {service.title} again")
        site.stack.set_services(services)
    site.stack.wait_ready(mine.process_names())


def _refuse_members(service: Service, has_members: bool) -> None:
    if has_members:
        message = f"group {service.group} has members: stop {service.title} first. Nothing was changed"
        raise LocalStackError(message)
