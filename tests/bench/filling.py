"""Filling a job's log: once for all runs, as fast as the broker takes it, and longer when a later run needs more."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from jobs import PARTITIONS, SEED, Job, Shape
from millrace_common.avro import arrow_schema, parse
from millrace_common.codec import Encoder
from millrace_common.columns import Bools, Int64s
from millrace_common.records import Partition
from millrace_common.topology import Topology
from millrace_local import schemas, topics
from millrace_local.errors import LocalStackError
from millrace_local.probes import quiet_admin
from millrace_local.stack import Stack
from millrace_local.starting import prepare
from millrace_schemas import schema_text
from millrace_schemas import topics as declared_topics
from shop_log import Events, events
from shop_records import Columns, catalogue, session_ids

Say = Callable[[str], None]

# Changed when the same seed gives other records than before.
_VERSION: Final = 1
_FLUSH_SECONDS: Final = 120.0
# Events lie two days back: ingest takes a week, and the youngest ones of the longest log are still in the past.
_BACK_MS: Final = 2 * 86_400_000
_OLDEST_MS: Final = 4 * 86_400_000
_REPEAT_EVERY: Final = 1_000
_SPOIL_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Log:
    """A filled log.

    Attributes:
        shape: of its records.
        with_faults: see Job.
        epoch_ms: the wall-clock time of its first moment.
        events: how many different ones it has.
        records: how many records: some events are there twice.
        version: of what a seed gives.
    """

    shape: Shape
    with_faults: bool
    epoch_ms: int
    events: int = 0
    records: int = 0
    version: int = _VERSION


@dataclass(frozen=True, slots=True)
class LogRows:
    """A run of records of a log, in the order they were produced; arrays of one length.

    Attributes:
        number: of the event in each record.
        good: whether it must come through: it is not bad, and it is the first of its event.
    """

    number: Int64s
    good: Bools


def log_rows(first: int, count: int, *, with_faults: bool) -> LogRows:
    """Return the records of the events `first` to `first + count`; pure."""
    numbers = np.arange(first, first + count)
    good = np.ones(count, dtype=np.bool_)
    if not with_faults:
        return LogRows(numbers, good)
    good &= numbers % _SPOIL_EVERY != 0
    repeated = np.flatnonzero(numbers % _REPEAT_EVERY == 1)
    return LogRows(
        np.insert(numbers, repeated + 1, numbers[repeated]),
        np.insert(good, repeated + 1, False),  # noqa: FBT003
    )


def is_bad(rows: LogRows, first: int, count: int) -> Bools:
    """Return which of the events `first` to `first + count` of `rows` come through in none of their records; pure."""
    bad = np.ones(count, dtype=np.bool_)
    bad[rows.number[rows.good] - first] = False
    return bad


def filled(stack: Stack, job: Job, count: int, folder: Path, say: Say) -> Log:
    """Return the log of `job`, filled with at least `count` events; what is there already stays.

    Raises:
        LocalStackError: the broker does not take it.
    """
    note = folder / f"{job.lane}.json"
    prepare(stack, job.lane)
    topology = Topology(quiet_admin(stack.bootstrap_servers))
    log = _kept(note, job)
    places = [Partition(job.input_topic, index) for index in range(PARTITIONS)]
    if log is None or sum(topology.ends(places, 30.0).values()) != log.records:
        note.unlink(missing_ok=True)
        recreate(stack, (job.input_topic, job.products_topic), job.lane)
        log = Log(job.shape, job.with_faults, int(time.time() * 1000) - _BACK_MS)
        _fill_products(stack, job, log)
    if log.events < count:
        note.unlink(missing_ok=True)
        log = _fill(stack, job, log, count, say)
        written = sum(topology.ends(places, 30.0).values())
        if written != log.records:
            message = f"{job.input_topic} has {written} records, {log.records} were sent"
            raise LocalStackError(message)
        note.write_text(json.dumps(asdict(log)), encoding="utf-8")
    return log


def noted(job: Job, folder: Path) -> int:
    """Return how many events the log of `job` should have by the note beside it."""
    log = _kept(folder / f"{job.lane}.json", job)
    return log.events if log else 0


def runs_of(log: Log, count: int) -> Iterator[tuple[int, Events]]:
    """Yield the events of a log, `count` in all, each run with the number of its first one."""
    first = 0
    for run in events(SEED, count):
        yield first, run
        first += len(run)


def recreate(stack: Stack, names: tuple[str, ...], lane: str) -> None:
    """Make topics of `lane` empty by making them anew."""
    delete_topics(stack, names)
    declared = [topic for topic in declared_topics("local", lane) if topic.name in names]
    topics.apply(quiet_admin(stack.bootstrap_servers), declared)


def create_topic(stack: Stack, name: str, like: str) -> None:
    """Make a topic that is set up as the product's topic `like` is."""
    declared = next(topic for topic in declared_topics("local") if topic.name == like)
    topics.apply(quiet_admin(stack.bootstrap_servers), [replace(declared, name=name)])


def delete_topics(stack: Stack, names: tuple[str, ...]) -> None:
    """Delete those of the topics that exist, and wait until they are gone."""
    admin = quiet_admin(stack.bootstrap_servers)
    existing = [name for name in names if name in admin.list_topics(timeout=30).topics]
    if not existing:
        return
    for future in admin.delete_topics(existing, operation_timeout=30).values():
        future.result(30)
    deadline = time.monotonic() + 30.0
    while set(existing) & set(admin.list_topics(timeout=30).topics):
        if time.monotonic() > deadline:
            message = f"these topics are still there: {', '.join(existing)}"
            raise LocalStackError(message)
        time.sleep(0.1)


def _kept(note: Path, job: Job) -> Log | None:
    """Return the log that is noted, unless it is of another kind or too old for ingest."""
    if not note.exists():
        return None
    log = Log(**json.loads(note.read_text(encoding="utf-8")))
    same = (log.shape, log.with_faults, log.version) == (job.shape, job.with_faults, _VERSION)
    return log if same and time.time() * 1000 - log.epoch_ms < _OLDEST_MS else None


def _fill(stack: Stack, job: Job, log: Log, count: int, say: Say) -> Log:
    begin = time.monotonic()
    text = schema_text(job.input_subject)
    encoder = Encoder(text, schema_id(stack, job.input_subject, text))
    columns = Columns()
    producer = _producer(stack)
    records = log.records
    for run_first, run in runs_of(log, count):
        first = max(run_first, log.events)
        if first >= run_first + len(run):
            continue
        new = run.take(np.arange(first - run_first, len(run)))
        rows = log_rows(first, len(new), with_faults=job.with_faults)
        if job.shape == "raw":
            batch = columns.raw(new, first, log.epoch_ms, is_bad(rows, first, len(new)))
        else:
            batch = columns.enriched(new, first, log.epoch_ms)
        keys, values = session_ids(new.visit).to_pylist(), list(encoder.encode(batch))
        produce(
            producer,
            job.input_topic,
            [{"key": keys[row], "value": values[row]} for row in (rows.number - first).tolist()],
        )
        records += len(rows.number)
    flush(producer)
    say(f"filled {job.input_topic}: {count - log.events:,} events in {time.monotonic() - begin:.0f} s")
    return replace(log, events=count, records=records)


def _fill_products(stack: Stack, job: Job, log: Log) -> None:
    if job.name != "enrich":
        return
    text = schema_text("products")
    products = catalogue()
    size = len(products.ids)
    schema = arrow_schema(parse(text))
    columns = {
        "productId": products.ids,
        "name": pa.nulls(size, pa.string()),
        "brand": products.brands,
        "category": products.categories,
        "price": pa.array(products.prices_cents / 100),
        "updatedAt": pa.repeat(pa.scalar(log.epoch_ms), size),
    }
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    values = Encoder(text, schema_id(stack, "products", text)).encode(batch)
    producer = _producer(stack)
    keys = products.ids.to_pylist()
    produce(
        producer,
        job.products_topic,
        [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)],
    )
    flush(producer)


def schema_id(stack: Stack, subject: str, text: str) -> int:
    """Return the id of a schema, registered if it was not yet."""
    return schemas.register(schemas.client(stack.registry_url), {subject: text})[0].schema_id


def _producer(stack: Stack) -> Producer:
    return Producer(
        {
            "bootstrap.servers": stack.bootstrap_servers,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 262_144,
        }
    )


def produce(producer: Producer, topic: str, messages: list[dict[str, Any]]) -> None:
    """Hand over all `messages`, waiting while the queue is full."""
    while messages:
        queued = producer.produce_batch(topic, messages)
        if queued < len(messages):
            messages = [message for message in messages[queued:] if message.pop("_error", True)]
            producer.poll(0.05)
        else:
            messages = []


def flush(producer: Producer) -> None:
    """Wait until everything is acknowledged.

    Raises:
        LocalStackError: the broker does not take it.
    """
    left = producer.flush(_FLUSH_SECONDS)
    if left:
        message = f"{left} records were not acknowledged in {_FLUSH_SECONDS:.0f} s"
        raise LocalStackError(message)
