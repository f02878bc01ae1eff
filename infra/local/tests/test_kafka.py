from pathlib import Path

from millrace_local.kafka import server_properties
from millrace_local.ports import Ports, SideDoor

PORTS = Ports(kafka=1, controller=2, registry=3, metrics=4)


def lines(side_door: SideDoor | None) -> list[str]:
    return server_properties(Path("data"), PORTS, side_door).splitlines()


def test_clients_are_told_the_port_the_broker_listens_on() -> None:
    assert "listeners=CLIENTS://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in lines(None)
    assert "advertised.listeners=CLIENTS://127.0.0.1:1" in lines(None)


def test_clients_of_the_side_door_are_told_where_something_in_between_listens() -> None:
    found = lines(SideDoor(port=5, advertised_port=6))
    assert "listeners=CLIENTS://127.0.0.1:1,SIDE://127.0.0.1:5,CONTROLLER://127.0.0.1:2" in found
    assert "advertised.listeners=CLIENTS://127.0.0.1:1,SIDE://127.0.0.1:6" in found
