"""Against a real broker and registry."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from millrace_generator.errors import InputError
from millrace_generator.faults import Faults, with_faults
from millrace_generator.partitions import partition_for
from millrace_generator.scenarios import window_plan
from millrace_generator.sending import Progress, Target, send
from millrace_generator.traffic import EVENTS, ORDERS, PRODUCTS, PROFILES
from millrace_generator.truth import read_truth, truth_file

pytestmark = pytest.mark.broker

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
FAULTS = Faults(duplicates=0.05, malformed=0.02, invalid=0.02, late=0.02, out_of_order=timedelta(seconds=60))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    testing = pytest.importorskip("millrace_local.testing", reason="the local stack is not installed")
    with testing.local_broker(tmp_path_factory.mktemp("stack")) as stack:
        yield Target(stack.bootstrap_servers, stack.registry_url)


def stored(target: Target, topic: str) -> list[tuple[int, bytes, bytes]]:
    """Return partition, key and value of all that is in `topic`."""
    consumer = Consumer(
        {"bootstrap.servers": target.bootstrap_servers, "group.id": "reader", "enable.auto.commit": False}
    )
    try:
        metadata = consumer.list_topics(topic, timeout=30).topics[topic]
        found: list[tuple[int, bytes, bytes]] = []
        for number in metadata.partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
            consumer.assign([TopicPartition(topic, number, 0)])
            position = 0
            while position < end:
                for message in consumer.consume(1000, timeout=0.5):
                    assert message.error() is None
                    found.append((number, message.key() or b"", message.value() or b""))
                    position = (message.offset() or 0) + 1
        return found
    finally:
        consumer.close()


def test_all_that_was_sent_is_stored_once_where_the_truth_says(target: Target, tmp_path: Path) -> None:
    plan = with_faults(window_plan(START, START + timedelta(hours=3), 3_000), FAULTS)
    told: list[Progress] = []
    with truth_file(tmp_path / "truth", plan) as observers:
        report = send(plan, target, observers=observers, progress=told.append)
    assert (report.failed, report.stopped, report.first_failure) == (0, False, "")
    events = stored(target, EVENTS)
    partitions = 1 + max(partition for partition, _, _ in events)
    assert all(partition == partition_for(key, partitions) for partition, key, _ in events)
    everything = {topic: len(stored(target, topic)) for topic in (ORDERS, PRODUCTS, PROFILES)} | {EVENTS: len(events)}
    sent: Counter[str] = Counter()
    for (topic, _), number in report.sent.items():
        sent[topic] += number
    assert everything == sent
    [totals] = read_truth(tmp_path / "truth")["totals"]
    assert (totals["events"], totals["orders"]) == (report.good(EVENTS), report.good(ORDERS))
    assert told[-1].records + 1_000 == report.records  # the products come before
    assert told[-1].good_events == report.good(EVENTS)


def test_unknown_lane_is_one_clear_message(target: Target) -> None:
    plan = window_plan(START, START + timedelta(hours=1), 10)
    with pytest.raises(InputError, match=r"user-events\.nowhere"):
        send(plan, target, lane="nowhere")
