"""Running a stream processor: from settings to real parts, through signals, to an exit code."""

import ctypes
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from millrace_common import failpoints, logs, metrics
from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import Decoder, Encoder, RowEncoder
from millrace_common.consumers import OnCommit, close, consumer_properties
from millrace_common.dead_records import DeadRecords, letter_decoder
from millrace_common.errors import MillraceError, RegistryUnavailableError
from millrace_common.health import HealthServer
from millrace_common.positions import GroupPositions, Positions
from millrace_common.registry import SchemaRegistry
from millrace_common.restarts import RestartEstimate
from millrace_common.restoring import Replay
from millrace_common.settings import ServiceSettings, load
from millrace_common.sink import SinkConfig, TransactionalSink
from millrace_common.snapshots import SnapshotStore, SnapshotWriter
from millrace_common.source import GroupConfig, GroupSource
from millrace_common.topology import Topology, refuse_uneven_topics
from millrace_common.traces import Traces
from millrace_common.transactions import producer_properties
from millrace_schemas import schema_text

_log = logging.getLogger(__name__)
_CLIENT_LOG: Final = logging.getLogger("librdkafka")

# An answer that got lost is missed after this: a client's default is a minute, in which a partition would stand still.
# Joining a group may take longer and has a time of its own.
_ANSWER_SECONDS: Final = 10.0
# A run of records is some ten thousand objects, none of them in a cycle, gone a moment later. With Python's 700 the
# collector would go through them, and through everything that was imported, several times a run.
_OBJECTS_PER_COLLECTION: Final = 100_000
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
# Arrays of a state are larger; what a run of records needs for a moment is smaller, and faster kept.
_LARGE_BLOCK_BYTES: Final = 4 * 2**20
# About what a poll's records need for a moment, in the steps and in the client's threads. Kept by each of them; handed
# back and faulted in again with each run, it would cost a tenth of the CPU time.
_KEPT_BYTES: Final = 16 * 2**20
# Beyond the transaction timeout, after which the broker settles a dead predecessor's transaction.
_SETTLING_SECONDS: Final = 30.0
# With group.protocol=consumer it is the broker's to say; this is what a broker says unless told otherwise:
# https://kafka.apache.org/documentation/#brokerconfigs_group.consumer.session.timeout.ms
_BROKER_SESSION_TIMEOUT_SECONDS: Final = 45.0

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class StateSpec:
    """That a service has state: its version (snapshots of another are not read), and how far back it reaches.

    `horizon` None: to the start of the log.
    """

    version: int
    horizon: timedelta | None = None


class Parts:
    """The real parts of one service, made from its settings; `app.py` puts them into the service's flow."""

    def __init__(self, name: str, settings: ServiceSettings, stopping: threading.Event) -> None:
        """Connect nothing yet."""
        self.name = name
        self.settings = settings
        self.assignments = Assignments()
        self.registry = SchemaRegistry(settings.schema_registry_client())
        self.client = settings.kafka_client() | {
            # Named after this process in the broker's logs, quotas and lists of members.
            "client.id": settings.transactional_id(name),
            "socket.timeout.ms": int(_ANSWER_SECONDS * 1000),
        }
        self.topology = Topology(AdminClient(dict(self.client), logger=_log))
        self._stopping = stopping
        self._consumer: Consumer | None = None
        self._sink: TransactionalSink | None = None
        self._on_close: list[Callable[[], None]] = []

    def decoder(self, subject: str) -> Decoder:
        """Return a decoder to the columns of `subject`."""
        return Decoder(
            self.registry,
            schema_text(subject),
            max_value_bytes=self.settings.max_value_bytes,
            wait=self.wait,
        )

    def encoder(self, subject: str) -> Encoder:
        """Return a columnar encoder of `subject`.

        Raises:
            StartupError: the subject is not registered.
        """
        return Encoder(schema_text(subject), self.schema_id(subject))

    def row_encoder(self, subject: str) -> RowEncoder:
        """Return a per-record encoder of `subject`.

        Raises:
            StartupError: the subject is not registered.
        """
        return RowEncoder(schema_text(subject), self.schema_id(subject))

    def schema_id(self, subject: str) -> int:
        """Return the registered id of `subject`, waiting for a registry that does not answer."""
        while True:
            try:
                return self.registry.schema_id(subject, schema_text(subject))
            except RegistryUnavailableError as error:
                _log.warning("waiting for the schema registry", extra={"error": str(error)})
                self.wait(1.0)

    def wait(self, seconds: float) -> None:
        """Wait because a part outside does not answer; the process is alive meanwhile.

        What is done is committed first: the broker ends a transaction that stays open for too long, and with it the
        process that comes back to it.

        Raises:
            StoppedError: the process was told to stop.
        """
        if self._sink is not None:
            self._sink.writer.commit_if_due()
        metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time())
        if self._stopping.wait(seconds):
            message = "stopped while waiting for a part outside"
            raise StoppedError(message)

    def source(
        self,
        topics: Sequence[str],
        *,
        state: StateSpec | None = None,
        outputs: Mapping[str, str] | None = None,
        make_positions: Callable[[Consumer], Positions] | None = None,
        on_commit: OnCommit | None = None,
    ) -> GroupSource:
        """Return the source over this service's consumer group.

        `state` makes it restore snapshots and replay. Without it, `outputs` names the output topic of an input topic:
        what is there tells that offsets were lost. `on_commit` hears of commits that its consumer was asked for.
        """
        settings = self.settings
        client = consumer_properties(
            self.client,
            settings.group(self.name),
            protocol=settings.group_protocol,
            session_timeout_seconds=settings.session_timeout_seconds,
        )
        store = SnapshotStore(settings.state_uri, self.name, state.version) if state is not None else None
        timeout_seconds = settings.transaction_timeout_seconds + _SETTLING_SECONDS
        source = GroupSource(
            config=GroupConfig(
                client=client,
                service=self.name,
                topics=tuple(topics),
                batch_max_records=settings.batch_max_records,
            ),
            assignments=self.assignments,
            topology=self.topology,
            make_positions=make_positions or (lambda consumer: GroupPositions(consumer, timeout_seconds)),
            stopping=self._stopping.is_set,
            on_commit=on_commit,
            replay=Replay(
                store,
                state.horizon,
                timedelta(seconds=settings.snapshot_interval_seconds),
                DeadRecords(
                    self.name,
                    settings.topic("dead-letters"),
                    self.topology,
                    letter_decoder(self.registry, self.wait),
                    lambda: Consumer(dict(client), logger=_CLIENT_LOG),
                ),
                RestartEstimate(
                    settings.session_timeout_seconds
                    if settings.group_protocol == "classic"
                    else _BROKER_SESSION_TIMEOUT_SECONDS
                ),
            )
            if store is not None and state is not None
            else None,
            traces=Traces(outputs or {}, self.topology, lambda: Consumer(dict(client), logger=_CLIENT_LOG)),
        )
        self._consumer = source.consumer
        return source

    def sink(self, source: GroupSource, output_topics: Sequence[str]) -> TransactionalSink:
        """Return the transactional sink behind `source`; `output_topics` besides dead letters and the ledger.

        Raises:
            StartupError: a topic is missing.
            FencedError: another process uses this transactional id right now.
        """
        settings = self.settings
        dead_letters, ledger = settings.topic("dead-letters"), settings.topic("ledger")
        transactional_id = settings.transactional_id(self.name)
        properties = producer_properties(self.client, transactional_id, settings.transaction_timeout_seconds)
        self._sink = TransactionalSink(
            config=SinkConfig(
                service=self.name,
                instance=transactional_id,
                dead_letters_topic=dead_letters,
                ledger_topic=ledger,
                commit_interval_seconds=settings.commit_interval_seconds,
                commit_max_records=settings.commit_max_records,
            ),
            assignments=self.assignments,
            make_producer=lambda: Producer(properties, logger=_CLIENT_LOG),
            group_metadata=source.consumer.consumer_group_metadata,
            partition_counts=self.topology.partition_counts([*output_topics, dead_letters, ledger]),
            dead_letter_encoder=self.row_encoder("dead-letters"),
            ledger_encoder=self.row_encoder("ledger"),
            brake=Brake(settings.brake_window_records, settings.brake_limit),
            snapshots=SnapshotWriter(None)
            if source.replay is None
            else SnapshotWriter(source.replay.store, on_written=source.replay.restart.written),
            stopping=self._stopping.is_set,
        )
        self.on_close(self._sink.writer.close)
        return self._sink

    def refuse_uneven_topics(self, *topics: str) -> None:
        """Check that records keep their partition number between `topics`.

        Raises:
            StartupError: their partition counts differ, or one does not exist.
        """
        refuse_uneven_topics(self.topology.partition_counts(topics))

    def on_close(self, finish: Callable[[], None]) -> None:
        """Call `finish` at a clean stop, while the partitions are still ours."""
        self._on_close.append(finish)

    def close(self) -> None:
        """Commit what is done and leave the group."""
        for finish in self._on_close:
            finish()
        if self._consumer is not None:
            close(self._consumer)

    def abandon(self) -> None:
        """Give up what is not committed and leave the group, so that others need not wait for the session timeout."""
        self.assignments.request_rewind("stopping")
        if self._sink is not None:
            self._sink.writer.abandon()
        if self._consumer is not None:
            close(self._consumer)


class StoppedError(MillraceError):
    """The process was told to stop while it waited."""


def run(name: str, settings_class: type[S], build: Callable[[Parts, S], Dataflow], stopping: threading.Event) -> int:
    """Run the service `name` until `stopping` is set and return its exit code: 0 stopped, 1 failed.

    `build` makes the flow from real parts. Whatever ends the flow early is logged once, as one line.
    """
    # Set to anything, even 0, it opens an unauthenticated server on every interface.
    os.environ.pop("BYTEWAX_DATAFLOW_API_ENABLED", None)
    try:
        settings = load(settings_class)
    except MillraceError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    logs.configure(name, settings.log_level)
    if stopping.is_set():
        _log.info("told to stop before the start")
        return 0
    try:
        return _run(name, settings, build, stopping)
    except StoppedError:
        return 0
    except Exception as error:
        cause = _first_of_ours(error)
        if cause is None:
            _log.exception("stopped by a defect")
        else:
            _log.error("stopped", extra={"error": str(cause), "kind": type(cause).__name__})  # noqa: TRY400
        return 0 if isinstance(cause, StoppedError) else 1


def _run(name: str, settings: S, build: Callable[[Parts, S], Dataflow], stopping: threading.Event) -> int:
    failpoints.arm(settings.failpoint)
    parts = Parts(name, settings, stopping)
    metrics.LAST_PROGRESS_TIMESTAMP_SECONDS.set(time.time())
    health = HealthServer(
        settings.metrics_host,
        settings.metrics_port,
        ready=lambda: bool(parts.assignments.owned()),
        stalled_after_seconds=settings.stalled_after_seconds,
    )
    _log.info("starting", extra={"metrics_port": health.port, "instance": settings.instance, "lane": settings.lane})
    try:
        flow = build(parts, settings)
        _spare_the_collector()
        _give_memory_back()
        run_main(flow)  # type: ignore[no-untyped-call]  # Bytewax's Rust side has no types
        parts.close()
    except BaseException:
        parts.abandon()
        raise
    finally:
        health.close()
    _log.info("stopped cleanly")
    return 0


def _spare_the_collector() -> None:
    """Let the garbage collector run seldom, and leave alone what lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)


def _give_memory_back() -> None:
    """Have glibc return large blocks to the system when they are freed.

    Unless it is told from which size on, it raises that to the size of each block it frees, up to 32 MiB, and arrays
    that grow leave holes behind. Being told, it would also return each 128 KiB that is free at the end of a heap, and
    grow heaps by as little. See mallopt(3). Other C libraries have no such call.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _LARGE_BLOCK_BYTES)


def _first_of_ours(error: BaseException | None) -> MillraceError | None:
    """Return the MillraceError in a chain of causes: a flow's runtime wraps what its steps raise."""
    while error is not None:
        if isinstance(error, MillraceError):
            return error
        error = error.__cause__ or error.__context__
    return None
