"""State built anew from the log, held against the newest snapshots: the log is the state, so they are the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

import pyarrow as pa

from millrace_common.records import Assigned, Outcome, Partition, Polled, Replayed, SinkItem, SourceItem, Span
from millrace_common.service import Parts
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_ingest import app as ingest
from millrace_ingest.settings import IngestSettings
from millrace_local.reading import Library, runs
from millrace_local.stack import Stack
from millrace_sessionize import app as sessionize
from millrace_sessionize.processor import decoding
from millrace_sessionize.settings import SessionizeSettings
from millrace_sessionize.snapshot import STATE_VERSION as SESSIONIZE_STATE_VERSION

STATEFUL: Final = ("ingest", "sessionize")
_GENERATION: Final = 1
_NEWEST: Final = 2**62


@dataclass(frozen=True, slots=True)
class _Service:
    """A stateful service.

    Attributes:
        parts: its real parts; only those that read are used.
        topics: its input.
        state_version: of its snapshots.
        step: all it does between source and sink.
    """

    parts: Parts
    topics: Sequence[str]
    state_version: int
    step: Callable[[SourceItem], Sequence[SinkItem]]


def newest_snapshots(state: Path) -> dict[str, int]:
    """Return the offset of the newest snapshot of each `service/topic/partition` under `state`."""
    newest: dict[str, int] = {}
    for path in state.glob("*/*/*/*.arrow"):
        place = path.parent.relative_to(state).as_posix()
        newest[place] = max(newest.get(place, 0), int(path.stem))
    return newest


def rebuilt_differently(stack: Stack) -> list[str]:
    """Build the states of ingest and sessionize from their logs up to their newest snapshots; say where they differ.

    A partition whose first records are no longer kept is left out. That one idled is not in its log: the watermark that
    its snapshot has then is applied to the state built anew, as a restart applies the committed one.
    """
    problems: list[str] = []
    for service in (_ingest(stack), _sessionize(stack)):
        name = service.parts.name
        equal = list(_compare(stack, service))
        problems += [
            f"{name}: the state of {place} at {at} is not that of its log" for place, at, same in equal if not same
        ]
        if not equal:
            problems.append(f"{name}: no state could be held against its log")
    return problems


def _compare(stack: Stack, service: _Service) -> Iterator[tuple[Partition, int, bool]]:
    """Yield each partition that has a snapshot, its offset, and whether its log leads to it."""
    topology = service.parts.topology
    counts, ids = topology.partition_counts(service.topics), topology.topic_ids(service.topics)
    partitions = [Partition(topic, index) for topic, count in counts.items() for index in range(count)]
    kept = topology.ranges(partitions)
    store = SnapshotStore(str(stack.work_dir / "state"), service.parts.name, service.state_version)
    for partition in partitions:
        snapshot = store.newest(partition, _NEWEST, ids[partition.topic])
        if snapshot is not None and kept[partition][0] == 0:
            yield partition, snapshot.offset, _leads_to(stack, service, snapshot)


def _leads_to(stack: Stack, service: _Service, snapshot: Snapshot) -> bool:
    partition = snapshot.partition
    service.step(Assigned(partition, _GENERATION, None))
    library = Library(stack.bootstrap_servers, stack.registry_url, stack.lake)
    state = None
    for item in _up_to(snapshot, library):
        for outcome in service.step(item):
            state = outcome.state if isinstance(outcome, Outcome) else state
    return state is not None and rows_of(state) == rows_of(snapshot.state)


def _up_to(snapshot: Snapshot, library: Library) -> Iterator[SourceItem]:
    for _, found in runs(library, [snapshot.partition]):
        records = [record for record in found if (record.offset() or 0) < snapshot.offset]
        if records:
            first, last = records[0].offset() or 0, records[-1].offset() or 0
            yield Polled(Span(snapshot.partition, _GENERATION, first, last + 1, snapshot_due=True), records)
        if len(records) < len(found):
            break
    yield Replayed(snapshot.partition, _GENERATION, snapshot.offset, _advanced_to_ms(snapshot))


def _advanced_to_ms(snapshot: Snapshot) -> int | None:
    """Return the watermark that the clock, not a record, moved to; None if there was no such advance."""
    floor = (snapshot.state.schema.metadata or {}).get(b"floor_ms")
    return int(floor) if floor else None


def rows_of(state: pa.Table) -> list[str]:
    """Return the rows of a state in an order of their own, and so the lists in them, which are sets.

    How both are stored depends on when the process began and when its state was last compacted.
    """
    return sorted(
        repr({name: sorted(value) if isinstance(value, list) else value for name, value in row.items()})
        for row in state.to_pylist()
    )


def _ingest(stack: Stack) -> _Service:
    settings = IngestSettings(
        kafka_bootstrap_servers=stack.bootstrap_servers, schema_registry_url=stack.registry_url, state_uri="unused"
    )
    parts = Parts("ingest", settings, Event())
    processor = ingest.make_processor(parts, settings)
    return _Service(
        parts,
        list(processor.streams),
        ingest.STATE_VERSION,
        lambda item: [processor.drop_duplicates(processor.validate(processor.decode(item)))],
    )


def _sessionize(stack: Stack) -> _Service:
    settings = SessionizeSettings(
        kafka_bootstrap_servers=stack.bootstrap_servers, schema_registry_url=stack.registry_url, state_uri="unused"
    )
    parts = Parts("sessionize", settings, Event())
    processor = sessionize.make_processor(parts, settings)
    decode = decoding(parts.decoder("user-events.enriched").decode)
    return _Service(
        parts,
        [settings.topic("user-events.enriched")],
        SESSIONIZE_STATE_VERSION,
        lambda item: processor.step(decode(item)),
    )
