"""An open loop: traffic sent at its own times, and how long after them its results can be read.

When a record is due does not depend on how earlier ones fared, so a slow pipeline or a late generator is seen as
latency. Sending and reading run in processes of their own: beside each other in one they would measure each other.
"""

import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Manager, get_context
from pathlib import Path
from threading import Thread
from typing import Final, Protocol

import polars as pl
from confluent_kafka import Message, TopicPartition

from millrace_common.groups import onlooker
from millrace_common.records import Partition, Polled, Span
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_generator import Plan, Progress, SendReport, StoppableClock, Target, send
from millrace_generator.traffic import Event as ShopEvent
from millrace_generator.traffic import Record, SchemaIds
from millrace_local.errors import LocalStackError
from millrace_local.probes import quiet_admin
from millrace_local.reading import decoder
from millrace_local.stack import Stack

_RESULTS: Final = "user-events.enriched"
_TABLE: Final = "events"
_PATIENCE_SECONDS: Final = 60.0
# A reader looks so often: the latency it adds is at most this.
_LOOK_SECONDS: Final = 0.02
# Of real-time processes the last, before all others.
_PRIORITY: Final = 1
_READ: Final = {"event_id": pl.String, "read_ms": pl.Float64}


class LoadError(LocalStackError):
    """A load could not be put on the stack, or not be measured."""


class Flag(Protocol):
    """An event that crosses processes."""

    def set(self) -> None:
        """Say that it happened."""

    def is_set(self) -> bool:
        """Return whether it happened."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it happens, at most so many seconds; return whether it did."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader looks: all that it needs of a stack, in another process.

    Attributes:
        bootstrap_servers: of the broker.
        registry_url: of the schema registry.
        lake: the folder of the Delta tables.
    """

    bootstrap_servers: str
    registry_url: str
    lake: Path


@dataclass(frozen=True, slots=True)
class Signals:
    """What a reader says and is told: it is `reading`, results are `flowing`, it was `enough`."""

    reading: Flag
    flowing: Flag
    enough: Flag


Reader = Callable[[Place, Path, Signals], None]
"""Writes when it could read each event to a file; runs in a process of its own."""


@dataclass(slots=True)
class _Intended:
    """Notes of each event when it is meant to be sent, and when it was; an observer of the generator, and its progress.

    Attributes:
        events: id, intended time in the shop, and how many records came before it.
        handed: after each chunk, how many records were handed over by then, and when.
    """

    events: list[tuple[str, int, int]] = field(default_factory=list)
    handed: list[tuple[int, float]] = field(default_factory=list)
    records: int = 0
    first_at_ms: int | None = None
    start_ms: float = 0.0

    def __call__(self, records: Sequence[Record], /) -> None:
        for record in records:
            if self.first_at_ms is None:
                self.first_at_ms = record.at_ms
            if record.good and isinstance(record.about, ShopEvent):
                self.events.append((record.about.event_id, record.at_ms, self.records))
            self.records += 1

    def progress(self, now: Progress) -> None:
        if not self.start_ms:
            self.start_ms = time.time() * 1000 - now.elapsed_seconds * 1000
        self.handed.append((now.records, now.elapsed_seconds * 1000))

    def frame(self) -> pl.DataFrame:
        """Return the events; at their own time in the shop, counted from the moment of the first."""
        first_ms = self.first_at_ms or 0
        events = pl.DataFrame(self.events, {"event_id": pl.String, "at_ms": pl.Int64, "before": pl.Int64}, orient="row")
        handed = pl.DataFrame(self.handed, {"records": pl.Int64, "handed_ms": pl.Float64}, orient="row")
        # The chunk of an event is the first that ends behind it.
        chunk = handed["records"].search_sorted(events["before"] + 1, side="left")
        return events.select(
            "event_id",
            intended_ms=pl.col("at_ms") - first_ms + self.start_ms,
            late_ms=handed["handed_ms"].gather(chunk) - (pl.col("at_ms") - first_ms),
        )


def send_live(
    make_plan: Callable[[], Plan], bootstrap_servers: str, registry_url: str, file: Path, stop: Flag
) -> SendReport:
    """Send a plan into the live lane, each record at its own time, and write the events' intended times to `file`."""
    intended, clock = _Intended(), StoppableClock()
    Thread(target=_stop_when, args=(stop, clock), daemon=True).start()
    report = send(
        make_plan(),
        Target(bootstrap_servers, registry_url),
        rate="live",
        observers=lambda partitions: [intended],
        progress=intended.progress,
        clock=clock,
    )
    intended.frame().write_parquet(file)
    return report


def _stop_when(stop: Flag, clock: StoppableClock) -> None:
    stop.wait()
    clock.stop()


def made_beforehand(plan: Plan, ready: Callable[[], None] = lambda: None) -> Plan:
    """Return `plan` with all of its records made before the first is due, so that sending is all there is to do.

    `ready` is called when they are made. A record takes about a kilobyte until the end.
    """

    def records(schema_ids: SchemaIds) -> Iterator[Record]:
        made = list(plan.records(schema_ids))
        gc.freeze()  # a collection that walks through all of them would make the next record late
        ready()
        return iter(made)

    return replace(plan, records=records)


def go_first() -> None:
    """Let this thread go before all others, where that is allowed: with a broker on its core it would measure that."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))


def read_results(place: Place, file: Path, signals: Signals) -> None:
    """Read enriched events as they become visible to a read_committed consumer, until it is enough."""
    frames = [pl.DataFrame(schema=_READ)]
    decode = decoder(SchemaRegistry({"url": place.registry_url}), _RESULTS)
    admin = quiet_admin(place.bootstrap_servers)
    found = [
        Partition(_RESULTS, index) for index in admin.list_topics(_RESULTS, timeout=30).topics[_RESULTS].partitions
    ]
    ends = Topology(admin).ends(found, _PATIENCE_SECONDS)
    with onlooker({"bootstrap.servers": place.bootstrap_servers}, "load-reader") as consumer:
        consumer.assign([TopicPartition(one.topic, one.index, ends[one]) for one in found])
        signals.reading.set()
        while not signals.enough.is_set():
            by_partition: dict[int, list[Message]] = {}
            for message in consumer.consume(5_000, _LOOK_SECONDS):
                if message.error() is None:
                    by_partition.setdefault(message.partition() or 0, []).append(message)
            read_ms = time.time() * 1000
            if by_partition and len(frames) == 1:
                signals.flowing.set()
            for index, messages in by_partition.items():
                run = decode.decode(Polled(Span(Partition(_RESULTS, index), 0, 0, len(messages)), messages))
                ids = pl.DataFrame({"event_id": pl.from_arrow(run.columns.column(0))})
                frames.append(ids.with_columns(read_ms=pl.lit(read_ms)))
    pl.concat(frames).write_parquet(file)


def read_lake(place: Place, file: Path, signals: Signals) -> None:
    """Read the rows of each new version of the events table as soon as it is there, until it is enough."""
    table = place.lake / _TABLE
    log = table / "_delta_log"
    frames = [pl.DataFrame(schema=_READ)]
    version = max((int(path.stem) for path in log.glob("*.json")), default=-1)
    signals.reading.set()
    while True:
        last_look = signals.enough.is_set()
        while (commit := log / f"{version + 1:020d}.json").exists():
            version += 1
            for path in added_files(commit.read_text(encoding="utf-8")):
                ids = pl.read_parquet(table / path, columns=["event_id"], hive_partitioning=False)
                frames.append(ids.with_columns(read_ms=pl.lit(time.time() * 1000)))
                signals.flowing.set()
        if last_look:
            break
        signals.enough.wait(_LOOK_SECONDS)
    pl.concat(frames).write_parquet(file)


def added_files(commit: str) -> list[str]:
    """Return the files that a Delta commit adds with rows that are new; a compaction's are not."""
    actions = (json.loads(line) for line in commit.splitlines())
    return [action["add"]["path"] for action in actions if "add" in action and action["add"]["dataChange"]]


@dataclass(frozen=True, slots=True)
class Live:
    """Traffic under way, and the readers behind it; `flowing` is set when the first result was read."""

    report: "Future[SendReport]"
    readers: "Sequence[tuple[Future[None], Path]]"
    sent_file: Path
    flowing: Flag
    stop: Flag
    enough: Flag

    def close(self) -> SendReport:
        """Let the traffic end, and return how it went; the reader goes on.

        Raises:
            LoadError: records could not be sent.
        """
        self.stop.set()
        return self.finish()

    def finish(self) -> SendReport:
        """Wait for the end of the traffic, and return how it went; the reader goes on.

        Raises:
            LoadError: records could not be sent.
        """
        report = self.report.result()
        if report.failed:
            message = f"{report.failed} records could not be sent: {report.first_failure}"
            raise LoadError(message)
        return report

    def latencies(self, reader: int = 0) -> pl.DataFrame:
        """End the readers; return for each event its id, intended epoch seconds, and how long after that it was there.

        An event that was never read has no latency; the verdict counts those.
        """
        self.enough.set()
        future, file = self.readers[reader]
        future.result()
        return latencies(pl.read_parquet(self.sent_file), pl.read_parquet(file))


def latencies(sent: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
    """Return for each event sent: event_id, at (epoch seconds), late_seconds, seconds until it was first read.

    `late_seconds`: how much later than intended it was handed to the producer. `seconds`: null if it was never read.
    """
    first = read.group_by("event_id").agg(pl.col("read_ms").min())
    return sent.join(first, on="event_id", how="left").select(
        "event_id",
        at=pl.col("intended_ms") / 1000,
        late_seconds=pl.col("late_ms") / 1000,
        seconds=(pl.col("read_ms") - pl.col("intended_ms")) / 1000,
    )


@contextmanager
def live(stack: Stack, make_plan: Callable[[], Plan], readers: Sequence[Reader] = (read_results,)) -> Iterator[Live]:
    """Send a plan in a process, and read in others; the readers listen before the first record is sent."""
    place = Place(stack.bootstrap_servers, stack.registry_url, stack.lake)
    sent = stack.work_dir / "sent.parquet"
    with Manager() as manager, ProcessPoolExecutor(len(readers) + 1, mp_context=get_context("spawn")) as processes:
        flowing, stop, enough = (manager.Event() for _ in range(3))
        reading = [manager.Event() for _ in readers]
        try:
            following = []
            for number, read in enumerate(readers):
                file = stack.work_dir / f"read-{number}.parquet"
                signals = Signals(reading[number], flowing, enough)
                following.append((processes.submit(read, place, file, signals), file))
            for (future, _), ready in zip(following, reading, strict=True):
                if not ready.wait(_PATIENCE_SECONDS):
                    enough.set()
                    future.result()
                    message = "a reader does not begin"
                    raise LoadError(message)
            report = processes.submit(send_live, make_plan, place.bootstrap_servers, place.registry_url, sent, stop)
            yield Live(report, following, sent, flowing, stop, enough)
        finally:
            stop.set()
            enough.set()
