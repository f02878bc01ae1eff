"""The loop of the yardstick: what a careful engineer writes first with confluent-kafka and fastavro, record by record.

At least once: outputs are flushed, then offsets are committed, every 100 ms.
"""

import io
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

import fastavro
from confluent_kafka import Consumer, KafkaError, Message, Producer

HEADER_BYTES: Final = 5
_COMMIT_SECONDS: Final = 0.1
_AT_ONCE: Final = 1_000

Emit = Callable[[bytes, bytes], None]
Process = Callable[[Message, Emit], None]


class Stopping:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        """Listen."""
        self.now = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.now = True


def parsed(variable: str) -> Any:
    """Return the Avro schema in the file that an environment variable names; timestamps stay numbers."""
    schema = json.loads(Path(os.environ[variable]).read_text(encoding="utf-8"))
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    return fastavro.parse_schema(schema)


def decode(schema: Any, value: bytes, wanted: Any = None) -> dict[str, Any]:
    """Return the record in a framed value: all of it, or the fields of the schema `wanted`."""
    record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, wanted)
    return record


def fields_of(schema: Any, names: Collection[str]) -> Any:
    """Return `schema` with these fields only: as a reader's schema it makes fastavro skip the others."""
    fields = [field for field in schema["fields"] if field["name"] in names]
    return fastavro.parse_schema({"type": "record", "name": schema["name"], "fields": fields})


def header() -> bytes:
    """Return the frame of outputs."""
    return b"\0" + int(os.environ["BENCH_OUTPUT_SCHEMA_ID"]).to_bytes(HEADER_BYTES - 1, "big")


def encode(frame: bytes, schema: Any, record: dict[str, Any]) -> bytes:
    """Return `record` framed."""
    out = io.BytesIO()
    out.write(frame)
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def new_consumer(group: str, *, says_end: bool = False) -> Consumer:
    """Return a consumer that commits when it is told to; it may say where a partition ends."""
    return Consumer(
        {
            "bootstrap.servers": os.environ["BENCH_BOOTSTRAP"],
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": says_end,
            "partition.assignment.strategy": "cooperative-sticky",
            # The default of a second makes a catching-up consumer wait.
            "fetch.queue.backoff.ms": 5,
        }
    )


def records(messages: Iterable[Message]) -> Iterable[Message]:
    """Yield those that are records.

    Raises:
        RuntimeError: the client gives up.
    """
    for message in messages:
        error = message.error()
        if error is None:
            yield message
        elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():
            raise RuntimeError(str(error))


def run(process: Process) -> None:
    """Hand every record of the input to `process` until SIGTERM comes; what it emits goes to the output."""
    stopping = Stopping()
    output = os.environ["BENCH_OUTPUT"]
    consumer = new_consumer(os.environ["BENCH_GROUP"])
    producer = Producer(
        {
            "bootstrap.servers": os.environ["BENCH_BOOTSTRAP"],
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 1_000_000,
        }
    )

    def emit(key: bytes, value: bytes) -> None:
        while True:
            try:
                producer.produce(output, value, key)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def commit() -> None:
        producer.flush()
        consumer.commit(asynchronous=False)

    consumer.subscribe([os.environ["BENCH_INPUT"]])
    due, waiting = time.monotonic() + _COMMIT_SECONDS, False
    while not stopping.now:
        for message in records(consumer.consume(_AT_ONCE, _COMMIT_SECONDS)):
            process(message, emit)
            waiting = True
        producer.poll(0)
        if waiting and time.monotonic() >= due:
            commit()
            due, waiting = time.monotonic() + _COMMIT_SECONDS, False
    if waiting:
        commit()
    consumer.close()
