"""Which strings are IP addresses, by the standard library's rules."""

import ipaddress
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import Int64s

_REMEMBERED: Final = 65_536

# Four numbers up to 255, none with a zero in front: all that `ipaddress` takes for IPv4.
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"

# Good addresses that are not IPv4. A plain set, emptied when it is full: asking it for a whole batch at once costs half
# of a cached call for each distinct address.
_good: Final[set[str]] = set()


def not_addresses(addresses: pa.StringArray) -> Int64s:
    """Return the rows that are no IPv4 or IPv6 address, in order; what is not IPv4 is parsed once while remembered."""
    others = np.flatnonzero(~np.asarray(pc.match_substring_regex(addresses, _IPV4)))
    if not len(others):
        return others
    texts = addresses.take(pa.array(others))
    distinct = pc.unique(texts).to_pylist()
    if _good.issuperset(distinct):
        return np.empty(0, dtype=np.int64)
    if len(_good) > _REMEMBERED:
        _good.clear()
    bad = [text for text in distinct if text not in _good and not _is_address(text)]
    _good.update(set(distinct).difference(bad))
    rows: Int64s = others[np.asarray(pc.is_in(texts, pa.array(bad, pa.string())))]
    return rows


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
