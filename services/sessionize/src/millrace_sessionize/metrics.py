"""Metrics of sessionize, beside those of every service in millrace_common.metrics."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from millrace_common import metrics
from millrace_common.records import Partition
from millrace_sessionize.state import OpenSessions

OPEN_SESSIONS: Final = metrics.gauge(
    "millrace_sessionize_open_sessions",
    "Sessions that are not over.",
    what_to_do="Times the bytes per open session (README) it is the memory of the service. Not falling without "
    "traffic: the watermark stands still; look at IDLE_TIMEOUT_SECONDS.",
    labels=("topic", "partition"),
)
STATE_BYTES: Final = metrics.gauge(
    "millrace_sessionize_state_bytes",
    "Memory of the columns of open sessions, without their strings.",
    what_to_do="Falls only at a restart: it is as large as the busiest moment needed.",
    labels=("topic", "partition"),
)
SESSIONS_CLOSED: Final = metrics.counter(
    "millrace_sessionize_sessions_closed_total",
    "Sessions closed, by what ended them; counted when processed, so a rewind counts again.",
    what_to_do="Many by max_events or max_duration: bots, or a client that never changes its session id.",
    labels=("closed_by",),
)
WATERMARK_LAG_SECONDS: Final = metrics.gauge(
    "millrace_sessionize_watermark_lag_seconds",
    "Wall clock minus the watermark.",
    what_to_do="Sessions close this much plus the gap after their last event. Far above the allowed lateness: the "
    "service is catching up, or the partition is idle with nothing to close.",
    labels=("topic", "partition"),
)


def report(partition: Partition, state: OpenSessions, now_ms: int) -> None:
    """Show the state of `partition`."""
    labels = {"topic": partition.topic, "partition": partition.index}
    OPEN_SESSIONS.labels(**labels).set(state.open_count)
    STATE_BYTES.labels(**labels).set(state.nbytes)
    if state.watermark_ms is not None:
        WATERMARK_LAG_SECONDS.labels(**labels).set((now_ms - state.watermark_ms) / 1000)


def count_closed(sessions: pa.RecordBatch) -> None:
    """Count closed `sessions`, rows of session-metrics."""
    for group in pc.value_counts(sessions.column("closed_by")).to_pylist():
        SESSIONS_CLOSED.labels(closed_by=group["values"]).inc(group["counts"])
