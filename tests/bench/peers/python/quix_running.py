"""What both Quix applications have in common. Their one argument is the guarantee: exactly-once or at-least-once."""

import os
import sys
from collections.abc import Callable
from typing import Any

from quixstreams import Application
from quixstreams.models import Deserializer, SerializationContext, Serializer, Topic

import framing


class FramedDecoder(Deserializer):
    """Decodes framed Avro."""

    def __init__(self, decode: Callable[[bytes], framing.Datum]) -> None:
        """Decode with `decode`."""
        super().__init__()
        self._decode = decode

    def __call__(self, value: bytes, ctx: SerializationContext) -> framing.Datum:
        """Return the datum."""
        return self._decode(value)


class FramedEncoder(Serializer):
    """Encodes framed Avro."""

    def __init__(self) -> None:
        """Encode for the output."""
        self._encode = framing.output_encoder()

    def __call__(self, value: Any, ctx: SerializationContext) -> bytes:
        """Return the framed record."""
        return self._encode(value)


def application() -> Application:
    """Return an application with the guarantee of the command line."""
    return Application(
        broker_address=framing.brokers(),
        consumer_group=os.environ["BENCH_GROUP"],
        auto_offset_reset="earliest",
        commit_interval=framing.COMMIT_SECONDS,
        consumer_extra_config=framing.CONSUMER,
        producer_extra_config=framing.PRODUCER,
        processing_guarantee=sys.argv[1],
        state_dir=os.environ["BENCH_STATE_DIR"],
        loglevel="WARNING",
    )


def input_topic(app: Application, decode: Callable[[bytes], framing.Datum], **options: Any) -> Topic:
    """Return the input, decoded by `decode`."""
    return app.topic(os.environ["BENCH_INPUT"], value_deserializer=FramedDecoder(decode), **options)


def output_topic(app: Application) -> Topic:
    """Return the output."""
    return app.topic(os.environ["BENCH_OUTPUT"], value_serializer=FramedEncoder())
