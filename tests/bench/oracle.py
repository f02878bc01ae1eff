"""Whether a system's output is what the log says it must be. Pure: numbers of the log in, a verdict out.

A system is stopped in the middle of its work, so what must be there is worked out from what is there: the log of each
partition up to the last record of it that left a trace, and up to what the system has committed.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filling import Log, log_rows, runs_of
from jobs import PARTITIONS
from millrace_common.columns import Bools, Int64s
from shop_log import GAP_MS, KINDS, PAGE_VIEW, PURCHASE, Events
from shop_records import Catalogue, catalogue, numbers_of, partitions, session_ids
from systems import CLOSING, Closing

# A session is certainly closed when the watermark is so far past its end: some look at the time only now and then.
_CERTAIN_MS: Final = 120_000
_NEVER: Final = -(2**60)
_TIME_BITS: Final = 40
# Partitions are not quite of one length.
_UNEVEN: Final = 1.05
_ROOM: Final = 200_000
# The next system may come a little further: a fourth more is drawn than was asked for.
_DRAW_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an output.

    Attributes:
        outputs: that were looked at.
        lost: results that must be there and are not.
        doubled: results that are there more than once.
        changed: results that say something else than the log.
        foreign: records that are no result of this log, or cannot be read.
    """

    outputs: int
    lost: int
    doubled: int
    changed: int
    foreign: int

    @property
    def problem(self) -> str:
        """Return what is wrong in words, empty if nothing is."""
        found = {"lost": self.lost, "doubled": self.doubled, "changed": self.changed, "foreign": self.foreign}
        words = [f"{count:,} {name}" for name, count in found.items() if count]
        if not words and not self.outputs:
            words = ["no output"]
        return f"its output is wrong: {', '.join(words)} of {self.outputs:,}" if words else ""


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """A log as numbers; the first arrays have an element for each event, by its number.

    Attributes:
        events: what they say.
        partition: where each is.
        good: whether each comes through.
        rows: for each partition the numbers of its records, in the order of their offsets.
    """

    events: Events
    partition: npt.NDArray[np.int8]
    good: Bools
    rows: tuple[Int64s, ...]


class Drawn:
    """A log that is drawn again, as far as somebody has read it: that takes a second for a million events."""

    def __init__(self, log: Log) -> None:
        """Draw nothing yet."""
        self._log = log
        self._known: Expected | None = None

    def up_to(self, count: int) -> Expected:
        """Return what must come of the first events, at least `count` of them if the log has so many."""
        least = min(count, self._log.events)
        if self._known is None or len(self._known.events) < least:
            self._known = expected(self._log, min(self._log.events, least + least // _DRAW_AHEAD))
        return self._known

    def all(self) -> Expected:
        """Return what must come of the whole log."""
        return self.up_to(self._log.events)

    def read_until(self, farthest: int) -> Expected:
        """Return what must come of the events of which `farthest` is the largest offset in any partition."""
        return self.up_to(round(farthest * PARTITIONS * _UNEVEN) + _ROOM)


def expected(log: Log, count: int) -> Expected:
    """Draw the first events of the log again."""
    runs, rows, good = [], [], []
    for first, run in runs_of(log, count):
        runs.append(run)
        found = log_rows(first, len(run), with_faults=log.with_faults)
        rows.append(found.number)
        good.append(found.number[found.good])
    return of_events(joined(runs), np.concatenate(rows), np.concatenate(good))


def of_events(events: Events, rows: Int64s, good_numbers: Int64s) -> Expected:
    """Return what must come of `events`, in a log that holds them in the order of `rows`."""
    visits, of_event = np.unique(events.visit, return_inverse=True)
    partition = partitions(session_ids(visits), PARTITIONS)[of_event]
    good = np.zeros(len(events), dtype=np.bool_)
    good[good_numbers] = True
    of_row = partition[rows]
    return Expected(events, partition, good, tuple(rows[of_row == index] for index in range(PARTITIONS)))


def joined(runs: Sequence[Events]) -> Events:
    """Return runs of events as one."""
    return Events(*(np.concatenate([getattr(run, each.name) for run in runs]) for each in fields(Events)))


class EventCheck:
    """Holds events that came out against the log; takes them in parts, as columns."""

    def __init__(self, wanted: Expected, products: Catalogue | None = None) -> None:
        """Begin without output."""
        self._wanted = wanted
        self._products = products or catalogue()
        self._kinds = pa.array(KINDS)
        self._seen = np.zeros(len(wanted.events), dtype=np.uint8)
        self._outputs = self._changed = self._foreign = 0

    def unreadable(self, count: int) -> None:
        """Take in records that cannot be read."""
        self._outputs += count
        self._foreign += count

    def take(self, columns: Mapping[str, pa.Array]) -> None:
        """Take in events: event_id, event_type, and product_brand and product_category if the output has them."""
        numbers = numbers_of(columns["event_id"])
        self._outputs += len(numbers)
        ours = (numbers >= 0) & (numbers < len(self._seen))
        self._foreign += int((~ours).sum())
        numbers = numbers[ours]
        events, kept = self._wanted.events, pa.array(ours)
        product = events.product[numbers]
        chosen = pa.array(product, mask=product < 0)
        wrong = _differs(columns["event_type"].filter(kept), self._kinds.take(pa.array(events.kind[numbers])))
        for name, values in (("product_brand", self._products.brands), ("product_category", self._products.categories)):
            if name in columns:
                wrong |= _differs(columns[name].filter(kept), values.take(chosen))
        self._changed += int(wrong.sum())
        found, counts = np.unique(numbers, return_counts=True)
        self._seen[found] = np.minimum(self._seen[found].astype(np.int64) + counts, 255)

    def verdict(self, committed: Sequence[int]) -> Verdict:
        """Return what is wrong, if the system has committed these offsets of its input."""
        good = self._wanted.good
        lost = 0
        for rows, offset in zip(self._wanted.rows, committed, strict=True):
            traces = np.flatnonzero(self._seen[rows] > 0)
            end = max(int(traces[-1]) + 1 if len(traces) else 0, offset)
            due = rows[:end]
            lost += len(np.unique(due[good[due] & (self._seen[due] == 0)]))
        return Verdict(
            outputs=self._outputs,
            lost=lost,
            doubled=int((self._seen > 1).sum()),
            changed=self._changed + int((self._seen[~good] > 0).sum()),
            foreign=self._foreign,
        )


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of a log, by key and then by start; arrays of one length."""

    key: Int64s
    started_ms: Int64s
    ended_ms: Int64s
    event_count: Int64s
    page_views: Int64s
    purchases: Int64s
    partition: npt.NDArray[np.int8]


@functools.lru_cache(maxsize=1)
def sessions_of(wanted: Expected) -> Sessions:
    """Cut the log's events into sessions by the gap alone: none of them is late."""
    events = wanted.events
    order = np.lexsort((events.time_ms, events.visit))
    visit, times, kinds = events.visit[order], events.time_ms[order], events.kind[order]
    begins = np.flatnonzero(np.append([True], (visit[1:] != visit[:-1]) | (np.diff(times) > GAP_MS)))
    ends = np.append(begins[1:], len(visit))
    return Sessions(
        key=visit[begins],
        started_ms=times[begins],
        ended_ms=times[ends - 1],
        event_count=ends - begins,
        page_views=np.add.reduceat((kinds == PAGE_VIEW).astype(np.int64), begins),
        purchases=np.add.reduceat((kinds == PURCHASE).astype(np.int64), begins),
        partition=wanted.partition[order][begins],
    )


class SessionCheck:
    """Holds closed sessions that came out against the log."""

    def __init__(self, wanted: Expected, epoch_ms: int, closing: Closing = CLOSING) -> None:
        """Begin without output; `epoch_ms` is the wall-clock time of the log's first moment."""
        self._wanted = wanted
        self._epoch_ms = epoch_ms
        self._closing = closing
        self._sessions = sessions_of(wanted)
        self._names = _name(self._sessions.key, self._sessions.started_ms)
        self._seen = np.zeros(len(self._names), dtype=np.uint8)
        self._outputs = self._changed = self._foreign = 0

    def unreadable(self, count: int) -> None:
        """Take in records that cannot be read."""
        self._outputs += count
        self._foreign += count

    def take(self, columns: Mapping[str, pa.Array]) -> None:
        """Take in sessions: the columns of session.avsc."""
        keys = numbers_of(columns["client_session_id"])
        started = _milliseconds(columns["started_at"]) - self._epoch_ms
        names = _name(keys, started)
        self._outputs += len(names)
        at = np.minimum(np.searchsorted(self._names, names), len(self._names) - 1)
        ours = (keys >= 0) & (self._names[at] == names)
        self._foreign += int((~ours).sum())
        at = at[ours]
        wanted = self._sessions
        wrong = wanted.ended_ms[at] != _milliseconds(columns["ended_at"])[ours] - self._epoch_ms
        for name in ("event_count", "page_views", "purchases"):
            wrong |= getattr(wanted, name)[at] != np.asarray(columns[name])[ours]
        self._changed += int(wrong.sum())
        found, counts = np.unique(at, return_counts=True)
        self._seen[found] = np.minimum(self._seen[found].astype(np.int64) + counts, 255)

    def verdict(self, committed: Sequence[int]) -> Verdict:
        """Return what is wrong, if the system has committed these offsets of its input."""
        wanted, times = self._sessions, self._wanted.events.time_ms
        reached = [
            int(times[rows[:offset]].max(initial=_NEVER))
            for rows, offset in zip(self._wanted.rows, committed, strict=True)
        ]
        if self._closing.by_all:
            reached = [min(reached)] * len(reached)
        lost = 0
        for index, time_ms in enumerate(reached):
            here = wanted.partition == index
            closed = here & (self._seen > 0)
            # What is past when the youngest of those that are there has closed, and when the offset was committed.
            certain = (
                max(int(wanted.ended_ms[closed].max(initial=_NEVER)), time_ms - self._closing.after_ms) - _CERTAIN_MS
            )
            lost += int((here & (wanted.ended_ms < certain) & (self._seen == 0)).sum())
        return Verdict(self._outputs, lost, int((self._seen > 1).sum()), self._changed, self._foreign)


def events_per_session(wanted: Expected) -> float:
    """Return how many events a closed session stands for, in the long run."""
    sessions = sessions_of(wanted)
    # Without the log's beginning, where visits are there with their last event only, and its open end.
    last = int(wanted.events.time_ms.max()) - GAP_MS
    whole = (sessions.started_ms > 0) & (sessions.ended_ms < last)
    return float(sessions.event_count[whole].mean())


def _name(keys: Int64s, started_ms: Int64s) -> Int64s:
    return (keys << _TIME_BITS) + started_ms


def _milliseconds(column: pa.Array) -> Int64s:
    return np.asarray(
        column.cast(pa.timestamp("ms")).view(pa.int64()) if pa.types.is_timestamp(column.type) else column
    )


def _differs(given: pa.Array, wanted: pa.Array) -> Bools:
    same = pc.fill_null(pc.equal(given, wanted), False)  # noqa: FBT003
    both_null = pc.and_(given.is_null(), wanted.is_null())
    return ~np.asarray(pc.or_(same, both_null))


Check = EventCheck | SessionCheck
