"""Dead letters sent back after the cause was mended: once each, however often the command is run or killed.

ingest runs without a dedup window here: nothing but the replay itself keeps a record from being doubled.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl
import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from millrace_common.codec import RowEncoder
from millrace_common.records import Partition
from millrace_common.registry import SchemaRegistry
from millrace_common.topology import Topology
from millrace_local.audit import audit
from millrace_local.draining import wait_until_through
from millrace_local.evidence import gather
from millrace_local.reading import Library, runs
from millrace_local.services import SERVICES
from millrace_local.stack import Stack, wait_until
from millrace_local.testing import local_broker
from millrace_schemas import schema_text

pytestmark = pytest.mark.broker

_DEADLINE_SECONDS = 60.0
_PARTITIONS = 4
_RECORDS = 40
_SERVICES = tuple(
    replace(service, environment={"DEDUP_WINDOW_SECONDS": "0", "BRAKE_LIMIT": "1"})
    for service in SERVICES
    if service.name in {"ingest", "enrich", "lake"}
)


@dataclass
class Bench:
    """A stack with ingest, enrich and lake, and what tests do to it."""

    stack: Stack

    def __post_init__(self) -> None:
        self.registry = SchemaRegistry({"url": self.stack.registry_url})
        self.client = SchemaRegistryClient({"url": self.stack.registry_url})
        self.library = Library(self.stack.bootstrap_servers, self.stack.registry_url, self.stack.lake)

    def send(self, topic: str, values: list[bytes]) -> None:
        producer = Producer({"bootstrap.servers": self.stack.bootstrap_servers})
        failures: list[str] = []

        def note(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(error.str())

        for number, value in enumerate(values):
            # A compacted topic takes no record without a key.
            key = f"k{number}".encode() if number % 2 or topic == "transactions" else None
            producer.produce(topic, value, key=key, partition=number % _PARTITIONS, on_delivery=note)
        assert producer.flush(_DEADLINE_SECONDS) == 0
        assert failures == []

    def command(self, *words: str) -> list[str]:
        work_dir = str(self.stack.work_dir)
        return [sys.executable, "-m", "millrace_local", "dead-letters", *words, "--work-dir", work_dir]

    def run(self, *words: str) -> Any:
        """Run `millrace dead-letters`, see it succeed, and return its JSON."""
        told = self.run_for_a_person(*words, "--json")
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    def run_for_a_person(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=_DEADLINE_SECONDS
        )

    def held(self, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
        """Return partition, key and value of every committed record of a topic."""
        places = [Partition(topic, index) for index in range(_PARTITIONS)]
        return [
            (place.index, message.key(), message.value())
            for place, messages in runs(self.library, places)
            for message in messages
        ]

    def ids(self, table: str, column: str) -> list[str]:
        return sorted(pl.scan_delta(str(self.stack.lake / table)).select(column).collect()[column].to_list())

    def prove(self) -> None:
        """See everything through, and the books balanced."""
        wait_until_through(self.stack, _SERVICES)
        verdict = audit(gather(self.library))
        assert verdict.problems == ()
        assert (verdict.quiet, sum(verdict.in_flight[service.name] for service in _SERVICES)) == (True, 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with local_broker(tmp_path_factory.mktemp("replay")) as stack:
        stack.set_services(_SERVICES)
        stack.wait_ready()
        bench = Bench(stack)
        bench.send("transactions", [b""] * _PARTITIONS)  # so that ingest has committed something in every partition
        bench.send("user-events", [b""] * _PARTITIONS)
        wait_until_through(stack, _SERVICES[:1])
        yield bench


def event(number: int, now_ms: int) -> dict[str, Any]:
    return {
        "eventId": f"e{number:02}",
        "userId": None,
        "sessionId": "s",
        "eventType": "click",
        "timestamp": now_ms,
        "properties": {"page": "/"},
        "context": {"userAgent": "x", "ip": "192.0.2.1", "platform": "web", "referrer": None},
    }


def order(number: int, price: float, now_ms: int) -> dict[str, Any]:
    return {
        "transactionId": f"t{number:02}",
        "userId": "u",
        "orderItems": [{"productId": "p", "quantity": 1, "price": price, "category": "c"}],
        "totalAmount": price,
        "currency": "EUR",
        "paymentMethod": "card",
        "status": "paid",
        "timestamp": now_ms,
    }


def next_schema(bench: Bench) -> tuple[int, Schema]:
    """Return a later version of user-events, and the id that it will be registered under."""
    later = json.loads(schema_text("user-events"))
    later["fields"].append({"name": "campaign", "type": ["null", "string"], "default": None})
    probe = json.dumps({"type": "record", "name": "Probe", "fields": []})
    return bench.client.register_schema("probe", Schema(probe, "AVRO")) + 1, Schema(json.dumps(later), "AVRO")


def test_records_of_a_schema_that_was_registered_too_late(bench: Bench) -> None:
    now_ms = time.time_ns() // 1_000_000
    schema_id, schema = next_schema(bench)
    later = RowEncoder(str(schema.schema_str), schema_id)
    events = [event(number, now_ms) for number in range(_RECORDS)]
    bench.send("user-events", [later.encode({**fields, "campaign": "x"}) for fields in events])
    wait_until_through(bench.stack, _SERVICES[:1])
    sent = bench.held("user-events")
    assert len(sent) == _RECORDS + _PARTITIONS

    chosen = ("--reason", "unknown_schema", "--since", "1h")
    (group,) = bench.run("list", *chosen)
    found = {name: group[name] for name in ("service", "stage", "reason", "topic", "count")}
    expected = {"service": "ingest", "stage": "decode", "reason": "unknown_schema", "topic": "user-events"}
    assert found == {**expected, "count": _RECORDS}
    assert bench.run("list", "--service", "enrich") == []
    one = ("show", "--topic", "user-events", "--partition", "2", "--offset", "4")
    (letter,) = bench.run(*one)
    assert (letter["source_partition"], letter["source_offset"], letter["fields"]) == (2, 4, None)
    assert (2, None, bytes.fromhex(letter["value_hex"])) in sent

    assert bench.client.register_schema("user-events", schema) == schema_id
    assert bench.run(*one)[0]["fields"]["eventId"] == "e14"
    # Of three events a copy has come meanwhile, and no dedup window is left to know it.
    known = RowEncoder(schema_text("user-events"), bench.registry.schema_id("user-events", schema_text("user-events")))
    bench.send("user-events", [known.encode(fields) for fields in events[:3]])
    wait_until_through(bench.stack, _SERVICES)
    before = bench.held("user-events")

    look = bench.run("replay", *chosen, "--dry-run")
    assert (look["sent"], look["in_lake"], look["copy"]) == (_RECORDS - 3, 3, 0)
    limited = bench.run("replay", *chosen, "--dry-run", "--limit", "5")
    assert limited["sent"] + limited["in_lake"] == 5
    assert bench.held("user-events") == before

    # Killed in the middle, again and again.
    topology = Topology(AdminClient({"bootstrap.servers": bench.stack.bootstrap_servers}))
    places = [Partition("user-events", index) for index in range(_PARTITIONS)]

    def grown_since(ends: dict[Partition, tuple[int, int]]) -> bool:
        return topology.ranges(places) != ends

    for _ in range(2):
        ends = topology.ranges(places)
        running = subprocess.Popen(bench.command("replay", *chosen, "--rate", "4"), stderr=subprocess.DEVNULL)
        try:
            assert wait_until(partial(grown_since, ends), _DEADLINE_SECONDS)
        finally:
            running.kill()
            running.wait()
    result = bench.run("replay", *chosen)
    assert result["replay_id"] == look["replay_id"]
    assert result["earlier"]["sent"] > 0
    assert result["sent"] > 0
    assert result["sent"] + result["earlier"]["sent"] == _RECORDS - 3
    assert result["in_lake"] + result["earlier"]["in_lake"] == 3

    bench.prove()
    left_out = {b"", *(later.encode({**fields, "campaign": "x"}) for fields in events[:3])}
    replayed = [record for record in sent if record[2] not in left_out]
    assert sorted(bench.held("user-events"), key=repr) == sorted(before + replayed, key=repr)
    assert bench.ids("events", "event_id") == [fields["eventId"] for fields in events]

    again = bench.run_for_a_person("replay", *chosen)
    assert again.returncode == 0
    line = f"nothing is left to send under replay id {look['replay_id']}: {_RECORDS - 3} records were sent by earlier"
    assert line in again.stdout
    assert bench.run("replay", *chosen, "--replay-id", "other")["in_lake"] == _RECORDS
    misused = bench.run_for_a_person("replay", "--replay-id", "other")
    assert (misused.returncode, misused.stdout) == (1, "")
    assert "replay id other was used with other options" in misused.stderr
    bench.prove()
    assert bench.ids("events", "event_id") == [fields["eventId"] for fields in events]


def test_records_that_lake_refused_go_back_to_the_topic_between(bench: Bench) -> None:
    now_ms = time.time_ns() // 1_000_000
    encoder = RowEncoder(
        schema_text("transactions"), bench.registry.schema_id("transactions", schema_text("transactions"))
    )
    orders = [order(number, 1.5 if number < 4 else 1e15, now_ms) for number in range(6)]
    bench.send("transactions", [encoder.encode(fields) for fields in orders])
    bench.prove()
    chosen = ("--service", "lake", "--topic", "transactions.valid")
    for replay_id, copies in (("one", 0), ("two", 2)):  # nothing was mended: lake refuses them each time
        told = bench.run_for_a_person("replay", *chosen, "--replay-id", replay_id)
        assert told.returncode == 0, told.stderr
        assert "! transactions.valid is written by the pipeline itself" in told.stderr
        assert f"2 records sent under replay id {replay_id}" in told.stdout
        assert (f"{copies} left out: copies within the replay" in told.stdout) == bool(copies)
        bench.prove()
    assert len(bench.held("transactions.valid")) == 6 + 2 + 2
    assert bench.ids("transactions", "transaction_id") == ["t00", "t01", "t02", "t03"]
    # What came after a replay had begun is none of it.
    assert bench.run("replay", *chosen, "--replay-id", "one")["sent"] == 0
