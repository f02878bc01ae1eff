"""The wiring of lake; what the steps do is in loading.py, what the sink does in sink.py."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from millrace_common.records import SourceItem
from millrace_lake.loading import LoadedItem, Loader


def build_flow(source: Source[SourceItem], sink: Sink[LoadedItem], loader: Loader) -> Dataflow:
    """Return the flow: runs of raw records in, rows of tables out.

    Delivery is exactly once: `sink` commits rows together with the position they were read up to, and `source` begins
    at that position.
    """
    flow = Dataflow("millrace_lake")
    raw_runs = op.input("read_records", flow, source)
    decoded_runs = op.map("decode_records", raw_runs, loader.decode)
    loaded_runs = op.map("convert_to_rows", decoded_runs, loader.convert)
    op.output("commit_rows", loaded_runs, sink)
    return flow
