"""128-bit fingerprints of ids, a column at a time.

They are written into snapshots, so they must never change with the process, the batch or the machine: a fingerprint
is a pure function of the values of its row. Strings are read as 64-bit little-endian words and mixed into two lanes
with different multipliers (multiply and fold, as in the xmx family of mixers); one longer than 64 bytes, which no
sane id is, takes part with its BLAKE2b digest. Not a cryptographic hash: who can choose ids can repeat one anyway.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from millrace_common.columns import WORD_BYTES, Int64s, Text, Words

_LONGEST_BYTES: Final = 64
_DIGEST_BYTES: Final = 16
# Odd 64-bit constants with well-spread bits: the fractions of the golden ratio, sqrt(2), sqrt(3) and sqrt(5), made odd.
_SEEDS: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0x6A09E667F3BCC909))
_FACTORS: Final = (np.uint64(0xBB67AE8584CAA73B), np.uint64(0x3C6EF372FE94F82B))
_FINISH: Final = np.uint64(0xFF51AFD7ED558CCD)  # of MurmurHash3's 64-bit finaliser
_HALF: Final = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """128 bits for each row, as two columns of 64."""

    high: Words
    low: Words

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.low)

    def take(self, rows: Int64s) -> "Fingerprints":
        """Return those of `rows`."""
        return Fingerprints(self.high[rows], self.low[rows])


def fingerprints(columns: list[pa.Array]) -> Fingerprints:
    """Return one fingerprint a row of `columns`: string or int64 columns of equal length, order significant.

    Strings take part with their length, so ("ab", "c") and ("a", "bc") differ.
    """
    lanes = tuple(np.full(len(columns[0]), seed, dtype=np.uint64) for seed in _SEEDS)
    for column in columns:
        if pa.types.is_string(column.type):
            _mix_strings(lanes, Text(column))
        else:
            _mix(lanes, np.asarray(column).view(np.uint64))
    high, low = lanes
    return Fingerprints(_finished(high), _finished(low))


def _finished(lane: Words) -> Words:
    product = lane * _FINISH
    product ^= product >> _HALF
    return product


def _mix(lanes: tuple[Words, ...], words: Words) -> None:
    for lane, factor in zip(lanes, _FACTORS, strict=True):
        np.bitwise_xor(lane, words, out=lane)
        np.multiply(lane, factor, out=lane)
        np.bitwise_xor(lane, lane >> _HALF, out=lane)


def _mix_strings(lanes: tuple[Words, ...], text: Text) -> None:
    _mix(lanes, text.lengths.view(np.uint64))
    longest = int(text.lengths.max(initial=0))
    words = text.words() if longest <= _LONGEST_BYTES else None
    if words is not None:  # ids are mostly UUIDs, or else of one length
        for word in words:
            _mix(lanes, word)
        return
    long = np.flatnonzero(text.lengths > _LONGEST_BYTES)
    words_of_row = -(-text.lengths // WORD_BYTES)
    words_of_row[long] = 0
    for number in range(int(words_of_row.max(initial=0))):
        rows = np.flatnonzero(words_of_row > number)
        _mix_rows(lanes, rows, text.word(number, rows))
    for digest in _digests(text, long).T if len(long) else ():
        _mix_rows(lanes, long, digest)


def _mix_rows(lanes: tuple[Words, ...], rows: Int64s, words: Words) -> None:
    part = tuple(lane[rows] for lane in lanes)
    _mix(part, words)
    for lane, mixed in zip(lanes, part, strict=True):
        lane[rows] = mixed


def _digests(text: Text, rows: Int64s) -> Words:
    ends = text.starts + text.lengths
    digests = b"".join(
        hashlib.blake2b(text.bytes[text.starts[row] : ends[row]].tobytes(), digest_size=_DIGEST_BYTES).digest()
        for row in rows
    )
    return np.frombuffer(digests, dtype="<u8").reshape(len(rows), -1)
