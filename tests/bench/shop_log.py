"""The events of the bench: a shop's visitors, drawn by numbers alone, in the order they reach the log.

Event number n of a seed is always the same event, so that an output can be held against the numbers again. The visits
begin evenly; at any time some 200,000 of them are open for a rule of 30 minutes' gap and 5 minutes' lateness. The log
begins in that state: visits that are open at its first moment are there with the last event each had before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from millrace_common.columns import Int64s

GAP_MS: Final = 1_800_000
LATENESS_MS: Final = 300_000
DISORDER_MS: Final = 30_000
"""The most an event comes behind one that is younger."""
OPEN_SESSIONS: Final = 200_000
EVENTS_PER_VISIT: Final = 8
PRODUCTS: Final = 30_000
AGENTS: Final = 400
ADDRESSES: Final = 20_000
PAGES: Final = ("/", "/search", "/cart", "/checkout")
KINDS: Final = ("page_view", "click", "purchase", "add_to_cart", "search")
PAGE_VIEW: Final = KINDS.index("page_view")
PURCHASE: Final = KINDS.index("purchase")
SEARCH: Final = KINDS.index("search")

_SHARES: Final = (0.6, 0.2, 0.03, 0.07, 0.1)
_PAUSE_MS: Final = 90_000
_LONGEST_VISIT: Final = 200
# Some leave and come back: their visit is two sessions.
_RETURN_SHARE: Final = 0.003
_AWAY_MS: Final = (2_400_000, 3_600_000)
# From a visit's first event until its session closes: its pauses, the gap, the lateness. Found by counting.
_OPEN_MS: Final = 2_790_000
EVENTS_PER_MS: Final = OPEN_SESSIONS * EVENTS_PER_VISIT / _OPEN_MS
"""How fast the log's own time passes."""
_STEP_MS: Final = 300_000
# How long before the log's first moment visits may have begun that are still going on.
_PAST_STEPS: Final = 18


@dataclass(frozen=True, slots=True)
class Events:
    """Some events in log order; arrays of one length.

    Attributes:
        visit: whose it is; decides key, user, device and address.
        time_ms: when it happened, after the log's first moment (the first ones: before it).
        kind: index in KINDS.
        product: number of the product looked at, -1: none.
        page: index in PAGES where there is no product.
    """

    visit: Int64s
    time_ms: Int64s
    kind: Int64s
    product: Int64s
    page: Int64s

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.visit)

    def take(self, rows: Int64s) -> "Events":
        """Return `rows` of them."""
        return Events(*(getattr(self, each.name)[rows] for each in fields(self)))


def events(seed: int, count: int, open_sessions: int = OPEN_SESSIONS) -> Iterator[Events]:
    """Yield events until there are `count`, in runs of five minutes; the last run is cut."""
    left = count
    for run in _runs(seed, round(_STEP_MS * open_sessions / _OPEN_MS)):
        yield run if len(run) <= left else run.take(np.arange(left))
        left -= min(left, len(run))
        if not left:
            return


def _runs(seed: int, visits: int) -> Iterator[Events]:
    waiting, due = _before(seed, visits)
    step = 0
    while True:
        new = _visits(seed, step, visits)
        # Events come up to DISORDER_MS after they happened.
        random = np.random.default_rng((seed, 1, step + _PAST_STEPS))
        due = np.concatenate([due, new.time_ms + random.integers(0, DISORDER_MS, len(new))])
        waiting = _joined(waiting, new)
        ready = np.flatnonzero(due < (step + 1) * _STEP_MS)
        ready = ready[np.argsort(due[ready], kind="stable")]
        yield waiting.take(ready)
        later = np.flatnonzero(due >= (step + 1) * _STEP_MS)
        waiting, due = waiting.take(later), due[later]
        step += 1


def _before(seed: int, visits: int) -> tuple[Events, Int64s]:
    """Return what visits begun before the first moment still have to say, and when it is due."""
    parts = [_visits(seed, step, visits) for step in range(-_PAST_STEPS, 0)]
    past = parts[0]
    for part in parts[1:]:
        past = _joined(past, part)
    # Of a visit's events before the first moment only the last counts, and only if its session is open.
    order = np.lexsort((past.time_ms, past.visit))
    past = past.take(order)
    early = past.time_ms < 0
    last_early = early & np.append((past.visit[1:] != past.visit[:-1]) | ~early[1:], [True])
    past = past.take(np.flatnonzero(~early | (last_early & (past.time_ms >= -GAP_MS - LATENESS_MS))))
    random = np.random.default_rng((seed, 2))
    late = random.integers(0, DISORDER_MS, len(past))
    # What lies before the first moment comes first, in the order of its times.
    return past, past.time_ms + np.where(past.time_ms < 0, 0, late)


def _visits(seed: int, step: int, count: int) -> Events:
    """Return every event of the `count` visits that begin in `step`, by visit."""
    random = np.random.default_rng((seed, 0, step + _PAST_STEPS))
    sizes = np.minimum(random.geometric(1 / EVENTS_PER_VISIT, count), _LONGEST_VISIT)
    total = int(sizes.sum())
    of_visit = np.repeat(np.arange(count), sizes)
    firsts = np.cumsum(sizes) - sizes
    pauses = 1 + random.exponential(_PAUSE_MS, total).astype(np.int64)
    away = random.random(total) < _RETURN_SHARE
    pauses[away] = random.integers(*_AWAY_MS, int(away.sum()))
    begins = step * _STEP_MS + random.integers(0, _STEP_MS, count)
    running = np.cumsum(pauses)
    kinds = random.choice(len(KINDS), total, p=_SHARES)
    products = np.minimum(random.zipf(1.2, total), 2**40) % PRODUCTS
    without = (random.random(total) < 0.3) | (kinds == SEARCH)
    return Events(
        visit=(step + _PAST_STEPS) * count + of_visit,
        time_ms=begins[of_visit] + running - running[firsts][of_visit],
        kind=kinds,
        product=np.where(without & (kinds != PURCHASE), -1, products),
        page=np.where(kinds == SEARCH, PAGES.index("/search"), random.integers(0, len(PAGES), total)),
    )


def _joined(some: Events, more: Events) -> Events:
    return Events(*(np.concatenate([getattr(some, each.name), getattr(more, each.name)]) for each in fields(Events)))
