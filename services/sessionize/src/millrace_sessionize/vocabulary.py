"""Strings as small integers, so that a session refers to its key, its pages and its user without holding them."""

import secrets
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import WORD_BYTES, Text

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

NULL_ID: Final = 0
"""The id of null in every vocabulary."""

_UPPER: Final = np.uint64(0xFFFFFFFF00000000)
_LOWER: Final = np.uint64(0x00000000FFFFFFFF)
_SMALLEST: Final = 1024
# Odd constants with well mixed bits: of SplitMix64, https://prng.di.unimi.it/splitmix64.c
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class Vocabulary:
    """Gives each distinct string an id. Strings nobody refers to any more leave when `keep_only` is called.

    The strings are the offsets and bytes of one Arrow array; an open-addressing hash table finds their ids, for all
    strings of a batch at once. What it finds is held against the bytes. The hash is keyed anew in each process, so that
    nobody can prepare strings that meet in one place; no result depends on it.
    """

    def __init__(self) -> None:
        """Begin with null alone."""
        self._seed = np.uint64(secrets.randbits(64))
        self._begin()

    def _begin(self) -> None:
        self._count = 1
        self._hashes = np.zeros(_SMALLEST, dtype=np.uint64)
        self._offsets = np.zeros(_SMALLEST + 1, dtype=np.int64)
        self._bytes = np.zeros(_SMALLEST, dtype=np.uint8)
        # an entry is the upper half of a hash, then the id; the lower half says where it is
        self._table = np.zeros(2 * _SMALLEST, dtype=np.uint64)

    def __len__(self) -> int:
        """Return the number of ids given out, null included."""
        return self._count

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes."""
        return int(self._hashes.nbytes + self._offsets.nbytes + self._bytes.nbytes + self._table.nbytes)

    def ids(self, *columns: pa.Array) -> list[Ids]:
        """Return the ids of each of `columns` (string or dictionary of string), giving new ids to new strings.

        Several columns at once cost little more than one.
        """
        every = self._ids(columns[0] if len(columns) == 1 else pa.concat_arrays(columns))
        return np.split(every, np.cumsum([len(column) for column in columns[:-1]]))

    def _ids(self, values: pa.Array) -> Ids:
        encoded = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
        # one more entry at the end, where the indices of nulls are sent
        known = np.append(self.distinct_ids(encoded.dictionary), np.int32(NULL_ID))
        indices = encoded.indices
        if indices.null_count:
            indices = indices.fill_null(len(known) - 1)
        ids: Ids = known[indices.to_numpy()]
        return ids

    def distinct_ids(self, strings: pa.StringArray) -> Ids:
        """Return the id of each of `strings`, which are distinct and not null, giving new ids to new ones."""
        hashes = self._hash(Text(strings))
        ids = self._find(hashes)
        known = ids.nonzero()[0]
        if len(known):
            candidates = strings if len(known) == len(ids) else strings.take(pa.array(known))
            same = pc.equal(self.strings(ids[known]), candidates).to_numpy(zero_copy_only=False)
            for row in known[~same].tolist():  # the halves of two hashes are equal: once in four billion
                ids[row] = self._find_exactly(strings[row].as_py(), int(hashes[row]))
        new = (ids == 0).nonzero()[0]
        if len(new):
            ids[new] = np.arange(self._count, self._count + len(new), dtype=np.int32)
            self._append(strings.take(pa.array(new)), hashes[new])
        return ids

    def _find(self, hashes: Hashes) -> Ids:
        """Return for each hash the first id whose entry looks like it, 0 if none does."""
        last = np.uint64(len(self._table) - 1)
        found = self._table[hashes & last]
        rows = _others(found, hashes)
        places, step = hashes[rows], 0
        while len(rows):
            step += 1
            places += np.uint64(step)
            entries = self._table[places & last]
            found[rows] = entries
            on = _others(entries, hashes[rows])
            rows, places = rows[on], places[on]
        ids: Ids = (found & _LOWER).astype(np.int32)
        return ids

    def _find_exactly(self, string: str, hashed: int) -> int:
        """Return the id of `string`, 0 if it has none, looking at the bytes of every entry on its way."""
        last, place, step = len(self._table) - 1, hashed, 0
        while (entry := int(self._table[place & last])) != 0:
            number = entry & int(_LOWER)
            if self._bytes[self._offsets[number] : self._offsets[number + 1]].tobytes() == string.encode():
                return number
            step += 1
            place += step
        return 0

    def strings(self, ids: Ids) -> pa.StringArray:
        """Return the strings behind `ids`."""
        every = pa.LargeStringArray.from_buffers(self._count, pa.py_buffer(self._offsets), pa.py_buffer(self._bytes))
        return every.take(pa.array(ids, mask=ids == NULL_ID)).cast(pa.string())

    def dictionary(self, ids: Ids) -> pa.DictionaryArray:
        """Return the strings behind `ids` as a dictionary array that holds only the strings in use."""
        new_ids, old_ids = self._compacted((ids,))
        return pa.DictionaryArray.from_arrays(
            pa.array(new_ids[ids] - 1, mask=ids == NULL_ID), self.strings(old_ids[1:].astype(np.int32))
        )

    def keep_only(self, used: Iterable[Ids]) -> Ids:
        """Forget every string whose id is not in `used`; return the new id of each old one, null's if forgotten."""
        new_ids, old_ids = self._compacted(used)
        forgotten = np.ones(self._count, dtype=np.bool_)
        forgotten[old_ids] = False
        new_ids[forgotten] = NULL_ID
        kept, hashes = self.strings(old_ids[1:].astype(np.int32)), self._hashes[old_ids[1:]]
        self._begin()
        self._append(kept, hashes)
        return new_ids

    def _compacted(self, used: Iterable[Ids]) -> tuple[Ids, Ints]:
        """Return (new id of each old id, old id of each new id) when only `used` ids stay."""
        stays = np.zeros(self._count, dtype=np.bool_)
        stays[NULL_ID] = True
        for ids in used:
            stays[ids] = True
        return (np.cumsum(stays) - 1).astype(np.int32), np.flatnonzero(stays)

    def _hash(self, text: Text) -> Hashes:
        hashes = _mixed(text.lengths.astype(np.uint64) ^ self._seed)
        longest = int(text.lengths.max(initial=0))
        for number in range(-(-longest // WORD_BYTES)):
            rows = np.flatnonzero(text.lengths > WORD_BYTES * number)
            if len(rows) == len(hashes):
                hashes = _mixed(hashes ^ text.word(number))
            else:
                hashes[rows] = _mixed(hashes[rows] ^ text.word(number, rows))
        return _mixed(hashes)

    def _append(self, strings: pa.StringArray, hashes: Hashes) -> None:
        first, last = self._count, self._count + len(strings)
        text = Text(strings)
        end = int(self._offsets[first])
        total = end + len(text.bytes)
        if total > len(self._bytes):
            self._bytes = _grown(self._bytes, total)
        self._bytes[end:total] = text.bytes
        if last > len(self._hashes):
            self._hashes = _grown(self._hashes, last)
            self._offsets = _grown(self._offsets, len(self._hashes) + 1)
        self._hashes[first:last] = hashes
        self._offsets[first : last + 1] = end
        self._offsets[first + 1 : last + 1] += np.cumsum(text.lengths)
        self._count = last
        if 2 * last > len(self._table):
            self._table = np.zeros(2 << last.bit_length(), dtype=np.uint64)
            first = 1
        hashes = self._hashes[first:last]
        self._place(hashes & _UPPER | np.arange(first, last, dtype=np.uint64), hashes)

    def _place(self, entries: Hashes, places: Hashes) -> None:
        """Put `entries` into the table, each at the first free one of its places."""
        last, step = np.uint64(len(self._table) - 1), 0
        while len(entries):
            at = places & last
            free = (self._table[at] == 0).nonzero()[0]
            self._table[at[free]] = entries[free]
            left = (self._table[at] != entries).nonzero()[0]  # taken before, or by another of `entries`
            step += 1
            entries, places = entries[left], places[left] + np.uint64(step)


def _others(entries: Hashes, hashes: Hashes) -> Ints:
    """Return the rows whose entry is that of another string, so that the search goes on."""
    rows: Ints = (((entries ^ hashes) & _UPPER != 0) & (entries != 0)).nonzero()[0]
    return rows


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX[0]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX[1]
    return hashes ^ (hashes >> np.uint64(31))


def _grown(array: npt.NDArray[Any], at_least: int) -> npt.NDArray[Any]:
    grown = np.zeros(max(at_least, len(array) * 3 // 2), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
