"""The wiring of ingest; what the steps do is in processor.py."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from millrace_common.records import SinkItem, SourceItem
from millrace_ingest.processor import IngestProcessor


def build_flow(source: Source[SourceItem], sink: Sink[SinkItem], processor: IngestProcessor) -> Dataflow:
    """Return the flow: runs of raw records in, one outcome for each out.

    Delivery is that of the ends: exactly once if `sink` commits the offsets of `source` with what it produces.
    """
    flow = Dataflow("millrace_ingest")
    raw_runs = op.input("read_records", flow, source)
    decoded_runs = op.map("decode_records", raw_runs, processor.decode)
    validated_runs = op.map("validate_records", decoded_runs, processor.validate)
    outcomes = op.map("drop_duplicates", validated_runs, processor.drop_duplicates)
    op.output("commit_outcomes", outcomes, sink)
    return flow
