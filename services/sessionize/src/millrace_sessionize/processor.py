"""From decoded events to outcomes: sessions that closed, late events, tombstones. The clock comes with the items.

Exactness: what goes to session-metrics and late-events follows from the log of the partition and from idle advances,
each of which is sealed, that is committed at once and followed by a snapshot. session-updates follows from the clock as
well; the ids that stand in it after any commit are ids of sessions open at that offset, because the record that ends or
renames a session and the tombstone of its old id share a transaction. So after a restart every open session is taken
for published, and no tombstone is ever missing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.records import (
    Assigned,
    Control,
    Counts,
    Decoded,
    Outcome,
    Output,
    Partition,
    Polled,
    Reject,
    Replayed,
    Revoked,
    SinkItem,
    SourceItem,
    Span,
    Tick,
)
from millrace_sessionize import metrics
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.shapes import LATE_EVENTS, MAX_TIME_MS, MIN_TIME_MS, STAGE, TIME_OUT_OF_RANGE
from millrace_sessionize.state import Applied, Closed, OpenSessions

UPDATES_PER_OUTCOME = 10_000
"""So many session updates go into one outcome; a large state is published in several."""


class RecordEncoder(Protocol):
    """Encodes rows of one shape as framed values; `millrace_common.codec.Encoder` is one."""

    def encode(self, batch: pa.RecordBatch) -> Sequence[bytes]:
        """Return one value a row."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An output topic and how its values are encoded."""

    topic: str
    encoder: RecordEncoder


@dataclass(frozen=True, slots=True)
class SessionProcessor:
    """The stateful step of sessionize, for any number of partitions.

    Delivery is the sink's: the outcomes of a partition must be committed in the order they come out.

    Attributes:
        rules: what makes a session.
        sessions: where closed sessions go.
        updates: where open sessions and tombstones go.
        late_events: where late events go.
        idle_timeout_ms: after this long without records the watermark follows the clock; 0: it never does.
        update_interval_ms: how often open sessions are published; 0: never.
    """

    rules: SessionRules
    sessions: Destination
    updates: Destination
    late_events: Destination
    idle_timeout_ms: int
    update_interval_ms: int
    _live: "dict[Partition, _Live]" = field(default_factory=dict)

    def step(self, item: Control | Decoded) -> list[SinkItem]:
        """Return what `item` brings about; items of an older generation bring about nothing."""
        match item:
            case Assigned():
                state = OpenSessions(self.rules) if item.state is None else OpenSessions.restore(self.rules, item.state)
                self._live[item.partition] = _Live(item.generation, state)
                return [item]
            case Revoked():
                self._live.pop(item.partition, None)
                return [item]
            case Decoded():
                live = self._current(item.polled.span.partition, item.polled.span.generation)
                return [] if live is None else [self._apply(live.state, item)]
            case Replayed():
                live = self._current(item.partition, item.generation)
                return [item] if live is None else [item, *_catch_up(live.state, item)]
            case Tick():
                live = self._current(item.partition, item.generation)
                return [item] if live is None else [*self._tick(live, item), item]

    def _current(self, partition: Partition, generation: int) -> "_Live | None":
        live = self._live.get(partition)
        return live if live is not None and live.generation == generation else None

    def _apply(self, state: OpenSessions, decoded: Decoded) -> Outcome:
        span = decoded.polled.span
        decoded = _without_impossible_times(decoded)
        applied = state.apply(decoded.columns)
        if span.muted:
            state.discard_closed()
            return Outcome(span)
        closed = state.close()
        records, late, dead = len(decoded.polled.records), len(applied.late_rows), len(decoded.rejects)
        return Outcome(
            span,
            counts=Counts(read=records, forwarded=records - late - dead, dead=dead, late=late),
            outputs=(
                *self._close(closed),
                *self._late(decoded.columns, applied),
                *self._tombstones(applied.tombstones),
            ),
            rejects=decoded.rejects,
            records=decoded.polled.records,
            watermark_ms=state.watermark_ms,
            state=state.snapshot() if span.snapshot_due else None,
        )

    def _tick(self, live: "_Live", tick: Tick) -> Iterator[Outcome]:
        span = Span(tick.partition, tick.generation, tick.offset, tick.offset)
        state = live.state
        if self._idle_advance_is_due(live, tick):
            live.advanced_at_ms = tick.now_ms
            state.advance(tick.now_ms - self.rules.allowed_lateness_ms)
            outputs = tuple(self._close(state.close()))
            yield Outcome(span, outputs=outputs, watermark_ms=state.watermark_ms, state=state.snapshot(), sealed=True)
        if self.update_interval_ms and tick.now_ms - live.published_at_ms >= self.update_interval_ms:
            is_first = not live.published_at_ms
            live.published_at_ms = tick.now_ms - (
                int(self.update_interval_ms * tick.partition.phase) if is_first else 0
            )
            while (updates := state.updates_since_last(UPDATES_PER_OUTCOME)).num_rows:
                yield Outcome(
                    span, outputs=(_output(self.updates, updates, "session_id"),), watermark_ms=state.watermark_ms
                )
        metrics.report(tick.partition, state, tick.now_ms)

    def _idle_advance_is_due(self, live: "_Live", tick: Tick) -> bool:
        """Return whether the partition is idle and moving its watermark would close a session.

        An advance costs a commit and a snapshot, so there is one in each idle timeout at most.
        """
        closes_at_ms = live.state.earliest_close_ms
        return (
            0 < self.idle_timeout_ms <= tick.idle_ms
            and tick.now_ms - live.advanced_at_ms >= self.idle_timeout_ms
            and closes_at_ms is not None
            and closes_at_ms < tick.now_ms - self.rules.allowed_lateness_ms
        )

    def _close(self, closed: Closed) -> Iterator[Output]:
        if closed.sessions.num_rows:
            metrics.count_closed(closed.sessions)
            yield _output(self.sessions, closed.sessions, "client_session_id")
        yield from self._tombstones(closed.tombstones)

    def _late(self, events: pa.RecordBatch, applied: Applied) -> Iterator[Output]:
        if len(applied.late_rows):
            late = events.take(pa.array(applied.late_rows))
            watermarks = pa.array(applied.late_watermarks_ms)
            event_times = late.column("event_time").view(pa.int64())
            lateness = pc.subtract(pc.subtract(watermarks, self.rules.gap_ms), event_times)
            columns = [*late.select(LATE_EVENTS.names[:-2]).columns, watermarks.cast(pa.timestamp("ms")), lateness]
            yield _output(
                self.late_events, pa.RecordBatch.from_arrays(columns, schema=LATE_EVENTS), "client_session_id"
            )

    def _tombstones(self, ids: Sequence[str]) -> Iterator[Output]:
        if ids:
            yield Output(self.updates.topic, [session_id.encode() for session_id in ids], [None] * len(ids))


@dataclass(slots=True)
class _Live:
    """What is known of an assigned partition; the two times are the clock's and only say when to do a thing again."""

    generation: int
    state: OpenSessions
    advanced_at_ms: int = 0
    published_at_ms: int = 0


def decoding(decode: Callable[[Polled], Decoded]) -> Callable[[SourceItem], Control | Decoded]:
    """Return a step that decodes runs of records and passes everything else."""

    def step(item: SourceItem) -> Control | Decoded:
        return decode(item) if isinstance(item, Polled) else item

    return step


def _catch_up(state: OpenSessions, replayed: Replayed) -> Iterator[Outcome]:
    """Bring the state to where it stood when its offset was committed.

    If that takes the committed watermark, the partition had idled and the process died before its snapshot was written:
    it is written now, before anything later is committed.
    """
    seen_ms = state.watermark_ms
    if replayed.watermark_ms is not None:
        state.advance(replayed.watermark_ms)
    state.discard_closed()
    state.assume_published()
    if state.watermark_ms != seen_ms:
        span = Span(replayed.partition, replayed.generation, replayed.offset, replayed.offset)
        yield Outcome(span, watermark_ms=state.watermark_ms, state=state.snapshot(), sealed=True)


def _output(destination: Destination, rows: pa.RecordBatch, key: str) -> Output:
    keys = [value.encode() for value in rows.column(key).to_pylist()]
    return Output(destination.topic, keys, destination.encoder.encode(rows))


def _without_impossible_times(decoded: Decoded) -> Decoded:
    """Reject events whose time no table can hold; one of them would also carry the watermark away for ever."""
    times = decoded.columns.column("event_time").view(pa.int64()).to_numpy()
    if not len(times) or (times.min() >= MIN_TIME_MS and times.max() <= MAX_TIME_MS):
        return decoded
    possible = (times >= MIN_TIME_MS) & (times <= MAX_TIME_MS)
    rejects = tuple(
        Reject(int(decoded.rows[i]), STAGE, TIME_OUT_OF_RANGE, f"event_time {times[i]} ms")
        for i in np.flatnonzero(~possible)
    )
    return Decoded(
        decoded.polled,
        decoded.columns.filter(pa.array(possible)),
        decoded.rows[possible],
        tuple(sorted((*decoded.rejects, *rejects), key=lambda reject: reject.row)),
    )
