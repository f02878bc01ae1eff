"""The Python in runbooks that talks to a broker does what the page says."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from deltalake import write_deltalake

from millrace_lake.tables import tables
from millrace_local.stack import Stack
from millrace_local.testing import local_stack

__all__ = ["local_stack"]

pytestmark = pytest.mark.broker

RUNBOOKS: Final = Path(__file__).parents[2] / "docs" / "runbooks"


def run_block(page: str) -> None:
    """Run the block of `page` that is marked as one that needs a broker."""
    [block] = re.findall(
        r"^```python needs-a-broker\n(.*?)^```", (RUNBOOKS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    exec(compile(block, page, "exec"), {})  # noqa: S102


@pytest.fixture(autouse=True)
def surroundings(local_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def open_transaction(local_stack: Stack) -> Iterator[Producer]:  # noqa: F811
    producer = Producer({"bootstrap.servers": local_stack.bootstrap_servers, "transactional.id": "hanging"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("user-events.valid", value=b"unseen", partition=1)
    producer.flush(30)
    yield producer
    producer.abort_transaction(30)


def test_a_hanging_transaction_is_found(open_transaction: Producer, capsys: pytest.CaptureFixture[str]) -> None:
    run_block("hanging-transaction.md")
    assert "user-events.valid 1 stable up to 0 written up to 1" in capsys.readouterr().out


def test_dead_letters_are_sent_again_as_they_came(local_stack: Stack, tmp_path: Path) -> None:  # noqa: F811
    [spec] = tables(["dead_letters"])
    at = datetime(2026, 1, 2, tzinfo=UTC)
    letter = {
        "service": "ingest",
        "stage": "decode",
        "reason": "unknown_schema",
        "detail": "",
        "source_topic": "user-events",
        "source_partition": 2,
        "source_offset": 7,
        "source_timestamp": at,
        "key": b"k",
        "value": b"\x00\xff exact bytes",
        "occurred_at": at,
        "occurred_date": at.date(),
    }
    other = letter | {"reason": "invalid_ip", "value": b"stays"}
    rows = pa.Table.from_pylist([letter, other], schema=spec.schema)
    write_deltalake(str(tmp_path / ".millrace" / "lake" / "dead_letters"), rows)
    run_block("read-dead-letters.md")
    consumer = Consumer({"bootstrap.servers": local_stack.bootstrap_servers, "group.id": "docs"})
    place = TopicPartition("user-events", 2, 0)
    assert consumer.get_watermark_offsets(place, timeout=10) == (0, 1)
    consumer.assign([place])
    [record] = consumer.consume(1, timeout=10)
    consumer.close()
    assert (record.key(), record.value()) == (b"k", letter["value"])
