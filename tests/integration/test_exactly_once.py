"""Exactly once on the real broker: a pass-through service under SIGKILL and SIGTERM; what it refuses at its start."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from millrace_common.errors import StartupError
from millrace_common.ledger import LedgerRow, find_gaps
from millrace_common.records import Counts, Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.testing import avro_datum
from millrace_local.stack import Stack
from millrace_schemas import schema_text

pytestmark = pytest.mark.broker

PASS_THROUGH = Path(__file__).with_name("pass_through.py")
PARTITIONS = 4
RECORDS = 20_000
RECORDS_A_TRANSACTION = 25
SIGNALS = (
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGKILL,
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGKILL,
)
# The second instance runs from this number of signals on, to that one.
SECOND_INSTANCE = range(2, 6)


@dataclass
class Services:
    """The processes of one pass-through service."""

    stack: Stack
    folder: Path
    name: str
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)

    @property
    def input(self) -> str:
        return f"{self.name}.in"

    @property
    def output(self) -> str:
        return f"{self.name}.out"

    @property
    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"{self.name}-*.log")))

    def start(self, instance: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.stack.registry_url,
            "STATE_URI": str(self.folder / "state"),
            "INSTANCE": instance,
            "BATCH_MAX_RECORDS": "50",
            "COMMIT_INTERVAL_SECONDS": "0.02",
            "SESSION_TIMEOUT_SECONDS": "6",  # the least a broker allows by default
        }
        self.starts[instance] += 1
        with open(self.folder / f"{self.name}-{instance}.log", "ab") as log:
            self.running[instance] = subprocess.Popen(
                [sys.executable, str(PASS_THROUGH), self.name, self.input, self.output], env=environment, stderr=log
            )
        return self.running[instance]

    def wait_begun(self, instance: str) -> None:
        """Wait until the newest process of `instance` runs: before, Python itself answers signals."""
        path = self.folder / f"{self.name}-{instance}.log"
        deadline = time.monotonic() + 40
        while path.read_text().count('"message": "starting"') < self.starts[instance]:
            assert time.monotonic() < deadline, self.log
            with suppress(subprocess.TimeoutExpired):
                self.running[instance].wait(0.05)

    def stop(self, instance: str, number: signal.Signals) -> int:
        process = self.running.pop(instance)
        assert process.poll() is None, f"instance {instance} ended by itself:\n{self.log}"
        process.send_signal(number)
        return process.wait(20)


@pytest.fixture
def services(local_stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Services]:
    name = request.node.name.removeprefix("test_")[:40].replace("_", "-")
    services = Services(local_stack, tmp_path, name)
    yield services
    for process in services.running.values():
        process.kill()
        process.wait()


@pytest.fixture
def admin(local_stack: Stack) -> AdminClient:
    return AdminClient({"bootstrap.servers": local_stack.bootstrap_servers})


def create(admin: AdminClient, **partitions: int) -> None:
    topics = [NewTopic(name, count, 1) for name, count in partitions.items()]
    for future in admin.create_topics(topics).values():
        future.result(30)


def feed(bootstrap_servers: str, topic: str, stop: threading.Event) -> None:
    """Send numbered records in small transactions; every tenth is aborted, so that the log has holes."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": f"feed-{topic}", "linger.ms": 0})
    producer.init_transactions(30)
    for first in range(0, RECORDS, RECORDS_A_TRANSACTION):
        if first % (10 * RECORDS_A_TRANSACTION) == 0:
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                producer.produce(topic, b"aborted", partition=partition)
            producer.flush(30)
            producer.abort_transaction(30)
        producer.begin_transaction()
        for number in range(first, first + RECORDS_A_TRANSACTION):
            producer.produce(topic, b"%d" % number, b"k", partition=number % PARTITIONS)
        producer.commit_transaction(30)
        if stop.wait(0.01):
            return


class Reader:
    """A read_committed reader of every record of a topic, from before there is one."""

    def __init__(self, bootstrap_servers: str, topic: str, partitions: int = PARTITIONS) -> None:
        self.values: dict[int, list[bytes]] = defaultdict(list)
        self.count = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "nobody",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self._partitions = partitions

    def read(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for message in self._consumer.consume(1_000, min(left, 0.1)):
                if message.error() is None:
                    self.values[message.partition()].append(message.value())
                    self.count += 1

    def read_until(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.count < count and time.monotonic() < deadline:
            self.read(0.05)

    def read_to_end(self) -> None:
        ended: set[int] = set()
        while len(ended) < self._partitions:
            for message in self._consumer.consume(1_000, 0.1):
                if message.error() is None:
                    self.values[message.partition()].append(message.value())
                else:
                    ended.add(message.partition())

    def close(self) -> None:
        self._consumer.close()


def ledger_rows(bootstrap_servers: str, service: str) -> list[LedgerRow]:
    reader = Reader(bootstrap_servers, "ledger")
    reader.read_to_end()
    reader.close()
    rows = []
    for value in (value for values in reader.values.values() for value in values):
        row = avro_datum(schema_text("ledger"), value)
        if row["service"] == service:
            rows.append(
                LedgerRow(
                    service,
                    row["instance"],
                    Partition(row["topic"], row["partition"]),
                    row["topic_id"],
                    row["first_offset"],
                    row["next_offset"],
                    Counts(row["records_in"], row["forwarded"], row["dead"], row["duplicate"], row["late"]),
                    row["emitted"],
                    row["committed_at"],
                )
            )
    return rows


def committed(bootstrap_servers: str, group: str, topic: str) -> dict[int, int]:
    """Return stable committed offsets: open transactions are waited for."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": group, "isolation.level": "read_committed"}
    )
    found = consumer.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], timeout=30)
    consumer.close()
    return {place.partition: place.offset for place in found}


def last_stable(admin: AdminClient, topic: str) -> dict[int, int]:
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
    answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    return {place.partition: future.result(30).offset for place, future in answers.items()}


def test_kills_and_stops_lose_and_double_nothing(services: Services, admin: AdminClient) -> None:
    bootstrap_servers = services.stack.bootstrap_servers
    create(admin, **{services.input: PARTITIONS, services.output: PARTITIONS})
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")
    reader = Reader(bootstrap_servers, services.output)
    stop = threading.Event()
    feeder = threading.Thread(target=feed, args=(bootstrap_servers, services.input, stop))
    feeder.start()
    try:
        services.start("0")
        for number, sent in enumerate(SIGNALS):
            if number == SECOND_INSTANCE.start:
                services.start("1")
            elif number == SECOND_INSTANCE.stop:
                services.wait_begun("1")
                assert services.stop("1", signal.SIGTERM) == 0, services.log
            reader.read_until(reader.count + 100, seconds=20.0)
            victim = chance.choice(sorted(services.running))
            services.wait_begun(victim)
            reader.read(chance.uniform(0, 0.5))  # any moment of a commit
            code = services.stop(victim, sent)
            assert code == (0 if sent == signal.SIGTERM else -sent), services.log
            services.start(victim)
        reader.read_until(RECORDS, seconds=60.0)
        feeder.join(60)
        deadline = time.monotonic() + 20
        while committed(bootstrap_servers, f"millrace-{services.name}", services.input) != last_stable(
            admin, services.input
        ):
            assert time.monotonic() < deadline, "the committed offsets did not reach the end"
            reader.read(0.2)
    finally:
        stop.set()
        feeder.join(30)
        reader.read(0.3)
        reader.close()
    wanted = {partition: [b"%d" % n for n in range(partition, RECORDS, PARTITIONS)] for partition in range(PARTITIONS)}
    for partition, values in wanted.items():
        read = reader.values[partition]
        assert len(read) == len(values), f"{len(set(values) - set(read))} lost, {len(read) - len(set(read))} doubled"
        assert read == values, f"partition {partition} is out of order"
    afterwards = Reader(bootstrap_servers, services.output)
    afterwards.read_to_end()
    afterwards.close()
    assert afterwards.values == reader.values, "a reader during the faults saw something else than one after them"
    rows = ledger_rows(bootstrap_servers, services.name)
    assert [str(gap) for gap in find_gaps(rows)] == []
    assert sum(row.counts.forwarded for row in rows) == RECORDS
    ends = last_stable(admin, services.input)
    for partition in range(PARTITIONS):
        mine = [row for row in rows if row.partition.index == partition]
        assert min(row.first_offset for row in mine) == 0
        assert max(row.next_offset for row in mine) == ends[partition]
    services.wait_begun("0")
    assert services.stop("0", signal.SIGTERM) == 0, services.log


def refusal(services: Services) -> str:
    process = services.start("0")
    with suppress(subprocess.TimeoutExpired):
        process.wait(40)
    assert process.poll() == 1, services.log
    return services.log


def test_topics_with_different_partition_counts_are_refused(services: Services, admin: AdminClient) -> None:
    create(admin, **{services.input: 4, services.output: 3})
    message = refusal(services)
    assert f"{services.input} has 4, {services.output} has 3" in message
    assert "downstream topics first" in message


def test_a_missing_topic_is_refused(services: Services) -> None:
    assert "does not exist: run `millrace topics apply`" in refusal(services)


def test_input_deleted_before_it_was_processed_is_refused(services: Services, admin: AdminClient) -> None:
    create(admin, **{services.input: 1, services.output: 1})
    bootstrap_servers = services.stack.bootstrap_servers
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    for number in range(20):
        producer.produce(services.input, b"%d" % number)
    assert producer.flush(30) == 0
    group = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": f"millrace-{services.name}"})
    group.commit(offsets=[TopicPartition(services.input, 0, 5)], asynchronous=False)
    group.close()
    for future in admin.delete_records([TopicPartition(services.input, 0, 9)]).values():
        future.result()
    message = refusal(services)
    assert f"{services.input}[0]: offsets 5 to 8 were deleted before they were processed" in message
    assert f"`millrace reset {services.name} --topic {services.input} --partition 0 --to earliest`" in message


def test_offsets_lost_by_a_service_without_state_are_noticed_by_its_output(
    services: Services, admin: AdminClient
) -> None:
    create(admin, **{services.input: 1, services.output: 1})
    bootstrap_servers = services.stack.bootstrap_servers
    aborting = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": "a first start that was killed"})
    aborting.init_transactions(30)
    aborting.begin_transaction()
    aborting.produce(services.output, b"unseen", partition=0)
    aborting.flush(30)
    aborting.abort_transaction(30)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    producer.produce(services.input, b"record", partition=0)
    assert producer.flush(30) == 0
    reader = Reader(bootstrap_servers, services.output, partitions=1)
    services.start("0")
    reader.read_until(1, 40)
    reader.close()
    assert services.stop("0", signal.SIGTERM) == 0
    group = f"millrace-{services.name}"
    admin.delete_consumer_groups([group])[group].result()
    message = refusal(services)
    assert f"{services.input}[0]: it was processed before (there is output in {services.output}[0])" in message
    assert f"`millrace reset {services.name} --topic {services.input} --partition 0 --to earliest`" in message


def test_a_schema_that_is_not_registered_is_refused(local_stack: Stack) -> None:
    registry = SchemaRegistry({"url": local_stack.registry_url})
    assert registry.schema_id("user-events", schema_text("user-events")) > 0
    with pytest.raises(StartupError, match="run `millrace schemas register`"):
        registry.schema_id("nobodys-subject", schema_text("user-events"))
    with pytest.raises(StartupError, match="subject ledger does not have this version's schema"):
        registry.schema_id("ledger", schema_text("user-events"))


def test_an_id_that_the_registry_does_not_have_is_no_schema(local_stack: Stack) -> None:
    registry = SchemaRegistry({"url": local_stack.registry_url})
    known = registry.schema_id("user-events", schema_text("user-events"))
    assert registry.schema(known) is not None
    assert registry.schema(2**31 - 1) is None
