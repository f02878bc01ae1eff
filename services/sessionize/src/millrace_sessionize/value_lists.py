"""One growing list of integers per session, for many sessions, in one array.

The distinct pages and products of a session live here. Adding is a plain append; repeats are dropped when a list is
full and when it is read, so the memory of a list stays within a small factor of its distinct values.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.int32]

_SMALLEST: Final = 8
"""Room of the smallest list; every room is this times a power of two."""

_SORTED_FROM: Final = 16
"""Repeats in lists up to this size are cheaper to keep than to find."""


class ValueLists:
    """Lists of int32, one a slot. A slot that was never written, or was cleared, is an empty list."""

    def __init__(self) -> None:
        """Begin with no slot."""
        self._pool = np.zeros(4096, dtype=np.int32)
        self._top = 0
        self._at = np.zeros(0, dtype=np.int64)
        self._size = np.zeros(0, dtype=np.int32)
        self._room = np.zeros(0, dtype=np.int32)
        self._free: dict[int, list[int]] = {}

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes."""
        return int(self._pool.nbytes + self._at.nbytes + self._size.nbytes + self._room.nbytes)

    def resize(self, slots: int) -> None:
        """Make room for slots 0 to `slots` - 1."""
        more = slots - len(self._at)
        self._at = np.append(self._at, np.zeros(more, dtype=np.int64))
        self._size = np.append(self._size, np.zeros(more, dtype=np.int32))
        self._room = np.append(self._room, np.zeros(more, dtype=np.int32))

    def append(self, slots: Ints, sizes: Ints, values: Values) -> None:
        """Append to each of `slots` (distinct) its run of `values`; `sizes` says how long the runs are."""
        old = self._size[slots].astype(np.int64)
        full = np.flatnonzero(old + sizes > self._room[slots])
        if len(full):
            self._make_room(slots[full], sizes[full])
            old = self._size[slots].astype(np.int64)
        self._pool[_runs(self._at[slots] + old, sizes)] = values
        self._size[slots] = old + sizes

    def distinct(self, slots: Ints) -> tuple[Ints, Values]:
        """Return the distinct values of `slots` as (position in `slots`, value) pairs, sorted."""
        sizes = self._size[slots].astype(np.int64)
        # position and value in one integer: a single sort finds the repeats
        pairs = np.repeat(np.arange(len(slots), dtype=np.int64) << 32, sizes)
        pairs |= self._pool[_runs(self._at[slots], sizes)]
        pairs.sort()
        if len(pairs):
            pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]
        return pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)

    def values(self, slots: Ints) -> Values:
        """Return every value in `slots`, repeats included."""
        return self._pool[_runs(self._at[slots], self._size[slots].astype(np.int64))]

    def replace(self, slots: Ints, change: Callable[[Values], Values]) -> None:
        """Replace every value in `slots` by what `change` makes of it."""
        runs = _runs(self._at[slots], self._size[slots].astype(np.int64))
        self._pool[runs] = change(self._pool[runs])

    def clear(self, slots: Ints) -> None:
        """Empty the lists of `slots` and give their room back."""
        rooms = self._room[slots]
        for room in np.unique(rooms).tolist():
            if room:
                self._free.setdefault(room, []).extend(self._at[slots[rooms == room]].tolist())
        self._room[slots] = 0
        self._size[slots] = 0

    def _make_room(self, slots: Ints, more: Ints) -> None:
        """Drop repeats in `slots` and move each to where `more` values fit, with a quarter to spare."""
        sizes = self._size[slots].astype(np.int64)
        if sizes.max() > _SORTED_FROM:
            positions, values = self.distinct(slots)
            sizes = np.bincount(positions, minlength=len(slots))
        else:
            values = self.values(slots)
        self.clear(slots)
        needed = sizes + more
        needed += needed // 4
        rooms = _SMALLEST << np.ceil(np.log2(np.maximum(needed, _SMALLEST) / _SMALLEST)).astype(np.int64)
        for room in np.unique(rooms).tolist():
            chosen = slots[rooms == room]
            self._at[chosen] = self._allocate(room, len(chosen))
        self._room[slots] = rooms
        self._pool[_runs(self._at[slots], sizes)] = values
        self._size[slots] = sizes

    def _allocate(self, room: int, number: int) -> Ints:
        free = self._free.get(room, [])
        reused = free[len(free) - min(number, len(free)) :]
        del free[len(free) - len(reused) :]
        fresh = self._top + room * np.arange(number - len(reused), dtype=np.int64)
        self._top += room * len(fresh)
        if self._top > len(self._pool):
            grown = np.zeros(max(self._top, len(self._pool) * 3 // 2), dtype=np.int32)
            grown[: len(self._pool)] = self._pool
            self._pool = grown
        return np.append(np.array(reused, dtype=np.int64), fresh)


def _runs(starts: Ints, sizes: Ints) -> Ints:
    """Return start, start + 1, ... of each run, one run after the other."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + sizes, sizes)
