"""To which session each record belongs: the rules of design section 7, over times alone.

One vectorised pass decides every key whose records all join one session, which is nearly every key. The others, those
with late records, several open sessions, merges, cuts or a gap inside the batch, are walked record by record. Both give
the same answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from millrace_sessionize.columns import Extents, Ints
from millrace_sessionize.key_index import NO_SLOT, SEVERAL
from millrace_sessionize.ordering import order_by
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.shapes import BY_MAX_DURATION, BY_MAX_EVENTS

LATE = -1
"""In `Assignment.slots`: the record is late."""

# Segmented maxima shift every key into its own range of integers; beyond this they would not fit.
_LARGEST_SHIFT = 1 << 62


@dataclass(slots=True)
class Run:
    """Records of one partition in log order, by key.

    Attributes:
        times_ms: event time of each record.
        watermarks_ms: the watermark before each record; NEVER_MS or less if there is none.
        keys: for each record, the index of its key in `found`.
        found: for each key its slot, NO_SLOT or SEVERAL.
        slots_of: the slots of a key that has SEVERAL.
    """

    times_ms: Ints
    watermarks_ms: Ints
    keys: npt.NDArray[np.int32]
    found: Ints
    slots_of: Callable[[int], list[int]]


@dataclass(slots=True)
class Assignment:
    """What becomes of the records of a run.

    Attributes:
        slots: for each record its slot, or LATE.
        opened: (keys, slots) of plain keys that had no session and now have one.
        walked: for each key walked, the slots it opened and the slots of its sessions that records can still join.
        absorbed: (root, gone) in order: session `gone` has become part of `root`.
        cut: (slot, BY_...): session ended by a limit; no record joins it any more.
    """

    slots: Ints
    opened: tuple[Ints, Ints]
    walked: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    absorbed: list[tuple[int, int]] = field(default_factory=list)
    cut: list[tuple[int, int]] = field(default_factory=list)


def watermarks_before(times_ms: Ints, largest_ms: int, floor_ms: int, allowed_lateness_ms: int) -> Ints:
    """Return the watermark before each record; `largest_ms` and `floor_ms` are NEVER_MS where there is none."""
    largest = np.empty(len(times_ms), dtype=np.int64)
    largest[:1] = largest_ms
    np.maximum.accumulate(np.maximum(times_ms[:-1], largest_ms), out=largest[1:])
    return np.maximum(largest - allowed_lateness_ms, floor_ms)


def assign(rules: SessionRules, run: Run, sessions: Extents, allocate: Callable[[int], Ints]) -> Assignment:
    """Return where the records of `run` belong, given the open `sessions`; `allocate` gives slots for new ones."""
    order = order_by(run.keys.astype(np.int64))
    starts = np.zeros(len(run.found), dtype=np.int64)
    np.cumsum(np.bincount(run.keys, minlength=len(run.found))[:-1], out=starts[1:])
    plain = _plain_keys(rules, run, sessions, order, starts)
    new = np.flatnonzero(plain & (run.found == NO_SLOT))
    new_slots = allocate(len(new))
    slot_of_key = run.found.copy()
    slot_of_key[new] = new_slots
    assignment = Assignment(slot_of_key[run.keys], (new, new_slots))
    if not plain.all():
        bounds = np.append(starts, len(order))
        walk = _Walk(rules, sessions, allocate, assignment)
        for key in np.flatnonzero(~plain).tolist():
            rows = order[bounds[key] : bounds[key + 1]].tolist()
            walk.key(key, run, rows)
    return assignment


def _plain_keys(rules: SessionRules, run: Run, sessions: Extents, order: Ints, starts: Ints) -> npt.NDArray[np.bool_]:
    """Return which keys are plain: all records join the key's one session, or the one the first record opens."""
    times, watermarks = run.times_ms[order], run.watermarks_ms[order]
    sizes = np.diff(np.append(starts, len(times)))
    groups = np.repeat(np.arange(len(starts), dtype=np.int64), sizes)
    has_session = run.found >= 0
    slots = np.where(has_session, run.found, 0)
    first = times[starts]
    start = np.where(has_session, sessions.start_ms[slots], first)
    end = np.where(has_session, sessions.end_ms[slots], first)
    lowest = min(int(start.min()), int(times.min()))
    width = max(int(end.max()), int(times.max())) - lowest + 1
    if width * len(starts) > _LARGEST_SHIFT:
        return np.zeros(len(starts), dtype=np.bool_)

    # the extent of each key's session before and after each record, as long as all of them join
    end_before, end_after = _running_maximum(times - lowest, end - lowest, starts, groups * width)
    end_before += lowest
    start_before, start_after = _running_maximum(lowest - times, lowest - start, starts, groups * width)
    start_before = lowest - start_before

    reach = end_before + rules.gap_ms
    # a first record without a session has reach = t + gap: being alive then says that it is not late
    joins = (reach >= watermarks) & (times <= reach) & (times >= start_before - rules.gap_ms)
    last = starts + sizes - 1
    events = np.where(has_session, sessions.events[slots], 0) + sizes
    plain: npt.NDArray[np.bool_] = np.logical_and.reduceat(joins, starts)
    plain &= run.found != SEVERAL
    plain &= events <= rules.max_events
    plain &= end_after[last] + start_after[last] <= rules.max_duration_ms
    return plain


def _running_maximum(values: Ints, initial: Ints, starts: Ints, shifts: Ints) -> tuple[Ints, Ints]:
    """Return the largest of a group's initial value and its values before each value, and up to it.

    Adding the group's `shifts` makes every value of a group larger than all of the groups before, so that one pass
    serves all.
    """
    shifted = values + shifts
    shifted[starts] = np.maximum(values[starts], initial) + shifts[starts]
    after = np.maximum.accumulate(shifted) - shifts
    before = np.empty_like(after)
    before[1:] = after[:-1]
    before[starts] = initial
    return before, after


@dataclass(slots=True)
class _Session:
    """The extent of a session while its key is walked."""

    start_ms: int
    end_ms: int
    events: int
    slot: int


class _Walk:
    """Applies the rules to the records of one key, one by one, as design section 7 words them."""

    def __init__(
        self, rules: SessionRules, sessions: Extents, allocate: Callable[[int], Ints], assignment: Assignment
    ) -> None:
        """Write what happens into `assignment`."""
        self._rules = rules
        self._sessions = sessions
        self._allocate = allocate
        self._assignment = assignment
        self._root_of: dict[int, int] = {}
        self._opened: list[int] = []

    def key(self, key: int, run: Run, rows: Sequence[int]) -> None:
        """Walk `rows`, the records of `key` in log order."""
        found = int(run.found[key])
        known = run.slots_of(key) if found == SEVERAL else [found] if found != NO_SLOT else []
        alive = [self._known(slot) for slot in known]
        self._opened = []
        joined_at: dict[int, int] = {}
        for row, time, watermark in zip(
            rows, run.times_ms[rows].tolist(), run.watermarks_ms[rows].tolist(), strict=True
        ):
            alive, joined_at[row] = self._record(alive, time, watermark)
        for row, slot in joined_at.items():
            self._assignment.slots[row] = self._root(slot)
        self._assignment.walked[key] = (self._opened, [session.slot for session in alive])

    def _record(self, sessions: list[_Session], time: int, watermark: int) -> tuple[list[_Session], int]:
        """Return the sessions of the key that records can still join after one more record, and its slot or LATE."""
        gap = self._rules.gap_ms
        joined = [s for s in sessions if s.end_ms + gap >= watermark and s.start_ms - gap <= time <= s.end_ms + gap]
        if not joined:
            if time + gap < watermark:
                return sessions, LATE
            opened = self._open(time)
            return [*sessions, opened], opened.slot
        others = [s for s in sessions if s not in joined]
        root = min(joined, key=lambda s: s.start_ms)
        start = min(time, root.start_ms)
        end = max(time, *(s.end_ms for s in joined))
        events = 1 + sum(s.events for s in joined)
        if end - start > self._rules.max_duration_ms or events > self._rules.max_events:
            reason = BY_MAX_DURATION if end - start > self._rules.max_duration_ms else BY_MAX_EVENTS
            self._assignment.cut += ((s.slot, reason) for s in joined)
            opened = self._open(time)
            return [*others, opened], opened.slot
        for gone in joined:
            if gone is not root:
                self._assignment.absorbed.append((root.slot, gone.slot))
                self._root_of[gone.slot] = root.slot
        return [*others, _Session(start, end, events, root.slot)], root.slot

    def _known(self, slot: int) -> _Session:
        columns = self._sessions
        return _Session(int(columns.start_ms[slot]), int(columns.end_ms[slot]), int(columns.events[slot]), slot)

    def _open(self, time: int) -> _Session:
        slot = int(self._allocate(1)[0])
        self._opened.append(slot)
        return _Session(time, time, 1, slot)

    def _root(self, slot: int) -> int:
        """Return the session that `slot` has become part of."""
        while slot in self._root_of:
            slot = self._root_of[slot]
        return slot
