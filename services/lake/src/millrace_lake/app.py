"""Lake as a process: settings to real parts to the flow."""

import logging
import threading
from typing import Final

import pyarrow as pa
from bytewax.dataflow import Dataflow
from confluent_kafka import Consumer, Producer

from millrace_common.brake import Brake
from millrace_common.consumers import consumer_properties
from millrace_common.positions import GroupPositions
from millrace_common.service import Parts, run
from millrace_common.source import GroupSource
from millrace_common.transactions import producer_properties
from millrace_lake.dead_letters import GROUP, KafkaDeadLetters
from millrace_lake.flow import build_flow
from millrace_lake.group_commits import GroupCommits
from millrace_lake.ledger import SERVICE
from millrace_lake.loading import Feed, Loader
from millrace_lake.pacing import Limits
from millrace_lake.positions import LakePositions
from millrace_lake.settings import LakeSettings
from millrace_lake.sink import LakeSink, SinkConfig
from millrace_lake.tables import tables
from millrace_lake.writer import Store, TableWriter

_CLIENT_LOG: Final = logging.getLogger("librdkafka")


def build(parts: Parts, settings: LakeSettings) -> Dataflow:
    """Return the flow over real parts.

    Raises:
        StartupError: a topic or a schema is missing.
        TableUnavailableError: the store does not answer.
    """
    # Arrow's own allocator keeps 30 MB for itself, and the columns come from the decoder's malloc anyway.
    pa.set_memory_pool(pa.system_memory_pool())
    store = Store(settings.lake_uri, settings.storage_options, settings.lake_retry_seconds, parts.wait)
    writers = {settings.topic(spec.topic): TableWriter(spec, store) for spec in tables(settings.tables)}
    timeout_seconds = settings.transaction_timeout_seconds + 30.0
    group_commits = GroupCommits(parts.assignments.owned)
    source = parts.source(
        list(writers),
        on_commit=group_commits.on_commit,
        make_positions=lambda consumer: LakePositions(
            writers, parts.topology.topic_ids, GroupPositions(consumer, timeout_seconds)
        ),
    )
    group_commits.commit_through(source.consumer)
    dead_letters = _dead_letters(parts, settings, source)
    sink = LakeSink(
        config=SinkConfig(
            instance=settings.transactional_id(SERVICE),
            dead_letters_topic=settings.topic("dead-letters"),
            limits=Limits(settings.commit_max_records, settings.commit_max_bytes, settings.commit_interval_seconds),
            merge_small_files=settings.merge_small_files,
        ),
        assignments=parts.assignments,
        writers=writers,
        dead_letters=dead_letters,
        commit_group=group_commits,
        brake=Brake(settings.brake_window_records, settings.brake_limit),
    )
    parts.on_close(sink.commits.close)
    parts.on_close(group_commits.finish)
    parts.on_close(dead_letters.close)
    feeds = {topic: Feed(parts.decoder(writer.spec.subject), writer) for topic, writer in writers.items()}
    return build_flow(source, sink, Loader(feeds))


def _dead_letters(parts: Parts, settings: LakeSettings, source: GroupSource) -> KafkaDeadLetters:
    topic = settings.topic("dead-letters")
    producer = producer_properties(
        parts.client, settings.transactional_id(SERVICE), settings.transaction_timeout_seconds
    )
    consumer = consumer_properties(
        parts.client,
        settings.group(GROUP),
        protocol="classic",
        session_timeout_seconds=settings.session_timeout_seconds,
    )
    return KafkaDeadLetters(
        topic,
        parts.topology.partition_counts([topic])[topic],
        parts.row_encoder("dead-letters"),
        make_producer=lambda: Producer(producer, logger=_CLIENT_LOG),
        make_consumer=lambda: Consumer(consumer, logger=_CLIENT_LOG),
        membership=source.consumer.consumer_group_metadata,
    )


def main(stopping: threading.Event) -> int:
    """Run lake until `stopping` is set; return its exit code."""
    return run(SERVICE, LakeSettings, build, stopping)
