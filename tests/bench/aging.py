"""A table of the lake made as old as an hour makes it: lake's own sink, commit by commit, on a clock of its own."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
from prometheus_client import REGISTRY

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.records import Assigned, Committed, Partition, Replayed, Span
from millrace_lake.dead_letters import Burial
from millrace_lake.ledger import app_id
from millrace_lake.loading import Loaded
from millrace_lake.pacing import Limits
from millrace_lake.settings import LakeSettings
from millrace_lake.sink import LakeSink, SinkConfig
from millrace_lake.tables import tables
from millrace_lake.writer import Store, TableWriter

TABLE: Final = "events"
# No topic has this id: the positions of the rows that age the table are nobody's.
_TOPIC_ID: Final = "aging"
_PARTITIONS: Final = 4
_RETRY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Aged:
    """What one commit of an aging table took.

    Attributes:
        commit_seconds: writing the rows and committing them.
        merge_seconds: merging small files after it; mostly nothing.
        live_files: of the table then.
    """

    commit_seconds: float
    merge_seconds: float
    live_files: int


@dataclass(frozen=True, slots=True)
class Point:
    """Some commits in a row.

    Attributes:
        minutes: age of the table at the last of them.
        median_seconds, worst_seconds: of the commits.
        merge_seconds: spent on merging between them, in all.
        most_live_files: among them.
    """

    minutes: float
    median_seconds: float
    worst_seconds: float
    merge_seconds: float
    most_live_files: int


class _NoDeadLetters:
    """Rows that age a table are all good."""

    def positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {}

    def commit(self, burial: Burial) -> None:
        message = f"{len(burial.letters)} rows do not fit the table"
        raise ValueError(message)


def interval_seconds() -> float:
    """Return how long lake lets rows wait for a commit, by default."""
    return float(LakeSettings.model_fields["commit_interval_seconds"].default)


def rows_of(lake: Path) -> pa.RecordBatch:
    """Return the rows that the table has, in its own columns: what it is aged with."""
    spec = tables([TABLE])[0]
    found = pl.read_delta(str(lake / TABLE)).select(spec.schema.names).to_arrow()
    return found.cast(spec.schema).combine_chunks().to_batches()[0]


def age(lake: Path, rows: pa.RecordBatch, *, commits: int, rows_each: int) -> list[Aged]:
    """Let lake commit `rows_each` of `rows` as often as that, each time an interval later; nobody else may write.

    Commits, pacing and merging are those of the service with its default settings.
    """
    fields = LakeSettings.model_fields
    interval = interval_seconds()
    now = time.time() - commits * interval
    spec = tables([TABLE])[0]
    writer = TableWriter(spec, Store(str(lake), {}, _RETRY_SECONDS, time.sleep))
    assignments = Assignments()
    assignments.topic_ids = {spec.topic: _TOPIC_ID}
    sink = LakeSink(
        config=SinkConfig(
            instance="aging",
            dead_letters_topic="dead-letters",
            limits=Limits(fields["commit_max_records"].default, fields["commit_max_bytes"].default, interval),
            merge_small_files=fields["merge_small_files"].default,
        ),
        assignments=assignments,
        writers={spec.topic: writer},
        dead_letters=_NoDeadLetters(),
        commit_group=lambda committed: None,
        brake=Brake(1_000_000, 1.0),
        clock=lambda: now,
    )
    partitions = [Partition(spec.topic, index) for index in range(_PARTITIONS)]
    found = writer.positions([app_id(_TOPIC_ID, partition.index) for partition in partitions])
    positions = {partition: found[app_id(_TOPIC_ID, partition.index)] or 0 for partition in partitions}
    generations = assignments.begin(
        {partition: Committed(at, topic_id=_TOPIC_ID) for partition, at in positions.items()}
    )
    for partition in partitions:
        sink.commits.take(Assigned(partition, generations[partition], None))
        sink.commits.take(Replayed(partition, generations[partition], positions[partition], None))
    aged, taken = [], 0
    share = max(1, rows_each // _PARTITIONS)
    for _ in range(commits):
        for partition in partitions:
            first = positions[partition]
            positions[partition] = first + share
            part = rows.slice(taken % max(1, rows.num_rows - share), share)
            taken += share
            span = Span(partition, generations[partition], first, first + share)
            sink.commits.take(Loaded(span, part, (), int(now * 1000)))
        now += interval
        before, began = _commit_seconds(), time.perf_counter()
        sink.commits.commit_due()
        seconds = time.perf_counter() - began
        commit_seconds = _commit_seconds() - before
        if commit_seconds:  # else commits take so long that they have become rarer
            aged.append(Aged(commit_seconds, seconds - commit_seconds, sum(writer.live_files.values())))
    return aged


def curve(aged: Sequence[Aged], points: int, seconds_between: float) -> list[Point]:
    """Return `aged` as so many points (or fewer) of about equally many commits each."""
    size = max(1, -(-len(aged) // points))
    return [
        Point(
            minutes=(begin + len(part)) * seconds_between / 60,
            median_seconds=statistics.median(one.commit_seconds for one in part),
            worst_seconds=max(one.commit_seconds for one in part),
            merge_seconds=sum(one.merge_seconds for one in part),
            most_live_files=max(one.live_files for one in part),
        )
        for begin in range(0, len(aged), size)
        if (part := aged[begin : begin + size])
    ]


def table(points: Sequence[Point]) -> list[str]:
    """Return the lines of a table: commit time and live files against age."""
    lines = [
        "| age | median commit | worst commit | merging in between | most live files |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        lines.append(
            f"| {point.minutes:.1f} min | {point.median_seconds * 1000:.1f} ms | {point.worst_seconds * 1000:.0f} ms "
            f"| {point.merge_seconds:.1f} s | {point.most_live_files} |"
        )
    return lines


def _commit_seconds() -> float:
    return REGISTRY.get_sample_value("millrace_lake_commit_seconds_sum", {"table": TABLE}) or 0.0
