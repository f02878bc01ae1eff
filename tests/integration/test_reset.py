"""Real services that refuse to go on, and the command that they name: with it they go on, and the books balance."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from millrace_common.codec import RowEncoder
from millrace_common.positions import metadata_text
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_lake import history
from millrace_local import topics
from millrace_local.audit import audit
from millrace_local.draining import wait_until_through
from millrace_local.evidence import gather
from millrace_local.reading import Library
from millrace_local.services import SERVICES
from millrace_local.stack import Stack, log_file, wait_until
from millrace_local.testing import local_broker
from millrace_schemas import schema_text
from millrace_schemas import topics as declared_topics

pytestmark = pytest.mark.broker

_DEADLINE_SECONDS = 60.0
_SERVICES = tuple(
    replace(service, environment={"SNAPSHOT_INTERVAL_SECONDS": "0.1", "COMMIT_INTERVAL_SECONDS": "0.1"})
    for service in SERVICES
    if service.name in {"ingest", "lake"}
)


@dataclass
class Bench:
    """A stack with ingest and lake, and what tests do to it."""

    stack: Stack
    admin: AdminClient
    sent: int = 0

    def send(self, topic: str, partition: int, count: int, *, valid: bool = True) -> None:
        """Send records that ingest forwards, or that it sets aside."""
        registry = SchemaRegistry({"url": self.stack.registry_url})
        schema = schema_text(topic)
        encoder = RowEncoder(schema, registry.schema_id(topic, schema))
        producer = Producer({"bootstrap.servers": self.stack.bootstrap_servers})
        for _ in range(count):
            self.sent += 1
            record = _RECORDS[topic](f"{self.sent}", time.time_ns() // 1_000_000)
            producer.produce(topic, encoder.encode(record) if valid else b"", key=b"k", partition=partition)
        assert producer.flush(_DEADLINE_SECONDS) == 0

    def processed(self) -> None:
        """See everything through ingest."""
        wait_until_through(self.stack, _SERVICES[:1])

    def through(self) -> None:
        """See everything through ingest and lake."""
        wait_until_through(self.stack, _SERVICES)

    def start(self) -> None:
        self.stack.set_services(_SERVICES)
        self.stack.wait_ready()

    def refusal(self, service: str, pattern: str) -> list[str]:
        """Wait until `service` says what `pattern` matches, and return the command that its message names."""
        found: list[str] = []

        def said() -> bool:
            log = log_file(self.stack.work_dir, service).read_text()
            found[:] = re.findall(rf"{pattern}.*`(millrace reset [^`]*)`", log)
            return bool(found)

        assert wait_until(said, _DEADLINE_SECONDS), self.stack.log_tail(service)
        return shlex.split(found[-1])

    def run(self, command: list[str], *more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "millrace_local", *command[1:], "--work-dir", str(self.stack.work_dir), *more],
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_SECONDS,
        )

    def create_again(self, topic: str) -> str:
        """Delete and create a topic; return the id it had."""
        before = Topology(self.admin).topic_ids([topic])[topic]
        self.admin.delete_topics([topic])[topic].result()
        assert wait_until(lambda: topic not in self.admin.list_topics(timeout=10).topics, _DEADLINE_SECONDS)
        topics.apply(self.admin, declared_topics())
        assert Topology(self.admin).topic_ids([topic])[topic] != before
        return before

    def delete(self, topic: str, partition: int, before: int) -> None:
        """Delete records as retention does."""
        place = TopicPartition(topic, partition, before)
        self.admin.delete_records([place])[place].result()

    def rows(self, table: str) -> int:
        count = history.row_count(str(self.stack.lake / table))
        assert count is not None
        return count

    def prove(self) -> None:
        """See everything through, and the books balanced."""
        self.through()
        library = Library(self.stack.bootstrap_servers, self.stack.registry_url, self.stack.lake)
        verdict = audit(gather(library))
        assert verdict.problems == ()
        assert (verdict.quiet, verdict.in_flight["ingest"], verdict.in_flight["lake"]) == (True, 0, 0)


def _event(number: str, now_ms: int) -> dict[str, Any]:
    return {
        "eventId": number,
        "userId": None,
        "sessionId": "s",
        "eventType": "click",
        "timestamp": now_ms,
        "properties": {"page": "/"},
        "context": {"userAgent": "x", "ip": "192.0.2.1", "platform": "web", "referrer": None},
    }


def _order(number: str, now_ms: int) -> dict[str, Any]:
    return {
        "transactionId": number,
        "userId": "u",
        "orderItems": [{"productId": "p", "quantity": 2, "price": 1.5, "category": "c"}],
        "totalAmount": 3.0,
        "currency": "EUR",
        "paymentMethod": "card",
        "status": "paid",
        "timestamp": now_ms,
    }


_RECORDS = {"user-events": _event, "transactions": _order}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with local_broker(tmp_path_factory.mktemp("reset")) as stack:
        bench = Bench(stack, AdminClient({"bootstrap.servers": stack.bootstrap_servers}))
        bench.start()
        bench.send("transactions", 0, 1, valid=False)  # a service's lag is known from its first commit on
        yield bench


def snapshots(bench: Bench, partition: Partition) -> list[Path]:
    return list((bench.stack.work_dir / "state" / "ingest" / partition.topic / str(partition.index)).glob("*.arrow"))


def test_input_that_was_deleted_before_it_was_processed(bench: Bench) -> None:
    place = Partition("user-events", 0)
    for _ in range(2):
        bench.send("user-events", 0, 10)
        bench.processed()
    assert snapshots(bench, place)
    bench.stack.stop_services({"ingest"})
    bench.send("user-events", 0, 30)
    bench.delete("user-events", 0, 40)
    bench.stack.set_services(_SERVICES)
    command = bench.refusal("ingest", r"ingest cannot go on at user-events\[0\]: offsets 20 to 39 were deleted")
    assert command[1:] == ["reset", "ingest", "--topic", "user-events", "--partition", "0", "--to", "earliest"]
    told = bench.run(command)
    assert told.returncode == 0, told.stderr
    line, removed = told.stdout.splitlines()
    assert line == "user-events[0] goes on at offset 40 (it was 20); in the ledger, offsets 20 to 39 are skipped"
    assert re.fullmatch(r"user-events\[0\]: [1-3] snapshots removed; the state is built anew .*", removed)
    assert told.stderr.splitlines() == ["· stopping ingest", "· starting ingest again"]
    bench.prove()

    processes = [state.identity for state in bench.stack.states()]
    same = bench.run([*command[:-1], "latest"])
    assert (same.returncode, same.stdout) == (0, "nothing to do: ingest stands there already\n")
    again = bench.run(command)
    assert (again.returncode, again.stdout) == (1, "")
    assert "records at offsets 40 to 49 will be processed again" in again.stderr
    assert "nothing was changed; add --yes" in again.stderr
    assert [state.identity for state in bench.stack.states()] == processes


def test_a_lake_table_dropped_behind_the_writer(bench: Bench) -> None:
    bench.send("user-events", 1, 7, valid=False)
    bench.through()
    stored = bench.rows("dead_letters")
    shutil.rmtree(bench.stack.lake / "dead_letters")
    bench.send("user-events", 1, 5, valid=False)
    command = bench.refusal("lake", r"lake cannot go on at dead-letters\[\d\]: rows up to offset \d+ were committed")
    assert command[1:] == ["reset", "lake", "--topic", "dead-letters", "--to", "earliest"]  # the whole topic at once
    told = bench.run(command)
    assert told.returncode == 0, told.stderr
    assert [f"dead-letters[{index}] goes on at offset 0 (it had no position)" for index in range(4)] == (
        told.stdout.splitlines()
    )
    bench.prove()
    assert bench.rows("dead_letters") == stored + 5


def test_a_topic_of_the_lake_that_was_created_again_and_then_lost_input(bench: Bench) -> None:
    bench.send("transactions", 2, 6)
    bench.through()
    bench.stack.stop_services({"ingest", "lake"})
    bench.create_again("transactions.valid")
    bench.stack.set_services(_SERVICES)
    command = bench.refusal(
        "lake", r"lake cannot go on at transactions\.valid\[\d\]: the topic was deleted and created"
    )
    told = bench.run([*command, "--partition", "2"])
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "transactions.valid: its other partitions begin at their first record"
    bench.send("transactions", 2, 3)
    bench.through()

    bench.stack.stop_services({"lake"})
    bench.send("transactions", 2, 5)
    bench.processed()
    bench.delete("transactions.valid", 2, 6)
    bench.stack.set_services(_SERVICES)
    command = bench.refusal("lake", r"lake cannot go on at transactions\.valid\[2\]: offsets \d to 5 were deleted")
    told = bench.run(command)
    assert told.returncode == 0, told.stderr
    line = r"transactions\.valid\[2\] goes on at offset 6 \(it was (\d)\); in the ledger, offsets \1 to 5 are skipped\n"
    assert re.fullmatch(line, told.stdout)
    bench.prove()
    assert 9 < bench.rows("transactions") < 14


def test_an_input_that_was_created_again_with_offsets_of_the_one_before(bench: Bench) -> None:
    bench.send("transactions", 3, 4)
    bench.processed()
    bench.stack.stop_services({"ingest"})
    before = bench.create_again("transactions")
    # The broker forgets offsets with their topic; a commit that was under way can come after that.
    late = TopicPartition("transactions", 3, 4, metadata_text(None, before, ()))
    asked = bench.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions("millrace-ingest", [late])])
    asked["millrace-ingest"].result()
    bench.send("transactions", 3, 2)
    bench.stack.set_services(_SERVICES)
    command = bench.refusal("ingest", r"ingest cannot go on at transactions\[\d\]: the topic was deleted and created")
    told = bench.run(command)
    assert told.returncode == 0, told.stderr
    assert [f"transactions[{index}] goes on at offset 0 (it had no position)" for index in range(4)] == (
        told.stdout.splitlines()[:4]
    )
    bench.prove()


def test_elsewhere_the_service_has_to_be_stopped_before(bench: Bench) -> None:
    refused = bench.run(
        ["millrace", "reset", "ingest", "--topic", "user-events", "--partition", "0", "--to", "earliest", "--yes"],
        *("--bootstrap-servers", bench.stack.bootstrap_servers),
        *("--registry-url", bench.stack.registry_url),
        *("--state-uri", str(bench.stack.work_dir / "state")),
    )
    assert refused.returncode == 1
    assert "group millrace-ingest has members: stop ingest first. Nothing was changed" in refused.stderr


def test_a_topic_created_again_whose_offsets_are_forgotten_is_noticed_by_its_snapshots(bench: Bench) -> None:
    for _ in range(2):
        bench.send("user-events", 2, 4)
        bench.processed()
    assert snapshots(bench, Partition("user-events", 2))
    bench.stack.stop_services({"ingest"})
    bench.create_again("user-events")
    bench.send("user-events", 2, 3)
    bench.stack.set_services(_SERVICES)
    command = bench.refusal("ingest", r"ingest cannot go on at user-events\[\d\]: the topic was deleted and created")
    told = bench.run(command)
    assert told.returncode == 0, told.stderr
    assert "user-events[2] goes on at offset 0 (it had no position)" in told.stdout.splitlines()
    bench.prove()


def test_records_that_are_skipped_become_dead_letters_that_can_be_sent_again(bench: Bench) -> None:
    bench.through()
    stored, letters = bench.rows("transactions"), bench.rows("dead_letters")
    bench.stack.stop_services({"ingest"})
    bench.send("transactions", 1, 3)
    bench.send("transactions", 1, 2, valid=False)
    command = ["millrace", "reset", "ingest", "--topic", "transactions", "--partition", "1", "--to", "latest"]
    refused = bench.run(command)
    assert refused.returncode == 1
    assert re.search(
        r"offsets \d+ to \d+ are still there and will be skipped; from then on they become dead", refused.stderr
    )
    told = bench.run(command, "--yes")
    assert told.returncode == 0, told.stderr
    bench.stack.set_services(_SERVICES)
    bench.prove()
    assert (bench.rows("transactions"), bench.rows("dead_letters")) == (stored, letters + 5)

    again = bench.run(["millrace", "dead-letters", "replay", "--reason", "skipped"])
    assert again.returncode == 0, again.stderr
    bench.prove()
    assert (bench.rows("transactions"), bench.rows("dead_letters")) == (stored + 3, letters + 7)
