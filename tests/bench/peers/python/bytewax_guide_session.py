"""The job session with Bytewax as its guides write it: SessionWindower and a fold, between its own Kafka connectors.

Its clock goes by the log, not by the computer. EventClock, which the guides use, lets the seconds that pass here go by
after a key's last event: over a log that is read faster than it happened, a session of a key that is not seen again
would close 35 minutes from now. Bytewax has an interface for clocks of one's own; this one is the watermark of the
key's partition.

At least once, by Bytewax's recovery store. SessionWindower keeps something of each key for ever, also when its
sessions are closed: memory and store grow with every session there was.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import Clock, ClockLogic, SessionWindower, fold_window

import bytewax_running
import framing
from plain_session import GAP_MS, LATENESS_MS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GRACE: Final = timedelta(milliseconds=LATENESS_MS)
_BATCH_RECORDS: Final = 1_000
# How often Millrace writes down its own state. At the end of each such time Bytewax copies every key that it touched.
_SNAPSHOT_INTERVAL: Final = timedelta(seconds=30)
_PACE_EVERY: Final = timedelta(seconds=1)
_SOONEST_LOOK: Final = timedelta(seconds=1)
_LATEST_LOOK: Final = timedelta(seconds=60)
# The pace may grow meanwhile.
_LOOK_EARLY: Final = 0.8


class Visit(NamedTuple):
    """What a session needs of an event."""

    at_ms: int
    at: datetime
    kind: str
    partition: int


@dataclass(slots=True)
class Session:
    """The counts of a session so far."""

    started_ms: int = 2**62
    ended_ms: int = 0
    events: int = 0
    page_views: int = 0
    purchases: int = 0

    def add(self, visit: Visit) -> "Session":
        """Count one more event."""
        self.started_ms = min(self.started_ms, visit.at_ms)
        self.ended_ms = max(self.ended_ms, visit.at_ms)
        self.events += 1
        self.page_views += visit.kind == "page_view"
        self.purchases += visit.kind == "purchase"
        return self

    def merge(self, other: "Session") -> "Session":
        """Take over the counts of a session that turned out to be the same."""
        self.started_ms = min(self.started_ms, other.started_ms)
        self.ended_ms = max(self.ended_ms, other.ended_ms)
        self.events += other.events
        self.page_views += other.page_views
        self.purchases += other.purchases
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Session":
        """Copy quickly: Bytewax copies the state of every key at the end of an epoch."""
        return Session(self.started_ms, self.ended_ms, self.events, self.page_views, self.purchases)


class LogTime:
    """How far each partition of the log is, and how fast the log is read."""

    def __init__(self) -> None:
        """Begin before any event."""
        self._newest: dict[int, datetime] = {}
        self._pace = 0.0
        self._mark: tuple[datetime, datetime] | None = None

    def saw(self, partition: int, at: datetime) -> None:
        """Note an event's time."""
        if at > self.of(partition):
            self._newest[partition] = at

    def of(self, partition: int) -> datetime:
        """Return the time of the newest event of a partition."""
        return self._newest.get(partition, _EPOCH)

    def seconds_until(self, at: datetime, partition: int) -> float:
        """Guess in how many seconds of the computer's clock `partition` will be at `at`, by the pace of late."""
        now, log = datetime.now(UTC), min(self._newest.values())
        if self._mark is None or log < self._mark[1]:
            self._mark = (now, log)
        elif now - self._mark[0] >= _PACE_EVERY:
            self._pace = (log - self._mark[1]) / (now - self._mark[0])
            self._mark = (now, log)
        return (at - self.of(partition)).total_seconds() / self._pace if self._pace else 0.0


@dataclass
class PartitionClockLogic(ClockLogic[Visit, int]):
    """The clock of one key: its partition's newest event, less the grace."""

    time: LogTime
    partition: int
    watermark: datetime = _EPOCH

    def before_batch(self) -> None:
        """Do nothing: time passes with events."""

    def on_item(self, value: Visit) -> tuple[datetime, datetime]:
        """Return an event's time and the watermark.

        A whole batch is decoded before its first event comes here, so by its partition's time an event could be late
        against what came with it. Only what was looked at, and events of its own key, can make it late.
        """
        self.partition = value.partition
        self.watermark = max(self.watermark, value.at - _GRACE)
        return value.at, self.watermark

    def on_notify(self) -> datetime:
        """Return the watermark."""
        self.watermark = max(self.watermark, self.time.of(self.partition) - _GRACE)
        return self.watermark

    def on_eof(self) -> datetime:
        """Return the watermark when the log ends, which it does not."""
        return self.on_notify()

    def to_system_utc(self, timestamp: datetime) -> datetime:
        """Say when to look whether the watermark has passed `timestamp`; too early costs another look."""
        seconds = self.time.seconds_until(timestamp + _GRACE, self.partition) * _LOOK_EARLY
        return datetime.now(UTC) + min(max(timedelta(seconds=seconds), _SOONEST_LOOK), _LATEST_LOOK)

    def snapshot(self) -> int:
        """Return what a restart needs."""
        return self.partition


@dataclass(frozen=True)
class PartitionClock(Clock[Visit, int]):
    """A clock for each key that goes by the log."""

    time: LogTime

    def build(self, resume_state: int | None) -> PartitionClockLogic:
        """Return the clock of a key."""
        return PartitionClockLogic(self.time, resume_state or 0)


def build_flow() -> Dataflow:
    """Wire enriched events to closed sessions."""
    decode, encode = framing.visit_decoder(), framing.output_encoder()
    time = LogTime()

    def visit(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, Visit]:
        event = decode(message.value)
        at = _EPOCH + timedelta(milliseconds=event["event_time"])
        partition = message.partition or 0
        time.saw(partition, at)
        return event["client_session_id"], Visit(event["event_time"], at, event["event_type"], partition)

    def record(closed: tuple[str, tuple[int, Session]]) -> KafkaSinkMessage[bytes, bytes]:
        key, (_, session) = closed
        return KafkaSinkMessage(
            key.encode(),
            encode(
                {
                    "client_session_id": key,
                    "started_at": session.started_ms,
                    "ended_at": session.ended_ms,
                    "event_count": session.events,
                    "page_views": session.page_views,
                    "purchases": session.purchases,
                }
            ),
        )

    flow = Dataflow("session")
    messages = bytewax_running.read(flow, _BATCH_RECORDS, commits=True)
    windows = fold_window(
        "fold_session",
        op.map("decode_event", messages, visit),
        PartitionClock(time),
        SessionWindower(gap=timedelta(milliseconds=GAP_MS)),
        builder=Session,
        folder=Session.add,
        merger=Session.merge,
        # A fold that does not mind the order need not wait for it.
        ordered=False,
    )
    # Dropped unless they are asked for; the log has none.
    op.inspect("late", windows.late)
    bytewax_running.write("write_sessions", op.map("encode_session", windows.down, record))
    return flow


def main() -> None:
    """Run until killed."""
    bytewax_running.run(build_flow(), _SNAPSHOT_INTERVAL)


if __name__ == "__main__":
    main()
