import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError

from millrace_common import failpoints
from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import RowEncoder
from millrace_common.errors import BrakeError, FatalError, FencedError
from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.memory_kafka import MemoryKafka, MemoryProducer, Produced, failure
from millrace_common.positions import metadata_text
from millrace_common.records import (
    Assigned,
    Committed,
    Counts,
    Outcome,
    Output,
    Partition,
    Reject,
    Replayed,
    Span,
    Tick,
)
from millrace_common.sink import MOST_GIVEN_UP, SinkConfig, TransactionalSink, Transactions
from millrace_common.snapshots import Snapshot, SnapshotStore, SnapshotWriter
from millrace_common.testing import Record, avro_datum
from millrace_common.transactions import TransactionalProducer, producer_properties
from millrace_schemas import schema_text

FIRST, SECOND = Partition("in", 0), Partition("in", 1)
STATE = pa.table({"open": [1]})


class LoggedSnapshots(SnapshotWriter):
    """Notes what it is told, among the effects on Kafka."""

    def __init__(self, effects: list[str]) -> None:
        super().__init__(None)
        self.effects = effects

    def submit(self, snapshot: Snapshot) -> None:
        self.effects.append(f"snapshot {snapshot.partition} {snapshot.offset}")

    def wait_until_written(self, snapshot: Snapshot, stopping: Callable[[], bool]) -> None:
        self.effects.append(f"written {snapshot.partition} {snapshot.offset}")


@dataclass
class Bench:
    """A sink over a Kafka in memory; its partitions are ours from offset 0 on."""

    now: float = 1_000.0
    stopping: bool = False
    max_records: int = 1_000
    call_clock: Callable[[], float] = time.monotonic
    brake: Brake = field(default_factory=lambda: Brake(10_000, 0.5))
    kafka: MemoryKafka = field(default_factory=lambda: MemoryKafka({"in": 2, "out": 2, "dead-letters": 2, "ledger": 2}))
    assignments: Assignments = field(default_factory=Assignments)
    generations: dict[Partition, int] = field(default_factory=dict)
    writer: Transactions = field(init=False)

    def __post_init__(self) -> None:
        self.writer = TransactionalSink(
            config=SinkConfig("ingest", "ingest-0", "dead-letters", "ledger", 0.1, self.max_records),
            assignments=self.assignments,
            make_producer=lambda: MemoryProducer(self.kafka),
            group_metadata=lambda: "group",
            partition_counts=self.kafka.counts,
            dead_letter_encoder=RowEncoder(schema_text("dead-letters"), 8),
            ledger_encoder=RowEncoder(schema_text("ledger"), 9),
            brake=self.brake,
            snapshots=LoggedSnapshots(self.kafka.effects),
            stopping=lambda: self.stopping,
            clock=lambda: self.now,
            take_over=partial(TransactionalProducer, clock=self.call_clock),
        ).writer
        self.assign(FIRST, SECOND)
        self.kafka.effects.clear()

    def assign(self, *places: Partition) -> None:
        """Do what the source does: own `places` from their committed offsets on."""
        committed: dict[Partition, Committed] = {}
        for place in places:
            offset, metadata = self.kafka.committed.get(place, (0, "{}"))
            facts = json.loads(metadata)
            committed[place] = Committed(
                offset, facts.get("w"), facts.get("t"), tuple(facts.get("b", ())), facts.get("d")
            )
        self.assignments.topic_ids = {"in": "id-of-in"}
        self.generations |= self.assignments.begin(committed)
        for place, at in committed.items():
            generation = self.generations[place]
            self.writer.take(Assigned(place, generation, None))
            self.writer.take(Replayed(place, generation, at.offset, at.watermark_ms))

    def rewind(self) -> str | None:
        """Answer a request to rewind as the source does; return its reason."""
        reason = self.assignments.take_rewind_request()
        if reason is not None:
            self.assign(*self.assignments.owned())
        return reason

    def outcome(
        self,
        first: int,
        count: int,
        *,
        place: Partition = FIRST,
        dead: int = 0,
        watermark_ms: int | None = None,
        state: pa.Table | None = None,
        sealed: bool = False,
        muted: bool = False,
        generation: int | None = None,
    ) -> Outcome:
        """Return an outcome that forwards records `first`.. to `out`, the last `dead` of them to dead letters."""
        records = [Record(b"v%d" % n, b"k%d" % n, n, 7) for n in range(first, first + count)]
        good = records[: count - dead]
        return Outcome(
            span=Span(place, generation or self.generations[place], first, first + count, muted=muted),
            counts=Counts(count, count - dead, dead),
            outputs=(Output("out", [r.key() for r in good], [r.value() for r in good]),) if good else (),
            rejects=tuple(Reject(row, "validate", "bad_ip", "no ip") for row in range(count - dead, count)),
            records=records,
            watermark_ms=watermark_ms,
            state=state,
            sealed=sealed,
        )

    def take(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.writer.take(outcome)

    def tick(self, offset: int, *, idle_ms: int = 1_000, place: Partition = FIRST) -> None:
        self.writer.take(Tick(place, self.generations[place], offset, 0, idle_ms))

    def effects(self) -> list[str]:
        """Return what was done to Kafka since the last call."""
        effects = list(self.kafka.effects)
        self.kafka.effects.clear()
        return effects

    def visible(self, topic: str) -> list[Produced]:
        return [record for record in self.kafka.visible if record.place.topic == topic]

    def out(self, place: Partition = FIRST) -> list[bytes | None]:
        return [record.value for record in self.visible("out") if record.place.index == place.index]

    def ledger(self) -> list[LedgerRow]:
        rows = []
        for record in self.visible("ledger"):
            row = avro_datum(schema_text("ledger"), record.value or b"")
            rows.append(
                LedgerRow(
                    service=row["service"],
                    instance=row["instance"],
                    partition=Partition(row["topic"], row["partition"]),
                    topic_id=row["topic_id"],
                    first_offset=row["first_offset"],
                    next_offset=row["next_offset"],
                    counts=Counts(row["records_in"], row["forwarded"], row["dead"], row["duplicate"], row["late"]),
                    emitted=row["emitted"],
                    committed_at_ms=row["committed_at"],
                )
            )
        return rows

    def metadata(self, place: Partition = FIRST) -> dict[str, object]:
        found = json.loads(self.kafka.committed[place][1])
        assert isinstance(found, dict)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_effects_come_in_order(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3, dead=1, state=STATE), bench.outcome(0, 2, place=SECOND))
    bench.writer.commit()
    assert bench.effects() == [
        "begin",
        "produce out[0] 2",
        "produce dead-letters[0] 1",
        "produce out[1] 2",
        "produce ledger[0] 1",
        "produce ledger[1] 1",
        "send_offsets in[0] 3, in[1] 2",
        "commit",
        "snapshot in[0] 3",
    ]


def test_failpoints_stand_on_both_sides_of_each_effect(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "reach", bench.kafka.effects.append)
    bench.take(bench.outcome(0, 3, state=STATE))
    bench.writer.commit()
    assert bench.effects() == [
        "begin",
        "produce.before",
        "produce out[0] 3",
        "produce.after",
        "produce.before",
        "produce ledger[0] 1",
        "produce.after",
        "send_offsets.before",
        "send_offsets in[0] 3",
        "send_offsets.after",
        "commit_transaction.before",
        "commit",
        "commit_transaction.after",
        "snapshot in[0] 3",
    ]


def test_nothing_is_visible_before_the_commit(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3))
    assert bench.kafka.visible == []
    assert bench.kafka.committed == {}
    bench.writer.commit()
    assert bench.out() == [b"v0", b"v1", b"v2"]
    assert bench.kafka.committed[FIRST][0] == 3


def test_records_keep_key_value_and_partition_number(bench: Bench) -> None:
    bench.take(bench.outcome(5, 1, place=SECOND))
    bench.writer.commit()
    assert bench.visible("out") == [Produced(Partition("out", 1), b"k5", b"v5")]


def test_a_commit_is_due_after_the_interval(bench: Bench) -> None:
    bench.take(bench.outcome(0, 1))
    bench.now += 0.09
    bench.writer.commit_if_due()
    assert bench.kafka.committed == {}
    bench.now += 0.02
    bench.writer.commit_if_due()
    assert bench.kafka.committed[FIRST][0] == 1


def test_when_nothing_waits_a_commit_is_due_at_once_but_not_more_often(bench: Bench) -> None:
    bench.take(bench.outcome(0, 1))
    bench.writer.commit_if_due(nothing_waits=True)
    assert bench.kafka.committed[FIRST][0] == 1
    bench.now += 0.06
    bench.take(bench.outcome(1, 1))
    bench.writer.commit_if_due(nothing_waits=True)
    assert bench.kafka.committed[FIRST][0] == 1
    bench.now += 0.05
    bench.writer.commit_if_due()
    assert bench.kafka.committed[FIRST][0] == 1
    bench.writer.commit_if_due(nothing_waits=True)
    assert bench.kafka.committed[FIRST][0] == 2


def test_a_commit_is_due_after_enough_records() -> None:
    bench = Bench(max_records=10)
    bench.take(bench.outcome(0, 9))
    bench.writer.commit_if_due()
    assert bench.kafka.committed == {}
    bench.take(bench.outcome(9, 1))
    bench.writer.commit_if_due()
    assert bench.kafka.committed[FIRST][0] == 10


def test_nothing_open_is_nothing_to_commit(bench: Bench) -> None:
    bench.writer.commit_if_due()
    assert bench.writer.commit()
    assert bench.effects() == []


def test_an_outcome_of_an_older_generation_is_dropped(bench: Bench) -> None:
    before = bench.outcome(0, 3)
    bench.assign(FIRST)
    bench.take(before)
    bench.writer.commit()
    assert bench.effects() == []


def test_an_outcome_of_a_partition_that_is_gone_is_dropped(bench: Bench) -> None:
    before = bench.outcome(0, 3)
    bench.assignments.end([FIRST])
    bench.take(before)
    assert bench.effects() == []


def test_a_muted_outcome_is_dropped(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3, muted=True))
    bench.writer.commit()
    assert bench.effects() == []


def test_a_dead_letter_has_the_exact_bytes_place_and_reason(bench: Bench) -> None:
    bench.take(bench.outcome(4, 2, dead=1, place=SECOND))
    bench.writer.commit()
    (record,) = bench.visible("dead-letters")
    assert record.key == b"k5"
    assert avro_datum(schema_text("dead-letters"), record.value or b"") == {
        "service": "ingest",
        "stage": "validate",
        "reason": "bad_ip",
        "detail": "no ip",
        "source_topic": "in",
        "source_partition": 1,
        "source_offset": 5,
        "source_timestamp": 7,
        "key": b"k5",
        "value": b"v5",
        "occurred_at": 1_000_000,
    }


def test_the_ledger_row_says_what_the_commit_did(bench: Bench) -> None:
    bench.take(bench.outcome(0, 5, dead=2), bench.outcome(5, 3))
    bench.writer.commit()
    (row,) = bench.ledger()
    assert row == LedgerRow(
        service="ingest",
        instance="ingest-0",
        partition=FIRST,
        topic_id="id-of-in",
        first_offset=0,
        next_offset=8,
        counts=Counts(8, 6, 2),
        emitted={"out": 6, "dead-letters": 2},
        committed_at_ms=1_000_000,
    )


def test_commit_metadata_has_watermark_topic_id_and_brake(bench: Bench) -> None:
    bench.take(bench.outcome(0, 5, dead=2, watermark_ms=77))
    bench.writer.commit()
    assert bench.metadata() == {"w": 77, "t": "id-of-in", "b": [5, 2], "d": 4}


def test_a_commit_without_a_dead_record_keeps_the_offset_of_the_latest_one(bench: Bench) -> None:
    bench.take(bench.outcome(0, 5, dead=2))
    bench.writer.commit()
    bench.take(bench.outcome(5, 1))
    bench.writer.commit()
    assert bench.metadata()["d"] == 4
    bench.assign(FIRST)
    bench.take(bench.outcome(6, 1))
    bench.writer.commit()
    assert bench.metadata()["d"] == 4


def test_a_commit_without_a_new_watermark_keeps_the_one_before(bench: Bench) -> None:
    bench.take(bench.outcome(0, 1, watermark_ms=77))
    bench.writer.commit()
    bench.take(bench.outcome(1, 1))
    bench.writer.commit()
    assert bench.metadata()["w"] == 77


def test_a_restart_keeps_the_committed_watermark(bench: Bench) -> None:
    bench.kafka.committed[FIRST] = (3, metadata_text(55, "id-of-in", ()))
    bench.assign(FIRST)
    bench.tick(5)
    bench.writer.commit()
    assert bench.metadata() == {"w": 55, "t": "id-of-in"}


def test_ledger_rows_are_contiguous_over_commits_and_unseen_offsets(bench: Bench) -> None:
    bench.take(bench.outcome(0, 5))
    bench.writer.commit()
    bench.tick(9)  # control records behind the last one
    bench.writer.commit()
    bench.take(bench.outcome(12, 3))  # control records before the first one
    bench.tick(15)
    bench.writer.commit()
    ranges = [(row.first_offset, row.next_offset, row.counts.read) for row in bench.ledger()]
    assert ranges == [(0, 5, 5), (5, 9, 0), (9, 15, 3)]
    assert find_gaps(bench.ledger()) == []
    assert bench.kafka.committed[FIRST][0] == 15


def test_a_tick_that_is_not_idle_or_not_ahead_commits_nothing(bench: Bench) -> None:
    bench.tick(4, idle_ms=999)
    bench.tick(0)
    bench.writer.commit()
    assert bench.effects() == []


def test_an_outcome_between_records_is_committed_without_a_range(bench: Bench) -> None:
    bench.take(bench.outcome(0, 0, watermark_ms=99))
    bench.writer.commit()
    assert bench.effects() == ["begin", "send_offsets in[0] 0", "commit"]
    assert bench.metadata()["w"] == 99


def test_a_sealed_outcome_commits_and_waits_for_its_snapshot_at_once(bench: Bench) -> None:
    bench.take(bench.outcome(0, 2))
    bench.take(bench.outcome(2, 0, watermark_ms=99, state=STATE, sealed=True))
    bench.take(bench.outcome(2, 1))
    assert bench.effects() == [
        "begin",
        "produce out[0] 2",
        "produce ledger[0] 1",
        "send_offsets in[0] 2",
        "commit",
        "snapshot in[0] 2",
        "written in[0] 2",
        "begin",
        "produce out[0] 1",
    ]


def test_a_sealed_outcome_whose_commit_fails_waits_for_nothing(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
    bench.take(bench.outcome(0, 0, watermark_ms=99, state=STATE, sealed=True))
    assert not any(effect.startswith(("snapshot", "written")) for effect in bench.effects())


@pytest.mark.parametrize("call", ["begin_transaction", "send_offsets", "commit_transaction"])
def test_an_abortable_error_aborts_and_rewinds(bench: Bench, call: str) -> None:
    bench.kafka.fail(call, failure(KafkaError.ILLEGAL_GENERATION, abort=True))
    bench.take(bench.outcome(0, 3))
    bench.writer.commit()
    assert bench.effects()[-1] == "abort"
    assert bench.kafka.visible == []
    bench.take(bench.outcome(3, 1))  # on its way already
    assert bench.effects() == []
    assert bench.rewind() == "ILLEGAL_GENERATION"
    bench.take(bench.outcome(0, 3))
    assert bench.writer.commit()
    assert bench.out() == [b"v0", b"v1", b"v2"]


@pytest.mark.parametrize("call", ["send_offsets", "commit_transaction"])
@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.REQUEST_TIMED_OUT])
def test_after_an_unknown_outcome_a_new_producer_comes_first(
    bench: Bench, call: str, effective: bool, code: int
) -> None:
    bench.kafka.fail(call, failure(code, retriable=True), effective=effective)
    bench.take(bench.outcome(0, 3))
    assert not bench.writer.commit()
    effects = bench.effects()
    assert effects[effects.index(f"{call} failed") :] == [f"{call} failed", "init", "purge"]
    reason = bench.rewind()
    assert reason is not None
    assert reason.startswith("outcome unknown")
    committed = bench.kafka.committed.get(FIRST, (0, ""))[0]
    assert committed == (3 if effective and call == "commit_transaction" else 0)
    bench.take(bench.outcome(committed, 5 - committed))
    assert bench.writer.commit()
    assert bench.out() == [b"v%d" % n for n in range(5)]
    assert find_gaps(bench.ledger()) == []


@pytest.mark.parametrize("effective", [False, True])
def test_an_abort_with_an_unknown_outcome_replaces_the_producer_too(bench: Bench, effective: bool) -> None:
    bench.kafka.fail("send_offsets", failure(KafkaError.ILLEGAL_GENERATION, abort=True))
    bench.kafka.fail("abort_transaction", failure(KafkaError._TIMED_OUT, retriable=True), effective=effective)
    bench.take(bench.outcome(0, 3))
    assert not bench.writer.commit()
    assert bench.effects()[-3:] == ["abort_transaction failed", "init", "purge"]
    assert bench.rewind() is not None


def test_a_partition_that_never_committed_gets_a_position_at_once(bench: Bench) -> None:
    new = Partition("in", 1)
    generation = bench.assignments.begin({new: None})[new]
    bench.writer.take(Replayed(new, generation, 7, None))
    assert bench.writer.commit()
    assert bench.kafka.committed[new][0] == 7
    assert [(row.first_offset, row.next_offset, row.counts.read) for row in bench.ledger()] == [(7, 7, 0)]


def test_giving_up_again_and_again_stops_the_service(bench: Bench) -> None:
    for attempt in range(1, MOST_GIVEN_UP + 1):
        bench.kafka.fail("commit_transaction", failure(KafkaError.ILLEGAL_GENERATION, abort=True))
        bench.take(bench.outcome(0, 3))
        if attempt < MOST_GIVEN_UP:
            assert not bench.writer.commit()
            bench.rewind()
    with pytest.raises(FatalError, match="10 transactions in a row"):
        bench.writer.commit()


def test_a_commit_in_between_ends_the_row_of_given_up_transactions(bench: Bench) -> None:
    for attempt in range(2 * MOST_GIVEN_UP):
        bench.kafka.fail("commit_transaction", failure(KafkaError.ILLEGAL_GENERATION, abort=True))
        bench.take(bench.outcome(attempt, 1))
        assert not bench.writer.commit()
        bench.rewind()
        bench.take(bench.outcome(attempt, 1))
        assert bench.writer.commit()


def test_the_old_producer_is_never_used_again(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
    before = bench.kafka.epoch("service-0")
    bench.take(bench.outcome(0, 3))
    bench.writer.commit()
    assert bench.kafka.epoch("service-0") > before
    bench.rewind()
    bench.take(bench.outcome(0, 3))  # the one before would be fenced here
    assert bench.writer.commit()


def test_a_coordinator_that_does_not_answer_is_waited_for(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
    for _ in range(3):
        bench.kafka.fail("init_transactions", failure(KafkaError._TIMED_OUT, retriable=True))
    bench.take(bench.outcome(0, 1))
    assert not bench.writer.commit()
    assert bench.effects()[-5:] == [*["init_transactions failed"] * 3, "init", "purge"]


def test_a_coordinator_that_does_not_answer_is_not_waited_for_when_told_to_stop(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
    bench.kafka.fail("init_transactions", failure(KafkaError._TIMED_OUT, retriable=True))
    bench.take(bench.outcome(0, 1))
    bench.stopping = True
    with pytest.raises(FatalError, match="stopped while the broker did not answer"):
        bench.writer.commit()


@pytest.mark.parametrize("call", ["begin_transaction", "send_offsets", "commit_transaction"])
def test_a_fatal_error_ends_the_process(bench: Bench, call: str) -> None:
    bench.kafka.fail(call, failure(KafkaError._FENCED, fatal=True))
    with pytest.raises(FencedError, match="ingest-0 was fenced"):
        bench.take(bench.outcome(0, 3))
        bench.writer.commit()


def test_a_fatal_error_of_an_abort_ends_the_process(bench: Bench) -> None:
    bench.kafka.fail("send_offsets", failure(KafkaError.ILLEGAL_GENERATION, abort=True))
    bench.kafka.fail("abort_transaction", failure(KafkaError._FENCED, fatal=True))
    bench.take(bench.outcome(0, 3))
    with pytest.raises(FencedError):
        bench.writer.commit()


def test_another_process_with_the_same_id_fences_this_one(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3))
    Bench(kafka=bench.kafka)
    with pytest.raises(FencedError):
        bench.writer.commit()
    assert bench.kafka.visible == []


def test_an_error_of_no_known_kind_ends_the_process(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError.GROUP_AUTHORIZATION_FAILED))
    bench.take(bench.outcome(0, 3))
    with pytest.raises(FatalError, match="a transaction call failed"):
        bench.writer.commit()


def test_a_full_queue_is_back_pressure_and_keeps_the_order() -> None:
    kafka = MemoryKafka({"in": 2, "out": 2, "dead-letters": 2, "ledger": 2})
    kafka.queue_room = 3
    bench = Bench(kafka=kafka)
    bench.take(bench.outcome(0, 8))
    assert bench.effects() == ["begin", "produce out[0] 3", "produce out[0] 3", "produce out[0] 2"]
    bench.writer.commit()
    assert bench.out() == [b"v%d" % n for n in range(8)]
    assert bench.ledger()[0].emitted == {"out": 8}


def test_a_queue_that_stays_full_gives_the_transaction_up() -> None:
    moments = iter(range(0, 100, 3))
    bench = Bench(call_clock=lambda: next(moments))
    for _ in range(3):
        bench.kafka.fail("produce_batch", failure(KafkaError._QUEUE_FULL))
    bench.take(bench.outcome(0, 3))
    assert bench.effects()[-1] == "abort"
    assert bench.rewind() == "produce failed: the queue stayed full"


def test_a_record_that_cannot_be_queued_gives_the_transaction_up(bench: Bench) -> None:
    bench.kafka.fail("produce_batch", failure(KafkaError.MSG_SIZE_TOO_LARGE))
    bench.take(bench.outcome(0, 3))
    assert bench.effects() == ["begin", "produce out[0] 0", "abort"]
    assert bench.rewind() == "produce failed: MSG_SIZE_TOO_LARGE"


def test_what_is_done_is_committed_before_partitions_go(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3), bench.outcome(0, 2, place=SECOND))
    bench.assignments.on_revoke([FIRST])
    assert bench.kafka.committed[FIRST][0] == 3
    assert bench.kafka.committed[SECOND][0] == 2


def test_a_partition_that_went_and_came_back_begins_a_ledger_row_where_it_was_committed(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3))
    bench.assignments.on_revoke([FIRST])
    bench.assignments.end([FIRST])
    bench.kafka.committed[FIRST] = (10, metadata_text(None, "id-of-in", ()))  # by another process
    bench.assign(FIRST)
    bench.take(bench.outcome(10, 2))
    bench.writer.commit()
    assert [(row.first_offset, row.next_offset) for row in bench.ledger()] == [(0, 3), (10, 12)]


def test_lost_partitions_abort_what_is_open_and_the_others_rewind(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3), bench.outcome(0, 2, place=SECOND))
    bench.assignments.on_lost([FIRST])
    bench.assignments.end([FIRST])
    assert bench.effects()[-1] == "abort"
    assert bench.kafka.committed == {}
    assert bench.rewind() == "partitions lost"
    bench.take(bench.outcome(0, 2, place=SECOND))
    bench.writer.commit()
    assert bench.kafka.committed.keys() == {SECOND}


def test_lost_partitions_with_nothing_open_are_only_forgotten(bench: Bench) -> None:
    bench.assignments.on_lost([FIRST])
    assert bench.effects() == []
    assert bench.rewind() is None


def test_a_tripped_brake_commits_nothing_of_the_batch() -> None:
    bench = Bench(brake=Brake(1_000, 0.5))
    bench.take(bench.outcome(0, 400, dead=400))
    bench.writer.commit()
    with pytest.raises(BrakeError, match=r"600 of the last 600 records are dead, most recently because of 'bad_ip'"):
        bench.take(bench.outcome(400, 200, dead=200))
    bench.writer.abandon()
    assert bench.kafka.committed[FIRST][0] == 400
    assert len(bench.visible("dead-letters")) == 400


def test_a_tripped_brake_trips_again_after_a_restart() -> None:
    bench = Bench(brake=Brake(1_000, 0.5))
    bench.take(bench.outcome(0, 400, dead=400))
    bench.writer.commit()
    again = Bench(brake=Brake(1_000, 0.5), kafka=bench.kafka)
    with pytest.raises(BrakeError):
        again.take(again.outcome(400, 200, dead=200))


def test_with_the_brake_off_an_idle_partition_forgets_what_it_was_told_about_the_brake() -> None:
    bench = Bench(brake=Brake(1_000, 0.5))
    bench.take(bench.outcome(0, 400, dead=400, watermark_ms=77), bench.outcome(0, 10, place=SECOND))
    bench.writer.commit()
    off = Bench(brake=Brake(1_000, 1.0), kafka=bench.kafka)
    rows = len(off.ledger())
    off.writer.commit()
    assert off.metadata() == {"w": 77, "t": "id-of-in", "d": 399}
    assert off.kafka.committed[FIRST][0] == 400
    assert len(off.ledger()) == rows, "a ledger row about nothing"
    again = Bench(brake=Brake(1_000, 0.5), kafka=off.kafka)
    again.take(again.outcome(400, 500, dead=500))
    assert again.writer.commit()


def test_what_an_abandoned_transaction_counted_does_not_trip_the_brake() -> None:
    bench = Bench(brake=Brake(1_000, 0.5))
    for _ in range(4):
        bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
        bench.take(bench.outcome(0, 500, dead=300))
        assert not bench.writer.commit()
        bench.rewind()
    bench.take(bench.outcome(0, 500, dead=300))
    assert bench.writer.commit()


def test_a_snapshot_is_written_only_after_its_commit(bench: Bench) -> None:
    bench.kafka.fail("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True))
    bench.take(bench.outcome(0, 3, state=STATE))
    bench.writer.commit()
    bench.rewind()
    bench.take(bench.outcome(0, 3))
    bench.writer.commit()
    assert not any(effect.startswith("snapshot") for effect in bench.effects())


def test_a_snapshot_has_the_watermark_and_topic_id(bench: Bench, tmp_path: Path) -> None:
    store = SnapshotStore(str(tmp_path), "ingest", 1)
    bench.writer._sink.snapshots = SnapshotWriter(store)
    bench.take(bench.outcome(0, 3, state=STATE, watermark_ms=12))
    bench.writer.close()
    found = store.newest(FIRST, 3, "id-of-in")
    assert found is not None
    assert (found.offset, found.watermark_ms, found.state.equals(STATE)) == (3, 12, True)


def test_closing_commits_what_is_open(bench: Bench) -> None:
    bench.take(bench.outcome(0, 3))
    bench.writer.close()
    assert bench.kafka.committed[FIRST][0] == 3


def test_abandoning_aborts_what_is_open_even_if_the_broker_does_not_answer(bench: Bench) -> None:
    bench.kafka.fail("abort_transaction", failure(KafkaError._TIMED_OUT))
    bench.take(bench.outcome(0, 3))
    bench.writer.abandon()
    bench.writer.abandon()
    assert bench.kafka.visible == []


def test_the_producer_places_records_as_a_jvm_client_and_is_transactional() -> None:
    properties = producer_properties({"bootstrap.servers": "b"}, "ingest-0", 30.0)
    assert properties["transactional.id"] == "ingest-0"
    assert properties["transaction.timeout.ms"] == 30_000
    assert properties["partitioner"] == "murmur2_random"
