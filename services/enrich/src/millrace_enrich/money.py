"""Money as integer cents, by exact decimal arithmetic."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# What fits decimal(18,2), the lake's type: ingest holds the amounts of purchases to the same.
_AMOUNT: Final = r"^[0-9]{1,16}(\.[0-9]{1,2})?$"
_DECIMAL: Final = pa.decimal128(18, 2)
_LARGEST_CENTS: Final = 10**18 - 1


def cents(amounts: pa.StringArray) -> pa.Int64Array:
    """Return decimal strings such as "12.5" as integer cents, null for what is none or has more than two decimals."""
    good = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring_regex(amounts, _AMOUNT), False)))  # noqa: FBT003
    exact = amounts.take(pa.array(good)).cast(_DECIMAL)
    # A decimal(18,2) is a 128-bit integer of hundredths whose lower half is all of it.
    hundredths = np.frombuffer(exact.buffers()[1], dtype=np.int64)[: 2 * len(exact) : 2]
    found = np.zeros(len(amounts), dtype=np.int64)
    found[good] = hundredths
    missing = np.ones(len(amounts), dtype=np.bool_)
    missing[good] = False
    return pa.array(found, mask=missing)


def cents_of_price(price: float | None) -> int | None:
    """Return a list price in cents, rounded half to even; None for none and for what no price can be."""
    if price is None:
        return None
    try:
        rounded = int((Decimal(repr(price)) * 100).to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, OverflowError, ValueError):  # not a number, infinite
        return None
    return rounded if 0 <= rounded <= _LARGEST_CENTS else None
