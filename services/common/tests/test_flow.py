"""A whole flow in memory: source, one step, sink, through Bytewax."""

from dataclasses import dataclass, field

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from confluent_kafka import KafkaError

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import RowEncoder
from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka, MemoryProducer, MemoryTopology, failure
from millrace_common.positions import GroupPositions
from millrace_common.records import Counts, Outcome, Output, Partition, Polled, SinkItem, SourceItem
from millrace_common.sink import SinkConfig, TransactionalSink
from millrace_common.snapshots import SnapshotWriter
from millrace_common.source import GroupConfig, GroupSource
from millrace_schemas import schema_text

FIRST, SECOND = Partition("in", 0), Partition("in", 1)
POLLS_AT_MOST = 500


def pass_through(item: SourceItem) -> SinkItem:
    if not isinstance(item, Polled):
        return item
    output = Output("out", [record.key() for record in item.records], [record.value() for record in item.records])
    return Outcome(item.span, Counts(len(item.records), len(item.records)), (output,), records=item.records)


@dataclass
class Bench:
    """Runs the flow until everything appended is committed; a poll takes `poll_seconds` by its clock."""

    kafka: MemoryKafka = field(default_factory=lambda: MemoryKafka({"in": 2, "out": 2, "dead-letters": 2, "ledger": 2}))
    assignments: Assignments = field(default_factory=Assignments)
    poll_seconds: float = 0.06
    polls: int = 0
    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.consumer = MemoryConsumer(self.kafka)

    def done(self) -> bool:
        return all(self.kafka.committed.get(place, (0, ""))[0] == self.kafka.ends[place] for place in (FIRST, SECOND))

    def stopping(self) -> bool:
        """Stop when all is committed, or never will be."""
        self.polls += 1
        self.now += self.poll_seconds
        return self.done() or self.polls > POLLS_AT_MOST

    def run(self) -> None:
        source = GroupSource(
            config=GroupConfig({}, "pass", ("in",), 1_000),
            assignments=self.assignments,
            topology=MemoryTopology(self.kafka),
            make_positions=lambda consumer: GroupPositions(consumer, 1.0),
            stopping=self.stopping,
            clock=lambda: self.now,
            make_consumer=lambda properties: self.consumer,
        )
        sink = TransactionalSink(
            config=SinkConfig("pass", "pass-0", "dead-letters", "ledger", 0.1, 1_000_000),
            assignments=self.assignments,
            make_producer=lambda: MemoryProducer(self.kafka),
            group_metadata=lambda: "group",
            partition_counts=self.kafka.counts,
            dead_letter_encoder=RowEncoder(schema_text("dead-letters"), 8),
            ledger_encoder=RowEncoder(schema_text("ledger"), 9),
            brake=Brake(10_000, 0.5),
            snapshots=SnapshotWriter(None),
            stopping=lambda: False,
            clock=lambda: self.now,
        )
        self.consumer.rebalance("assign", FIRST, SECOND)
        flow = Dataflow("pass")
        items = op.input("read", flow, source)
        op.output("write", op.map("pass_through", items, pass_through), sink)
        run_main(flow)  # type: ignore[no-untyped-call]  # Bytewax's Rust side has no types
        sink.writer.close()

    def out(self, place: Partition) -> list[bytes | None]:
        return [record.value for record in self.kafka.visible if record.place == Partition("out", place.index)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_flow_stops_by_its_flag_with_everything_committed_in_order(bench: Bench) -> None:
    bench.kafka.append(FIRST, b"a", b"b", b"c")
    bench.kafka.append(SECOND, b"x")
    bench.run()
    assert bench.kafka.effects == [
        "init",
        "begin",
        "produce out[0] 3",
        "produce out[1] 1",
        "produce ledger[0] 1",
        "produce ledger[1] 1",
        "send_offsets in[0] 3, in[1] 1",
        "commit",
    ]
    assert bench.out(FIRST) == [b"a", b"b", b"c"]
    assert bench.out(SECOND) == [b"x"]


def test_a_commit_does_not_wait_for_the_next_record(bench: Bench) -> None:
    bench.kafka.append(FIRST, b"a")
    bench.run()
    # 100 ms are two polls; the next tick would have come only after a second, 17 polls.
    assert bench.done()
    assert bench.polls <= 5


def test_unseen_offsets_at_the_end_are_committed_too(bench: Bench) -> None:
    bench.kafka.append(FIRST, b"a")
    bench.kafka.append_unseen(FIRST, 2)
    bench.kafka.append_unseen(SECOND, 1)
    bench.run()
    assert bench.done()
    assert bench.out(FIRST) == [b"a"]


def test_every_kind_of_failure_costs_nothing_and_doubles_nothing(bench: Bench) -> None:
    bench.consumer.most = 7
    bench.kafka.append(FIRST, *(b"%d" % number for number in range(100)))
    bench.kafka.append(SECOND, *(b"%d" % number for number in range(50)))
    unknown, abortable = (
        failure(KafkaError._TIMED_OUT, retriable=True),
        failure(KafkaError.ILLEGAL_GENERATION, abort=True),
    )
    bench.kafka.fail("begin_transaction", abortable)
    bench.kafka.fail("send_offsets", abortable)
    bench.kafka.fail("send_offsets", unknown, effective=True)
    bench.kafka.fail("commit_transaction", unknown, effective=True)
    bench.kafka.fail("commit_transaction", unknown)
    bench.kafka.fail("commit_transaction", abortable)
    bench.kafka.fail("abort_transaction", unknown)
    bench.kafka.fail("init_transactions", unknown)
    bench.run()
    assert bench.done()
    assert bench.out(FIRST) == [b"%d" % number for number in range(100)]
    assert bench.out(SECOND) == [b"%d" % number for number in range(50)]


def test_a_partition_that_goes_and_comes_back_is_read_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.consumer.most = 5
    bench.kafka.append(FIRST, *(b"%d" % number for number in range(60)))
    bench.kafka.append(SECOND, *(b"%d" % number for number in range(30)))
    original = bench.consumer.consume

    def consume(num_messages: int, timeout: float) -> list[object]:
        match bench.polls:
            case 3 | 9:
                bench.consumer.rebalance("revoke", FIRST)
            case 5 | 11:
                bench.consumer.rebalance("assign", FIRST)
            case 14:
                bench.consumer.rebalance("lost", FIRST, SECOND)
                bench.consumer.rebalance("assign", FIRST, SECOND)
        return list(original(num_messages, timeout))

    monkeypatch.setattr(bench.consumer, "consume", consume)
    bench.run()
    assert bench.done()
    assert bench.out(FIRST) == [b"%d" % number for number in range(60)]
    assert bench.out(SECOND) == [b"%d" % number for number in range(30)]


def test_what_the_client_hands_out_again_within_a_transaction_is_taken_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.consumer.most = 5
    bench.poll_seconds = 0.02  # five polls to a transaction
    bench.kafka.append(FIRST, *(b"%d" % number for number in range(20)))
    original = bench.consumer.consume

    def consume(num_messages: int, timeout: float) -> list[object]:
        if bench.polls in (3, 6):
            bench.consumer.positions[FIRST] -= 3
        return list(original(num_messages, timeout))

    monkeypatch.setattr(bench.consumer, "consume", consume)
    bench.run()
    assert bench.done()
    assert bench.out(FIRST) == [b"%d" % number for number in range(20)]
