"""What flows between the steps of a stream processor.

A source emits, per input partition and in this order: `Assigned`, then `Polled` runs of records (the first ones may be
muted: they rebuild state and have no effect), then `Replayed` once the state stands at the committed offset, then live
`Polled` runs, with a `Tick` about once a second, and `Revoked` in the end. Steps turn each `Polled` into one `Outcome`;
a sink makes outcomes durable. All times are epoch milliseconds, UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

_GOLDEN: Final = 0.618034


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one input topic."""

    topic: str
    index: int

    def __str__(self) -> str:
        """Return it as people write it: topic[index]."""
        return f"{self.topic}[{self.index}]"

    @property
    def phase(self) -> float:
        """When in an interval, from 0 to 1, its turn is with what is done for each partition from time to time.

        Partitions are assigned together. If all had their turn together, the process would hold all of it at once, and
        stand still for as long as that takes. Multiples of the golden ratio lie evenly, however many there are.
        """
        return self.index * _GOLDEN % 1


class RawRecord(Protocol):
    """A consumed record; confluent_kafka.Message is one. An accessor call costs up to 0.5 µs: ask for what you need."""

    def key(self) -> bytes | None:
        """Return the key's exact bytes."""

    def value(self) -> bytes | None:
        """Return the value's exact bytes; None is a tombstone."""

    def offset(self) -> int:
        """Return the offset in its partition."""

    def timestamp(self) -> tuple[int, int]:
        """Return (kind of timestamp, epoch milliseconds)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of one partition's log, read under one assignment.

    Attributes:
        partition: the input partition.
        generation: counts assignments and rewinds of the partition in this process; a sink drops what an older one
            produced.
        first_offset: inclusive.
        next_offset: exclusive; offsets in between may be control records or compacted away.
        muted: the range was committed before; it only rebuilds state.
        snapshot_due: a stateful step shall hand out a snapshot taken at next_offset.
    """

    partition: Partition
    generation: int
    first_offset: int
    next_offset: int
    muted: bool = False
    snapshot_due: bool = False


@dataclass(frozen=True, slots=True)
class Assigned:
    """The partition is ours from here on. Forget what was known of it and begin with `state`.

    Attributes:
        partition: the input partition.
        generation: of everything that follows for this partition.
        state: the newest readable snapshot at or before the committed offset; None: begin empty.
    """

    partition: Partition
    generation: int
    state: pa.Table | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """The partition is no longer ours; forget what was known of it."""

    partition: Partition


@dataclass(frozen=True, slots=True)
class Replayed:
    """The state stands at the committed offset; `watermark_ms` is what was committed with it."""

    partition: Partition
    generation: int
    offset: int
    watermark_ms: int | None


@dataclass(frozen=True, slots=True)
class Tick:
    """About once a second for each live partition.

    Attributes:
        partition: the input partition.
        generation: as in Span.
        offset: the position; everything before it has been emitted.
        now_ms: the wall clock.
        idle_ms: how long the end of the partition has been reached with nothing new; 0 while records are waiting.
    """

    partition: Partition
    generation: int
    offset: int
    now_ms: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class Polled:
    """A run of raw records of one partition, in offset order: what a step processes at once."""

    span: Span
    records: Sequence[RawRecord]


@dataclass(frozen=True, slots=True)
class Reject:
    """Record number `row` of a Polled run is dead. `stage` and `reason` come from the service's closed lists."""

    row: int
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The readable records of a run as columns, and the others as rejects.

    Attributes:
        polled: the run.
        columns: one row per readable record, in order; the reader schema's fields and Arrow types.
        rows: int64, for each row of `columns` its index in `polled.records`.
        rejects: every other record, once.
    """

    polled: Polled
    columns: pa.RecordBatch
    rows: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the records of a span went. `read` is their number; each of them went to exactly one of the four others."""

    read: int = 0
    forwarded: int = 0
    dead: int = 0
    duplicate: int = 0
    late: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(
            self.read + other.read,
            self.forwarded + other.forwarded,
            self.dead + other.dead,
            self.duplicate + other.duplicate,
            self.late + other.late,
        )

    @property
    def balanced(self) -> bool:
        """Return whether every record read went somewhere."""
        return self.read == self.forwarded + self.dead + self.duplicate + self.late


@dataclass(frozen=True, slots=True)
class Output:
    """Framed records for one output topic; they go to the partition number they were read from.

    Attributes:
        topic: the output topic.
        keys: one a record; None for no key.
        values: one a record, framed; None is a tombstone.
    """

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that processing one span brings about, made durable in one transaction or not at all.

    Attributes:
        span: what was processed. An outcome between records (a tick's) has first_offset == next_offset.
        counts: where the records went.
        outputs: records to produce.
        rejects: rows of `records` that are dead.
        records: the run the rejects point into.
        watermark_ms: after the span; None if the service keeps none.
        state: a snapshot at span.next_offset if one was due.
        sealed: commit at once and write the snapshot before anything later of this partition is committed
            (an idle partition's watermark moved: without the snapshot a replay could not know when).
    """

    span: Span
    counts: Counts = Counts()
    outputs: tuple[Output, ...] = ()
    rejects: tuple[Reject, ...] = ()
    records: Sequence[RawRecord] = ()
    watermark_ms: int | None = None
    state: pa.Table | None = None
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What a group has committed for a partition: the next offset to read, and the metadata stored with it.

    `dead_offset` is that of the latest record that became a dead letter; None: none did, as far as is known.
    """

    offset: int
    watermark_ms: int | None = None
    topic_id: str | None = None
    brake: tuple[int, ...] = field(default=())
    dead_offset: int | None = None


Control = Assigned | Revoked | Replayed | Tick
SourceItem = Control | Polled
SinkItem = Control | Outcome
