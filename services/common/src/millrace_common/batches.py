"""Handing a batch of records to librdkafka in one array of structs, through its public C interface.

`Producer.produce_batch` wants a dictionary a record and looks six names up in each; librdkafka's own
`rd_kafka_produce_batch` takes an array that numpy fills. Everything else stays with the client: configuration,
transactions, polling, errors. What it does not hand out is its `rd_kafka_t`. That is read from the client's object,
where its first field is, and only believed if librdkafka itself names it as this producer; see ADR 0022.
"""

import ctypes
import logging
import os
import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import confluent_kafka
import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Producer, cimpl

from millrace_common.columns import Binaries

_log = logging.getLogger(__name__)

_COPY: Final = 2  # RD_KAFKA_MSG_F_COPY
_WORD_BYTES: Final = 8
_NAME_BYTES: Final = 128  # of an rd_kafka_t
# rd_kafka_message_t of rdkafka.h; part of its ABI since 0.9.
_MESSAGE: Final = np.dtype(
    [
        ("err", np.int32),
        ("topic", np.uintp),
        ("partition", np.int32),
        ("payload", np.uintp),
        ("len", np.uintp),
        ("key", np.uintp),
        ("key_len", np.uintp),
        ("offset", np.int64),
        ("private", np.uintp),
    ],
    align=True,
)


Codes = npt.NDArray[np.int32]


class Batches(Protocol):
    """Puts batches into the queue of one producer, which lives as long as this does."""

    def produce(
        self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None], partition: int
    ) -> Codes:
        """Queue records, in order, and return the error code of each; 0: it is queued."""


class Dictionaries:
    """Batches through the client's own call."""

    def __init__(self, producer: Producer) -> None:
        """Use `producer`."""
        self._producer = producer

    def produce(
        self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None], partition: int
    ) -> Codes:
        """Queue records, in order, and return the error code of each; 0: it is queued."""
        messages: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        codes = np.zeros(len(messages), dtype=np.int32)
        if self._producer.produce_batch(topic, messages, partition=partition) < len(messages):
            codes[:] = [message["_error"].code() if "_error" in message else 0 for message in messages]
        return codes


class Structs:
    """Batches as librdkafka takes them."""

    def __init__(self, producer: Producer, library: ctypes.CDLL, handle: int) -> None:
        """Use `batches_of` instead: a wrong handle ends the process."""
        self._producer = producer
        self._library = library
        self._handle = handle

    def produce(
        self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None], partition: int
    ) -> Codes:
        """Queue records, in order, and return the error code of each; 0: it is queued."""
        messages = np.zeros(len(values), dtype=_MESSAGE)
        held = _point(messages, "key", "key_len", keys), _point(messages, "payload", "len", values)
        place = self._library.rd_kafka_topic_new(self._handle, topic.encode(), None)
        if not place:
            return np.full(len(values), KafkaError._INVALID_ARG, dtype=np.int32)
        self._library.rd_kafka_produce_batch(place, partition, _COPY, messages.ctypes.data, len(messages))
        self._library.rd_kafka_topic_destroy(place)
        del held  # librdkafka has copied it
        codes: Codes = messages["err"].copy()
        return codes


def batches_of(producer: Producer, client_id: str) -> Batches:
    """Return the fastest way to hand batches to `producer`, whose client.id is `client_id`.

    To find its handle, nothing is followed that was not seen to be readable memory, and nothing is believed but
    librdkafka's own name of the client: `<client.id>#producer-<number>`. Without it there is a warning, and the
    client's own call.
    """
    if type(producer) is not Producer:  # one in memory
        return Dictionaries(producer)
    try:
        library = _library()
        return Structs(producer, library, _handle(producer, library, client_id))
    except (OSError, AttributeError, ValueError) as error:
        _log.warning("producing by dictionaries: the client's handle was not found", extra={"error": str(error)})
        return Dictionaries(producer)


def _library() -> ctypes.CDLL:
    """Return the librdkafka that the client is linked with: names are looked up in it and in what it has loaded.

    Raises:
        AttributeError: it has not the functions.
        ValueError: it is another version than the client says.
    """
    library = ctypes.PyDLL(cimpl.__file__)
    library.rd_kafka_name.argtypes = [ctypes.c_void_p]
    library.rd_kafka_name.restype = ctypes.c_void_p
    library.rd_kafka_topic_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.rd_kafka_topic_new.restype = ctypes.c_void_p
    library.rd_kafka_topic_destroy.argtypes = [ctypes.c_void_p]
    library.rd_kafka_topic_destroy.restype = None
    library.rd_kafka_produce_batch.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int,
    ]
    version, said = library.rd_kafka_version(), confluent_kafka.libversion()[1]
    if version != said:
        message = f"librdkafka {version:#x} is loaded, the client has {said:#x}"
        raise ValueError(message)
    return library


def _handle(producer: Producer, library: ctypes.CDLL, client_id: str) -> int:
    if type(producer).__basicsize__ < object.__basicsize__ + _WORD_BYTES:
        message = "the client's object has no fields"
        raise ValueError(message)
    # Reading through a file says "no such address" where a pointer would end the process.
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        first_field = os.pread(memory.fileno(), _WORD_BYTES, id(producer) + object.__basicsize__)
        handle = int.from_bytes(first_field, "little")
        # rd_kafka_name only adds to the pointer: the name is an array inside the struct.
        name = os.pread(memory.fileno(), _NAME_BYTES, library.rd_kafka_name(handle)).split(b"\0")[0]
    if not re.fullmatch(re.escape(client_id.encode()) + rb"#producer-[0-9]+", name):
        message = "what stands in its place is no producer of this name"
        raise ValueError(message)
    return handle


def _point(messages: npt.NDArray[np.void], pointer: str, length: str, parts: Sequence[bytes | None]) -> object:
    """Let `messages` point to `parts`, if need be in one buffer; return what they are good as long as it lives."""
    if isinstance(parts, Binaries):
        messages[length] = np.diff(parts.bounds)
        messages[pointer] = np.uintp(parts.address) + parts.bounds[:-1].astype(np.uintp)
        return parts
    missing: list[int] = []
    whole: Sequence[bytes] = parts  # type: ignore[assignment]  # if it is not so, asking for lengths says it
    try:
        lengths = _lengths(whole)
    except TypeError:
        missing = [row for row, part in enumerate(parts) if part is None]
        whole = [part or b"" for part in parts]
        lengths = _lengths(whole)
    buffer = np.frombuffer(b"".join(whole) or b"\0", dtype=np.uint8)  # a byte, if all are empty
    ends = np.cumsum(lengths, dtype=np.uintp)
    messages[length] = lengths
    messages[pointer] = np.uintp(buffer.ctypes.data) + ends - lengths
    messages[pointer][missing] = 0
    return buffer


def _lengths(parts: Sequence[bytes]) -> npt.NDArray[np.uintp]:
    return np.fromiter(map(len, parts), dtype=np.uintp, count=len(parts))
