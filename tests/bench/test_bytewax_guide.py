"""The peer's clock is ours, not Bytewax's: it must not cost it a session."""

from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pyarrow as pa
import pytest
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

import bytewax_guide_session
import bytewax_running
import oracle
import plain_loop
from millrace_common.codec import Encoder
from millrace_schemas import schema_text
from oracle import Expected, SessionCheck
from shop_log import Events, events
from shop_records import Columns, session_ids

EPOCH_MS = 1_790_000_000_000
BENCH = Path(__file__).parent
Message = KafkaSourceMessage[bytes, bytes]


def messages(drawn: Events, wanted: Expected) -> list[Message]:
    values = Encoder(schema_text("user-events.enriched"), 1).encode(Columns().enriched(drawn, 0, EPOCH_MS))
    keys = session_ids(drawn.visit).to_pylist()
    return [
        KafkaSourceMessage(key.encode(), value, partition=partition)
        for key, value, partition in zip(keys, values, wanted.partition.tolist(), strict=True)
    ]


def sessions(monkeypatch: pytest.MonkeyPatch, log: list[Message], at_once: int) -> list[dict[str, Any]]:
    """Run the flow over `log`, in memory, and return what it has written."""
    monkeypatch.setenv("BENCH_INPUT_SCHEMA", str(BENCH.parents[1] / "schemas" / "user-events.enriched.avsc"))
    monkeypatch.setenv("BENCH_OUTPUT_SCHEMA", str(BENCH / "schemas" / "session.avsc"))
    monkeypatch.setenv("BENCH_OUTPUT_SCHEMA_ID", "7")
    written: list[KafkaSinkMessage[bytes, bytes]] = []

    def read(flow: Dataflow, _batch_records: int, *, commits: bool) -> Any:
        return op.input("read_events", flow, TestingSource(log, at_once))

    def write(step_id: str, stream: Any) -> None:
        op.output(step_id, stream, TestingSink(written))

    monkeypatch.setattr(bytewax_running, "read", read)
    monkeypatch.setattr(bytewax_running, "write", write)
    run_main(bytewax_guide_session.build_flow())
    schema = plain_loop.parsed("BENCH_OUTPUT_SCHEMA")
    return [plain_loop.decode(schema, message.value) for message in written]


@pytest.mark.parametrize("at_once", [1, 1_000])
def test_every_session_that_is_over_comes_out_right(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    [*parts] = events(7, 8_000, 400)
    drawn = Events(*(np.concatenate(columns) for columns in zip(*map(columns_of, parts), strict=True)))
    everything = np.arange(len(drawn))
    wanted = oracle.of_events(drawn, everything, everything)
    found = sessions(monkeypatch, messages(drawn, wanted), at_once)
    check = SessionCheck(wanted, EPOCH_MS)
    check.take({name: pa.array([session[name] for session in found]) for name in found[0]})
    verdict = check.verdict([len(rows) for rows in wanted.rows])
    assert verdict.problem == ""
    assert verdict.outputs > 500


def columns_of(part: Events) -> list[Any]:
    return [part.visit, part.time_ms, part.kind, part.product, part.page]
