"""What both libraries are given alike: events and products decoded, and outputs encoded, by the plain loop's code.

So what differs between them and the plain loop is the library.
"""

import os
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader

from plain_loop import HEADER_BYTES, decode, encode, header, parsed

COMMIT_SECONDS: Final = 0.1
# librdkafka takes every setting as text.
PRODUCER: Final = {"compression.type": "lz4", "linger.ms": "5", "partitioner": "murmur2_random"}
# The default of a second makes a catching-up consumer wait.
CONSUMER: Final = {"fetch.queue.backoff.ms": "5"}
_OF_A_VISIT: Final = ("client_session_id", "event_time", "event_type")

Datum = dict[str, Any]


def input_decoder() -> Callable[[bytes], Datum]:
    """Return a function from a framed record of the input to its datum."""
    schema = parsed("BENCH_INPUT_SCHEMA")
    return lambda framed: decode(schema, framed)


def visit_decoder() -> Callable[[bytes], Datum]:
    """Return a function from a framed event to the fields that its session needs; fastavro skips the others."""
    writer = parsed("BENCH_INPUT_SCHEMA")
    wanted = [field for field in writer["fields"] if field["name"] in _OF_A_VISIT]
    reader = parse_schema({"type": "record", "name": writer["name"], "fields": wanted})

    def decode_visit(framed: bytes) -> Datum:
        datum: Datum = schemaless_reader(BytesIO(framed[HEADER_BYTES:]), writer, reader)
        return datum

    return decode_visit


def output_encoder() -> Callable[[Datum], bytes]:
    """Return a function from a datum of the output to a framed record."""
    frame, schema = header(), parsed("BENCH_OUTPUT_SCHEMA")
    return lambda datum: encode(frame, schema, datum)


def brokers() -> str:
    """Return the brokers' addresses."""
    return os.environ["BENCH_BOOTSTRAP"]
