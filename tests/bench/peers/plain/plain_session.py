"""The job session: 30-minute sessions in a dict, closed by a heap of the times at which they may be over.

A session closes when the watermark of its partition, the largest event time less five minutes, has passed its end by
the gap. The open ones are in memory only.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Message

from plain_loop import Emit, decode, encode, fields_of, header, parsed, run

GAP_MS: Final = 1_800_000
LATENESS_MS: Final = 300_000
FIELDS: Final = ("client_session_id", "event_time", "event_type")
"""What a session needs of an event, three of some twenty fields: skipping the others saves a fifth of the decoding."""


@dataclass(slots=True)
class Session:
    """An open session."""

    started_at: int
    ended_at: int
    event_count: int = 0
    page_views: int = 0
    purchases: int = 0


@dataclass(slots=True)
class Partition:
    """The sessions of one partition: of each key mostly one."""

    open: dict[str, list[Session]] = field(default_factory=dict)
    due: list[tuple[int, str]] = field(default_factory=list)
    latest: int = 0


def join(partition: Partition, key: str, time_ms: int) -> Session:
    """Return the session of `key` that an event at `time_ms` belongs to; what it connects becomes one."""
    sessions = partition.open.get(key)
    if sessions is None:
        sessions = partition.open[key] = []
    near = [each for each in sessions if each.started_at - GAP_MS <= time_ms <= each.ended_at + GAP_MS]
    if not near:
        session = Session(time_ms, time_ms)
        sessions.append(session)
        heapq.heappush(partition.due, (time_ms + GAP_MS, key))
        return session
    session = near[0]
    for other in near[1:]:
        session.started_at = min(session.started_at, other.started_at)
        session.ended_at = max(session.ended_at, other.ended_at)
        session.event_count += other.event_count
        session.page_views += other.page_views
        session.purchases += other.purchases
        sessions.remove(other)
    session.started_at = min(session.started_at, time_ms)
    session.ended_at = max(session.ended_at, time_ms)
    return session


def close(partition: Partition) -> list[tuple[str, Session]]:
    """Take out and return the sessions that are over, with their keys."""
    over: list[tuple[str, Session]] = []
    watermark = partition.latest - LATENESS_MS
    while partition.due and partition.due[0][0] < watermark:
        _, key = heapq.heappop(partition.due)
        sessions = partition.open.get(key, [])
        for session in [each for each in sessions if each.ended_at + GAP_MS < watermark]:
            sessions.remove(session)
            over.append((key, session))
        if sessions:  # it went on: look again when it may be over now
            heapq.heappush(partition.due, (min(each.ended_at for each in sessions) + GAP_MS, key))
        else:
            partition.open.pop(key, None)
    return over


def main() -> None:
    """Cut sessions until told to stop."""
    reads, writes, frame = parsed("BENCH_INPUT_SCHEMA"), parsed("BENCH_OUTPUT_SCHEMA"), header()
    wanted = fields_of(reads, FIELDS)
    partitions: dict[int, Partition] = defaultdict(Partition)

    def sessionize(message: Message, emit: Emit) -> None:
        event: dict[str, Any] = decode(reads, message.value(), wanted)
        partition = partitions[message.partition()]
        time_ms = event["event_time"]
        if time_ms + GAP_MS < partition.latest - LATENESS_MS:
            return  # too late
        session = join(partition, event["client_session_id"], time_ms)
        session.event_count += 1
        session.page_views += event["event_type"] == "page_view"
        session.purchases += event["event_type"] == "purchase"
        if time_ms > partition.latest:
            partition.latest = time_ms
            for key, closed in close(partition):
                record = {
                    "client_session_id": key,
                    "started_at": closed.started_at,
                    "ended_at": closed.ended_at,
                    "event_count": closed.event_count,
                    "page_views": closed.page_views,
                    "purchases": closed.purchases,
                }
                emit(key.encode(), encode(frame, writes, record))

    run(sessionize)


if __name__ == "__main__":
    main()
