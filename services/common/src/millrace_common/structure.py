"""Which Avro datums of a run are whole, by their structure alone: all of them are walked at once, a field at a time.

A fast decoder that refuses a whole run for one bad datum needs to know which one to leave out. To walk the run costs
about as much as to decode it, however many are bad. The verdict is about speed only: what is called whole may still
turn out bad (no string is read), and what is not may still be good (lists are walked only so far).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from millrace_common.columns import Bools, Int64s

_FIXED_BYTES: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_VARINT_BITS: Final = 7
_LONGEST_VARINT_BITS: Final = 70
# What one long list may cost all others: a datum with more in a block is not walked to its end, and a run that takes
# more numbers than that not at all.
_MOST_IN_A_BLOCK: Final = 128
_MOST_NUMBERS: Final = 4_000


class NoVerdictError(Exception):
    """The datums cannot be walked: the schema refers to a type by name, or their lists are too many."""


def whole(schema: Any, data: bytes, starts: Int64s, ends: Int64s) -> Bools:
    """Return which datums of `schema`, the parsed writer schema, end exactly at their last byte.

    Args:
        schema: has no type but those that columns can hold.
        data: the datums, and whatever is between them.
        starts: where each begins in `data`.
        ends: where each should end.

    Raises:
        NoVerdictError: nothing is known of any of them.
    """
    walk = _Walk(data, starts)
    walk.skip(schema, np.arange(len(starts)))
    verdict: Bools = ~walk.broken & (walk.at == ends)
    return verdict


class _Walk:
    """A cursor a datum. One that runs past its end goes on in the next datum, and so never comes back to its own."""

    def __init__(self, data: bytes, starts: Int64s) -> None:
        self._last = len(data) + 1  # so that behind the end of the last datum is not at it
        self._data = np.frombuffer(data + b"\0\0", dtype=np.uint8)
        self._numbers_left = _MOST_NUMBERS
        self.at = starts.copy()
        self.broken = np.zeros(len(starts), dtype=np.bool_)

    def skip(self, schema: Any, rows: Int64s) -> None:
        """Move the cursors of `rows` behind a value of `schema`."""
        match schema:
            case "int" | "long":
                self._number(rows)
            case "string" | "bytes":
                self._jump(rows, self._number(rows))
            case str() if schema in _FIXED_BYTES:
                self._jump(rows, _FIXED_BYTES[schema])
            case list():
                self._union(schema, rows)
            case {"type": "record", "fields": fields}:
                for field in fields:
                    self.skip(field["type"], rows)
            case {"type": "enum", "symbols": symbols}:
                self._index(rows, len(symbols))
            case {"type": "array", "items": items}:
                self._blocks((items,), rows)
            case {"type": "map", "values": values}:
                self._blocks(("string", values), rows)
            case {"type": inner}:
                self.skip(inner, rows)
            case _:
                raise NoVerdictError

    def _number(self, rows: Int64s) -> Int64s:
        """Read a zigzag varint."""
        self._numbers_left -= 1
        if self._numbers_left < 0:
            raise NoVerdictError
        numbers = np.zeros(len(rows), dtype=np.uint64)
        places = np.arange(len(rows))
        for shift in range(0, _LONGEST_VARINT_BITS, _VARINT_BITS):
            read = self._next_bytes(rows[places])
            numbers[places] |= (read & 0x7F).astype(np.uint64) << np.uint64(shift)
            places = places[read >= 0x80]  # noqa: PLR2004  # the bit that says that there is another byte
            if not len(places):
                break
        self.broken[rows[places]] = True
        halves = (numbers >> np.uint64(1)).view(np.int64)
        return halves ^ -(numbers & np.uint64(1)).view(np.int64)

    def _next_bytes(self, rows: Int64s) -> npt.NDArray[np.uint8]:
        at = self.at[rows]
        self.at[rows] = np.minimum(at + 1, self._last)
        return self._data[at]

    def _jump(self, rows: Int64s, lengths: Int64s | int) -> None:
        """Move the cursors; a negative length breaks its datum."""
        self.broken[rows] |= np.less(lengths, 0)
        self.at[rows] = np.minimum(self.at[rows] + np.clip(lengths, 0, self._last), self._last)

    def _index(self, rows: Int64s, options: int) -> Int64s:
        """Read the number of one of so many options."""
        index = self._number(rows)
        self.broken[rows] |= (index < 0) | (index >= options)
        return index

    def _union(self, branches: Sequence[Any], rows: Int64s) -> None:
        index = self._index(rows, len(branches))
        for number, branch in enumerate(branches):
            chosen = rows[index == number]
            if branch != "null" and len(chosen):
                self.skip(branch, chosen)

    def _blocks(self, parts: Sequence[Any], rows: Int64s) -> None:
        """Skip blocks of items that consist of `parts`, up to the empty block."""
        while len(rows):
            counts = self._number(rows)
            sized = counts < 0
            if sized.any():  # then the block's bytes are said too
                self._number(rows[sized])
                counts = np.abs(counts)
            self.broken[rows] |= (counts > _MOST_IN_A_BLOCK) | (counts < 0)
            going_on = (counts > 0) & ~self.broken[rows]
            rows, counts = rows[going_on], counts[going_on]
            for number in range(int(counts.max(initial=0))):
                longer = rows[counts > number]
                for part in parts:
                    self.skip(part, longer)
