"""Sending a history so that a run that was cut is gone on with, without a gap and without a repetition.

Each transaction carries records together with the bookmark behind them: the offset of a group of its own
(`millrace-generate.<lane>`) on partition 0 of the lane's user-events counts the records of the plan that are sent, and
its metadata says what the plan was made of. Who begins takes over the transactional id first, which ends what a killed
run has left open, and reads the bookmark after that. The broker keeps bookmarks for a week.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from millrace_common.groups import onlooker
from millrace_generator.errors import DeliveryError, InputError
from millrace_generator.sending import PRODUCER_SETTINGS, Target
from millrace_generator.traffic import EVENTS
from millrace_schemas import in_lane

_NAME: Final = "millrace-generate"
# What a killed run leaves open holds up the readers for this long, if nobody goes on with it.
_TRANSACTION_SECONDS: Final = 30.0
_CALL_SECONDS: Final = 60.0
_COMMIT_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a history was sent.

    Attributes:
        asked: the options it was asked for with.
        end_ms: where it ends; epoch milliseconds, UTC.
        sent: how many records of its plan, faults included, are in the topics.
        over: it is through, its sessions are closed.
    """

    asked: Mapping[str, float]
    end_ms: int
    sent: int = 0
    over: bool = False

    def metadata(self) -> str:
        """Return what is stored beside `sent`."""
        return json.dumps({"asked": self.asked, "end_ms": self.end_ms, "over": self.over}, separators=(",", ":"))

    @classmethod
    def committed(cls, sent: int, metadata: str) -> "Bookmark":
        """Return what was stored."""
        return cls(sent=sent, **json.loads(metadata))


class Transactions:
    """A producer whose records become visible together with the bookmark behind them; `send` produces through it."""

    def __init__(self, producer: Producer, consumer: Consumer, lane: str, now: Callable[[], float]) -> None:
        """Take over from an earlier run.

        Raises:
            KafkaException: the broker does not answer.
        """
        self._producer = producer
        self._consumer = consumer
        self._now = now
        self._lane = lane
        self._began: float | None = None
        producer.init_transactions(_CALL_SECONDS)
        # None at all is like one that is over.
        self._bookmark = _read(consumer, lane) or Bookmark({}, 0, over=True)

    def resume(self, asked: Mapping[str, float], end_ms: int, *, anew: bool) -> Bookmark:
        """Return the bookmark to go on from; a new one up to `end_ms` if there is none, or `anew` is wanted.

        Raises:
            InputError: another history than the one that is `asked` for was cut.
        """
        if self._bookmark.over or anew:
            self._bookmark = Bookmark(asked, end_ms)
        found = self._bookmark
        if found.asked != asked:
            options = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in found.asked.items() if value)
            message = (
                f"a history asked for with {options} was cut after {found.sent:,} records: go on with that one, "
                "or forget it with --anew"
            )
            raise InputError(message)
        return found

    def produce_batch(self, topic: str, messages: list[dict[str, Any]]) -> int:
        """Queue messages in the open transaction; return how many."""
        if self._began is None:
            self._producer.begin_transaction()
            self._began = self._now()
        queued: int = self._producer.produce_batch(topic, messages)
        return queued

    def poll(self, timeout: float) -> int:
        """Serve delivery reports."""
        served: int = self._producer.poll(timeout)
        return served

    def flush(self) -> int:
        """Wait until every queued message is acknowledged."""
        left: int = self._producer.flush()
        return left

    def __len__(self) -> int:
        """Return how many messages are queued or in flight."""
        return len(self._producer)

    def settle(self, sent: int, *, at_once: bool = False) -> None:
        """Take note that all of the first `sent` records of the plan are queued; commit when it is time.

        Raises:
            KafkaException: the transaction did not get through; the next run finds out how far it got.
        """
        if self._began is not None and (at_once or self._now() - self._began >= _COMMIT_SECONDS):
            self._commit(sent=sent)

    def finish(self) -> None:
        """Write down that this history is over: the next run begins another one.

        Raises:
            DeliveryError: that could not be written; the next run does it.
        """
        try:
            if self._began is None:
                self._producer.begin_transaction()
            self._commit(over=True)
        except KafkaException as error:
            message = f"all is sent, but the end could not be noted: {error.args[0].str()}"
            raise DeliveryError(message) from error

    def _commit(self, **changes: Any) -> None:
        bookmark = replace(self._bookmark, **changes)
        place = TopicPartition(in_lane(EVENTS, self._lane), 0, bookmark.sent, bookmark.metadata())
        self._producer.send_offsets_to_transaction([place], self._consumer.consumer_group_metadata(), _CALL_SECONDS)
        self._producer.commit_transaction(_CALL_SECONDS)
        self._bookmark, self._began = bookmark, None


def read_bookmark(target: Target, lane: str) -> Bookmark | None:
    """Return how far the history in `lane` was sent; None: none ever was.

    Raises:
        KafkaException: the broker does not answer.
    """
    with onlooker({**target.kafka, "bootstrap.servers": target.bootstrap_servers}, in_lane(_NAME, lane)) as consumer:
        return _read(consumer, lane)


def _read(consumer: Consumer, lane: str) -> Bookmark | None:
    (found,) = consumer.committed([TopicPartition(in_lane(EVENTS, lane), 0)], timeout=_CALL_SECONDS)
    if found.error is not None:
        raise KafkaException(found.error)
    return None if found.offset < 0 else Bookmark.committed(found.offset, found.metadata)


@contextmanager
def transactions(target: Target, lane: str) -> Iterator[Transactions]:
    """Give the transactions of the history in `lane`, taken over from whoever sent it before.

    Raises:
        InputError: the broker does not answer.
    """
    name = in_lane(_NAME, lane)
    client = {**target.kafka, "bootstrap.servers": target.bootstrap_servers}
    settings = {
        **PRODUCER_SETTINGS,
        **client,
        "transactional.id": name,
        "transaction.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
        "delivery.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
    }
    producer = Producer(settings)
    with onlooker(client, name) as consumer:
        try:
            history = Transactions(producer, consumer, lane, time.monotonic)
        except KafkaException as error:
            message = f"the broker does not answer: {error.args[0].str()}"
            raise InputError(message) from error
        yield history
