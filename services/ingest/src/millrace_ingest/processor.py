"""From raw records to outcomes: decode, validate, drop duplicates. A step each, a run of one partition at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pyarrow as pa

from millrace_common.codec import Decoder
from millrace_common.columns import Int64s
from millrace_common.records import (
    Assigned,
    Control,
    Counts,
    Decoded,
    Outcome,
    Output,
    Partition,
    Polled,
    Revoked,
    SinkItem,
    SourceItem,
)
from millrace_ingest.checks import Limits, Rule, Validated, validate
from millrace_ingest.dedup import SeenIds
from millrace_ingest.fingerprints import Fingerprints


@dataclass(frozen=True, slots=True)
class Stream:
    """What happens to the records of one input topic.

    Attributes:
        topic: where they come from.
        valid_topic: where the good ones go.
        decoder: reads them.
        rules: what they must hold, in order.
        identify: what makes two of them the same.
    """

    topic: str
    valid_topic: str
    decoder: Decoder
    rules: Sequence[Rule]
    identify: Callable[[pa.RecordBatch], Fingerprints]


Read = Control | Decoded
Judged = Control | Validated


@dataclass(frozen=True, slots=True)
class IngestProcessor:
    """The three steps of ingest, for any number of partitions of the given streams.

    What it makes of a record is a pure function of the log of the record's partition and of the settings: not of
    batch borders, and not of the clock (times are judged against the broker's append timestamp). Records leave with
    their exact bytes and key. Delivery is the sink's: outcomes of a partition must be committed in the order they
    come out.

    Attributes:
        streams: what to read, by topic.
        limits: what the rules accept.
        dedup_window: how long an id is remembered, in log time.
        on_snapshot: told the number of ids in a partition's snapshot.
    """

    streams: Mapping[str, Stream]
    limits: Limits
    dedup_window: timedelta
    on_snapshot: Callable[[Partition, int], None] = lambda partition, seen_ids: None
    _seen: dict[Partition, SeenIds] = field(default_factory=dict)

    def decode(self, item: SourceItem) -> Read:
        """Turn a run of raw records into columns; anything else passes."""
        if not isinstance(item, Polled):
            return item
        return self.streams[item.span.partition.topic].decoder.decode(item)

    def validate(self, item: Read) -> Judged:
        """Hold a decoded run against the rules of its topic; anything else passes."""
        if not isinstance(item, Decoded):
            return item
        return validate(item, self.limits, self.streams[item.polled.span.partition.topic].rules)

    def drop_duplicates(self, item: Judged) -> SinkItem:
        """Turn a validated run into its outcome. An assignment begins the partition's memory; anything else passes.

        A record that was refused does not mark its id as seen: its corrected copy is no duplicate.
        """
        if isinstance(item, Assigned):
            window_ms = self.dedup_window // timedelta(milliseconds=1)
            restored = SeenIds.restore(item.state, window_ms) if item.state is not None else SeenIds(window_ms)
            self._seen[item.partition] = restored
            return item
        if isinstance(item, Revoked):
            self._seen.pop(item.partition, None)
        if not isinstance(item, Validated):
            return item
        decoded, span = item.decoded, item.decoded.polled.span
        stream, seen = self.streams[span.partition.topic], self._seen[span.partition]
        rows = np.flatnonzero(item.valid)
        duplicate = seen.add(stream.identify(decoded.columns).take(rows), item.appended_at_ms[rows])
        state = None
        if span.snapshot_due:
            state = seen.snapshot()
            self.on_snapshot(span.partition, state.num_rows)
        if span.muted:
            return Outcome(span, state=state)
        new = rows[~duplicate]
        records = decoded.polled.records
        return Outcome(
            span,
            counts=Counts(
                read=len(records), forwarded=len(new), dead=len(item.rejects), duplicate=len(rows) - len(new)
            ),
            outputs=(_forward(stream.valid_topic, item, new),) if len(new) else (),
            rejects=item.rejects,
            records=records,
            watermark_ms=seen.log_time_ms,
            state=state,
        )


def _forward(topic: str, run: Validated, rows: Int64s) -> Output:
    """Return the original records behind `rows` of the columns, for `topic`."""
    records = run.decoded.polled.records
    chosen = records if len(rows) == len(records) else [records[record] for record in run.decoded.rows[rows].tolist()]
    return Output(
        topic,
        keys=[record.key() for record in chosen],
        values=[record.value() for record in chosen],
    )
