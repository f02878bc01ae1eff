from collections.abc import Iterator
from threading import Event

import pytest

from millrace_common import transactions
from millrace_common.memory_kafka import MemoryKafka, MemoryProducer
from millrace_common.transactions import CALL_SECONDS, AbandonedError, TransactionalProducer, producer_properties


class HangingProducer(MemoryProducer):
    """Its next call to send offsets returns when `released` is set, whatever its timeout."""

    def __init__(self, kafka: MemoryKafka, released: Event) -> None:
        super().__init__(kafka)
        self._released = released

    def send_offsets_to_transaction(self, offsets: object, metadata: object, timeout: float) -> None:
        self._released.wait()


@pytest.fixture
def released() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def test_no_request_of_a_transaction_outlives_the_call_that_made_it() -> None:
    properties = producer_properties({"socket.timeout.ms": 60_000}, "ingest-0", 60.0)
    assert properties["socket.timeout.ms"] == CALL_SECONDS * 1000


def test_a_call_that_never_returns_counts_as_an_unknown_outcome(
    released: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CALL_SECONDS", 0.0)
    monkeypatch.setattr(transactions, "OVERDUE_SECONDS", 0.05)
    kafka = MemoryKafka({"ledger": 1})
    producers = iter([HangingProducer(kafka, released), MemoryProducer(kafka)])
    producer = TransactionalProducer("ingest-0", lambda: next(producers), lambda: False)
    producer.begin()
    with pytest.raises(AbandonedError, match="outcome unknown"):
        producer.commit([], None)
    producer.begin()
    producer.commit([], None)
    assert kafka.effects == ["init", "begin", "init", "purge", "begin", "send_offsets ", "commit"]
