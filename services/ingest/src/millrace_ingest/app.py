"""The ingest process: real parts from settings, then the flow."""

import threading
from typing import Final

from bytewax.dataflow import Dataflow

from millrace_common.records import Partition
from millrace_common.service import Parts, StateSpec, run
from millrace_ingest import events, metrics, orders
from millrace_ingest.flow import build_flow
from millrace_ingest.processor import IngestProcessor, Stream
from millrace_ingest.settings import IngestSettings

# Of the snapshots' meaning: fingerprints and columns. Another one makes the service rebuild its state from the log.
STATE_VERSION: Final = 1


def build(parts: Parts, settings: IngestSettings) -> Dataflow:
    """Return the flow of ingest between real ends.

    Raises:
        StartupError: a topic or a subject is missing, or input and output topics differ in partitions.
    """
    processor = make_processor(parts, settings)
    streams = processor.streams.values()
    for stream in streams:
        parts.refuse_uneven_topics(stream.topic, stream.valid_topic)
    source = parts.source(
        [stream.topic for stream in streams], state=StateSpec(STATE_VERSION, horizon=settings.dedup_window)
    )
    sink = parts.sink(source, [stream.valid_topic for stream in streams])
    return build_flow(source, sink, processor)


def make_processor(parts: Parts, settings: IngestSettings) -> IngestProcessor:
    """Return the three steps."""
    streams = (
        Stream(
            topic=settings.topic("user-events"),
            valid_topic=settings.topic("user-events.valid"),
            decoder=parts.decoder("user-events"),
            rules=events.RULES,
            identify=events.identify,
        ),
        Stream(
            topic=settings.topic("transactions"),
            valid_topic=settings.topic("transactions.valid"),
            decoder=parts.decoder("transactions"),
            rules=orders.RULES,
            identify=orders.identify,
        ),
    )
    return IngestProcessor(
        streams={stream.topic: stream for stream in streams},
        limits=settings.limits,
        dedup_window=settings.dedup_window,
        on_snapshot=_show,
    )


def main(stopping: threading.Event) -> int:
    """Run ingest until `stopping` is set; return its exit code."""
    return run("ingest", IngestSettings, build, stopping)


def _show(partition: Partition, seen_ids: int) -> None:
    metrics.SEEN_IDS.labels(topic=partition.topic, partition=partition.index).set(seen_ids)
