"""A history that is cut, and gone on with."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from millrace_generator.errors import DeliveryError, InputError
from millrace_generator.resuming import Bookmark, Transactions

ASKED = {"days": 30.0, "events_per_day": 20_000.0, "seed": 1.0}


class Broker:
    """Keeps what was committed; stands in for the producer and for the consumer that reads the bookmark."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.bookmark = TopicPartition("user-events.backfill", 0, -1001)
        self._open: list[Any] | None = None
        self._pending: TopicPartition | None = None
        self.fails = False

    def init_transactions(self, timeout: float) -> None:
        self._open = self._pending = None

    def begin_transaction(self) -> None:
        assert self._open is None
        self._open = []

    def produce_batch(self, topic: str, messages: list[dict[str, Any]]) -> int:
        assert self._open is not None
        self._open += messages
        return len(messages)

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], metadata: object, timeout: float) -> None:
        (self._pending,) = offsets

    def commit_transaction(self, timeout: float) -> None:
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        assert self._open is not None
        assert self._pending is not None
        self.records, self.bookmark, self._open = self.records + self._open, self._pending, None

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [self.bookmark]

    def consumer_group_metadata(self) -> object:
        return None


class Clock:
    now_seconds = 0.0

    def __call__(self) -> float:
        return self.now_seconds


def run(broker: Broker, clock: Clock | None = None) -> Transactions:
    return Transactions(broker, broker, "backfill", clock or Clock())


def test_records_and_bookmark_come_together_after_half_a_second() -> None:
    broker, clock = Broker(), Clock()
    history = run(broker, clock)
    history.resume(ASKED, 1_000, anew=False)
    history.produce_batch("t", [{"value": b"1"}, {"value": b"2"}])
    clock.now_seconds = 0.4
    history.settle(2)
    assert (broker.records, broker.bookmark.offset) == ([], -1001)
    clock.now_seconds = 0.5
    history.settle(2)
    assert (len(broker.records), broker.bookmark.offset) == (2, 2)


def test_a_run_that_was_killed_leaves_nothing_behind_its_bookmark() -> None:
    broker = Broker()
    killed = run(broker)
    killed.resume(ASKED, 1_000, anew=False)
    killed.produce_batch("t", [{"value": b"1"}])
    killed.settle(1, at_once=True)
    killed.produce_batch("t", [{"value": b"2"}])
    found = run(broker).resume(ASKED, 2_000, anew=False)
    assert found == Bookmark(ASKED, 1_000, sent=1)  # the same history: it ends where it was to end
    assert len(broker.records) == 1


def test_another_history_than_the_one_that_was_cut_is_refused_and_named() -> None:
    broker = Broker()
    killed = run(broker)
    killed.resume(ASKED, 1_000, anew=False)
    killed.produce_batch("t", [{}])
    killed.settle(1, at_once=True)
    with pytest.raises(InputError, match=r"--days 30 --events-per-day 20000 --seed 1 was cut after 1 records.*--anew"):
        run(broker).resume({**ASKED, "days": 7.0}, 2_000, anew=False)
    assert run(broker).resume({**ASKED, "days": 7.0}, 2_000, anew=True).sent == 0


def test_after_a_history_that_is_over_another_one_begins() -> None:
    broker = Broker()
    first = run(broker)
    first.resume(ASKED, 1_000, anew=False)
    first.produce_batch("t", [{}])
    first.settle(1, at_once=True)
    first.finish()
    assert run(broker).resume(ASKED, 2_000, anew=False) == Bookmark(ASKED, 2_000)


def test_an_end_that_cannot_be_noted_is_said() -> None:
    broker = Broker()
    history = run(broker)
    history.resume(ASKED, 1_000, anew=False)
    broker.fails = True
    with pytest.raises(DeliveryError, match="could not be noted"):
        history.finish()
