"""Metrics as a typed registry: each has a help text and says what to do when it looks wrong.

`docs/reference/metrics.md` is generated from SPECS. Names begin with millrace_, carry base units; labels are bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What a metric is called, what it says, and what to do about it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    what_to_do: str
    labels: tuple[str, ...]


SPECS: Final[list[MetricSpec]] = []

# From half a millisecond to a minute: a commit takes 10 ms, a stall is seconds.
SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def counter(name: str, help_text: str, *, what_to_do: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter; `name` ends in _total."""
    SPECS.append(MetricSpec(name, "counter", help_text, what_to_do, tuple(labels)))
    return Counter(name, help_text, labels)


def gauge(name: str, help_text: str, *, what_to_do: str, labels: Sequence[str] = ()) -> Gauge:
    """Declare a gauge."""
    SPECS.append(MetricSpec(name, "gauge", help_text, what_to_do, tuple(labels)))
    return Gauge(name, help_text, labels)


def histogram(name: str, help_text: str, *, what_to_do: str, labels: Sequence[str] = ()) -> Histogram:
    """Declare a histogram of seconds."""
    SPECS.append(MetricSpec(name, "histogram", help_text, what_to_do, tuple(labels)))
    return Histogram(name, help_text, labels, buckets=SECONDS_BUCKETS)


RECORDS_IN: Final = counter(
    "millrace_records_in_total",
    "Input records whose processing was committed.",
    what_to_do="Flat while millrace_consumer_lag grows: the service is stuck; read its log and /healthz.",
    labels=("topic", "partition"),
)
RECORDS_OUT: Final = counter(
    "millrace_records_out_total",
    "Records produced by committed transactions, dead letters and ledger rows included.",
    what_to_do="Compare with records in; the ledger explains every difference.",
    labels=("topic",),
)
RECORDS_DEAD: Final = counter(
    "millrace_records_dead_total",
    "Input records set aside as dead letters, by stage and reason.",
    what_to_do="Read dead-letters for the reason, mend the producer, then replay them.",
    labels=("stage", "reason"),
)
RECORDS_DUPLICATE: Final = counter(
    "millrace_records_duplicate_total",
    "Input records dropped because their id was seen inside the dedup window.",
    what_to_do="A steady share is normal (client retries); a jump points at a producer without idempotence.",
)
RECORDS_LATE: Final = counter(
    "millrace_records_late_total",
    "Input records that came after their session was over.",
    what_to_do="The nightly batch folds them in; a jump points at a stalled or clock-skewed producer.",
)
COMMIT_SECONDS: Final = histogram(
    "millrace_commit_seconds",
    "From the first call of a commit to its answer.",
    what_to_do="Above 0.1 s for long: look at the broker's disk and request queue.",
)
BATCH_RECORDS: Final = gauge(
    "millrace_batch_records",
    "Records in the last run that was polled.",
    what_to_do="At its maximum for long: the service is catching up; watch millrace_consumer_lag.",
)
CONSUMER_LAG: Final = gauge(
    "millrace_consumer_lag",
    "Offsets between the last one read and the end of the partition; what is read is committed within the interval.",
    what_to_do="Growing: add processes, up to the number of partitions.",
    labels=("topic", "partition"),
)
HELD_BACK_SECONDS: Final = gauge(
    "millrace_held_back_seconds",
    "For how long records of an open transaction have held back those behind them; 0: nothing is held back.",
    what_to_do="Above the producers' transaction timeout: see docs/runbooks/hanging-transaction.md.",
    labels=("topic", "partition"),
)
EVENT_TIME_LAG_SECONDS: Final = gauge(
    "millrace_event_time_lag_seconds",
    "Wall clock minus the watermark committed last.",
    what_to_do="Far above the allowed lateness: the partition is idle, or its producers' clocks are behind.",
    labels=("topic", "partition"),
)
LAST_PROGRESS_TIMESTAMP_SECONDS: Final = gauge(
    "millrace_last_progress_timestamp_seconds",
    "When the worker last went round its loop, Unix time.",
    what_to_do="Older than STALLED_AFTER_SECONDS: /healthz fails and the orchestrator restarts the process.",
)
ASSIGNED_PARTITIONS: Final = gauge(
    "millrace_assigned_partitions",
    "Input partitions this process owns.",
    what_to_do="0 on a ready process: more processes than partitions.",
)
REWINDS: Final = counter(
    "millrace_rewinds_total",
    "Transactions given up; the partitions went back to their committed offsets.",
    what_to_do="A few at broker restarts and rebalances are normal; a steady rate needs the log's reason field.",
    labels=("reason",),
)
SNAPSHOT_SECONDS: Final = histogram(
    "millrace_snapshot_seconds",
    "Writing one partition's state snapshot.",
    what_to_do="Close to SNAPSHOT_INTERVAL_SECONDS: the state store is slow.",
)
SNAPSHOT_FAILURES: Final = counter(
    "millrace_snapshot_failures_total",
    "State snapshots that could not be written.",
    what_to_do="The service goes on, but a restart replays longer: look at the state store.",
)
PREDICTED_RESTART_SECONDS: Final = gauge(
    "millrace_predicted_restart_seconds",
    "If this process were killed now: session timeout, loading its snapshots, replaying what came after them; 0: it "
    "keeps no state, or owns no partition.",
    what_to_do="Above what you can wait: when the state is large, more processes with fewer partitions each; when a "
    "snapshot is old, a shorter SNAPSHOT_INTERVAL_SECONDS or a mended state store; a shorter SESSION_TIMEOUT_SECONDS.",
)
