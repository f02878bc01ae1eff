"""Arrow columns as numpy sees them: bytes of strings, values of maps, without a Python object a row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bools: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Int64s: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

WORD_BYTES: Final = 8
# _KEEP[n] keeps the first n bytes of a little-endian word.
_KEEP: Final = np.array([(1 << 8 * kept) - 1 for kept in range(WORD_BYTES + 1)], dtype=np.uint64)


class Text:
    """The bytes of a string column of n rows; a null counts as the empty string.

    Attributes:
        lengths: int64, bytes of each row.
        bytes: uint8, the rows' bytes one behind the other.
        starts: int64, where each row begins in `bytes`.
    """

    __slots__ = ("_words", "bytes", "lengths", "starts")

    def __init__(self, strings: pa.StringArray) -> None:
        """Look at `strings`; its bytes are not copied."""
        bounds = _bounds(strings)
        self.bytes = string_bytes(strings)
        self.starts: Int64s = bounds[:-1] - bounds[0]
        self.lengths: Int64s = np.diff(bounds)
        if strings.null_count:  # the bytes behind a null are undefined
            self.lengths[np.asarray(strings.is_null())] = 0
        self._words: Words | None = None

    def word(self, number: int, rows: Int64s | None = None) -> Words:
        """Return bytes 8 x number to 8 x number + 8 of `rows` (all): little-endian, zeros behind a row's end."""
        starts, lengths = (self.starts, self.lengths) if rows is None else (self.starts[rows], self.lengths[rows])
        if self._words is None:
            self._words = self._every_word()
        skipped = WORD_BYTES * number
        words = self._words[np.minimum(starts + skipped, len(self.bytes))]
        words &= _KEEP[np.minimum(np.maximum(lengths - skipped, 0), WORD_BYTES)]
        return words

    def words(self) -> list[Words] | None:
        """Return all words of all rows as `word` returns them if the rows are equally long, else None; much faster."""
        longest = int(self.lengths.max(initial=0))
        if not longest or int(self.lengths.min()) != longest:
            return None
        count = -(-longest // WORD_BYTES)
        padded = np.zeros((len(self.lengths), count * WORD_BYTES), dtype=np.uint8)
        padded[:, :longest] = self.bytes.reshape(-1, longest)
        matrix = padded.view("<u8")
        return [matrix[:, number] for number in range(count)]

    def _every_word(self) -> Words:
        """Return the word at every byte: unaligned loads are cheap, and this is the only copy."""
        padded = np.zeros(len(self.bytes) + WORD_BYTES, dtype=np.uint8)
        padded[: len(self.bytes)] = self.bytes
        return np.ndarray((len(self.bytes) + 1,), dtype="<u8", buffer=padded.data, strides=(1,))

    def rows_equal(self, text: str) -> Int64s:
        """Return the numbers of the rows that are exactly `text`, in order."""
        wanted = text.encode()
        rows = np.flatnonzero(self.lengths == len(wanted))
        if self._words is None:
            self._words = self._every_word()
        for skipped in range(0, len(wanted), WORD_BYTES):
            part = wanted[skipped : skipped + WORD_BYTES]
            words = self._words[self.starts[rows] + skipped] & _KEEP[len(part)]
            rows = rows[words == int.from_bytes(part, "little")]
        return rows

    def rows_with(self, byte: int) -> Int64s:
        """Return the numbers of the rows that contain `byte`, in order."""
        found = np.flatnonzero(self.bytes == byte)
        if not len(found):
            return found
        rows = np.unique(np.searchsorted(self.starts, found, side="right") - 1)
        return rows[self.lengths[rows] > 0]


class Binaries(Sequence[bytes]):
    """A binary column without nulls as a sequence of bytes objects, which are only made when they are asked for.

    Attributes:
        bounds: int32, row n is what lies from bounds[n] to bounds[n + 1] behind `address`; one more than rows.
        address: of the first byte; good as long as this object lives.
    """

    __slots__ = ("_column", "address", "bounds")

    def __init__(self, column: pa.BinaryArray) -> None:
        """Look at `column`; its bytes are not copied."""
        _, bounds, data = column.buffers()
        self._column = column
        if not len(column):
            self.bounds: npt.NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        else:
            self.bounds = np.frombuffer(bounds, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        # Of an empty row nobody reads a byte, but its address must not be 0: that would be no value at all.
        self.address: int = (data if data is not None else pa.py_buffer(b"\0")).address

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._column)

    @overload
    def __getitem__(self, row: int) -> bytes: ...

    @overload
    def __getitem__(self, row: slice) -> "Binaries": ...

    def __getitem__(self, row: int | slice) -> "bytes | Binaries":
        """Return a row, or some as a column."""
        if isinstance(row, slice):
            return Binaries(self._column[row])
        value: bytes = self._column[row].as_py()
        return value

    def __iter__(self) -> Iterator[bytes]:
        """Return the rows, in order."""
        return iter(self._column.to_pylist())


def string_bytes(strings: pa.StringArray) -> Bytes:
    """Return the bytes of all rows of a string column, one behind the other, and whatever is behind its nulls."""
    _, bounds, data = strings.buffers()
    if data is None or not len(strings):
        return np.empty(0, dtype=np.uint8)
    ends = np.frombuffer(bounds, dtype=np.int32)
    return np.frombuffer(data, dtype=np.uint8)[ends[strings.offset] : ends[strings.offset + len(strings)]]


def list_lengths(lists: pa.Array) -> Int64s:
    """Return how many entries each row of a list or map column has."""
    lengths: Int64s = np.diff(_bounds(lists))
    return lengths


def list_rows(lists: pa.Array) -> Int64s:
    """Return, for each entry of a list or map column's flat values (from the first row's on), the row it belongs to."""
    rows: Int64s = np.repeat(np.arange(len(lists)), list_lengths(lists))
    return rows


def entries(lists: pa.Array, values: pa.Array) -> pa.Array:
    """Return the part of a list or map column's flat `values` that belongs to its rows; differs for slices only."""
    if not len(lists):
        return values.slice(0, 0)
    bounds = np.frombuffer(lists.buffers()[1], dtype=np.int32)
    first, last = int(bounds[lists.offset]), int(bounds[lists.offset + len(lists)])
    return values if first == 0 and last == len(values) else values.slice(first, last - first)


def any_of(rows: Sequence[Int64s]) -> Int64s:
    """Return the union of several row lists, in order."""
    found = [part for part in rows if len(part)]
    return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)


def rows_with_text(column: pa.Array, find: Callable[[pa.StringArray], Int64s]) -> Int64s:
    """Return the rows that hold any string that `find` finds, however deep in structs, lists and maps."""
    kind = column.type
    if pa.types.is_string(kind):
        return find(column)
    if pa.types.is_struct(kind):
        return any_of([rows_with_text(field, find) for field in column.flatten()])
    if pa.types.is_map(kind):
        found = any_of([rows_with_text(entries(column, part), find) for part in (column.keys, column.items)])
        return np.unique(list_rows(column)[found]) if len(found) else found
    if pa.types.is_list(kind):
        found = rows_with_text(entries(column, column.values), find)
        return np.unique(list_rows(column)[found]) if len(found) else found
    return np.empty(0, dtype=np.int64)


class StringMap:
    """A map<string, string> column of n rows, asked by key.

    If a row repeats a key, the last entry wins, as it does in every decoder that builds a dictionary.
    """

    __slots__ = ("_has_value", "_items", "_keys", "_rows", "_size")

    def __init__(self, maps: pa.MapArray, *, empty_is_null: bool = False) -> None:
        """Look at `maps`; nothing is copied. If `empty_is_null`, a row has no value where it has the empty string."""
        self._size = len(maps)
        self._rows = list_rows(maps)
        self._keys = Text(entries(maps, maps.keys))
        self._items = entries(maps, maps.items)
        self._has_value = list_lengths(self._items) > 0 if empty_is_null else None

    def get(self, key: str) -> pa.StringArray:
        """Return the value each row has for `key`, null where it has none."""
        found = self._keys.rows_equal(key)
        entry = np.full(self._size, -1, dtype=np.int64)
        entry[self._rows[found]] = found  # numpy keeps the last of repeated targets
        missing = entry < 0
        if self._has_value is not None and len(found):
            missing |= ~self._has_value[entry]
        return self._items.take(pa.array(entry, mask=missing))


def _bounds(array: pa.Array) -> Int64s:
    """Return the n + 1 offsets of a string, list or map column."""
    if not len(array):
        return np.zeros(1, dtype=np.int64)
    buffer = array.buffers()[1]
    bounds = np.frombuffer(buffer, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    return bounds.astype(np.int64)
