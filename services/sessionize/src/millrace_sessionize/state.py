"""The open sessions of one partition: the state that records change and that closes give rows from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_sessionize import snapshot
from millrace_sessionize.assign import LATE, Assignment, Run, assign, watermarks_before
from millrace_sessionize.columns import FOREVER_MS, NEVER_MS, STILL_OPEN, Ints, SessionColumns
from millrace_sessionize.fold import fold, group
from millrace_sessionize.key_index import KeyIndex
from millrace_sessionize.ordering import order_by
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.shapes import BY_GAP, CLOSED_BY, COUNT_FIELDS, PURCHASE, SESSION_METRICS, SESSION_UPDATES
from millrace_sessionize.vocabulary import Ids, Vocabulary

# Arrow values made once: making one from Python objects looks for dateutil on the disk each time
_CLOSED_BY = pa.array(CLOSED_BY)
_DASH = pa.scalar("-")
_MILLISECONDS = pa.timestamp("ms")
_SPARE_STRINGS = 20_000
"""So many unused strings may be kept beside half as many as there are used ones: forgetting looks at every session.

With 50,000 sessions open that is 30 ms after every 330,000 events, 3 % of the time; to keep as many unused strings as
used ones made the whole process a tenth larger.
"""

_NONE_CLOSED = pa.RecordBatch.from_pylist([], schema=SESSION_METRICS)


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a batch of events brought about beside the state.

    Attributes:
        late_rows: rows of the batch that belong to a session that is over.
        late_watermarks_ms: the watermark before each of them.
        tombstones: session ids that may stand in session-updates and are no longer right.
    """

    late_rows: Ints
    late_watermarks_ms: Ints
    tombstones: list[str]


@dataclass(frozen=True, slots=True)
class Closed:
    """Sessions that are over, in the shape of session-metrics, ordered by end and id; tombstones as in Applied."""

    sessions: pa.RecordBatch
    tombstones: list[str]


class OpenSessions:
    """The sessions of one partition that are not over.

    What comes out depends on the records and their order alone: not on how they are cut into batches, on when `close`
    is called, or on a snapshot taken and restored in between. All times are epoch milliseconds, UTC.
    """

    def __init__(self, rules: SessionRules) -> None:
        """Begin empty."""
        self._rules = rules
        self._columns = SessionColumns()
        self._index = KeyIndex()
        self._strings = Vocabulary()
        self._strings_kept = 0
        self._largest_ms = NEVER_MS
        self._floor_ms = NEVER_MS
        self._earliest_end_ms = FOREVER_MS
        self._cut: list[int] = []

    @property
    def watermark_ms(self) -> int | None:
        """Return how far event time has got: the largest less the allowed lateness, or the floor; None at first."""
        watermark = self._watermark_ms
        return watermark if watermark > NEVER_MS else None

    @property
    def open_count(self) -> int:
        """Return the number of sessions held."""
        return self._columns.open_count

    @property
    def earliest_close_ms(self) -> int | None:
        """Return the watermark that must be passed for `close` to take out anything; None if nothing is open.

        Looks at every session.
        """
        if self._cut:
            return NEVER_MS
        return int(self._columns.end_ms.min()) + self._rules.gap_ms if self.open_count else None

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes."""
        return self._columns.nbytes + self._strings.nbytes + self._index.nbytes

    def apply(self, events: pa.RecordBatch) -> Applied:
        """Apply enriched events in log order."""
        if not events.num_rows:
            return Applied(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), [])
        times = _epoch_ms(events.column("event_time"))
        keys = events.column("client_session_id").dictionary_encode()
        key_ids = self._strings.distinct_ids(keys.dictionary)
        watermarks = watermarks_before(times, self._largest_ms, self._floor_ms, self._rules.allowed_lateness_ms)
        run = Run(
            times_ms=times,
            watermarks_ms=watermarks,
            keys=keys.indices.to_numpy(),
            found=self._index.find(key_ids),
            slots_of=lambda key: self._index.slots(int(key_ids[key])),
        )
        assignment = assign(self._rules, run, self._columns, self._columns.allocate)
        self._name_slots(assignment, key_ids)
        tombstones = self._absorb(assignment)
        groups = group(times, assignment)
        fold(self._columns, self._strings, events, groups)
        tombstones += self._renamed(groups.slots)
        self._earliest_end_ms = min(
            self._earliest_end_ms, int(self._columns.end_ms[groups.slots].min(initial=FOREVER_MS))
        )
        for slot, reason in assignment.cut:
            self._columns.closed_by[slot] = reason
            self._cut.append(slot)
        self._largest_ms = max(self._largest_ms, int(times.max()))
        if len(self._strings) > self._strings_kept * 3 // 2 + _SPARE_STRINGS:
            self._forget_strings()
        late = np.flatnonzero(assignment.slots == LATE)
        return Applied(late, watermarks[late], tombstones)

    def advance(self, floor_ms: int) -> None:
        """Move the watermark to `floor_ms` at least."""
        self._floor_ms = max(self._floor_ms, floor_ms)

    def close(self) -> Closed:
        """Take out every session that is over."""
        slots = self._over()
        if not len(slots):
            return Closed(_NONE_CLOSED, [])
        columns = self._columns
        slots = self._in_order(slots)
        fields = self._fields(slots)
        fields["closed_by"] = _CLOSED_BY.take(pa.array(np.maximum(columns.closed_by[slots], BY_GAP)))
        fields["revision"] = pa.array(np.ones(len(slots), dtype=np.int32))
        return Closed(pa.RecordBatch.from_pydict(fields, schema=SESSION_METRICS), self._remove(slots))

    def discard_closed(self) -> None:
        """Drop what `close` would take out: it was emitted before."""
        self._remove(self._over())

    def updates_since_last(self, at_most: int) -> pa.RecordBatch:
        """Return `at_most` of the sessions that changed since they were published, in the shape of session-updates."""
        slots = np.flatnonzero(self._columns.changed)[:at_most]
        self._columns.changed[slots] = False
        self._columns.published_ms[slots] = self._columns.start_ms[slots]
        return pa.RecordBatch.from_pydict(self._fields(slots), schema=SESSION_UPDATES)

    def assume_published(self) -> None:
        """Take every session for published: another process may have done it after the snapshot this one began with."""
        slots = self._columns.in_use()
        self._columns.published_ms[slots] = self._columns.start_ms[slots]

    def snapshot(self) -> pa.Table:
        """Return the whole state; see `snapshot.py` for its columns."""
        return snapshot.to_table(self._columns, self._strings, self._largest_ms, self._floor_ms)

    @classmethod
    def restore(cls, rules: SessionRules, table: pa.Table) -> "OpenSessions":
        """Return the state that gave `table`; every session in it is taken for changed and not published.

        Raises:
            StateVersionError: the table is of another version of this program.
        """
        state = cls(rules)
        state._largest_ms, state._floor_ms = snapshot.fill(state._columns, state._strings, table)
        slots = state._columns.in_use()
        open_slots = slots[state._columns.closed_by[slots] == STILL_OPEN]
        keys = state._columns.client_session_id[open_slots]
        state._index.find(keys)
        state._index.add(keys, open_slots)
        several = np.isin(keys, keys[state._index.find(keys) != open_slots])
        slots_of: dict[int, list[int]] = {}
        for key, slot in zip(keys[several].tolist(), open_slots[several].tolist(), strict=True):
            slots_of.setdefault(key, []).append(slot)
        for key, own in slots_of.items():
            state._index.put(key, own)
        state._cut = slots[state._columns.closed_by[slots] != STILL_OPEN].tolist()
        state._earliest_end_ms = int(state._columns.end_ms[slots].min(initial=FOREVER_MS))
        return state

    @property
    def _watermark_ms(self) -> int:
        return max(self._largest_ms - self._rules.allowed_lateness_ms, self._floor_ms)

    def _name_slots(self, assignment: Assignment, keys: Ids) -> None:
        """Bring the index in line with `assignment`, and let new slots know their key."""
        columns, index = self._columns, self._index
        opened, slots = assignment.opened
        columns.client_session_id[slots] = keys[opened]
        index.add(keys[opened], slots)
        for key, (new, joinable) in assignment.walked.items():
            columns.client_session_id[new] = keys[key]
            index.put(int(keys[key]), joinable)

    def _absorb(self, assignment: Assignment) -> list[str]:
        columns = self._columns
        tombstones = []
        for root, gone in assignment.absorbed:
            if columns.published_ms[gone] != NEVER_MS:
                tombstones += self._unpublish(np.array([gone]))
            columns.absorb(root, gone)
        return tombstones

    def _renamed(self, slots: Ints) -> list[str]:
        """Return the ids under which those of `slots` that begin earlier now may stand in session-updates."""
        columns = self._columns
        published = columns.published_ms[slots]
        return self._unpublish(slots[(published != NEVER_MS) & (published != columns.start_ms[slots])])

    def _over(self) -> Ints:
        """Return the slots of sessions that are over."""
        last_end = self._watermark_ms - self._rules.gap_ms
        over = np.empty(0, dtype=np.int64)
        if self._earliest_end_ms < last_end:
            over = (self._columns.end_ms < last_end).nonzero()[0]
        if self._cut:
            over = np.union1d(over, np.array(self._cut, dtype=np.int64))
            self._cut = []
        return over

    def _in_order(self, slots: Ints) -> Ints:
        """Return `slots` by end, start, number of events and key: an order that does not depend on slots."""
        columns = self._columns
        numbers = columns.end_ms[slots], columns.start_ms[slots], columns.events[slots].astype(np.int64)
        order = order_by(*numbers)
        same = np.logical_and.reduce([number[order[1:]] == number[order[:-1]] for number in numbers])
        if same.any():
            keys = self._strings.strings(columns.client_session_id[slots])
            order = order_by(*numbers, pc.rank(keys).to_numpy().astype(np.int64))
        return slots[order]

    def _remove(self, slots: Ints) -> list[str]:
        """Free `slots`; return the ids under which they may stand in session-updates."""
        if not len(slots):
            return []
        columns = self._columns
        tombstones = self._unpublish(slots[columns.published_ms[slots] != NEVER_MS])
        keys = columns.client_session_id[slots]
        # a cut session and the one after it can have one id; a tombstone for the first takes the second away with it
        columns.changed[self._index.remove(keys, slots)] = True
        columns.free(slots)
        self._earliest_end_ms = int(columns.end_ms.min())
        return tombstones

    def _unpublish(self, slots: Ints) -> list[str]:
        columns = self._columns
        if not len(slots):
            return []
        published = columns.published_ms[slots]
        columns.published_ms[slots] = NEVER_MS
        ids: list[str] = _session_ids(self._strings.strings(columns.client_session_id[slots]), published).to_pylist()
        return ids

    def _forget_strings(self) -> None:
        columns = self._columns
        slots = columns.in_use()
        new_ids = self._strings.keep_only(
            [*(getattr(columns, name)[slots] for name in columns.STRINGS), columns.seen.values(slots) >> 1]
        )
        for name in columns.STRINGS:
            column = getattr(columns, name)
            column[slots] = new_ids[column[slots]]
        self._index.renumber(new_ids)
        columns.seen.replace(slots, lambda values: (new_ids[values >> 1] << 1) | (values & 1))
        self._strings_kept = len(self._strings)

    def _fields(self, slots: Ints) -> dict[str, pa.Array]:
        """Return the fields of session-updates for `slots`."""
        columns = self._columns
        facts = columns.facts.take(slots, axis=0)
        texts = self._strings.strings(facts[:, : len(columns.STRINGS)].T.ravel())
        text = {name: texts.slice(at * len(slots), len(slots)) for at, name in enumerate(columns.STRINGS)}
        start, end = columns.start_ms[slots], columns.end_ms[slots]
        events, counts = columns.events[slots], columns.counts[slots]
        positions, seen = columns.seen.distinct(slots)
        is_product = (seen & 1).astype(np.bool_)
        unique_products = np.bincount(positions[is_product], minlength=len(slots))
        unique_pages = np.bincount(positions, minlength=len(slots)) - unique_products
        return {
            "session_id": _session_ids(text["client_session_id"], start),
            "client_session_id": text["client_session_id"],
            "user_id": text["user_id"],
            "started_at": pa.array(start).view(_MILLISECONDS),
            "ended_at": pa.array(end).view(_MILLISECONDS),
            "duration_ms": pa.array(end - start),
            "event_count": pa.array(events),
            **{name: pa.array(counts[:, i]) for i, name in enumerate(COUNT_FIELDS)},
            "unique_pages": pa.array(unique_pages.astype(np.int32)),
            "unique_products": pa.array(unique_products.astype(np.int32)),
            "revenue_cents": pa.array(columns.revenue_cents[slots]),
            "has_conversion": pa.array(counts[:, PURCHASE] > 0),
            "is_bounce": pa.array(events == 1),
            "entry_page": text["entry_page"],
            "exit_page": text["exit_page"],
            "referrer": text["referrer"],
            "device_type": text["device_type"],
            "country_code": text["country_code"],
            "is_bot": pa.array(columns.is_bot[slots]),
        }


def _session_ids(keys: pa.StringArray, starts_ms: Ints) -> pa.StringArray:
    return pc.binary_join_element_wise(keys, pa.array(starts_ms).cast(pa.string()), _DASH)


def _epoch_ms(times: pa.Array) -> npt.NDArray[np.int64]:
    milliseconds: npt.NDArray[np.int64] = times.view(pa.int64()).to_numpy()
    return milliseconds
