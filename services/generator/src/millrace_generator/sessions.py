"""The session rules, read record by record: what the pipeline must come to for the traffic that was sent.

Written for being obviously right and not for speed, and apart from the service that is held against it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from millrace_generator.partitions import partition_for
from millrace_generator.traffic import Event

_MINUTE_MS: Final = 60_000
_SWEEP_MS: Final = _MINUTE_MS  # how much event time may pass before closed sessions are looked for
_REMEMBERED_CLIENTS: Final = 1 << 18  # whose partition is not worked out again


@dataclass(frozen=True, slots=True)
class Rules:
    """When a session ends, and how long the pipeline waits for its events; the services' defaults."""

    gap_ms: int = 30 * _MINUTE_MS
    allowed_lateness_ms: int = 5 * _MINUTE_MS
    max_duration_ms: int = 12 * 60 * _MINUTE_MS
    max_events: int = 10_000


@dataclass(slots=True)
class TrueSession:
    """A session as it must be found. Times are epoch milliseconds, UTC; revenue is the sum of its purchases' amounts.

    user_id is the last one in event time; of two at the same time, the one that was sent later.
    """

    client_session_id: str
    started_ms: int
    ended_ms: int
    user_id: str | None = None
    events: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    pages: set[str] = field(default_factory=set)
    products: set[str] = field(default_factory=set)
    revenue_cents: int = 0
    closed_by: str = "gap"
    user_ms: int = -1

    @property
    def session_id(self) -> str:
        """The pipeline's id of it."""
        return f"{self.client_session_id}-{self.started_ms}"

    @classmethod
    def of(cls, event: Event) -> "TrueSession":
        """Return the session that has this event only."""
        session = cls(event.session_id, event.time_ms, event.time_ms)
        session.add(event)
        return session

    def add(self, event: Event) -> None:
        """Take one more event in."""
        self.started_ms = min(self.started_ms, event.time_ms)
        self.ended_ms = max(self.ended_ms, event.time_ms)
        self.events += 1
        self.kinds[event.kind] += 1
        if event.page is not None:
            self.pages.add(event.page)
        if event.product_id is not None:
            self.products.add(event.product_id)
        self.revenue_cents += event.amount_cents or 0
        if event.user_id is not None and event.time_ms >= self.user_ms:
            self.user_id, self.user_ms = event.user_id, event.time_ms

    def absorb(self, other: "TrueSession") -> None:
        """Take all of another session in."""
        self.started_ms = min(self.started_ms, other.started_ms)
        self.ended_ms = max(self.ended_ms, other.ended_ms)
        self.events += other.events
        self.kinds += other.kinds
        self.pages |= other.pages
        self.products |= other.products
        self.revenue_cents += other.revenue_cents
        if other.user_id is not None and other.user_ms > self.user_ms:
            self.user_id, self.user_ms = other.user_id, other.user_ms


@dataclass(frozen=True, slots=True)
class Late:
    """An event that came after its session was over; how far past its last chance, in milliseconds."""

    event: Event
    lateness_ms: int


class _Partition:
    """The open sessions of one partition, and its watermark."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.largest_ms: int | None = None
        self.swept_ms = 0
        self.open: dict[str, list[TrueSession]] = {}

    def watermark(self) -> int | None:
        return None if self.largest_ms is None else self.largest_ms - self.rules.allowed_lateness_ms

    def apply(self, event: Event) -> Late | None:
        rules, time_ms, watermark = self.rules, event.time_ms, self.watermark()
        mine = self.open.setdefault(event.session_id, [])
        joined = [s for s in mine if s.closed_by == "gap" and self._alive(s, watermark) and self._near(s, time_ms)]
        late = None
        if joined:
            start, end = min(time_ms, *(s.started_ms for s in joined)), max(time_ms, *(s.ended_ms for s in joined))
            too_long, too_many = end - start > rules.max_duration_ms, sum(s.events for s in joined) >= rules.max_events
            if too_long or too_many:
                for session in joined:
                    session.closed_by = "max_duration" if too_long else "max_events"
                mine.append(TrueSession.of(event))
            else:
                first, *others = joined
                for other in others:
                    first.absorb(other)
                    mine.remove(other)
                first.add(event)
        elif watermark is not None and time_ms + rules.gap_ms < watermark:
            late = Late(event, watermark - rules.gap_ms - time_ms)
        else:
            mine.append(TrueSession.of(event))
        if self.largest_ms is None or time_ms > self.largest_ms:
            self.largest_ms = time_ms
        return late

    def close(self, everything: bool = False) -> Iterator[TrueSession]:
        """Take out what is over. When that is done does not matter: what is over can no longer be joined."""
        watermark = self.watermark()
        self.swept_ms = self.largest_ms or 0
        for client in list(self.open):
            kept = []
            for session in self.open[client]:
                if everything or session.closed_by != "gap" or not self._alive(session, watermark):
                    yield session
                else:
                    kept.append(session)
            if kept:
                self.open[client] = kept
            else:
                del self.open[client]

    def due(self) -> bool:
        return self.largest_ms is not None and self.largest_ms - self.swept_ms >= _SWEEP_MS

    def _alive(self, session: TrueSession, watermark: int | None) -> bool:
        return watermark is None or session.ended_ms + self.rules.gap_ms >= watermark

    def _near(self, session: TrueSession, time_ms: int) -> bool:
        return session.started_ms - self.rules.gap_ms <= time_ms <= session.ended_ms + self.rules.gap_ms


class SessionReader:
    """Reads good events in the order in which they were sent."""

    def __init__(self, partitions: int, rules: Rules | None = None) -> None:
        """Begin with empty partitions, as many as the topic has: each has its own watermark."""
        self._partitions = [_Partition(rules or Rules()) for _ in range(partitions)]
        self._places: dict[str, _Partition] = {}

    def read(self, event: Event) -> tuple[Late | None, Sequence[TrueSession]]:
        """Return whether the event is late, and the sessions that are over by now, if it is time to look for them."""
        client = event.session_id
        partition = self._places.get(client)
        if partition is None:
            if len(self._places) > _REMEMBERED_CLIENTS:
                self._places.clear()
            partition = self._partitions[partition_for(client.encode(), len(self._partitions))]
            self._places[client] = partition
        late = partition.apply(event)
        return late, list(partition.close()) if partition.due() else ()

    def finish(self) -> Iterator[TrueSession]:
        """Yield every session that is still open; they end by their gap."""
        for partition in self._partitions:
            yield from partition.close(everything=True)
