"""What is measured while traffic flows: when it is sent, when results can be read, lags, memory.

Sending and reading run in processes of their own: beside each other in one they would measure each other.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Manager, get_context
from pathlib import Path
from threading import Event, Thread
from typing import Final, Protocol

import polars as pl
import psutil
from confluent_kafka import KafkaException, Message, TopicPartition

from bench import TortureError
from millrace_common.groups import onlooker
from millrace_common.records import Partition, Polled, Span
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_generator import Plan, Progress, SendReport, StoppableClock, Target, send
from millrace_generator.traffic import Event as ShopEvent
from millrace_generator.traffic import Record
from millrace_local.lag import Lags
from millrace_local.probes import quiet_admin
from millrace_local.reading import decoder
from millrace_local.stack import Stack

_RESULTS: Final = "user-events.enriched"
_POLL_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 60.0
_SENT: Final = {"event_id": pl.String, "intended_ms": pl.Float64}
_READ: Final = {"event_id": pl.String, "read_ms": pl.Float64}


class Flag(Protocol):
    """An event that crosses processes."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool: ...


@dataclass(slots=True)
class _Intended:
    """Notes of each event when it is meant to be sent; an observer of the generator, and its progress."""

    events: list[tuple[str, int]] = field(default_factory=list)
    first_at_ms: int | None = None
    start_ms: float = 0.0

    def __call__(self, records: Sequence[Record], /) -> None:
        for record in records:
            if self.first_at_ms is None:
                self.first_at_ms = record.at_ms
            if record.good and isinstance(record.about, ShopEvent):
                self.events.append((record.about.event_id, record.at_ms))

    def progress(self, now: Progress) -> None:
        if not self.start_ms:
            self.start_ms = time.time() * 1000 - now.elapsed_seconds * 1000

    def frame(self) -> pl.DataFrame:
        """Return the events; at their own time in the shop, counted from the moment of the first."""
        begins_ms = self.start_ms - (self.first_at_ms or 0)
        return pl.DataFrame(self.events, _SENT | {"intended_ms": pl.Int64}, orient="row").with_columns(
            pl.col("intended_ms") + begins_ms
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


def read_results(
    bootstrap_servers: str, registry_url: str, file: Path, reading: Flag, flowing: Flag, enough: Flag
) -> None:
    """Read enriched events as they become visible, until it is `enough`; write to `file` when each could be."""
    frames = [pl.DataFrame(schema=_READ)]
    decode = decoder(SchemaRegistry({"url": registry_url}), _RESULTS)
    admin = quiet_admin(bootstrap_servers)
    found = [
        Partition(_RESULTS, index) for index in admin.list_topics(_RESULTS, timeout=30).topics[_RESULTS].partitions
    ]
    ends = Topology(admin).ends(found, _PATIENCE_SECONDS)
    with onlooker({"bootstrap.servers": bootstrap_servers}, "load-reader") as consumer:
        consumer.assign([TopicPartition(place.topic, place.index, ends[place]) for place in found])
        reading.set()
        while not enough.is_set():
            by_partition: dict[int, list[Message]] = {}
            for message in consumer.consume(5_000, 0.02):
                if message.error() is None:
                    by_partition.setdefault(message.partition() or 0, []).append(message)
            read_ms = time.time() * 1000
            if by_partition and len(frames) == 1:
                flowing.set()
            for index, messages in by_partition.items():
                run = decode.decode(Polled(Span(Partition(_RESULTS, index), 0, 0, len(messages)), messages))
                ids = pl.DataFrame({"event_id": pl.from_arrow(run.columns.column(0))})
                frames.append(ids.with_columns(read_ms=pl.lit(read_ms)))
    pl.concat(frames).write_parquet(file)


@dataclass(slots=True)
class Watch:
    """How far each service is behind, and the memory of each process with its children, as they change.

    Attributes:
        lags: epoch seconds, and the lag of each service; None before its first commit.
        peak_rss_bytes: by process name.
    """

    stack: Stack
    lags: list[tuple[float, Mapping[str, int | None]]] = field(default_factory=list)
    peak_rss_bytes: dict[str, int] = field(default_factory=dict)

    def look(self, lags: Lags) -> None:
        """Take note of the present."""
        for state in self.stack.states():
            if state.identity is not None:
                name, now = state.spec.name, _rss_bytes(state.identity.pid)
                self.peak_rss_bytes[name] = max(now, self.peak_rss_bytes.get(name, 0))
        live = [service for service in self.stack.services() if not service.lane]
        try:
            found = lags.of(live)
        except KafkaException:
            return
        self.lags.append((time.time(), found))

    def recovered_at(self, peak_began: float, not_before: float) -> float | None:
        """Return when, after `not_before`, no service was further behind than at most before the peak; None: never."""
        before = [lags for at, lags in self.lags if at < peak_began]
        usual = {title: max((lags[title] or 0 for lags in before), default=0) for title in self.lags[-1][1]}
        return next(
            (
                at
                for at, lags in self.lags
                if at >= not_before and all((behind or 0) <= usual[title] for title, behind in lags.items())
            ),
            None,
        )


@contextmanager
def watching(stack: Stack) -> Iterator[Watch]:
    """Look several times a second while the block runs."""
    watch, stopping = Watch(stack), Event()

    def work() -> None:
        with Lags(stack.bootstrap_servers) as lags:
            while not stopping.wait(_POLL_SECONDS):
                watch.look(lags)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stopping.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Live:
    """Traffic under way, and the reader behind it; `flowing` is set when the first result was read."""

    report: "Future[SendReport]"
    reader: "Future[None]"
    sent_file: Path
    read_file: Path
    flowing: Flag
    stop: Flag
    enough: Flag

    def close(self) -> SendReport:
        """Let the traffic end, and return how it went; the reader goes on.

        Raises:
            TortureError: records could not be sent.
        """
        self.stop.set()
        return self.finish()

    def finish(self) -> SendReport:
        """Wait for the end of the traffic, and return how it went; the reader goes on.

        Raises:
            TortureError: records could not be sent.
        """
        report = self.report.result()
        if report.failed:
            message = f"{report.failed} records could not be sent: {report.first_failure}"
            raise TortureError(message)
        return report

    def latencies(self) -> pl.DataFrame:
        """End the reader; return for each event its id, intended epoch seconds, and how long after that it was there.

        An event that was never read has no latency; the verdict counts those.
        """
        self.enough.set()
        self.reader.result()
        sent, read = pl.read_parquet(self.sent_file), pl.read_parquet(self.read_file)
        first = read.group_by("event_id").agg(pl.col("read_ms").min())
        return sent.join(first, on="event_id", how="left").select(
            "event_id",
            at=pl.col("intended_ms") / 1000,
            seconds=(pl.col("read_ms") - pl.col("intended_ms")) / 1000,
        )


@contextmanager
def live(stack: Stack, make_plan: Callable[[], Plan]) -> Iterator[Live]:
    """Send a plan in a process, and read the results in another; the reader listens before the first record is sent."""
    context = get_context("spawn")
    addresses = stack.bootstrap_servers, stack.registry_url
    sent, read = stack.work_dir / "sent.parquet", stack.work_dir / "read.parquet"
    with Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as processes:
        reading, flowing, stop, enough = (manager.Event() for _ in range(4))
        reader = processes.submit(read_results, *addresses, read, reading, flowing, enough)
        reading.wait(_PATIENCE_SECONDS)
        try:
            report = processes.submit(send_live, make_plan, *addresses, sent, stop)
            yield Live(report, reader, sent, read, flowing, stop, enough)
        finally:
            stop.set()
            enough.set()


def _rss_bytes(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0
