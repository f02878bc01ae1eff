"""Which ids were seen before: the state of one input partition, in columns.

Log time of a record is the largest append timestamp of the records up to and including it, so it never runs backwards
even where a broker's clock did. A record is a **duplicate** if its id occurred before, whether forwarded or not, at a
log time later than (its own log time - window). Every occurrence begins the window anew: what counts as a duplicate
therefore depends on the last `window` of the log alone, and a replay of that much rebuilds the state exactly.

The ids live in a hash table of buckets with eight slots, in numpy arrays of 20 bytes a slot, and a batch is looked up
and put in with a few dozen array operations. An expired slot is as good as a free one, so in a steady state the table
cleans itself while it is written; only a growing number of live ids makes it move.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace_common.columns import Bools, Int64s
from millrace_ingest.fingerprints import Fingerprints

SNAPSHOT_SCHEMA: Final = pa.schema(
    [
        pa.field("high", pa.uint64(), nullable=False),
        pa.field("low", pa.uint64(), nullable=False),
        pa.field("seen_at_ms", pa.int64(), nullable=False),
    ]
)

_SLOTS: Final = 8  # of a bucket: the low halves of one bucket are one cache line
_FEWEST_BUCKETS: Final = 4_096
# Shares of slots in use: above the first the table moves into a larger one (it would spill too often), but not if it
# falls below the second once expired slots are discounted; below the third it moves into a smaller one.
_FULL: Final = 0.72
_NOT_SO_FULL: Final = 0.67
_SPARSE: Final = 0.05
# (ids, share of slots in use to move to): a small table grows in leaps, a large one is at most 37 bytes an id.
_ROOMY: Final = ((100_000, 0.18), (400_000, 0.36), (2**63, 0.55))
_LATEST: Final = 2**32 - 1  # slots keep log time in milliseconds since `_epoch_ms`; 0 is a free slot
_MOVED_AT_ONCE: Final = 65_536  # ids; all at once would need as much memory again
_HALF: Final = np.uint64(32)

# _NTH_FREE[bits, n]: the slot of the n-th set bit of a byte (first bit highest, as packbits has it), or _SLOTS if
# there is none.
_NTH_FREE: Final = np.full((256, _SLOTS + 1), _SLOTS, dtype=np.int64)
for _bits in range(256):
    _free = [slot for slot in range(_SLOTS) if _bits >> (_SLOTS - 1 - slot) & 1]
    _NTH_FREE[_bits, : len(_free)] = _free


class SeenIds:
    """The ids one partition has seen in the last `window_ms` of log time.

    `add` is exact with respect to the 128-bit fingerprints, and its answers do not depend on how the log is cut into
    batches.
    """

    def __init__(self, window_ms: int) -> None:
        """Begin with no id seen; a window of 0 finds no duplicates.

        Raises:
            ValueError: the window is negative or longer than three weeks (slots keep 32 bits of milliseconds).
        """
        if not 0 <= window_ms < _LATEST // 2:
            message = f"a dedup window of {window_ms} ms is not between 0 and {_LATEST // 2}"
            raise ValueError(message)
        self._window_ms = window_ms
        self._clock_ms = -1
        self._allocate(_FEWEST_BUCKETS, epoch_ms=0)

    @classmethod
    def restore(cls, snapshot: pa.Table, window_ms: int) -> "SeenIds":
        """Return the state that `snapshot` was taken of."""
        seen = cls(window_ms)
        if snapshot.num_rows:
            ids = Fingerprints(np.asarray(snapshot["high"]), np.asarray(snapshot["low"]))
            at_ms = np.asarray(snapshot["seen_at_ms"])
            seen._clock_ms = int(at_ms.max())  # the newest id set the clock
            seen._move(ids, at_ms)
        return seen

    def snapshot(self) -> pa.Table:
        """Return the live ids in no particular order, with the log time (epoch ms) of their last occurrence."""
        ids, at_ms = self._live()
        return pa.table([ids.high, ids.low, at_ms], schema=SNAPSHOT_SCHEMA)

    @property
    def log_time_ms(self) -> int | None:
        """The log time reached, epoch ms; None before the first record."""
        return self._clock_ms if self._clock_ms >= 0 else None

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(array.nbytes for array in (self._high, self._low, self._seen, self._spilled))

    def __len__(self) -> int:
        """Return the number of live ids, by counting them."""
        return int(np.count_nonzero(self._seen > self._horizon()))

    def add(self, ids: Fingerprints, appended_at_ms: Int64s) -> Bools:
        """Take in the next records of the partition and return which of them are duplicates.

        Args:
            ids: one a record, in offset order.
            appended_at_ms: their append timestamps, epoch ms.
        """
        if not len(ids):
            return np.zeros(0, dtype=np.bool_)
        clock_ms = np.maximum.accumulate(appended_at_ms)
        np.maximum(clock_ms, self._clock_ms, out=clock_ms)
        if self._clock_ms < 0:
            self._epoch_ms = int(clock_ms[0]) - 1
        self._clock_ms = int(clock_ms[-1])

        distinct = _distinct(ids)
        duplicates = np.zeros(len(ids), dtype=np.bool_)
        duplicates[distinct.later] = clock_ms[distinct.earlier] > clock_ms[distinct.later] - self._window_ms
        places = self._find(distinct.ids)
        known = np.flatnonzero(places >= 0)
        seen_at_ms = self._seen.ravel()[places[known]].astype(np.int64) + self._epoch_ms
        first = distinct.first[known]
        duplicates[first] = seen_at_ms > clock_ms[first] - self._window_ms

        if self._make_room(len(places)):
            places = self._find(distinct.ids)
            known = np.flatnonzero(places >= 0)
        marks = self._marks(clock_ms[distinct.last])
        # An expired slot of the same id comes back to life: it was free when slots were counted last.
        self._in_use += int(np.count_nonzero(self._seen.ravel()[places[known]] <= self._horizon()))
        self._seen.ravel()[places[known]] = marks[known]
        new = np.flatnonzero(places < 0)
        self._put(distinct.ids.take(new), marks[new])
        return duplicates

    def _allocate(self, buckets: int, epoch_ms: int) -> None:
        self._buckets = buckets
        self._epoch_ms = epoch_ms
        self._high = np.zeros((buckets, _SLOTS), dtype=np.uint64)
        self._low = np.zeros((buckets, _SLOTS), dtype=np.uint64)
        self._seen = np.zeros((buckets, _SLOTS), dtype=np.uint32)
        self._spilled = np.zeros(buckets, dtype=np.bool_)
        self._in_use = 0  # slots, at most: those that expired since they were counted are still in

    def _marks(self, at_ms: Int64s) -> npt.NDArray[np.uint32]:
        """Return log times as slots keep them."""
        return np.clip(at_ms - self._epoch_ms, 0, _LATEST).astype(np.uint32)

    def _horizon(self) -> np.uint32:
        """Return the mark up to which slots are free: what was seen then, or before, makes no duplicate any more."""
        return np.uint32(min(max(0, self._clock_ms - self._window_ms - self._epoch_ms), _LATEST))

    def _home(self, ids: Fingerprints) -> Int64s:
        buckets: Int64s = (((ids.high >> _HALF) * np.uint64(self._buckets)) >> _HALF).astype(np.int64)
        return buckets

    def _find(self, ids: Fingerprints) -> Int64s:
        """Return the place (bucket x slots + slot) of each of `ids`, -1 where it has none."""
        places = np.full(len(ids), -1, dtype=np.int64)
        rows, buckets = np.arange(len(ids)), self._home(ids)
        while len(rows):
            low = self._low.take(buckets, axis=0)
            hits = np.flatnonzero(low == ids.low[rows][:, None])
            row, slot = hits // _SLOTS, hits % _SLOTS
            place = buckets[row] * _SLOTS + slot
            same = (self._high.ravel()[place] == ids.high[rows[row]]) & (self._seen.ravel()[place] != 0)
            places[rows[row[same]]] = place[same]
            going_on = np.flatnonzero((places[rows] < 0) & self._spilled[buckets])
            rows, buckets = rows[going_on], (buckets[going_on] + 1) % self._buckets
        return places

    def _put(self, ids: Fingerprints, marks: npt.NDArray[np.uint32]) -> None:
        """Put in `ids`, sorted and none of which the table has, each at the first free slot from its home on."""
        horizon = self._horizon()
        rows, buckets = np.arange(len(ids)), self._home(ids)
        self._in_use += len(ids)
        while len(rows):
            free = np.packbits(self._seen.take(buckets, axis=0) <= horizon)  # eight slots, one byte
            slot = _NTH_FREE.take(free * np.int64(_SLOTS + 1) + _place_in_group(buckets))
            fits = slot < _SLOTS
            self._write(buckets[fits] * _SLOTS + slot[fits], ids.take(rows[fits]), marks[rows[fits]])
            self._spilled[buckets[~fits]] = True
            rows, buckets = rows[~fits], (buckets[~fits] + 1) % self._buckets

    def _write(self, place: Int64s, ids: Fingerprints, marks: npt.NDArray[np.uint32]) -> None:
        self._high.ravel()[place] = ids.high
        self._low.ravel()[place] = ids.low
        self._seen.ravel()[place] = marks

    def _make_room(self, more: int) -> bool:
        """See to it that `more` ids fit, however many of them are known already, and return whether the table moved."""
        fits_marks = self._clock_ms - self._epoch_ms < _LATEST
        if fits_marks and self._in_use + more <= _FULL * self._high.size:
            return False
        self._in_use = len(self)
        share = (self._in_use + more) / self._high.size
        if fits_marks and share <= _NOT_SO_FULL and (share >= _SPARSE or self._buckets == _FEWEST_BUCKETS):
            return False
        self._move(*self._live(), more)
        return True

    def _live(self) -> tuple[Fingerprints, Int64s]:
        place = np.flatnonzero(self._seen > self._horizon())
        at_ms = self._seen.ravel()[place].astype(np.int64)
        at_ms += self._epoch_ms  # in place: for a large table each array is ten megabytes or more
        return Fingerprints(self._high.ravel()[place], self._low.ravel()[place]), at_ms

    def _move(self, ids: Fingerprints, at_ms: Int64s, more: int = 0) -> None:
        """Begin a table of the right size with `ids`.

        In the order of their homes each id takes the first slot from its home on that is behind the one before it.
        """
        share = next(share for most, share in _ROOMY if len(ids) + more < most)
        buckets = max(_FEWEST_BUCKETS, int((len(ids) + more) / share / _SLOTS))
        self._allocate(buckets, epoch_ms=self._clock_ms - self._window_ms - 1)
        order = np.argsort(ids.high)
        next_free = 0
        for start in range(0, len(ids), _MOVED_AT_ONCE):
            rows = order[start : start + _MOVED_AT_ONCE]
            part, marks, position = ids.take(rows), self._marks(at_ms[rows]), np.arange(len(rows))
            home = self._home(part)
            place = np.maximum(np.maximum.accumulate(home * _SLOTS - position), next_free) + position
            next_free = int(place[-1]) + 1
            fits = int(np.searchsorted(place, self._high.size))
            self._write(place[:fits], part.take(position[:fits]), marks[:fits])
            self._in_use += fits
            passed, bucket = home[:fits], place[:fits] // _SLOTS
            while len(behind := np.flatnonzero(passed < bucket)):
                passed, bucket = passed[behind], bucket[behind]
                self._spilled[passed] = True
                passed = passed + 1
            self._put(part.take(position[fits:]), marks[fits:])  # past the last bucket comes the first


@dataclass(frozen=True, slots=True)
class _Distinct:
    """The distinct ids of a batch, sorted, and the rows they occur in.

    Attributes:
        ids: each once.
        first: row of the first occurrence of each.
        last: row of the last occurrence of each.
        later: rows of all occurrences but the first ones.
        earlier: for each of `later` the row of the occurrence before it.
    """

    ids: Fingerprints
    first: Int64s
    last: Int64s
    later: Int64s
    earlier: Int64s


def _distinct(ids: Fingerprints) -> _Distinct:
    order = np.argsort(ids.high)
    high = ids.high[order]
    same = high[1:] == high[:-1]
    none: Int64s = np.empty(0, dtype=np.int64)
    if not same.any():
        return _Distinct(Fingerprints(high, ids.low[order]), order, order, none, none)
    # Of equal halves those with equal other halves come together, in the order of their rows.
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))  # noqa: FBT003
    rows = order[tied]
    order[tied] = rows[np.lexsort((rows, ids.low[rows], ids.high[rows]))]
    ids = ids.take(order)
    again = np.zeros(len(ids), dtype=np.bool_)
    again[1:] = (ids.high[1:] == ids.high[:-1]) & (ids.low[1:] == ids.low[:-1])
    later = np.flatnonzero(again)
    first = np.flatnonzero(~again)
    last = np.append(first[1:], len(ids)) - 1
    return _Distinct(ids.take(first), order[first], order[last], order[later], order[later - 1])


def _place_in_group(sorted_groups: Int64s) -> Int64s:
    """Return each row's number among those of its group; _SLOTS stands for any number past the last slot."""
    position = np.arange(len(sorted_groups))
    begins = np.zeros(len(sorted_groups), dtype=np.int64)
    begins[1:] = np.where(sorted_groups[1:] != sorted_groups[:-1], position[1:], 0)
    return np.minimum(position - np.maximum.accumulate(begins), _SLOTS)
