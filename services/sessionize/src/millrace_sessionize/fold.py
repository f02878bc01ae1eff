"""Adding a batch of events to the sessions they belong to: every field, for all sessions of the batch at once."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_sessionize.assign import LATE, Assignment
from millrace_sessionize.columns import FACTS, TIMES, Ints, SessionColumns
from millrace_sessionize.ordering import order_by
from millrace_sessionize.shapes import COUNT_FIELDS, EVENT_TYPES, PURCHASE
from millrace_sessionize.vocabulary import NULL_ID, Ids, Vocabulary

_EVENT_TYPES: Final = pa.array(EVENT_TYPES)
_TYPE_COUNT: Final = len(COUNT_FIELDS)
_START, _USER_MS, _ENTRY_MS, _EXIT_MS, _REVENUE = range(len(TIMES) - 1)
_USER, _ENTRY_PAGE, _EXIT_PAGE, _EVENTS = (
    FACTS.index(name) for name in ("user_id", "entry_page", "exit_page", "events")
)
_OF_FIRST_EVENT: Final = ("referrer", "device_type", "country_code")


class Groups(NamedTuple):
    """The events that are not late, by session, in order of event time and then of arrival.

    Attributes:
        rows: rows of the batch.
        times_ms: their times.
        slots: the sessions.
        begins: where each session's events begin in `rows`.
        ends: and where they end, exclusive.
    """

    rows: Ints
    times_ms: Ints
    slots: Ints
    begins: Ints
    ends: Ints


def group(times_ms: Ints, assignment: Assignment) -> Groups:
    """Group a batch whose events have `times_ms` as `assignment` says."""
    rows = (assignment.slots != LATE).nonzero()[0]
    rows = rows[order_by(assignment.slots[rows], times_ms[rows])]
    slot = assignment.slots[rows]
    begins = (slot[1:] != slot[:-1]).nonzero()[0] + 1
    begins = np.concatenate((np.zeros(min(1, len(rows)), dtype=np.int64), begins))
    return Groups(rows, times_ms[rows], slot[begins], begins, _ends(begins, len(rows)))


def fold(columns: SessionColumns, strings: Vocabulary, events: pa.RecordBatch, groups: Groups) -> None:
    """Add grouped `events` to `columns`.

    Of events at one time the first to arrive begins a session and the last to arrive ends it.
    """
    rows, time, slots, begins, ends = groups
    if not len(rows):
        return
    sizes = ends - begins
    times, facts = columns.times.take(slots, axis=0), columns.facts.take(slots, axis=0)

    kinds = pc.index_in(events.column("event_type"), value_set=_EVENT_TYPES).to_numpy()[rows]
    group_of = np.repeat(np.arange(len(slots)), sizes)
    counts = np.bincount(group_of * _TYPE_COUNT + kinds, minlength=len(slots) * _TYPE_COUNT).reshape(-1, _TYPE_COUNT)
    facts[:, len(FACTS) :] += counts.astype(np.int32)
    facts[:, _EVENTS] += sizes.astype(np.int32)
    if counts[:, PURCHASE].any():
        paid = events.column("amount_cents").fill_null(0).to_numpy()[rows]
        times[:, _REVENUE] += np.add.reduceat(np.where(kinds == PURCHASE, paid, 0), begins)
    bots = events.column("is_bot").to_numpy(zero_copy_only=False)[rows]
    if bots.any():
        columns.is_bot[slots] |= np.logical_or.reduceat(bots, begins)

    earlier = (time[begins] < times[:, _START]).nonzero()[0]
    first_rows = pa.array(rows[begins[earlier]])
    users = events.column("user_id")
    user_session, user_at = _last(users.is_valid().to_numpy(zero_copy_only=False)[rows], group_of)
    later = time[user_at] >= times[user_session, _USER_MS]
    user_session, user_at = user_session[later], user_at[later]
    page_ids, product_ids, user_ids, *of_first_events = strings.ids(
        events.column("page"),
        events.column("product_id"),
        users.take(pa.array(rows[user_at])),
        *(events.column(name).take(first_rows) for name in _OF_FIRST_EVENT),
    )
    times[earlier, _START] = time[begins[earlier]]
    for name, ids in zip(_OF_FIRST_EVENT, of_first_events, strict=True):
        facts[earlier, FACTS.index(name)] = ids
    times[user_session, _USER_MS] = time[user_at]
    facts[user_session, _USER] = user_ids
    columns.end_ms[slots] = np.maximum(columns.end_ms[slots], time[ends - 1])

    pages = page_ids[rows]
    has_page = pages != NULL_ID
    session, at = _first(has_page, group_of)
    sooner = time[at] < times[session, _ENTRY_MS]
    session, at = session[sooner], at[sooner]
    times[session, _ENTRY_MS] = time[at]
    facts[session, _ENTRY_PAGE] = pages[at]
    session, at = _last(has_page, group_of)
    later = time[at] >= times[session, _EXIT_MS]
    session, at = session[later], at[later]
    times[session, _EXIT_MS] = time[at]
    facts[session, _EXIT_PAGE] = pages[at]

    columns.times[slots] = times
    columns.facts[slots] = facts
    columns.changed[slots] = True
    _add_seen(columns, pages, product_ids[rows], groups)


def _add_seen(columns: SessionColumns, pages: Ids, products: Ids, groups: Groups) -> None:
    """Add pages and products to what the sessions saw."""
    seen = np.empty((len(pages), 2), dtype=np.int32)
    seen[:, 0] = pages << 1
    seen[:, 1] = products << 1 | 1
    is_there = seen > 1  # null's id is 0
    sizes = np.add.reduceat(is_there.sum(axis=1), groups.begins)
    columns.seen.append(groups.slots, sizes, seen[is_there])


def _first(chosen: npt.NDArray[np.bool_], group_of: Ints) -> tuple[Ints, Ints]:
    """Return (group, position of its first chosen entry) for each group that has one."""
    at = chosen.nonzero()[0]
    groups = group_of[at]
    new = np.ones(len(at), dtype=np.bool_)
    np.not_equal(groups[1:], groups[:-1], out=new[1:])
    return groups[new], at[new]


def _last(chosen: npt.NDArray[np.bool_], group_of: Ints) -> tuple[Ints, Ints]:
    """Return (group, position of its last chosen entry) for each group that has one."""
    at = chosen.nonzero()[0]
    groups = group_of[at]
    old = np.ones(len(at), dtype=np.bool_)
    np.not_equal(groups[1:], groups[:-1], out=old[:-1])
    return groups[old], at[old]


def _ends(begins: Ints, total: int) -> Ints:
    ends = np.empty_like(begins)
    ends[:-1] = begins[1:]
    ends[-1:] = total
    return ends
