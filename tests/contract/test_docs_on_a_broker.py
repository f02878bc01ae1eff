"""The Python in runbooks that talks to a broker does what the page says."""

import re
import textwrap
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Producer

from millrace_local.stack import Stack
from millrace_local.testing import local_stack

__all__ = ["local_stack"]

pytestmark = pytest.mark.broker

RUNBOOKS: Final = Path(__file__).parents[2] / "docs" / "runbooks"


def run_block(page: str, number: int) -> None:
    """Run a block of `page` that is marked as one that needs a broker."""
    text = (RUNBOOKS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```python needs-a-broker\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    exec(compile(textwrap.dedent(blocks[number]), page, "exec"), {})  # noqa: S102


@pytest.fixture(autouse=True)
def surroundings(local_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    monkeypatch.chdir(tmp_path)


def test_a_hanging_transaction_is_found_and_ended(
    local_stack: Stack,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = Producer({"bootstrap.servers": local_stack.bootstrap_servers, "transactional.id": "hanging"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("user-events.valid", value=b"unseen", partition=1)
    producer.flush(30)
    run_block("hanging-transaction.md", 0)
    assert "user-events.valid 1 stable up to 0 written up to 1" in capsys.readouterr().out
    monkeypatch.setenv("TRANSACTIONAL_ID", "hanging")
    run_block("hanging-transaction.md", 1)
    run_block("hanging-transaction.md", 0)
    assert capsys.readouterr().out == ""
