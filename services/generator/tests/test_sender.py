from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from millrace_generator.schedule import Rate
from millrace_generator.sender import Failures, Sender
from millrace_generator.sending import skip
from millrace_generator.traffic import EVENTS, ORDERS, Fault, FaultKind, Record


class FakeClock:
    """Time that passes only while somebody waits, or when work is said to take some."""

    def __init__(self, stop_at: float = float("inf")) -> None:
        self.seconds = 100.0
        self.stop_at = 100.0 + stop_at

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += max(seconds, 1e-6)  # as any real clock, it always moves

    def stopped(self) -> bool:
        return self.seconds >= self.stop_at


class FakeProducer:
    """Takes messages while there is room; `poll` makes room. Every call of produce takes `cost_seconds`."""

    def __init__(self, clock: FakeClock, room: int = 10**9, cost_seconds: float = 0.0) -> None:
        self.clock, self.room, self.left, self.cost_seconds = clock, room, room, cost_seconds
        self.taken: list[tuple[float, str, bytes]] = []
        self.too_large: set[bytes] = set()

    def produce_batch(self, topic: str, messages: list[dict[str, Any]]) -> int:
        self.clock.seconds += self.cost_seconds
        queued = 0
        for message in messages:
            if message["value"] in self.too_large:
                message["_error"] = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
            elif self.left == 0:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
            else:
                self.left -= 1
                queued += 1
                self.taken.append((self.clock.seconds - 100.0, topic, message["value"]))
        return queued

    def poll(self, timeout: float) -> int:
        self.left = self.room
        return 0

    def flush(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0


def records(count: int, topic: str = EVENTS, step_ms: int = 1000) -> list[Record]:
    return [Record(topic, b"k", b"%d" % n, 5_000 + n * step_ms) for n in range(count)]


def run(sent: Sequence[Record], rate: Rate, **producer: Any) -> tuple[Sender, FakeProducer]:
    clock = FakeClock()
    fake = FakeProducer(clock, **producer)
    sender = Sender(fake, clock)
    sender.send(sent, rate)
    return sender, fake


def test_records_are_sent_evenly_at_a_rate() -> None:
    sender, producer = run(records(5), 10)
    assert [at for at, _, _ in producer.taken] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-5)
    assert sender.worst_lateness_seconds < 1e-5


def test_live_records_are_sent_at_their_own_time() -> None:
    _, producer = run(records(3, step_ms=2500), "live")
    assert [at for at, _, _ in producer.taken] == pytest.approx([0, 2.5, 5], abs=1e-5)


def test_intended_times_do_not_shift_when_the_producer_is_slow() -> None:
    sender, producer = run(records(30), 10, cost_seconds=0.25)
    # Nobody waits for a slow producer: what became due meanwhile goes out together, and its lateness is reported.
    assert [value for _, _, value in producer.taken] == [b"%d" % n for n in range(30)]
    assert producer.taken[-1][0] < 3.5
    assert 0.1 < sender.worst_lateness_seconds <= 0.25


def test_worst_lateness_counts_a_producer_that_falls_behind() -> None:
    sender, _ = run(records(5000), 1000, cost_seconds=3.0)
    assert sender.worst_lateness_seconds > 1.9


def test_maximum_rate_never_waits() -> None:
    sender, producer = run(records(2500), "max")
    assert {at for at, _, _ in producer.taken} == {0.0}
    assert sender.worst_lateness_seconds == 0


@given(st.lists(st.sampled_from([EVENTS, ORDERS]), max_size=60), st.integers(1, 7))
def test_full_queue_keeps_the_order_of_each_topic(topics: list[str], room: int) -> None:
    sent = [Record(topic, b"k", b"%d" % n, n) for n, topic in enumerate(topics)]
    sender, producer = run(sent, "max", room=room)
    for topic in (EVENTS, ORDERS):
        assert [v for _, t, v in producer.taken if t == topic] == [r.value for r in sent if r.topic == topic]
    assert sender.refused.count == 0


def test_record_the_producer_refuses_is_counted_and_the_others_go_on() -> None:
    clock = FakeClock()
    producer = FakeProducer(clock, room=2)
    producer.too_large = {b"1"}
    sender = Sender(producer, clock)
    assert sender.send(records(5), "max")
    assert [value for _, _, value in producer.taken] == [b"0", b"2", b"3", b"4"]
    assert sender.refused.count == 1
    assert "size" in sender.refused.first.lower()


def test_stop_ends_after_what_was_handed_over_and_observers_saw_exactly_that() -> None:
    clock = FakeClock(stop_at=1.05)
    producer = FakeProducer(clock)
    seen: list[Record] = []
    sender = Sender(producer, clock, observe=seen.extend)
    assert not sender.send(records(100), 10)
    assert [record.value for record in seen] == [value for _, _, value in producer.taken]
    assert 10 <= len(seen) <= 12


def test_throttle_holds_everything_back_while_it_says_so() -> None:
    clock = FakeClock()
    producer = FakeProducer(clock)
    Sender(producer, clock, throttle=lambda: clock.seconds < 103).send(records(3), "max")
    assert all(at >= 3 for at, _, _ in producer.taken)


def test_settle_is_told_how_much_is_queued_whenever_nothing_is_in_between() -> None:
    clock = FakeClock()
    producer = FakeProducer(clock, room=700)
    settled: list[tuple[int, int]] = []
    sender = Sender(producer, clock, settle=lambda sent: settled.append((sent, len(producer.taken))))
    assert sender.send(records(2_500), "max")
    assert settled[0] == (0, 0)
    assert {(1_000, 1_000), (2_000, 2_000)} <= set(settled)
    assert all(sent == taken for sent, taken in settled)


def test_settle_is_told_while_history_waits_too() -> None:
    clock = FakeClock()
    producer = FakeProducer(clock)
    times: list[float] = []
    sender = Sender(
        producer, clock, throttle=lambda: clock.seconds < 103, settle=lambda sent: times.append(clock.seconds - 100)
    )
    sender.send(records(3), "max")
    assert max(later - earlier for earlier, later in pairwise(times)) < 0.5


def test_what_earlier_runs_have_sent_is_made_again_for_the_observers_only() -> None:
    left, seen = iter(records(2_500)), list[Record]()
    skipped = skip(left, 2_100, seen.extend)
    assert skipped == {(EVENTS, ""): 2_100}
    assert [record.value for record in seen] == [b"%d" % n for n in range(2_100)]
    assert next(left).value == b"2100"


def test_lane_is_appended_to_topics() -> None:
    clock = FakeClock()
    producer = FakeProducer(clock)
    Sender(producer, clock, lane="backfill").send(records(1), "max")
    assert producer.taken[0][1] == "user-events.backfill"


def test_sent_records_are_counted_by_topic_and_fault() -> None:
    faulty = [record._replace(fault=Fault(FaultKind.INVALID, "validate", "empty_id")) for record in records(2)]
    sender, _ = run([*records(3), *faulty, *records(1, ORDERS)], "max")
    assert sender.sent == {(EVENTS, ""): 3, (EVENTS, "invalid"): 2, (ORDERS, ""): 1}


def test_first_failed_delivery_is_remembered() -> None:
    failures = Failures()
    failures.note(None)
    failures.note(KafkaError(KafkaError._MSG_TIMED_OUT))
    failures.note(KafkaError(KafkaError._FATAL))
    assert failures.count == 2
    assert "timed out" in failures.first.lower()
