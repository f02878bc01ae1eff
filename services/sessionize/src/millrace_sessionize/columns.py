"""The open sessions of one partition as columns: a session is a slot, the same index in every array."""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from millrace_sessionize.shapes import COUNT_FIELDS
from millrace_sessionize.value_lists import ValueLists

Ints = npt.NDArray[np.int64]

NEVER_MS: Final = -(1 << 60)
"""Before any time; far enough from the ends of int64 that durations can be added and taken."""

FOREVER_MS: Final = 1 << 60
"""After any time."""

STILL_OPEN: Final = -1
"""In `closed_by`: the session was not cut."""


TIMES: Final = ("start_ms", "user_ms", "entry_ms", "exit_ms", "revenue_cents", "published_ms")
"""The columns of `SessionColumns.times`."""

FACTS: Final = (
    "client_session_id",
    "user_id",
    "entry_page",
    "exit_page",
    "referrer",
    "device_type",
    "country_code",
    "events",
)
"""The first columns of `SessionColumns.facts`; the counts follow."""


class Extents(Protocol):
    """What decides to which session a record belongs."""

    start_ms: npt.NDArray[np.int64]
    end_ms: npt.NDArray[np.int64]
    events: npt.NDArray[np.int32]


class SessionColumns:
    """Growing arrays with one row a slot, and the list of free slots.

    Most columns are columns of two blocks, `times` and `facts`: a session's row of a block is a cache line or two, so
    that reading or changing many fields of some sessions touches little memory. `end_ms` is an array of its own, for
    closing scans it.

    A slot just allocated holds a session without events: merging it with anything gives the other.

    Attributes:
        client_session_id: the key.
        start_ms: time of the first event.
        end_ms: time of the last event; FOREVER_MS in a free slot, which so never looks over.
        events: number of events.
        counts: events by type, columns as in COUNT_FIELDS.
        revenue_cents: sum over purchases.
        is_bot: any event by a bot.
        user_id, user_ms: last user in event time, and that time.
        entry_page, entry_ms: first page in event time, and that time.
        exit_page, exit_ms: last page in event time, and that time.
        referrer, device_type, country_code: of the first event.
        seen: the ids of pages (even) and products (odd).
        closed_by: STILL_OPEN, or why it was cut.
        published_ms: the start under which it may stand in session-updates, or NEVER_MS.
        changed: whether it changed since its last publication.
    """

    times: npt.NDArray[np.int64]
    facts: npt.NDArray[np.int32]
    start_ms: npt.NDArray[np.int64]
    end_ms: npt.NDArray[np.int64]
    events: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    revenue_cents: npt.NDArray[np.int64]
    is_bot: npt.NDArray[np.bool_]
    client_session_id: npt.NDArray[np.int32]
    user_id: npt.NDArray[np.int32]
    user_ms: npt.NDArray[np.int64]
    entry_page: npt.NDArray[np.int32]
    entry_ms: npt.NDArray[np.int64]
    exit_page: npt.NDArray[np.int32]
    exit_ms: npt.NDArray[np.int64]
    referrer: npt.NDArray[np.int32]
    device_type: npt.NDArray[np.int32]
    country_code: npt.NDArray[np.int32]
    closed_by: npt.NDArray[np.int8]
    published_ms: npt.NDArray[np.int64]
    changed: npt.NDArray[np.bool_]

    _EMPTY: Final = {
        "end_ms": (np.int64, (NEVER_MS,)),
        "times": (np.int64, (FOREVER_MS, NEVER_MS, FOREVER_MS, NEVER_MS, 0, NEVER_MS)),
        "facts": (np.int32, (0,) * (len(FACTS) + len(COUNT_FIELDS))),
        "is_bot": (np.bool_, (False,)),
        "closed_by": (np.int8, (STILL_OPEN,)),
        "changed": (np.bool_, (False,)),
    }
    """Of each array the type and the row of a session without events."""

    STRINGS: Final = FACTS[:-1]
    """The columns that hold ids of the vocabulary."""

    def __init__(self, capacity: int = 1024) -> None:
        """Begin with `capacity` free slots."""
        self.seen = ValueLists()
        self._free = np.empty(0, dtype=np.int64)
        self._free_count = 0
        for name, (kind, empty) in self._EMPTY.items():
            setattr(self, name, np.empty((0, len(empty)) if len(empty) > 1 else 0, dtype=kind))
        self._grow(capacity)

    @property
    def capacity(self) -> int:
        """Return the number of slots, free ones included."""
        return len(self.end_ms)

    @property
    def open_count(self) -> int:
        """Return the number of slots in use."""
        return self.capacity - self._free_count

    @property
    def nbytes(self) -> int:
        """Return the memory held, in bytes."""
        return int(sum(getattr(self, name).nbytes for name in self._EMPTY) + self._free.nbytes + self.seen.nbytes)

    def in_use(self) -> Ints:
        """Return the slots in use, ascending."""
        return np.flatnonzero(self.end_ms != FOREVER_MS)

    def allocate(self, number: int) -> Ints:
        """Return `number` slots that hold empty sessions."""
        if number > self._free_count:
            self._grow(max(2 * self.capacity, self.open_count + number))
        self._free_count -= number
        slots = self._free[self._free_count : self._free_count + number].copy()
        self.end_ms[slots] = NEVER_MS
        return slots

    def free(self, slots: Ints) -> None:
        """Give `slots` back."""
        for name, (_, empty) in self._EMPTY.items():
            getattr(self, name)[slots] = empty
        self.end_ms[slots] = FOREVER_MS
        self.seen.clear(slots)
        self._free[self._free_count : self._free_count + len(slots)] = slots
        self._free_count += len(slots)

    def absorb(self, root: int, gone: int) -> None:
        """Add session `gone` to session `root` and free its slot; they have no event time in common."""
        self.events[root] += self.events[gone]
        self.counts[root] += self.counts[gone]
        self.revenue_cents[root] += self.revenue_cents[gone]
        self.is_bot[root] |= self.is_bot[gone]
        if self.start_ms[gone] < self.start_ms[root]:
            self._copy(root, gone, "start_ms", "referrer", "device_type", "country_code")
        if self.end_ms[gone] > self.end_ms[root]:
            self._copy(root, gone, "end_ms")
        if self.entry_ms[gone] < self.entry_ms[root]:
            self._copy(root, gone, "entry_ms", "entry_page")
        if self.exit_ms[gone] > self.exit_ms[root]:
            self._copy(root, gone, "exit_ms", "exit_page")
        if self.user_ms[gone] > self.user_ms[root]:
            self._copy(root, gone, "user_ms", "user_id")
        _, seen = self.seen.distinct(np.array([gone]))
        self.seen.append(np.array([root]), np.array([len(seen)]), seen)
        self.free(np.array([gone]))

    def _copy(self, root: int, gone: int, *names: str) -> None:
        for name in names:
            column = getattr(self, name)
            column[root] = column[gone]

    def _grow(self, capacity: int) -> None:
        old = self.capacity
        for name, (kind, empty) in self._EMPTY.items():
            column = getattr(self, name)
            grown = np.empty((capacity, *column.shape[1:]), dtype=kind)
            grown[:old] = column
            grown[old:] = empty
            setattr(self, name, grown)
        self.end_ms[old:] = FOREVER_MS
        for at, name in enumerate(TIMES):
            setattr(self, name, self.times[:, at])
        for at, name in enumerate(FACTS):
            setattr(self, name, self.facts[:, at])
        self.counts = self.facts[:, len(FACTS) :]
        self.seen.resize(capacity)
        free = np.empty(capacity, dtype=np.int64)
        free[: capacity - old] = np.arange(old, capacity)[::-1]
        free[capacity - old : capacity - old + self._free_count] = self._free[: self._free_count]
        self._free = free
        self._free_count += capacity - old
