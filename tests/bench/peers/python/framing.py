"""What both libraries are given alike: events and products decoded, and outputs encoded, by the plain loop's code.

So what differs between them and the plain loop is the library.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from plain_loop import decode, encode, fields_of, header, parsed
from plain_session import FIELDS

COMMIT_SECONDS: Final = 0.1
# librdkafka takes every setting as text.
PRODUCER: Final = {"compression.type": "lz4", "linger.ms": "5", "partitioner": "murmur2_random"}
# The default of a second makes a catching-up consumer wait.
CONSUMER: Final = {"fetch.queue.backoff.ms": "5"}

Datum = dict[str, Any]


def input_decoder() -> Callable[[bytes], Datum]:
    """Return a function from a framed record of the input to its datum."""
    schema = parsed("BENCH_INPUT_SCHEMA")
    return lambda framed: decode(schema, framed)


def visit_decoder() -> Callable[[bytes], Datum]:
    """Return a function from a framed event to the fields that its session needs; fastavro skips the others."""
    schema = parsed("BENCH_INPUT_SCHEMA")
    wanted = fields_of(schema, FIELDS)
    return lambda framed: decode(schema, framed, wanted)


def output_encoder() -> Callable[[Datum], bytes]:
    """Return a function from a datum of the output to a framed record."""
    frame, schema = header(), parsed("BENCH_OUTPUT_SCHEMA")
    return lambda datum: encode(frame, schema, datum)


def brokers() -> str:
    """Return the brokers' addresses."""
    return os.environ["BENCH_BOOTSTRAP"]
