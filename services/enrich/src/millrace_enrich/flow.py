"""The wiring of enrich; what the steps do is in processor.py."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from millrace_common.records import SinkItem, SourceItem
from millrace_enrich.processor import EnrichProcessor


def build_flow(source: Source[SourceItem], sink: Sink[SinkItem], processor: EnrichProcessor) -> Dataflow:
    """Return the flow: runs of valid events in, one outcome for each out.

    Delivery is that of the ends: exactly once if `sink` commits the offsets of `source` with what it produces.
    """
    flow = Dataflow("millrace_enrich")
    raw_runs = op.input("read_records", flow, source)
    decoded_runs = op.map("decode_events", raw_runs, processor.decode)
    enriched_runs = op.map("enrich_events", decoded_runs, processor.enrich)
    outcomes = op.map("encode_events", enriched_runs, processor.encode)
    op.output("commit_outcomes", outcomes, sink)
    return flow
