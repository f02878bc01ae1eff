"""How both Bytewax flows read their topic, write theirs, and run."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

import framing


def read(flow: Dataflow, batch_records: int, *, commits: bool = False) -> Any:
    """Return the stream of the input's messages; an error of the broker ends the process.

    Bytewax keeps offsets in its recovery store. If `commits`, the client also commits them, as its guides show, for
    those who watch the lag: they run ahead of what is processed by some batches, and nothing is restored from them.
    """
    settings = dict(framing.CONSUMER)
    if commits:
        settings |= {
            "group.id": os.environ["BENCH_GROUP"],
            "enable.auto.commit": "true",
            "auto.commit.interval.ms": f"{framing.COMMIT_SECONDS * 1000:.0f}",
        }
    topics = [os.environ["BENCH_INPUT"]]
    messages = kop.input(
        "read_events", flow, brokers=[framing.brokers()], topics=topics, add_config=settings, batch_size=batch_records
    )
    op.raises("stop_on_error", messages.errs)
    return messages.oks


def write(step_id: str, messages: Any) -> None:
    """Write a stream of KafkaSinkMessage to the output."""
    topic = os.environ["BENCH_OUTPUT"]
    kop.output(step_id, messages, brokers=[framing.brokers()], topic=topic, add_config=framing.PRODUCER)


def run(flow: Dataflow, snapshot_interval: timedelta) -> None:
    """Run `flow` in one worker until killed, with a recovery store."""
    folder = Path(os.environ["BENCH_STATE_DIR"]) / "recovery"
    folder.mkdir()
    init_db_dir(folder, 1)
    cli_main(flow, epoch_interval=snapshot_interval, recovery_config=RecoveryConfig(folder))
