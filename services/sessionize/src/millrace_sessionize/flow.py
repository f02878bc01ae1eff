"""The wiring of sessionize; what the steps do is in processor.py and state.py."""

from collections.abc import Callable

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from millrace_common.records import Decoded, Polled, SinkItem, SourceItem
from millrace_sessionize.processor import SessionProcessor, decoding


def build_flow(
    source: Source[SourceItem],
    sink: Sink[SinkItem],
    decode: Callable[[Polled], Decoded],
    processor: SessionProcessor,
) -> Dataflow:
    """Return the flow: raw enriched events in, outcomes out.

    Delivery: exactly once if `source` and `sink` are transactional together.
    """
    flow = Dataflow("millrace_sessionize")
    raw_runs = op.input("read_records", flow, source)
    decoded_runs = op.map("decode_records", raw_runs, decoding(decode))
    outcomes = op.flat_map("cut_sessions", decoded_runs, processor.step)
    op.output("commit_outcomes", outcomes, sink)
    return flow
