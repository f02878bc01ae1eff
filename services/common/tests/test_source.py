from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError
from prometheus_client import REGISTRY

from millrace_common.assignments import Assignments
from millrace_common.consumers import close, consumer_properties
from millrace_common.errors import FencedError, StartupError
from millrace_common.memory_kafka import MemoryConsumer, MemoryKafka, MemoryMessage, MemoryTopology, Produced, failure
from millrace_common.positions import GroupPositions, metadata_text
from millrace_common.records import Assigned, Committed, Partition, Polled, Replayed, SourceItem, Tick
from millrace_common.restarts import RestartEstimate
from millrace_common.restoring import Replay
from millrace_common.snapshots import Snapshot, SnapshotStore
from millrace_common.source import GroupConfig, GroupSource

FIRST, SECOND = Partition("in", 0), Partition("in", 1)
OTHER = Partition("other", 0)
TOPIC_IDS = {"in": "id-of-in", "other": "id-of-other"}
STATE = pa.table({"open": [1, 2]})


@dataclass
class Bench:
    """A source over a Kafka in memory, with a clock that a test moves."""

    folder: Path
    topics: tuple[str, ...] = ("in",)
    now: float = 1_000.0
    stopping: bool = False
    kafka: MemoryKafka = field(init=False)
    consumer: MemoryConsumer = field(init=False)
    assignments: Assignments = field(init=False)
    partition: Any = None

    def __post_init__(self) -> None:
        self.kafka = MemoryKafka({"in": 2, "other": 1})
        self.consumer = MemoryConsumer(self.kafka)
        self.assignments = Assignments()

    @property
    def store(self) -> SnapshotStore:
        return SnapshotStore(str(self.folder), "sessionize", 1)

    def source(self, *, stateful: bool = False, horizon: timedelta | None = None) -> GroupSource:
        return GroupSource(
            config=GroupConfig({}, "sessionize", self.topics, 1_000),
            assignments=self.assignments,
            topology=MemoryTopology(self.kafka),
            make_positions=lambda consumer: GroupPositions(consumer, 1.0),
            stopping=lambda: self.stopping,
            replay=Replay(self.store, horizon, timedelta(seconds=30), restart=RestartEstimate(10.0))
            if stateful
            else None,
            clock=lambda: self.now,
            make_consumer=lambda properties: self.consumer,
        )

    def start(self, *partitions: Partition, stateful: bool = False, horizon: timedelta | None = None) -> None:
        self.partition = self.source(stateful=stateful, horizon=horizon).build("read", 0, 1)
        self.consumer.rebalance("assign", *partitions)

    def poll(self, *, after_seconds: float = 0.0) -> list[SourceItem]:
        self.now += after_seconds
        return list(self.partition.next_batch())

    def commit(self, place: Partition, offset: int, watermark_ms: int | None = None) -> None:
        self.kafka.committed[place] = (offset, metadata_text(watermark_ms, self.kafka.topic_ids[place.topic], ()))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def values(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def shape(items: list[SourceItem], *, ticks: bool = False) -> list[str]:
    """Say items in a few words, ticks left out unless asked for."""
    said = []
    for item in items:
        match item:
            case Assigned():
                said.append(f"assigned {item.partition} {'with state' if item.state is not None else 'empty'}")
            case Replayed():
                said.append(f"replayed {item.partition} {item.offset} {item.watermark_ms}")
            case Polled():
                numbers = ",".join((record.value() or b"-").decode() for record in item.records)
                muted = "muted " if item.span.muted else ""
                said.append(
                    f"{muted}{item.span.partition} {item.span.first_offset}..{item.span.next_offset}: {numbers}"
                )
            case Tick() if ticks:
                said.append(f"tick {item.partition} {item.offset} idle {item.idle_ms}")
    return said


def test_a_first_start_reads_from_the_first_offset_kept(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(5))
    bench.kafka.delete_before(FIRST, 2)
    bench.start(FIRST)
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 2 None", "in[0] 2..5: 2,3,4"]


def test_the_sink_is_told_whether_something_waits(bench: Bench) -> None:
    told: list[bool] = []
    bench.assignments.on_poll = told.append
    bench.kafka.append(FIRST, *values(1))
    bench.start(FIRST)
    for _ in range(3):
        bench.poll()
    assert told == [True, False, True]


def test_a_stateless_service_goes_on_at_the_committed_offset(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(5))
    bench.commit(FIRST, 3, watermark_ms=77)
    bench.start(FIRST)
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 3 77", "in[0] 3..5: 3,4"]


def test_a_replay_is_cut_exactly_at_the_committed_offset(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(8))
    bench.commit(FIRST, 5, watermark_ms=77)
    bench.store.write(Snapshot(FIRST, 2, "id-of-in", 1, STATE))
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll()) == [
        "assigned in[0] with state",
        "muted in[0] 2..5: 2,3,4",
        "replayed in[0] 5 77",
        "in[0] 5..8: 5,6,7",
    ]


def test_a_replay_over_several_polls_ends_once(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(7))
    bench.commit(FIRST, 5)
    bench.consumer.most = 2
    bench.start(FIRST, stateful=True)
    said = [line for _ in range(5) for line in shape(bench.poll())]
    assert said == [
        "assigned in[0] empty",
        "muted in[0] 0..2: 0,1",
        "muted in[0] 2..4: 2,3",
        "muted in[0] 4..5: 4",
        "replayed in[0] 5 None",
        "in[0] 5..6: 5",
        "in[0] 6..7: 6",
    ]


def test_a_committed_offset_among_unseen_ones_still_cuts(bench: Bench) -> None:
    # Offsets 3 to 6 are commit markers or compacted away; 5 is committed.
    bench.kafka.append(FIRST, *values(3))
    bench.kafka.append_unseen(FIRST, 4)
    bench.kafka.append(FIRST, *values(2, start=7))
    bench.commit(FIRST, 5)
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll()) == [
        "assigned in[0] empty",
        "muted in[0] 0..3: 0,1,2",
        "replayed in[0] 5 None",
        "in[0] 5..9: 7,8",
    ]


def test_the_end_of_the_log_ends_a_replay_over_unseen_offsets(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3))
    bench.kafka.append_unseen(FIRST, 2)
    bench.commit(FIRST, 4)
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll(), ticks=True) == [
        "assigned in[0] empty",
        "muted in[0] 0..3: 0,1,2",
        "replayed in[0] 4 None",
        "tick in[0] 5 idle 0",
    ]


def test_a_log_of_unseen_offsets_alone_ends_a_replay(bench: Bench) -> None:
    bench.kafka.append_unseen(FIRST, 9)
    bench.commit(FIRST, 9)
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 9 None"]


def test_a_snapshot_at_the_committed_offset_needs_no_replay(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(4))
    bench.commit(FIRST, 4, watermark_ms=5)
    bench.store.write(Snapshot(FIRST, 4, "id-of-in", 5, STATE))
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll()) == ["assigned in[0] with state", "replayed in[0] 4 5"]


def test_a_snapshot_behind_the_committed_offset_is_not_taken(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(4))
    bench.commit(FIRST, 2)
    bench.store.write(Snapshot(FIRST, 3, "id-of-in", 5, STATE))
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll())[:2] == ["assigned in[0] empty", "muted in[0] 0..2: 0,1"]


def test_a_snapshot_older_than_what_is_kept_is_better_than_none(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.kafka.append(FIRST, *values(9))
    bench.commit(FIRST, 7)
    bench.store.write(Snapshot(FIRST, 2, "id-of-in", 5, STATE))
    bench.kafka.delete_before(FIRST, 5)
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll())[:2] == ["assigned in[0] with state", "muted in[0] 5..7: 5,6"]
    assert "no longer kept" in caplog.text


def test_a_snapshot_behind_which_only_unseen_offsets_were_deleted_still_has_the_whole_state(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(4))
    bench.kafka.append_unseen(FIRST, 2)
    bench.commit(FIRST, 6)
    bench.store.write(Snapshot(FIRST, 4, "id-of-in", 5, STATE))
    bench.kafka.delete_before(FIRST, 6)
    bench.kafka.append(FIRST, b"later")
    bench.start(FIRST, stateful=True)
    assert shape(bench.poll()) == ["assigned in[0] with state", "replayed in[0] 6 None", "in[0] 6..7: later"]


def test_a_horizon_bounds_a_replay_without_snapshot(bench: Bench) -> None:
    for second in range(10):
        bench.kafka.append(FIRST, b"%d" % second, timestamp_ms=second * 1_000)
    bench.commit(FIRST, 9, watermark_ms=8_000)
    bench.start(FIRST, stateful=True, horizon=timedelta(seconds=2))
    assert shape(bench.poll())[:2] == ["assigned in[0] empty", "muted in[0] 6..9: 6,7,8"]


def test_a_horizon_before_1970_reads_from_the_start(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3), timestamp_ms=1)
    bench.commit(FIRST, 2, watermark_ms=1_000)
    bench.start(FIRST, stateful=True, horizon=timedelta(days=1))
    assert shape(bench.poll())[:2] == ["assigned in[0] empty", "muted in[0] 0..2: 0,1"]


def test_a_horizon_with_nothing_in_it_replays_nothing(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3), timestamp_ms=1)
    bench.commit(FIRST, 3, watermark_ms=5_000_000)
    bench.start(FIRST, stateful=True, horizon=timedelta(seconds=1))
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 3 5000000"]


def test_unseen_offsets_at_the_end_move_the_position(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.kafka.append_unseen(FIRST, 3)
    bench.start(FIRST)
    assert shape(bench.poll(), ticks=True)[-2:] == ["in[0] 0..2: 0,1", "tick in[0] 5 idle 0"]
    bench.kafka.append(FIRST, b"later")
    assert shape(bench.poll()) == ["in[0] 5..6: later"]


def test_ticks_come_once_a_second_and_say_how_long_it_has_been_idle(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.start(FIRST)
    bench.poll()
    assert shape(bench.poll(after_seconds=0.5), ticks=True) == []
    assert shape(bench.poll(after_seconds=0.5), ticks=True) == ["tick in[0] 2 idle 1000"]
    assert shape(bench.poll(after_seconds=0.9), ticks=True) == []
    assert shape(bench.poll(after_seconds=9.1), ticks=True) == ["tick in[0] 2 idle 11000"]
    bench.kafka.append(FIRST, b"2")
    assert shape(bench.poll(after_seconds=1.0), ticks=True) == ["in[0] 2..3: 2", "tick in[0] 3 idle 0"]
    assert shape(bench.poll(after_seconds=2.0), ticks=True) == ["tick in[0] 3 idle 2000"]


def test_a_tick_says_what_the_clock_says(bench: Bench) -> None:
    bench.start(FIRST)
    ticks = [item for item in bench.poll() if isinstance(item, Tick)]
    assert [tick.now_ms for tick in ticks] == [1_000_000]


def test_a_partition_whose_leader_does_not_answer_is_not_idle(bench: Bench) -> None:
    bench.kafka.append(FIRST, b"0")
    bench.start(FIRST, stateful=True)
    bench.poll()
    bench.kafka.leaderless = True
    assert shape(bench.poll(after_seconds=60.0), ticks=True) == ["tick in[0] 1 idle 0"]
    bench.kafka.leaderless = False
    assert shape(bench.poll(after_seconds=2.0), ticks=True) == ["tick in[0] 1 idle 2000"]


def test_while_records_are_waiting_a_partition_is_not_idle(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(9))
    bench.consumer.most = 1
    bench.start(FIRST)
    for _ in range(8):
        ticks = [item for item in bench.poll(after_seconds=5.0) if isinstance(item, Tick)]
        assert [tick.idle_ms for tick in ticks] == [0]


def test_no_tick_comes_during_a_replay(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(9))
    bench.commit(FIRST, 8)
    bench.consumer.most = 2
    bench.start(FIRST, stateful=True)
    assert "tick" not in str(shape(bench.poll(after_seconds=5.0) + bench.poll(after_seconds=5.0), ticks=True))


def test_snapshots_of_partitions_that_were_assigned_together_are_due_one_after_another(bench: Bench) -> None:
    bench.start(FIRST, SECOND, stateful=True)
    bench.poll()
    due = []
    for second in range(1, 45):
        bench.kafka.append(FIRST, *values(1))
        bench.kafka.append(SECOND, *values(1))
        items = bench.poll(after_seconds=1.0)
        due += [(second, i.span.partition.index) for i in items if isinstance(i, Polled) and i.span.snapshot_due]
    assert due == [(12, 1), (30, 0), (42, 1)]


def test_a_snapshot_is_due_after_its_interval_and_not_during_a_replay(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(9))
    bench.commit(FIRST, 1)
    bench.consumer.most = 1
    bench.start(FIRST, stateful=True)
    due = []
    for _ in range(6):
        due += [item.span.snapshot_due for item in bench.poll(after_seconds=10.0) if isinstance(item, Polled)]
    # Muted at 1,010 s; the replay ends with it; then each 30 s.
    assert due == [False, False, False, True, False, False]


def test_a_stateless_service_is_never_asked_for_a_snapshot(bench: Bench) -> None:
    bench.consumer.most = 1
    bench.kafka.append(FIRST, *values(3))
    bench.start(FIRST)
    items = [item for _ in range(3) for item in bench.poll(after_seconds=100.0)]
    assert not any(item.span.snapshot_due for item in items if isinstance(item, Polled))


def test_offsets_going_back_cause_a_rewind(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(4))
    bench.commit(FIRST, 1)
    bench.start(FIRST)
    first = bench.poll()
    bench.consumer.injected = [MemoryMessage(FIRST, 2, b"2")]
    assert shape(bench.poll()) == []
    assert not bench.assignments.is_current(FIRST, first[0].generation)  # type: ignore[union-attr]
    again = bench.poll()
    assert shape(again) == ["assigned in[0] empty", "replayed in[0] 1 None", "in[0] 1..4: 1,2,3"]
    assert isinstance(again[0], Assigned)
    assert bench.assignments.is_current(FIRST, again[0].generation)


def test_a_rewind_takes_every_owned_partition_back(bench: Bench) -> None:
    for place in (FIRST, SECOND):
        bench.kafka.append(place, *values(3))
    bench.start(FIRST, SECOND)
    bench.poll()
    bench.commit(FIRST, 2, watermark_ms=6)
    bench.commit(SECOND, 3, watermark_ms=7)
    bench.assignments.request_rewind("a test")
    assert shape(bench.poll()) == [
        "assigned in[0] empty",
        "replayed in[0] 2 6",
        "assigned in[1] empty",
        "replayed in[1] 3 7",
        "in[0] 2..3: 2",
    ]


def test_a_partition_that_cannot_be_sought_yet_is_assigned_again(bench: Bench) -> None:
    # librdkafka refuses to seek what has only just been assigned.
    bench.kafka.append(FIRST, *values(3))
    bench.start(FIRST)
    bench.poll()
    bench.kafka.fail("seek", failure(KafkaError._STATE))
    bench.commit(FIRST, 1)
    bench.assignments.request_rewind("a test")
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 1 None", "in[0] 1..3: 1,2"]


@pytest.mark.parametrize("kind", ["revoke", "lost"])
def test_a_partition_given_up_is_told_first_and_then_dropped(bench: Bench, kind: str) -> None:
    told: list[tuple[str, bool]] = []
    bench.kafka.append(FIRST, *values(2))
    bench.kafka.append(SECOND, *values(1))
    bench.start(FIRST, SECOND)
    items = bench.poll()
    generation = next(item.generation for item in items if isinstance(item, Assigned) and item.partition == FIRST)

    def handler(name: str) -> Callable[[Any], None]:
        return lambda partitions: told.append((f"{name} {partitions}", bench.assignments.is_current(FIRST, generation)))

    bench.assignments.on_revoke, bench.assignments.on_lost = handler("revoke"), handler("lost")
    bench.consumer.rebalance(kind, FIRST)
    bench.kafka.append(FIRST, b"2")
    bench.kafka.append(SECOND, b"1")
    # The message of FIRST was read before it went, in the same poll: it is dropped.
    assert shape(bench.poll()) == ["in[1] 1..2: 1"]
    assert told == [(f"{kind} {[FIRST]}", True)]
    assert bench.assignments.owned() == (SECOND,)
    assert not bench.assignments.is_current(FIRST, generation)
    assert bench.consumer.positions == {SECOND: 2}


def test_a_partition_that_comes_back_begins_where_its_group_stands(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(5))
    bench.start(FIRST)
    bench.poll()
    bench.consumer.rebalance("revoke", FIRST)
    bench.commit(FIRST, 4)
    bench.consumer.rebalance("assign", FIRST)
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 4 None", "in[0] 4..5: 4"]


def test_a_rebalance_without_partitions_changes_nothing(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.start(FIRST)
    bench.poll()
    for kind in ("assign", "revoke"):
        bench.consumer.rebalance(kind)
    bench.kafka.append(FIRST, b"2")
    assert shape(bench.poll()) == ["in[0] 2..3: 2"]


def test_several_topics_and_partitions_are_told_apart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, topics=("in", "other"))
    bench.kafka.append(FIRST, *values(2))
    bench.kafka.append(SECOND, b"second")
    bench.kafka.append(OTHER, b"other")
    bench.start(FIRST, SECOND, OTHER)
    assert shape(bench.poll())[-3:] == ["in[0] 0..2: 0,1", "in[1] 0..1: second", "other[0] 0..1: other"]
    assert bench.assignments.topic_ids == TOPIC_IDS


def test_a_tombstone_is_a_record(bench: Bench) -> None:
    bench.kafka.append(FIRST, None)
    bench.start(FIRST)
    assert shape(bench.poll())[-1] == "in[0] 0..1: -"


def refusal(bench: Bench) -> str:
    with pytest.raises(StartupError) as caught:
        bench.poll()
    return str(caught.value)


def test_a_topic_created_again_is_refused_with_the_repair_command(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3))
    bench.commit(FIRST, 2)
    bench.kafka.topic_ids["in"] = "another id"
    bench.start(FIRST)
    message = refusal(bench)
    assert "in[0]: the topic was deleted and created again" in message
    assert "`millrace reset sessionize --topic in --to earliest`" in message
    assert bench.consumer.positions == {}


def test_a_lost_offset_is_refused_with_the_repair_command(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(5))
    bench.commit(FIRST, 2)
    bench.kafka.delete_before(FIRST, 4)
    bench.start(FIRST)
    message = refusal(bench)
    assert "in[0]: offsets 2 to 3 were deleted before they were processed" in message
    assert "millrace reset" in message


def test_input_lost_while_running_is_refused_as_well(bench: Bench) -> None:
    bench.start(FIRST)
    bench.poll()
    error = KafkaError(KafkaError._AUTO_OFFSET_RESET, "no previously committed offset available")
    bench.consumer.injected = [MemoryMessage(FIRST, 7, problem=error)]
    assert "`millrace reset sessionize --topic in --partition 0 --to earliest`" in refusal(bench)


def test_snapshots_without_a_committed_offset_are_refused(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3))
    bench.store.write(Snapshot(FIRST, 2, "id-of-in", 1, STATE))
    bench.start(FIRST, stateful=True)
    message = refusal(bench)
    assert message.startswith(
        "sessionize cannot go on at in[0]: it was processed before (there are snapshots), but its"
    )
    assert "`millrace reset sessionize --topic in --partition 0 --to earliest`" in message


def test_snapshots_of_a_topic_that_is_gone_are_refused(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(3))
    bench.store.write(Snapshot(FIRST, 2, "the id before", 1, STATE))
    bench.start(FIRST, stateful=True)
    message = refusal(bench)
    assert "in[0]: the topic was deleted and created again (its id was the id before, now it is id-of-in)" in message
    assert "`millrace reset sessionize --topic in --to earliest`" in message


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC])
def test_a_topic_that_is_gone_is_named(bench: Bench, code: int) -> None:
    bench.start(FIRST)
    bench.poll()
    bench.consumer.injected = [MemoryMessage(FIRST, 0, problem=KafkaError(code))]
    assert "in[0]" in refusal(bench)


def test_a_fatal_consumer_error_stops_the_process(bench: Bench) -> None:
    bench.start(FIRST)
    bench.poll()
    bench.consumer.injected = [MemoryMessage(FIRST, 0, problem=KafkaError(KafkaError._FATAL, "gone", fatal=True))]
    with pytest.raises(FencedError, match="gone"):
        bench.poll()


def test_a_passing_consumer_error_is_logged_and_nothing_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.start(FIRST)
    bench.consumer.injected = [MemoryMessage(FIRST, 0, problem=KafkaError(KafkaError._ALL_BROKERS_DOWN))]
    assert shape(bench.poll())[-1] == "in[0] 0..2: 0,1"
    assert "goes on" in caplog.text


def test_the_end_of_a_partition_that_is_gone_is_passed_over(bench: Bench) -> None:
    bench.start(FIRST)
    bench.consumer.injected = [MemoryMessage(SECOND, 5, problem=KafkaError(KafkaError._PARTITION_EOF))]
    assert shape(bench.poll()) == ["assigned in[0] empty", "replayed in[0] 0 None"]


def test_the_end_of_one_poll_does_not_hide_the_records_behind_it(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.start(FIRST)
    bench.consumer.injected = [MemoryMessage(FIRST, 0, problem=KafkaError(KafkaError._PARTITION_EOF))]
    assert shape(bench.poll())[-1] == "in[0] 0..2: 0,1"


def test_told_to_stop_it_ends_the_flow(bench: Bench) -> None:
    bench.start(FIRST)
    bench.stopping = True
    with pytest.raises(StopIteration):
        bench.poll()


def test_more_than_one_worker_is_refused(bench: Bench) -> None:
    with pytest.raises(StartupError, match="one worker a process, not 2"):
        bench.source().build("read", 0, 2)


def test_the_next_poll_is_due_at_once(bench: Bench) -> None:
    bench.start(FIRST)
    assert bench.partition.next_awake() is None


def test_leaving_the_group_gives_everything_up(bench: Bench) -> None:
    bench.start(FIRST)
    bench.poll()
    close(bench.consumer)
    assert bench.consumer.closed
    assert bench.assignments.owned() == ()


def test_a_group_member_reads_committed_records_and_commits_nothing() -> None:
    classic = consumer_properties({"bootstrap.servers": "b"}, "g", protocol="classic", session_timeout_seconds=10)
    newer = consumer_properties({"bootstrap.servers": "b"}, "g", protocol="consumer", session_timeout_seconds=10)
    for properties in (classic, newer):
        assert properties["isolation.level"] == "read_committed"
        assert properties["enable.auto.commit"] == "false"
        assert properties["auto.offset.reset"] == "error"
    assert classic["session.timeout.ms"] == 10_000
    assert "session.timeout.ms" not in newer  # the broker's to say


def test_committed_positions_are_handed_on_with_their_metadata(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2))
    bench.kafka.committed[FIRST] = (1, metadata_text(3, "id-of-in", (9, 4)))
    bench.start(FIRST)
    bench.poll()
    assert bench.assignments.committed == {FIRST: Committed(1, 3, "id-of-in", (9, 4))}


def sample(name: str, place: Partition) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": place.topic, "partition": str(place.index)})


def test_lag_is_exported_while_the_partition_is_ours(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(4_000))
    bench.consumer.most = 1_000
    bench.start(FIRST)
    bench.poll()
    assert sample("millrace_consumer_lag", FIRST) == 3_000
    bench.consumer.rebalance("revoke", FIRST)
    bench.poll()
    assert sample("millrace_consumer_lag", FIRST) is None


def test_predicted_restart_is_what_loading_and_replaying_took_this_process(bench: Bench) -> None:
    state = pa.table({"n": pa.array(range(1_000), pa.int64())})
    bench.store.write(Snapshot(FIRST, 1_000, bench.kafka.topic_ids["in"], None, state))
    bench.kafka.append(FIRST, *values(6_000))
    bench.commit(FIRST, 4_000)
    bench.consumer.most = 0
    bench.start(FIRST, stateful=True)
    bench.poll()
    bench.consumer.most = 1_000
    bench.poll(after_seconds=3.0)  # that is how long the flow took with the state
    bench.poll(after_seconds=2.0)  # and with the first 1,000 records
    bench.poll(after_seconds=2.0)
    # 3,000 offsets, none of them in a newer snapshot, at 500 a second; the session timeout is 10 s.
    assert REGISTRY.get_sample_value("millrace_predicted_restart_seconds") == pytest.approx(10.0 + 3.0 + 6.0)
    bench.consumer.rebalance("revoke", FIRST)
    bench.poll()
    assert REGISTRY.get_sample_value("millrace_predicted_restart_seconds") == 0


def test_small_polls_do_not_tell_what_a_record_costs(bench: Bench) -> None:
    bench.kafka.append(FIRST, *values(2_000))
    bench.consumer.most = 999
    bench.start(FIRST, stateful=True)
    bench.poll()
    bench.poll(after_seconds=5.0)
    # 1,998 offsets at the speed that is assumed.
    assert REGISTRY.get_sample_value("millrace_predicted_restart_seconds") == pytest.approx(10.0 + 0.01998)


def test_an_open_transaction_is_named_by_a_metric_for_as_long_as_it_holds_records_back(bench: Bench) -> None:
    def held_back(*, after_seconds: float = 1.0) -> float | None:
        bench.poll(after_seconds=after_seconds)
        return sample("millrace_held_back_seconds", FIRST)

    bench.kafka.append(FIRST, *values(2))
    bench.start(FIRST)
    assert held_back() == 0.0
    epochs = {name: bench.kafka.take_over(name) for name in ("stranger", "another")}
    for name, epoch in epochs.items():
        bench.kafka.write(name, epoch, FIRST, [Produced(FIRST, None, b"2")])
    assert [held_back(after_seconds=60.0), held_back(after_seconds=9.0)] == [0.0, 9.0]
    bench.kafka.end("stranger", epochs["stranger"], commit=True)  # the next one stands a record further
    assert [held_back(), held_back(after_seconds=5.0)] == [0.0, 5.0]
    bench.kafka.end("another", epochs["another"], commit=False)
    assert held_back() == 0.0
    bench.consumer.rebalance("revoke", FIRST)
    bench.poll()
    assert sample("millrace_held_back_seconds", FIRST) is None
