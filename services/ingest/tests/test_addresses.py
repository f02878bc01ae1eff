"""Which strings ingest takes for IP addresses: those the standard library does."""

import ipaddress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace_ingest.addresses import not_addresses

octets = st.sampled_from(
    ["", "0", "00", "01", "9", "10", "099", "100", "199", "249", "250", "255", "256", "1000", "-1", "٣"]
)
dotted = st.lists(octets, min_size=3, max_size=5).map(".".join)
texts = st.one_of(
    dotted,
    st.tuples(dotted, st.sampled_from([" ", "\n", "/8", "%1", "."])).map("".join),
    st.ip_addresses().map(str),
    st.text(max_size=8),
)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@given(st.lists(texts, max_size=30))
def test_an_address_is_what_the_standard_library_takes_for_one(addresses: list[str]) -> None:
    wanted = [row for row, text in enumerate(addresses) if not is_address(text)]
    for _ in range(2):  # the second time some are remembered
        assert not_addresses(pa.array(addresses, pa.string())).tolist() == wanted


@pytest.mark.parametrize("address", ["1.2.3.4", "::1"])
def test_rows_of_a_slice_are_counted_from_its_begin(address: str) -> None:
    addresses = pa.array(["nowhere", address, "nowhere", address])
    assert not_addresses(addresses.slice(1)).tolist() == [1]
