import os
import socket
from collections.abc import Iterator

import pytest

from millrace_local.errors import PortTakenError
from millrace_local.ports import ANY, Ports, free_port, is_free, settle


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        port = free_port()
        server.bind(("127.0.0.1", port))
        server.listen()
        yield port


def test_any_ports_are_free_different_and_below_the_range_of_outgoing_connections() -> None:
    ports = settle(ANY)
    chosen = {ports.kafka, ports.controller, ports.registry}
    assert len(chosen) == 3
    assert all(is_free(port) and 20_000 <= port < 32_000 for port in chosen)
    assert ports.metrics == 0


@pytest.mark.parametrize("name", ["kafka", "controller", "registry"])
def test_a_taken_port_is_named_with_its_owner_and_the_setting_that_moves_it(taken: int, name: str) -> None:
    with pytest.raises(PortTakenError) as raised:
        settle(Ports(**{"kafka": 0, "controller": 0, "registry": 0, "metrics": 0, name: taken}))
    message = str(raised.value)
    assert f"port {taken} is taken" in message
    assert f"(process {os.getpid()})" in message
    assert f"--{name}-port" in message
    assert f"MILLRACE_{name.upper()}_PORT" in message
    assert "\n" not in message


def test_the_metrics_ports_of_all_services_are_checked(taken: int) -> None:
    with pytest.raises(PortTakenError, match=f"port {taken} .*--metrics-port"):
        settle(Ports(0, 0, 0, metrics=taken - 3), service_count=4)
    assert settle(Ports(0, 0, 0, metrics=taken + 1), service_count=0).metrics == taken + 1


def test_a_given_port_is_kept() -> None:
    port = free_port()
    assert settle(Ports(port, 0, 0, 0)).kafka == port
