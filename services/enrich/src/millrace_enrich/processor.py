"""From raw records to outcomes: decode, enrich, encode. A step each, a run of one partition at a time."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import pyarrow as pa

from millrace_common.codec import Decoder, Encoder
from millrace_common.columns import Int64s
from millrace_common.records import (
    Control,
    Counts,
    Decoded,
    Outcome,
    Output,
    Polled,
    Reject,
    SinkItem,
    SourceItem,
)
from millrace_enrich.enricher import Enricher
from millrace_enrich.products import ProductFeed

ENRICH: Final = "enrich"

_YEAR_10000_MS: Final = 253_402_300_800_000


class Reason(StrEnum):
    """Why a readable event cannot be enriched: the closed list of stage `enrich`."""

    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"


@dataclass(frozen=True, slots=True)
class Enriched:
    """A run with its enriched events as columns.

    Attributes:
        decoded: the run.
        columns: of subject user-events.enriched, one row per good event, in order.
        rows: int64, for each row of `columns` its index in the run's records.
        rejects: every other record, once.
    """

    decoded: Decoded
    columns: pa.RecordBatch
    rows: Int64s
    rejects: tuple[Reject, ...]


Read = Control | Decoded
Known = Control | Enriched


@dataclass(frozen=True, slots=True)
class EnrichProcessor:
    """The three steps of enrich; it keeps no state but the product table.

    Enriched events leave under the key of the raw record. Delivery is the sink's.

    Attributes:
        topic: where enriched events go.
        decoder: of subject user-events.
        enricher: knows products, devices and places.
        encoder: of subject user-events.enriched.
        feed: keeps the product table current; None: somebody else does.
    """

    topic: str
    decoder: Decoder
    enricher: Enricher
    encoder: Encoder
    feed: ProductFeed | None = None

    def decode(self, item: SourceItem) -> Read:
        """Turn a run of raw records into columns; anything else passes."""
        return self.decoder.decode(item) if isinstance(item, Polled) else item

    def enrich(self, item: Read) -> Known:
        """Enrich a decoded run, with the products as they are now; anything else passes."""
        if not isinstance(item, Decoded):
            return item
        if self.feed is not None:
            self.feed.follow()
        events, rows, rejects = item.columns, item.rows, item.rejects
        times = np.asarray(events.column("timestamp"))
        in_range = (times >= 0) & (times < _YEAR_10000_MS)
        if not in_range.all():
            # ingest lets none through; what another producer puts into the topic must not stop the service
            bad = (
                Reject(int(rows[row]), ENRICH, Reason.TIMESTAMP_OUT_OF_RANGE, f"timestamp {times[row]}")
                for row in np.flatnonzero(~in_range)
            )
            rejects = tuple(sorted((*rejects, *bad), key=lambda reject: reject.row))
            events, rows = events.filter(pa.array(in_range)), rows[in_range]
        records = item.polled.records
        stamps = np.array([record.timestamp()[1] for record in records], dtype=np.int64)
        return Enriched(item, self.enricher.enrich(events, stamps[rows]), rows, rejects)

    def encode(self, item: Known) -> SinkItem:
        """Turn an enriched run into its outcome; anything else passes."""
        if not isinstance(item, Enriched):
            return item
        records = item.decoded.polled.records
        chosen = records if len(item.rows) == len(records) else [records[row] for row in item.rows.tolist()]
        output = Output(
            self.topic,
            keys=[record.key() for record in chosen],
            values=self.encoder.encode(item.columns),
        )
        return Outcome(
            item.decoded.polled.span,
            counts=Counts(read=len(records), forwarded=len(chosen), dead=len(item.rejects)),
            outputs=(output,) if chosen else (),
            rejects=item.rejects,
            records=records,
        )
