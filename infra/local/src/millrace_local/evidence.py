"""Gathering what the proof needs: topics read to their end, the ledger, dead letters, groups and Delta commits."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaException
from deltalake import DeltaTable

from millrace_common.groups import committed_offsets, onlooker
from millrace_common.ledger import LedgerRow
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_lake import history
from millrace_lake.tables import NAMES, tables
from millrace_local.audit import Evidence, Offsets, Topic
from millrace_local.errors import LocalStackError
from millrace_local.probes import quiet_admin
from millrace_local.reading import Library, decoded, runs
from millrace_schemas import in_lane
from millrace_schemas import topics as declared_topics

_INPUTS: Final = {
    "ingest": ("user-events", "transactions"),
    "enrich": ("user-events.valid",),
    "sessionize": ("user-events.enriched",),
    "lake": tuple(spec.topic for spec in tables(NAMES)),
}
_ANSWER_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 30.0
# Commits that leave every row in place.
_ADDING: Final = frozenset({"CREATE TABLE", "WRITE", "OPTIMIZE", "ADD COLUMN", "SET TBLPROPERTIES"})
# How often the evidence is gathered anew when something was committed meanwhile.
_ATTEMPTS: Final = 3


def gather(library: Library) -> Evidence:
    """Return the evidence; if commits go on while it is gathered it is not quiet, and sums can only be bounded.

    Raises:
        LocalStackError: the broker or the registry does not answer.
    """
    admin = quiet_admin(library.bootstrap_servers)
    try:  # other questions wait much longer for a broker that is not there
        admin.list_topics(timeout=_ANSWER_SECONDS)
    except KafkaException as error:
        raise _no_answer(library, error) from error
    evidence = _gather_once(library)
    for _ in range(_ATTEMPTS - 1):
        if evidence.quiet:
            break
        evidence = _gather_once(library)
    return evidence


def _gather_once(library: Library) -> Evidence:
    registry = SchemaRegistry({"url": library.registry_url})
    topology = Topology(quiet_admin(library.bootstrap_servers), timeout_seconds=_TIMEOUT_SECONDS)
    declared = {topic.name: topic for topic in declared_topics(lane=library.lane)}
    ledger, dead_letters = in_lane("ledger", library.lane), in_lane("dead-letters", library.lane)
    try:
        ids = topology.topic_ids(declared)
        partitions = [
            Partition(name, index)
            for name, count in topology.partition_counts(declared).items()
            for index in range(count)
        ]
        kept = topology.ranges(partitions)
        committed = _committed(library, partitions)
        held = _held(library, [partition for partition in partitions if partition.topic != ledger])
        dead = _dead_letters(library, registry, [p for p in partitions if p.topic == dead_letters])
        # The ledger last: whatever a topic holds, the row of its transaction is visible by now.
        rows = _ledger_rows(library, registry, [p for p in partitions if p.topic == ledger])
        lake_rows, tables_found, truncated = _lake(library)
        after = topology.ranges(partitions)
    except KafkaException as error:
        raise _no_answer(library, error) from error
    return Evidence(
        rows=[*rows, *lake_rows],
        topics={
            name: Topic(
                topic_id=ids[name],
                held={p.index: offsets for p, offsets in held.items() if p.topic == name},
                first_kept={p.index: kept[p][0] for p in partitions if p.topic == name},
                compacted="compact" in topic.cleanup,
            )
            for name, topic in declared.items()
            if name != ledger
        },
        inputs={service: [in_lane(name, library.lane) for name in inputs] for service, inputs in _INPUTS.items()},
        committed=committed,
        dead_letters=dead,
        dead_letters_whole=not any(kept[p][0] for p in partitions if p.topic == dead_letters),
        tables=tables_found,
        truncated=truncated,
        quiet=kept == after,
    )


def _no_answer(library: Library, error: KafkaException) -> LocalStackError:
    return LocalStackError(f"the broker at {library.bootstrap_servers} does not answer: {error.args[0].str()}")


def _held(library: Library, partitions: Sequence[Partition]) -> dict[Partition, Offsets]:
    parts: dict[Partition, list[Offsets]] = {partition: [] for partition in partitions}
    for partition, messages in runs(library, partitions):
        parts[partition].append(np.fromiter((message.offset() for message in messages), np.int64, len(messages)))
    return {partition: np.concatenate([np.empty(0, np.int64), *runs]) for partition, runs in parts.items()}


def _rows(
    library: Library, registry: SchemaRegistry, subject: str, partitions: Sequence[Partition]
) -> Iterator[dict[str, Any]]:
    for run in decoded(library, registry, subject, partitions):
        for bad in run.rejects:
            place = f"{run.polled.span.partition} offset {run.polled.records[bad.row].offset()}"
            message = f"{place} is no {subject} record: {bad.detail}"
            raise LocalStackError(message)
        yield from run.columns.to_pylist()


def _dead_letters(
    library: Library, registry: SchemaRegistry, partitions: Sequence[Partition]
) -> dict[tuple[str, Partition], Offsets]:
    offsets: dict[tuple[str, Partition], list[int]] = {}
    for letter in _rows(library, registry, "dead-letters", partitions):
        source = Partition(letter["source_topic"], letter["source_partition"])
        offsets.setdefault((letter["service"], source), []).append(letter["source_offset"])
    return {place: np.array(found, np.int64) for place, found in offsets.items()}


def _ledger_rows(library: Library, registry: SchemaRegistry, partitions: Sequence[Partition]) -> list[LedgerRow]:
    return [
        LedgerRow.from_record({**row, "committed_at": int(row["committed_at"].timestamp() * 1000)})
        for row in _rows(library, registry, "ledger", partitions)
    ]


def _committed(library: Library, partitions: Sequence[Partition]) -> dict[tuple[str, Partition], int]:
    """Return the groups' committed offsets; lake's are left out, its tables are what counts."""
    committed: dict[tuple[str, Partition], int] = {}
    for service, inputs in _INPUTS.items():
        if service == "lake":
            continue
        names = {in_lane(name, library.lane) for name in inputs}
        client = {**library.client, "bootstrap.servers": library.bootstrap_servers}
        with onlooker(client, in_lane(f"millrace-{service}", library.lane)) as consumer:
            found = committed_offsets(consumer, [p for p in partitions if p.topic in names], _TIMEOUT_SECONDS)
        committed |= {(service, partition): offset for partition, offset in found.items()}
    return committed


def _lake(library: Library) -> tuple[list[LedgerRow], dict[str, tuple[int, int]], frozenset[str]]:
    """Return the ledger rows in the tables' commits, rows found and appended, and lake if its oldest rows are gone."""
    rows: list[LedgerRow] = []
    tables: dict[str, tuple[int, int]] = {}
    truncated = False
    for name in NAMES:
        uri = str(library.lake / name)
        if not DeltaTable.is_deltatable(uri):
            continue
        found, commits = history.row_count(uri), DeltaTable(uri).history()
        committed = history.ledger_rows(uri)
        rows += committed
        truncated = truncated or min(commit["version"] for commit in commits) > 0
        if found is not None and not truncated and all(commit["operation"] in _ADDING for commit in commits):
            tables[name] = found, sum(row.counts.forwarded for row in committed)
    return rows, tables, frozenset({"lake"}) if truncated else frozenset()
