"""The ports of a stack: all on the loopback address, each with its own setting."""

import random
import socket
from dataclasses import dataclass, fields, replace
from typing import Final

import psutil

from millrace_local.errors import PortTakenError

LOOPBACK: Final = "127.0.0.1"

# Free ports are taken from below the range that systems hand out to outgoing connections (from 32768 on Linux, from
# 49152 elsewhere): in there, a client that reconnects while its server restarts can be given the server's own port.
_FREE_FROM: Final = 20_000
_FREE_TO: Final = 32_000
_ATTEMPTS: Final = 200


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a stack listens; 0 means any free port.

    Attributes:
        kafka: the broker, for clients.
        controller: the broker's own controller.
        registry: the schema registry.
        metrics: /metrics, /healthz and /readyz of the first service; the others follow it.
    """

    kafka: int = 9092
    controller: int = 9093
    registry: int = 8081
    metrics: int = 9400


ANY: Final = Ports(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class SideDoor:
    """A second listener of the broker, for clients that come through something in between (a proxy, a tunnel).

    Attributes:
        port: where the broker listens.
        advertised_port: where its clients are told to go: where that something listens.
    """

    port: int
    advertised_port: int


def settle(ports: Ports, service_count: int = 0) -> Ports:
    """Put a free port in place of each 0 and see that the others are free, with `service_count` in a row for metrics.

    A 0 for metrics stays: each service is then given a port when it starts.

    Raises:
        PortTakenError: the message names the port, who has it if that can be seen, and the setting that moves it.
    """
    chosen: dict[str, int] = {}
    for field in fields(ports):
        port: int = getattr(ports, field.name)
        if field.name == "metrics":
            for following in range(port, port + service_count if port else port):
                require_free(following, field.name)
        elif port == 0:
            chosen[field.name] = free_port(frozenset(chosen.values()))
        else:
            require_free(port, field.name)
    return replace(ports, **chosen)


def free_port(taken: frozenset[int] = frozenset()) -> int:
    """Return a port nobody listens on, and not one of `taken`."""
    for _ in range(_ATTEMPTS):
        port = random.randrange(_FREE_FROM, _FREE_TO)  # noqa: S311
        if port not in taken and is_free(port):
            return port
    message = f"found no free port between {_FREE_FROM} and {_FREE_TO}"
    raise PortTakenError(message)


def require_free(port: int, name: str) -> None:
    """See that nobody listens on `port`, which the setting `name` chose.

    Raises:
        PortTakenError: somebody does.
    """
    if not is_free(port):
        message = (
            f"port {port} is taken{_by_whom(port)}: choose another with --{name}-port or MILLRACE_{name.upper()}_PORT, "
            "or --ports auto for any free ones"
        )
        raise PortTakenError(message)


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _by_whom(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # some systems show other users' sockets to root only
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return f" by process {connection.pid}"
    return ""
