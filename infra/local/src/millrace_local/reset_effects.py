"""Looking where a service stands, and moving it: a consumer group with its snapshots, or a table of the lake."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow.compute as pc
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from millrace_common.groups import onlooker
from millrace_common.positions import GroupPositions
from millrace_common.records import Committed, Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.snapshots import SnapshotStore
from millrace_common.topology import Topology
from millrace_lake.dead_letters import GROUP as DEAD_LETTERS_GROUP
from millrace_lake.ledger import SERVICE as LAKE
from millrace_lake.ledger import TOPIC_ID_PROPERTY, app_id
from millrace_lake.repair import table_of
from millrace_lake.tables import NAMES
from millrace_lake.writer import Store, TableWriter
from millrace_local.errors import LocalStackError
from millrace_local.reading import Library, decoded
from millrace_local.reset import Found, Move
from millrace_local.reset_writing import CALL_SECONDS, INSTANCE, SETTLE_SECONDS, Cluster, Writer, now_in_ms
from millrace_local.services import Service
from millrace_schemas import in_lane


class Places(Protocol):
    """Where one service stands at the partitions of one topic."""

    def look(self, partitions: Sequence[Partition]) -> list[Found]:
        """Return where it stands; changes nothing."""

    def move(self, moves: Sequence[Move]) -> list[str]:
        """Make `moves` last, with their rows in the ledger; return what else has changed by it, a sentence each."""


def has_members(admin: AdminClient, group: str) -> bool:
    """Return whether anybody reads as a member of `group`.

    Raises:
        KafkaException: the broker does not answer.
    """
    # Unlike a description, the list knows the state of groups of both protocols.
    listed = admin.list_consumer_groups(request_timeout=CALL_SECONDS).result(CALL_SECONDS)
    quiet = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
    return any(found.group_id == group and found.state not in quiet for found in listed.valid)


class GroupPlaces:
    """The committed offsets and the snapshots of ingest, enrich or sessionize."""

    def __init__(self, cluster: Cluster, service: Service, snapshots: SnapshotStore | None) -> None:
        """Connect nothing yet; `snapshots` None: the service has no state."""
        self._cluster = cluster
        self._service = service
        self._snapshots = snapshots
        self._topology = Topology(cluster.admin())
        self._registry = SchemaRegistry(dict(cluster.registry))

    def look(self, partitions: Sequence[Partition]) -> list[Found]:
        """Return what group, broker, snapshots and, where the group says nothing, the ledger say."""
        with onlooker(self._cluster.client, self._service.group) as consumer:
            committed = GroupPositions(consumer, SETTLE_SECONDS).committed(partitions)
        ids = self._topology.topic_ids({partition.topic for partition in partitions})
        kept = self._topology.ranges(partitions)
        positions = {
            partition: place.offset
            for partition, place in committed.items()
            if place is not None and place.topic_id in (None, ids[partition.topic])
        }
        ends = self._ledger_ends([partition for partition in partitions if partition not in positions], ids)
        return [
            Found(
                partition,
                ids[partition.topic],
                kept[partition],
                positions.get(partition),
                positions.get(partition, ends.get(partition)),
                sets_aside=True,
                dead_offset=_dead_offset(committed[partition], ids[partition.topic]),
                unaccounted=committed[partition] is None
                and partition not in ends
                and self._snapshots is not None
                and ids[partition.topic] in self._snapshots.topic_ids(partition),
            )
            for partition in partitions
        ]

    def move(self, moves: Sequence[Move]) -> list[str]:
        """Remove the snapshots, then commit offsets with ledger rows, and with dead letters of what is set aside.

        Each transaction takes a partition further; the same command again goes on where an earlier one ended.

        Raises:
            KafkaException: a call failed; where that leaves the outcome unknown, the same command again finds out.
        """
        # First: should the rest fail, a missing snapshot only costs a longer replay.
        notes = [note for move in moves if (note := self._remove_snapshots(move.partition)) is not None]
        with onlooker(self._cluster.client, self._service.group) as consumer:
            writer = Writer(self._cluster, self._service, self._topology, self._registry, consumer)
            for move in moves:
                writer.write(move)
        return notes

    def _snapshot_count(self, partition: Partition) -> int:
        return 0 if self._snapshots is None else self._snapshots.count(partition)

    def _remove_snapshots(self, partition: Partition) -> str | None:
        count = self._snapshot_count(partition)
        if self._snapshots is None or not count:
            return None
        self._snapshots.remove(partition)
        return f"{partition}: {count} snapshots removed; the state is built anew from the records that are kept"

    def _ledger_ends(self, partitions: Sequence[Partition], topic_ids: Mapping[str, str]) -> dict[Partition, int]:
        """Return how far the ledger reaches in `partitions` of the topics as they are now."""
        if not partitions:
            return {}
        ledger = in_lane("ledger", self._cluster.lane)
        count = self._topology.partition_counts([ledger])[ledger]
        places = sorted({Partition(ledger, partition.index % count) for partition in partitions})
        servers = str(self._cluster.client["bootstrap.servers"])
        library = Library(servers, "", Path(), self._cluster.lane, self._cluster.client)
        ends: dict[Partition, int] = {}
        for run in decoded(library, self._registry, "ledger", places):
            rows = run.columns.filter(pc.equal(run.columns["service"], self._service.name))
            columns = (rows[name].to_pylist() for name in ("topic", "topic_id", "partition", "next_offset"))
            for topic, topic_id, index, next_offset in zip(*columns, strict=True):
                partition = Partition(topic, index)
                if topic_ids.get(topic) == topic_id and partition in partitions:
                    ends[partition] = max(next_offset, ends.get(partition, 0))
        return ends


def _dead_offset(committed: Committed | None, topic_id: str) -> int | None:
    """Return what the group says of the latest dead record, if it says it of the topic as it is now."""
    return committed.dead_offset if committed is not None and committed.topic_id == topic_id else None


class TablePlaces:
    """The positions of lake, in the table that a topic feeds."""

    def __init__(self, cluster: Cluster, topic: str, store: Store) -> None:
        """Connect nothing yet.

        Raises:
            LocalStackError: the store has no table of the lake at all.
        """
        self._cluster = cluster
        self._topic = topic
        self._store = store
        self._spec = table_of(topic)
        self._admin = cluster.admin()
        self._topology = Topology(self._admin)
        if not any(self._has(name) for name in NAMES):
            message = f"no table of the lake is at {store.uri}: start lake, it creates them, or say where they are"
            raise LocalStackError(message)

    def look(self, partitions: Sequence[Partition]) -> list[Found]:
        """Return what table and broker say; a table that is missing is not created."""
        topic_id = self._topology.topic_ids([self._topic])[self._topic]
        kept = self._topology.ranges(partitions)
        held, fed_from = dict.fromkeys(partitions, None), None
        if self._has(self._spec.name):
            uri, options = self._store.table_uri(self._spec.name), dict(self._store.options)
            table = DeltaTable(uri, storage_options=options, without_files=True)
            held = {partition: table.transaction_version(app_id(topic_id, partition.index)) for partition in partitions}
            fed_from = table.metadata().configuration.get(TOPIC_ID_PROPERTY + self._topic)
        return [
            Found(partition, topic_id, kept[partition], position if fed_from == topic_id else None, position)
            for partition, position in held.items()
        ]

    def move(self, moves: Sequence[Move]) -> list[str]:
        """Commit the positions and their ledger rows, then let the table accept the topic as it is now.

        Raises:
            FatalError: one of its kinds; the table has the positions or it has not, the same command again finds out.
        """
        writer = TableWriter(self._spec, self._store)
        topic_id = moves[0].found.topic_id
        writer.positions([app_id(topic_id, move.partition.index) for move in moves])
        now_ms = now_in_ms()
        name = in_lane(INSTANCE, self._cluster.lane)
        writer.append([], [row for move in moves for row in move.rows(LAKE, name, now_ms)], now_ms)
        recreated = writer.topic_id(self._topic) not in (None, topic_id)
        self._settle_dead_letters(moves, recreated=recreated)
        writer.remember_topic_id(self._topic, topic_id)
        return [f"{self._topic}: its other partitions begin at their first record"] if recreated else []

    def _settle_dead_letters(self, moves: Sequence[Move], *, recreated: bool) -> None:
        """Bring back the offsets below which dead letters count as produced, where they are about records now gone."""
        ends = {move.partition: move.offset if recreated else move.found.kept[1] for move in moves}
        group = in_lane(DEAD_LETTERS_GROUP, self._cluster.lane)
        with onlooker(self._cluster.client, group) as consumer:
            produced = GroupPositions(consumer, SETTLE_SECONDS).committed(list(ends))
        back = [
            TopicPartition(partition.topic, partition.index, ends[partition])
            for partition, place in produced.items()
            if place is not None and place.offset > ends[partition]
        ]
        if back:
            asked = self._admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, back)])
            asked[group].result(CALL_SECONDS)

    def _has(self, table: str) -> bool:
        return DeltaTable.is_deltatable(self._store.table_uri(table), dict(self._store.options))
