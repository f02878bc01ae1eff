"""Where each assigned partition begins: its committed offset, the snapshot before it, and the replay in between."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from confluent_kafka import Consumer, KafkaException, TopicPartition

from millrace_common.dead_records import DeadRecords
from millrace_common.errors import StartupError, UnavailableError
from millrace_common.positions import Positions
from millrace_common.records import Committed, Partition
from millrace_common.restarts import RestartEstimate
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_common.topology import Topology, recreated_topic, refuse_lost_input
from millrace_common.traces import Traces

_log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Replay:
    """How a stateful service gets its state back.

    Attributes:
        store: its snapshots.
        horizon: without a snapshot, records up to this much older than the committed watermark are read again; None:
            all that are kept.
        snapshot_interval: between two snapshots of a partition.
        dead_records: tell which records of a replay were dead when they were processed; None: all are judged anew.
        restart: learns how long all this takes.
    """

    store: SnapshotStore
    horizon: timedelta | None
    snapshot_interval: timedelta
    dead_records: DeadRecords | None = None
    restart: RestartEstimate = field(default_factory=RestartEstimate)


@dataclass(frozen=True, slots=True)
class Beginning:
    """How processing of a partition begins.

    Attributes:
        committed: what its group has committed; None: nothing ever was.
        resume_offset: the first offset whose effects count; what is read before it is muted.
        start_offset: where reading begins.
        snapshot: the state at start_offset, or before it where records are no longer kept; None: empty.
    """

    committed: Committed | None
    resume_offset: int
    start_offset: int
    snapshot: Snapshot | None


class Restorer:
    """Finds the beginnings of one service's partitions; `replay` None: it has no state, and perhaps `traces`."""

    def __init__(
        self,
        service: str,
        topics: Sequence[str],
        consumer: Consumer,
        positions: Positions,
        topology: Topology,
        replay: Replay | None,
        traces: Traces | None,
    ) -> None:
        """Nothing is asked yet."""
        self._service = service
        self._topics = topics
        self._consumer = consumer
        self._positions = positions
        self._topology = topology
        self._replay = replay
        self._traces = traces

    def beginnings(self, partitions: Sequence[Partition]) -> tuple[dict[Partition, Beginning], dict[str, str]]:
        """Return how each of `partitions` begins, and the ids of the input topics.

        Raises:
            StartupError: a partition cannot be processed from where its group stopped.
            UnavailableError: the broker or the state store does not answer.
        """
        try:
            committed = self._positions.committed(partitions)
            ids = self._topology.topic_ids(self._topics)
            kept = self._topology.ranges(partitions)
            found = {
                partition: self._beginning(partition, committed[partition], kept[partition], ids[partition.topic])
                for partition in partitions
            }
        except KafkaException as error:
            message = f"the broker did not say where {self._service} has to begin: {error.args[0].str()}"
            raise UnavailableError(message) from error
        except OSError as error:
            message = f"the state store cannot be read: {error}"
            raise UnavailableError(message) from error
        return found, ids

    def _beginning(
        self, partition: Partition, committed: Committed | None, kept: tuple[int, int], topic_id: str
    ) -> Beginning:
        refuse_lost_input(partition, committed, kept, topic_id, self._service)
        if committed is None:
            self._refuse_lost_offsets(partition, topic_id)
            return Beginning(None, kept[0], kept[0], None)
        snapshot = self._newest_snapshot(partition, committed, kept, topic_id)
        return Beginning(committed, committed.offset, self._start(partition, committed, snapshot, kept), snapshot)

    def _refuse_lost_offsets(self, partition: Partition, topic_id: str) -> None:
        evidence = None
        if self._replay is not None:
            seen_ids = self._replay.store.topic_ids(partition)
            if seen_ids and topic_id not in seen_ids:  # the broker forgets a group's offsets with the topic
                raise StartupError(recreated_topic(partition, seen_ids, topic_id, self._service))
            evidence = "there are snapshots" if seen_ids else None
        elif self._traces is not None:
            output = self._traces.of(partition)
            evidence = f"there is output in {output}" if output is not None else None
        if evidence is not None:
            message = (
                f"{self._service} cannot go on at {partition}: it was processed before ({evidence}), but its group has "
                f"no committed offset: offsets expired, or the group or the topic was deleted. To begin again from the "
                f"start: `millrace reset {self._service} --topic {partition.topic} --partition {partition.index} "
                f"--to earliest`"
            )
            raise StartupError(message)

    def _newest_snapshot(
        self, partition: Partition, committed: Committed, kept: tuple[int, int], topic_id: str
    ) -> Snapshot | None:
        """Return the snapshot to begin from.

        Offsets behind it that are no longer kept may have been control records, or records that the state then lacks.
        Without the snapshot it would lack all that came before as well.
        """
        if self._replay is None:
            return None
        snapshot = self._replay.store.newest(partition, committed.offset, topic_id)
        if snapshot is not None and snapshot.offset < kept[0]:
            _log.warning(
                "records behind the newest snapshot are no longer kept: the state may be incomplete",
                extra={"partition": str(partition), "snapshot": snapshot.offset, "first_kept": kept[0]},
            )
        return snapshot

    def _start(
        self, partition: Partition, committed: Committed, snapshot: Snapshot | None, kept: tuple[int, int]
    ) -> int:
        if self._replay is None:
            return committed.offset
        if snapshot is not None:
            return max(snapshot.offset, kept[0])
        if self._replay.horizon is None or committed.watermark_ms is None:
            return kept[0]
        # Negative times mean something else to a broker.
        since_ms = max(0, committed.watermark_ms - int(self._replay.horizon.total_seconds() * 1000))
        place = TopicPartition(partition.topic, partition.index, since_ms)
        found = self._consumer.offsets_for_times([place], timeout=_TIMEOUT_SECONDS)[0]
        if found.error is not None:
            raise KafkaException(found.error)
        return min(committed.offset, found.offset) if found.offset >= 0 else committed.offset
