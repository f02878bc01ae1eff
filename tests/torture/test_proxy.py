"""The proxy on a broker that answers every request with its own bytes."""

import socket
import socketserver
import struct
from collections.abc import Iterator
from threading import Thread

import pytest

from millrace_local.ports import LOOPBACK, SideDoor, free_port
from proxy import Api, Fault, Proxy, Rule, running_proxy

_PATIENCE_SECONDS = 5.0


class Broker(socketserver.ThreadingTCPServer):
    """Notes what it reads and answers with correlation id, throttle time 0 and error 47."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__((LOOPBACK, port), Answering)
        self.requests: list[bytes] = []


class Answering(socketserver.StreamRequestHandler):
    server: Broker

    def handle(self) -> None:
        while size := self.rfile.read(4):
            request = self.rfile.read(struct.unpack(">i", size)[0])
            self.server.requests.append(request)
            answer = request[4:8] + bytes(4) + struct.pack(">h", 47)
            self.wfile.write(struct.pack(">i", len(answer)) + answer)


class Client:
    """Speaks through the proxy."""

    def __init__(self, door: SideDoor) -> None:
        self._socket = socket.create_connection((LOOPBACK, door.advertised_port), _PATIENCE_SECONDS)

    def send(self, api: Api, correlation: int, client: bytes = b"me") -> None:
        frame = struct.pack(">hhih", api, 1, correlation, len(client)) + client + b"\x01"
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def correlation(self) -> int | None:
        """Return which request was answered next; None: the connection was cut."""
        answer = self._socket.recv(14, socket.MSG_WAITALL)
        return struct.unpack_from(">i", answer, 4)[0] if answer else None

    def hears_nothing(self) -> bool:
        self._socket.settimeout(0.2)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(_PATIENCE_SECONDS)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def door() -> SideDoor:
    first = free_port()
    return SideDoor(first, free_port(frozenset({first})))


@pytest.fixture
def broker(door: SideDoor) -> Iterator[Broker]:
    with Broker(door.port) as broker:
        Thread(target=broker.serve_forever, daemon=True).start()
        yield broker
        broker.shutdown()


@pytest.fixture
def proxy(door: SideDoor, broker: Broker) -> Iterator[Proxy]:
    with running_proxy(door) as proxy:
        yield proxy


def rule(fault: Fault, **more: object) -> Rule:
    return Rule("me", Api.END_TXN, fault, **more)  # type: ignore[arg-type]


def test_what_no_rule_names_is_passed_on(proxy: Proxy, door: SideDoor, broker: Broker) -> None:
    other = rule(Fault.CUT_REQUEST)
    proxy.arm(other)
    client = Client(door)
    client.send(Api.PRODUCE, 1)
    client.send(Api.END_TXN, 2, client=b"another")
    assert [client.correlation(), client.correlation()] == [1, 2]
    assert other.fired == 0


@pytest.mark.parametrize(
    ("fault", "reach_the_broker", "answered"),
    [
        (Fault.DELAY_ANSWER, [1, 2], [1, 2]),
        (Fault.LOSE_ANSWER, [1, 2], [2]),
        (Fault.CUT_ANSWER, [1], [None]),
        (Fault.LOSE_REQUEST, [2], [2]),
        (Fault.CUT_REQUEST, [], [None]),
        (Fault.DUPLICATE, [1, 1, 2], [1, 2]),
    ],
)
def test_a_fault_strikes_once(
    proxy: Proxy,
    door: SideDoor,
    broker: Broker,
    fault: Fault,
    reach_the_broker: list[int],
    answered: list[int | None],
) -> None:
    striking = rule(fault)
    proxy.arm(striking)
    client = Client(door)
    client.send(Api.END_TXN, 1)
    if None not in answered:
        client.send(Api.END_TXN, 2)
    assert [client.correlation() for _ in answered] == answered
    assert client.hears_nothing()
    assert [struct.unpack_from(">i", request, 4)[0] for request in broker.requests] == reach_the_broker
    assert striking.fired == 1


def test_an_answer_is_delayed(proxy: Proxy, door: SideDoor) -> None:
    proxy.arm(rule(Fault.DELAY_ANSWER, seconds=0.5))
    client = Client(door)
    client.send(Api.END_TXN, 1)
    assert client.hears_nothing()
    assert client.correlation() == 1


def test_a_held_request_outlives_its_client_and_goes_before_the_awaited_answer(
    proxy: Proxy, door: SideDoor, broker: Broker
) -> None:
    holding = rule(Fault.HOLD, until=Api.PRODUCE)
    proxy.arm(holding)
    first = Client(door)
    first.send(Api.END_TXN, 1)
    assert first.hears_nothing()
    first.close()
    second = Client(door)
    second.send(Api.END_TXN, 2)
    assert second.correlation() == 2
    assert holding.late_errors == []
    second.send(Api.PRODUCE, 3)
    assert second.correlation() == 3
    assert holding.late_errors == [47]
    assert [struct.unpack_from(">i", request, 4)[0] for request in broker.requests] == [2, 3, 1]
