"""Measure the open-session state beside a dict of objects doing the same, at a given number of open sessions.

Run: python services/sessionize/bench/sessionize_state.py [--open 200000] [--records 500000] [--batch 5000]

Both get the same in-order events and compute every field of session-metrics; the rows they close are compared. There is
no decoding, encoding or Kafka: tests/bench has those. Figures are records per CPU-second of apply and close.
"""

import argparse
import gc
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace_sessionize.rules import SessionRules
from millrace_sessionize.state import OpenSessions

RULES = SessionRules()
EVENTS_PER_SESSION = 8
PAUSE_MS = 90_000
EVENT_TYPES = np.array(["page_view", "click", "search", "add_to_cart", "purchase"])
START_MS = 1_790_000_000_000


def traffic(sessions: int, seconds: float, seed: int = 7) -> pa.Table:
    """Return events of `sessions` sessions that begin within `seconds`, in order of event time."""
    random = np.random.default_rng(seed)
    sizes = np.minimum(random.geometric(1 / EVENTS_PER_SESSION, sessions), 200)
    session = np.repeat(np.arange(sessions), sizes)
    pauses = random.exponential(PAUSE_MS, len(session)).astype(np.int64)
    firsts = np.cumsum(sizes) - sizes
    running = np.cumsum(pauses)
    begins = random.uniform(0, seconds * 1000, sessions).astype(np.int64)
    times = START_MS + begins[session] + running - running[firsts][session]
    order = np.argsort(times, kind="stable")
    session, times = session[order], times[order]
    rows = len(times)
    products = np.minimum(random.zipf(1.3, rows), 50_000)
    kinds = random.choice(5, rows, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    with_product = random.random(rows) < 0.7
    keys = pa.array([str(uuid.UUID(int=int(a) << 64 | int(b))) for a, b in random.integers(0, 2**63, (sessions, 2))])
    users = pa.array([f"user-{number}" for number in random.integers(0, 10 * sessions, sessions)])
    product = pa.array([str(number) for number in range(50_001)])
    page = pa.array([f"/product/{number}" for number in range(50_001)])
    other_page = pa.array(["/", "/search", "/cart", "/checkout"])
    pages = np.where(with_product, products, 50_001 + random.integers(0, 4, rows))
    return pa.table(
        {
            "event_type": pa.array(EVENT_TYPES).take(pa.array(kinds)),
            "event_time": pa.array(times).cast(pa.timestamp("ms")),
            "client_session_id": keys.take(pa.array(session)),
            "user_id": users.take(pa.array(session, mask=session % 5 == 0)),
            "page": pa.concat_arrays([page, other_page]).take(pa.array(pages)),
            "product_id": product.take(pa.array(products, mask=~with_product)),
            "amount_cents": pa.array(random.integers(100, 99_999, rows), mask=kinds != 4),
            "referrer": pa.array(["https://search.example/", "https://news.example/", None]).take(
                pa.array(session % 3)
            ),
            "device_type": pa.array(["desktop", "mobile", "tablet"]).take(pa.array(session % 3)),
            "country_code": pa.array(["DE", "FR", "US", None]).take(pa.array(session % 4)),
            "is_bot": pa.array(session % 50 == 0),
        }
    )


@dataclass(slots=True)
class OneSession:
    """A session as the loop keeps it."""

    start: int
    end: int
    referrer: str | None
    device_type: str
    country_code: str | None
    entry_page: str | None = None
    exit_page: str | None = None
    user_id: str | None = None
    events: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    revenue_cents: int = 0
    is_bot: bool = False
    pages: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)


class Loop:
    """What one writes first: a dict of objects, a record at a time; closes are found by looking at the oldest end."""

    def __init__(self) -> None:
        """Begin empty."""
        self.sessions: dict[str, OneSession] = {}
        self.largest = 0
        self.closed: list[tuple[Any, ...]] = []

    def apply(self, records: list[dict[str, Any]]) -> None:
        """Apply decoded in-order records."""
        sessions, gap = self.sessions, RULES.gap_ms
        for record in records:
            key, at, page = record["client_session_id"], record["event_time"], record["page"]
            session = sessions.get(key)
            if session is not None and at > session.end + gap:
                self.close(key)
                session = None
            if session is None:
                session = sessions[key] = OneSession(
                    at, at, record["referrer"], record["device_type"], record["country_code"], page
                )
            else:
                del sessions[key]  # to the end: the dict is in the order of last events
                sessions[key] = session
            session.end = at
            session.events += 1
            kind = record["event_type"]
            session.counts[kind] = session.counts.get(kind, 0) + 1
            if kind == "purchase":
                session.revenue_cents += record["amount_cents"] or 0
            session.is_bot |= record["is_bot"]
            if page is not None:
                session.exit_page = page
                session.pages.add(page)
            if record["product_id"] is not None:
                session.products.add(record["product_id"])
            if record["user_id"] is not None:
                session.user_id = record["user_id"]
            self.largest = at
        over = self.largest - RULES.allowed_lateness_ms - gap
        for key in list(self._over(over)):
            self.close(key)

    def _over(self, before: int) -> Iterator[str]:
        for key, session in self.sessions.items():
            if session.end >= before:
                return
            yield key

    def close(self, key: str) -> None:
        """Emit a session."""
        s = self.sessions.pop(key)
        self.closed.append((f"{key}-{s.start}", s.events, s.revenue_cents, len(s.pages), len(s.products), s.exit_page))


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def main() -> None:
    """Print records per CPU-second of both, their ratio, and bytes per open session."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--open", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--no-loop", action="store_true", help="measure the columns alone, for profiling")
    options = parser.parse_args()
    open_ms = (EVENTS_PER_SESSION - 1) * PAUSE_MS + RULES.gap_ms + RULES.allowed_lateness_ms
    per_second = options.open / (open_ms / 1000)
    seconds = 1.3 * open_ms / 1000 + options.records / per_second / EVENTS_PER_SESSION
    events = traffic(int(per_second * seconds), seconds)
    # behind the last begin the sessions only run out
    last = int(np.searchsorted(events["event_time"].cast(pa.int64()).to_numpy(), START_MS + int(seconds * 1000)))
    events = events.slice(0, last)
    warm = len(events) - options.records
    batches = [
        events.slice(at, options.batch).combine_chunks().to_batches()[0]
        for at in range(0, len(events) - options.batch + 1, options.batch)
    ]
    del events
    gc.collect()

    state = OpenSessions(RULES)
    closed: list[pa.RecordBatch] = []
    spent = 0.0
    for number, batch in enumerate(batches):
        began = time.process_time()
        state.apply(batch)
        rows = state.close().sessions
        if number * options.batch >= warm:
            spent += time.process_time() - began
            closed.append(rows)
    measured = sum(batch.num_rows for number, batch in enumerate(batches) if number * options.batch >= warm)
    columns_rate = measured / spent
    sys.stdout.write(
        f"columns  {columns_rate:>10,.0f} records/CPU-s, {state.open_count:,} open, "
        f"{state.nbytes / state.open_count:,.0f} bytes held per open session\n"
    )
    if options.no_loop:
        return
    loop, spent, before = Loop(), 0.0, resident_bytes()
    for number, batch in enumerate(batches):
        at = batch.column("event_time").cast(pa.int64())
        records = batch.set_column(batch.schema.get_field_index("event_time"), "event_time", at).to_pylist()
        if number * options.batch >= warm and not spent:
            loop.closed.clear()
        began = time.process_time()
        loop.apply(records)
        if number * options.batch >= warm:
            spent += time.process_time() - began
    loop_rate = measured / spent
    sys.stdout.write(
        f"loop     {loop_rate:>10,.0f} records/CPU-s, {len(loop.sessions):,} open, "
        f"{(resident_bytes() - before) / len(loop.sessions):,.0f} bytes resident per open session\n"
    )
    sys.stdout.write(f"ratio    {columns_rate / loop_rate:>10.2f}\n")
    mine = pa.Table.from_batches(closed)
    names = ("session_id", "event_count", "revenue_cents", "unique_pages", "unique_products", "exit_page")
    rows_of_columns = sorted(zip(*(mine[name].to_pylist() for name in names), strict=True), key=repr)
    if rows_of_columns != sorted(loop.closed, key=repr):
        sys.exit("the two closed different sessions")


if __name__ == "__main__":
    main()
