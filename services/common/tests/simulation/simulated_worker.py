"""One process: the real source, sink, transactions and snapshots, over ports in memory, a step at a time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from confluent_kafka import Producer

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import RowEncoder
from millrace_common.consumers import close
from millrace_common.memory_kafka import MemoryConsumer, MemoryGroup, MemoryProducer, MemoryTopology
from millrace_common.positions import GroupPositions
from millrace_common.records import Partition, SourceItem
from millrace_common.restoring import Replay
from millrace_common.sink import SinkConfig, TransactionalSink
from millrace_common.snapshots import Snapshot, SnapshotStore, SnapshotWriter
from millrace_common.source import GroupConfig, GroupSource
from millrace_common.transactions import TransactionalProducer
from millrace_schemas import schema_text
from simulated_network import SimulatedKafka
from simulated_processor import OUT, UPDATES, WINDOWS, Model

SERVICE: Final = "windows"
IN, DEAD_LETTERS, LEDGER = "in", "dead-letters", "ledger"
PARTITIONS: Final = 3
COUNTS: Final = dict.fromkeys((IN, OUT, UPDATES, DEAD_LETTERS, LEDGER), PARTITIONS)
COMMIT_SECONDS: Final = 0.5
SNAPSHOT_SECONDS: Final = 1.0

_DEAD_LETTER_ENCODER: Final = RowEncoder(schema_text("dead-letters"), 8)
_LEDGER_ENCODER: Final = RowEncoder(schema_text("ledger"), 9)


class DirectCaller:
    """Makes calls at once, in the one thread there is."""

    def call(self, transaction_call: Callable[[], None], timeout_seconds: float) -> None:
        """Make the call."""
        transaction_call()

    def end(self) -> None:
        """Hold nothing."""


class _Held(Future[Any]):
    """Work that waits; who wants its result has it done, after all that was submitted before."""

    def __init__(self, work: Callable[[], Any], executor: "HeldExecutor") -> None:
        super().__init__()
        self.work = work
        self._executor = executor

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, having worked for it."""
        while not self.done():
            self._executor.run_one()
        return super().result(0)


class HeldExecutor(Executor):
    """A thread whose progress the schedule decides."""

    def __init__(self) -> None:
        self._waiting: deque[_Held] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> _Held:
        """Put work behind what waits."""
        held = _Held(partial(fn, *args, **kwargs), self)
        self._waiting.append(held)
        return held

    def run_one(self) -> None:
        """Do what has waited longest, if anything waits."""
        if self._waiting:
            held = self._waiting.popleft()
            held.set_result(held.work())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do what waits."""
        while self._waiting:
            self.run_one()


class SimulatedStore(SnapshotStore):
    """Snapshots in memory, in a store that can be out of order."""

    def __init__(self) -> None:
        super().__init__("mock:///snapshots", SERVICE, 1)
        self.is_broken = False

    def write(self, snapshot: Snapshot) -> None:
        """Write, unless that is impossible now."""
        if self.is_broken:
            message = "no space left"
            raise OSError(message)
        super().write(snapshot)

    def all(self, partition: Partition) -> list[Snapshot]:
        """Return every snapshot of a partition."""
        folder = self._folder(partition)
        found = [self._read(f"{folder}/{offset}.arrow", partition, offset) for offset in self._offsets(folder)]
        return [snapshot for snapshot in found if snapshot is not None]

    def mend(self, seconds: float) -> None:
        """Stand for a wait after which writing is possible again."""
        self.is_broken = False


@dataclass(frozen=True, slots=True)
class Ports:
    """What is outside of a worker, what it does, and the two parts of it that a test may plant a fault in."""

    kafka: SimulatedKafka
    group: MemoryGroup
    store: SimulatedStore
    clock: Callable[[], float]
    model: Model = WINDOWS
    make_assignments: Callable[[], Assignments] = Assignments
    producer_class: type[TransactionalProducer] = TransactionalProducer


class SimulatedWorker:
    """A process from its start on. Whatever a call of it raises ends it."""

    def __init__(self, instance: str, ports: Ports) -> None:
        """Take over the transactional id and join the group, in this order, as a service does."""
        self.instance = instance
        self.consumer = MemoryConsumer(ports.kafka, ports.group)
        self.consumer.most = 4
        self.processor = ports.model.make_step()
        self.executor = HeldExecutor()
        self._assignments = ports.make_assignments()
        self._stopping = False
        source = GroupSource(
            config=GroupConfig({}, SERVICE, (IN,), 1_000),
            assignments=self._assignments,
            topology=MemoryTopology(ports.kafka),
            make_positions=lambda consumer: GroupPositions(consumer, 1.0),
            stopping=lambda: self._stopping,
            replay=Replay(ports.store, None, timedelta(seconds=SNAPSHOT_SECONDS)),
            clock=ports.clock,
            make_consumer=lambda properties: self.consumer,
        )

        def take_over(
            transactional_id: str, make_producer: Callable[[], Producer], stopping: Callable[[], bool]
        ) -> TransactionalProducer:
            return ports.producer_class(
                transactional_id, make_producer, stopping, make_caller=DirectCaller, clock=ports.clock
            )

        self._writer = TransactionalSink(
            config=SinkConfig(SERVICE, instance, DEAD_LETTERS, LEDGER, COMMIT_SECONDS, 1_000),
            assignments=self._assignments,
            make_producer=lambda: MemoryProducer(ports.kafka, instance, ports.group),
            group_metadata=self.consumer.consumer_group_metadata,
            partition_counts=COUNTS,
            dead_letter_encoder=_DEAD_LETTER_ENCODER,
            ledger_encoder=_LEDGER_ENCODER,
            brake=Brake(10_000, 1.0),
            snapshots=SnapshotWriter(ports.store, self.executor, ports.store.mend),
            stopping=lambda: self._stopping,
            clock=ports.clock,
            take_over=take_over,
        ).writer
        self._source = source.build("read", 0, 1)
        self._under_way: deque[SourceItem] = deque()

    def step(self, at_most: int | None = None) -> None:
        """Poll once, and let at most so many items get from the source to the sink; None: all."""
        self._under_way += self._source.next_batch()
        self._pass_on(len(self._under_way) if at_most is None else at_most)

    def stop(self) -> None:
        """End as after SIGTERM."""
        self._stopping = True
        self._pass_on(len(self._under_way))
        self._writer.close()
        close(self.consumer)

    def abandon(self) -> None:
        """End as after an error."""
        self._assignments.request_rewind("stopping")
        self._writer.abandon()
        close(self.consumer)

    def _pass_on(self, count: int) -> None:
        for _ in range(min(count, len(self._under_way))):
            for item in self.processor.step(self._under_way.popleft()):
                self._writer.take(item)
        self._writer.commit_if_due()
