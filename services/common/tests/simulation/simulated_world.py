"""Several workers, their broker and their snapshots; what can happen to them, and what must be true in the end."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final

from millrace_common.errors import BrakeError, FatalError, StartupError
from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.memory_kafka import MemoryGroup, MemoryMessage, MemoryProducer
from millrace_common.records import Counts, Partition
from millrace_common.testing import avro_datum
from millrace_schemas import schema_text
from simulated_network import Killed, SimulatedKafka, Trap
from simulated_processor import OUT, POISON, TIME_STEP_MS, UPDATES, WINDOWS, Expected, Model, event, expect
from simulated_worker import (
    COUNTS,
    DEAD_LETTERS,
    IN,
    LEDGER,
    PARTITIONS,
    Ports,
    SimulatedStore,
    SimulatedWorker,
)

INPUTS: Final = tuple(Partition(IN, index) for index in range(PARTITIONS))
READ_BY_OTHERS: Final = tuple(
    Partition(topic, index) for topic in (OUT, DEAD_LETTERS, LEDGER) for index in range(PARTITIONS)
)
KEYS: Final = (b"a", b"b")
MOST_WORKERS: Final = 4
# A drain that takes longer will never end.
MOST_ROUNDS: Final = 200
ROUND_SECONDS: Final = 0.5
_ALL: Final = 1_000_000


class Happening(Enum):
    """What can happen while a worker is paused."""

    EXPELLED = auto()
    EXPIRED = auto()
    REPLACED = auto()
    LATE_ARRIVAL = auto()
    OTHERS_WORK = auto()


class World:
    """Everything there is. Each public method is one thing that happens; none of them takes real time."""

    def __init__(self, plant: Callable[[Ports], Ports] = lambda ports: ports, model: Model = WINDOWS) -> None:
        """Begin with empty topics and no worker; `plant` may put a fault into what workers are made of."""
        self._model = model
        self.now = 1_000_000.0
        self.kafka = SimulatedKafka(dict(COUNTS))
        self.group = MemoryGroup(INPUTS)
        self.store = SimulatedStore()
        self.workers: list[SimulatedWorker] = []
        self._ports = plant(Ports(self.kafka, self.group, self.store, lambda: self.now, model))
        self._running: list[SimulatedWorker] = []  # the last one runs, those before it are paused
        self._events = 0
        self._shop = MemoryProducer(self.kafka, "shop")
        self._shop.init_transactions(0)
        self._shop_is_open = False
        self._seen: dict[Partition, list[MemoryMessage]] = defaultdict(list)
        self._read_to = dict.fromkeys(READ_BY_OTHERS, 0)

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on."""
        self.now += seconds

    def produce(self, place: Partition, ages_ms: Sequence[int], *, poison: bool = False) -> None:
        """Append events whose event times lie so far back, outside any transaction."""
        for key, value in self._events_of(ages_ms, poison=poison):
            self.kafka.append(place, value, key=key)

    def produce_in_transaction(self, place: Partition, ages_ms: Sequence[int]) -> None:
        """Append events to a transaction of the input's producer, which holds back what comes after."""
        if not self._shop_is_open:
            self._shop.begin_transaction()
            self._shop_is_open = True
        messages = [{"key": key, "value": value} for key, value in self._events_of(ages_ms, poison=False)]
        self._shop.produce_batch(place.topic, messages, place.index)

    def end_input_transaction(self, *, commit: bool) -> None:
        """Commit or abort that transaction."""
        if self._shop_is_open:
            if commit:
                self._shop.commit_transaction(0)
            else:
                self._shop.abort_transaction(0)
            self._shop_is_open = False

    def start(self, slot: int, traps: Sequence[Trap] = ()) -> None:
        """Start a process; one that runs under the same transactional id already becomes a zombie."""
        if len(self.workers) < MOST_WORKERS:
            self._run(lambda: self.workers.append(SimulatedWorker(f"{slot}", self._ports)), None, traps)

    def step(self, number: int, at_most: int | None = None, traps: Sequence[Trap] = ()) -> None:
        """Let a worker poll once and pass items on."""
        worker = self._worker(number)
        if worker is not None:
            self._run(lambda: worker.step(at_most), worker, traps)

    def redeliver(self, number: int, records: int) -> None:
        """Have a worker's client hand out once more what it handed out already."""
        worker = self._worker(number)
        if worker is not None:
            for place, position in worker.consumer.positions.items():
                worker.consumer.positions[place] = max(0, position - records)

    def stop(self, number: int, traps: Sequence[Trap] = ()) -> None:
        """Stop a worker as SIGTERM does."""
        worker = self._worker(number)
        if worker is not None:
            self._run(worker.stop, worker, traps)
            self._forget(worker)

    def kill(self, number: int) -> None:
        """End a worker as SIGKILL does; its group and the broker do not know yet."""
        worker = self._worker(number)
        if worker is not None:
            self._forget(worker)

    def expel(self, number: int) -> None:
        """Let a member's session time out, be its process dead, paused or only slow."""
        members = self.group.members()
        if members:
            self.group.leave(members[number % len(members)])

    def deal(self, turn: int) -> None:
        """Have the group deal its partitions anew."""
        self.group.deal(turn)

    def expire(self, number: int) -> None:
        """Let the open transaction of a worker time out."""
        worker = self._worker(number)
        if worker is not None:
            self.kafka.expire(worker.instance)

    def meanwhile(self, number: int, happenings: Sequence[Happening]) -> Callable[[], None]:
        """Return what happens while that worker is paused: with its membership, its transaction, its successor."""
        worker = self._worker(number)

        def happen() -> None:
            for happening in happenings:
                match happening:
                    case Happening.EXPELLED if worker is not None:
                        self.group.leave(worker.consumer.member_id)
                    case Happening.EXPIRED if worker is not None:
                        self.kafka.expire(worker.instance)
                    case Happening.REPLACED if worker is not None:
                        self.start(int(worker.instance))
                    case Happening.LATE_ARRIVAL:
                        self.deliver(0)
                    case Happening.OTHERS_WORK:
                        self.pass_time(ROUND_SECONDS)
                        for other in range(len(self.workers)):
                            self.step(other)

        return happen

    def deliver(self, number: int) -> None:
        """Let a late request arrive."""
        self.kafka.deliver(number)

    def write_snapshot(self, number: int) -> None:
        """Let a worker's snapshot thread go on."""
        worker = self._worker(number)
        if worker is not None:
            worker.executor.run_one()

    def break_store(self) -> None:
        """Refuse snapshots from here on."""
        self.store.is_broken = True

    def lose_snapshots(self, place: Partition) -> None:
        """Delete the snapshots of a partition, unless they are all that tells when it was idle."""
        commits = self._commits(place)
        if all(watermark_ms is None or watermark_ms % TIME_STEP_MS == 0 for _, watermark_ms in commits):
            self.store.remove(place)

    def read(self) -> None:
        """Read the output as somebody downstream does meanwhile."""
        for place in READ_BY_OTHERS:
            found = self.kafka.read(place, self._read_to[place], _ALL)
            self._seen[place] += found
            self._read_to[place] = self.kafka.last_stable(place)

    def drain(self) -> None:
        """Let everything come to its end, without further faults."""
        self.end_input_transaction(commit=True)
        self.kafka.deliver_all()
        self.store.is_broken = False
        for dead in set(self.group.members()) - {worker.consumer.member_id for worker in self.workers}:
            self.group.leave(dead)
        for _ in range(MOST_ROUNDS):
            if not self.workers:
                self.start(0)
            self.pass_time(ROUND_SECONDS)
            for number in reversed(range(len(self.workers))):
                self.step(number)
            if all(self.kafka.committed.get(place, (0, ""))[0] == self.kafka.ends[place] for place in INPUTS):
                break
        else:
            message = f"still not at the end: {self.kafka.committed} of {self.kafka.ends}"
            raise AssertionError(message)
        while self.workers:
            self.stop(0)
        for slot in range(MOST_WORKERS):  # what the dead left open
            self.kafka.expire(f"{slot}")

    def check(self) -> None:
        """Hold what was committed against what the log says must have been."""
        self.read()
        for place in READ_BY_OTHERS:
            assert self._seen[place] == self.kafka.read(place, 0, _ALL), f"what was read of {place} changed"
        rows = [
            LedgerRow.from_record(avro_datum(schema_text("ledger"), message.stored_value or b""))
            for index in range(PARTITIONS)
            for message in self.kafka.read(Partition(LEDGER, index), 0, _ALL)
        ]
        assert find_gaps(rows) == []
        states = {}
        for place in INPUTS:
            commits = self._commits(place)
            assert commits == sorted(commits, key=lambda commit: commit[0]), f"{place} went back: {commits}"
            wanted = {snapshot.offset for snapshot in self.store.all(place)}
            expected = expect(self._model.make_state(), self.kafka.read(place, 0, _ALL), commits, wanted)
            states[place] = expected.last
            self._check_output(place, expected)
            self._check_books(place, [row for row in rows if row.partition == place])
            self._check_snapshots(place, expected)
        self._check_restored(states)

    def _check_output(self, place: Partition, expected: Expected) -> None:
        out = self.kafka.read(Partition(OUT, place.index), 0, _ALL)
        said = [(message.stored_value or b"").decode() for message in out]
        if self._model.in_order:
            assert said == expected.said
        else:
            assert sorted(said) == sorted(expected.said)
        updates = self.kafka.read(Partition(UPDATES, place.index), 0, _ALL)
        last = {(message.stored_key or b"").decode(): message.stored_value for message in updates}
        published = {key for key, value in last.items() if value is not None}
        assert published <= set(self._model.published(expected.last)), "an update stands that nobody will take away"
        letters = [
            avro_datum(schema_text("dead-letters"), message.stored_value or b"")["source_offset"]
            for message in self.kafka.read(Partition(DEAD_LETTERS, place.index), 0, _ALL)
        ]
        assert letters == expected.dead

    def _check_books(self, place: Partition, rows: Sequence[LedgerRow]) -> None:
        records = self.kafka.read(place, 0, _ALL)
        for row in rows:
            within = [message for message in records if row.first_offset <= message.at < row.next_offset]
            dead = sum((message.stored_value or b"").startswith(POISON) for message in within)
            assert (row.counts.read, row.counts.dead) == (len(within), dead), f"the counts of {row} are wrong"
        assert max((row.next_offset for row in rows), default=0) == self.kafka.ends[place]
        emitted = sum((Counter(row.emitted) for row in rows), Counter[str]())
        assert emitted[OUT] == len(self.kafka.read(Partition(OUT, place.index), 0, _ALL))
        late = sum((row.counts for row in rows), Counts()).late
        assert late == sum(
            (message.stored_value or b"").startswith(b"late")
            for message in self.kafka.read(Partition(OUT, place.index), 0, _ALL)
        )

    def _check_snapshots(self, place: Partition, expected: Expected) -> None:
        for snapshot in self.store.all(place):
            state = expected.states.get(snapshot.offset)
            assert state is not None, f"a snapshot of {place} at {snapshot.offset}, where nothing ends"
            assert self._model.restore(snapshot.state) == state, (
                f"the snapshot of {place} at {snapshot.offset} is wrong"
            )

    def _check_restored(self, states: Mapping[Partition, object]) -> None:
        self.start(0)
        for _ in range(MOST_ROUNDS):
            self.step(0)
            restored = self.workers[0].processor.restored()
            if len(restored) == PARTITIONS:
                break
        assert restored == states

    def _commits(self, place: Partition) -> list[tuple[int, int | None]]:
        return [
            (offset, json.loads(metadata or "{}").get("w"))
            for committed, (offset, metadata) in self.kafka.commits
            if committed == place
        ]

    def _events_of(self, ages_ms: Sequence[int], *, poison: bool) -> list[tuple[bytes, bytes]]:
        found = []
        for age_ms in ages_ms:
            value = event(self._events, int(self.now * 1000) - age_ms)
            found.append((KEYS[self._events % len(KEYS)], POISON + value if poison else value))
            self._events += 1
        return found

    def _worker(self, number: int) -> SimulatedWorker | None:
        idle = [worker for worker in self.workers if worker not in self._running]
        return idle[number % len(idle)] if idle else None

    def _run(self, action: Callable[[], None], worker: SimulatedWorker | None, traps: Sequence[Trap]) -> None:
        outer, self.kafka.traps = self.kafka.traps, list(traps)
        if worker is not None:
            self._running.append(worker)
        try:
            action()
        except Killed:
            self._forget(worker)
        except (StartupError, BrakeError):  # nothing that happens here excuses these
            raise
        except FatalError:
            self.kafka.traps.clear()
            if worker is not None:
                worker.abandon()
            self._forget(worker)
        finally:
            self.kafka.traps = outer
            if worker is not None:
                self._running.remove(worker)

    def _forget(self, worker: SimulatedWorker | None) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
