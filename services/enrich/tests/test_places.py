"""Where an address is: both shapes of database records, a database file, and what is no address."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from millrace_common.errors import StartupError
from millrace_enrich.places import NOWHERE, Place, Places, place_of


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"country": {"iso_code": "GB"}, "subdivisions": [{"names": {"en": "England"}}]}, Place("GB", "England")),
        ({"country": {"iso_code": "GB", "names": {"en": "United Kingdom"}}}, Place("GB")),
        ({"country": {"iso_code": "GB"}, "subdivisions": [{}, {"names": {"en": "London"}}]}, Place("GB")),
        ({"country_code": "GB", "state1": "England", "city": "London"}, Place("GB", "England")),
        ({"country_code": "GB"}, Place("GB")),
        ({"country_code": "", "state1": ""}, NOWHERE),
        ({"registered_country": {"iso_code": "US"}}, NOWHERE),
        ({"country_code": 44}, NOWHERE),
        ({}, NOWHERE),
    ],
)
def test_nested_and_flat_records_name_the_same_place(entry: dict[str, Any], expected: Place) -> None:
    assert place_of(entry) == expected


def test_a_missing_database_is_a_startup_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="GEO_DATABASE"):
        Places(tmp_path / "none.mmdb")


def test_a_file_that_is_no_database_is_a_startup_error(tmp_path: Path) -> None:
    path = tmp_path / "text.mmdb"
    path.write_text("no database")
    with pytest.raises(StartupError, match=r"text\.mmdb"):
        Places(path)


def encoded(value: object) -> bytes:
    """Encode short strings, 16-bit numbers, lists and maps as a MaxMind-format file does; bytes are encoded already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return bytes([2 << 5 | len(value)]) + value.encode()
    if isinstance(value, int):
        return bytes([5 << 5 | 2]) + value.to_bytes(2, "big")
    if isinstance(value, dict):
        return bytes([7 << 5 | len(value)]) + b"".join(encoded(part) for item in value.items() for part in item)
    assert isinstance(value, list)
    return bytes([len(value), 11 - 7]) + b"".join(encoded(part) for part in value)


def database(network: IPv4Network, entry: dict[str, Any]) -> bytes:
    """Return a database file that knows one network: a path of nodes, and nothing (the node count) beside it."""
    count = network.prefixlen
    tree = b""
    for depth in range(count):
        branches = [count, count]
        taken = int(network.network_address) >> (31 - depth) & 1
        branches[taken] = depth + 1 if depth + 1 < count else count + 16  # data begins 16 behind the nodes
        tree += b"".join(branch.to_bytes(3, "big") for branch in branches)
    about = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": bytes([8, 9 - 7]) + (1).to_bytes(8, "big"),  # 64 bits; 0 is refused
        "database_type": "test",
        "description": {},
        "ip_version": 4,
        "languages": [],
        "node_count": bytes([6 << 5 | 4]) + count.to_bytes(4, "big"),  # 32 bits
        "record_size": 24,
    }
    return tree + bytes(16) + encoded(entry) + b"\xab\xcd\xefMaxMind.com" + encoded(about)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("81.2.69.142", Place("GB", "England")),
        ("81.2.70.1", NOWHERE),
        ("10.0.0.1", NOWHERE),
        ("2001:db8::1", NOWHERE),
        ("no address", NOWHERE),
        ("", NOWHERE),
    ],
)
def test_an_address_is_found_in_a_database_file(tmp_path: Path, address: str, expected: Place) -> None:
    path = tmp_path / "one.mmdb"
    path.write_bytes(database(IPv4Network("81.2.69.0/24"), {"country_code": "GB", "state1": "England"}))
    places = Places(path)
    assert [places.find(address) for _ in range(2)] == [expected, expected]
