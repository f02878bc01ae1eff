"""What open sessions cost sessionize: memory while it runs, and time when it is killed and starts again."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from millrace_common.codec import Encoder
from millrace_common.registry import SchemaRegistry
from millrace_generator.sending import PRODUCER_SETTINGS
from millrace_local.draining import wait_until_through
from millrace_local.open_loop import LoadError
from millrace_local.probes import metric_samples
from millrace_local.services import SERVICES
from millrace_local.stack import Stack, log_file, wait_until
from millrace_local.watching import rss_bytes
from millrace_schemas import schema_text
from millrace_sessionize.testing import batch, event

SERVICE: Final = next(service for service in SERVICES if service.name == "sessionize")
TOPIC: Final = SERVICE.topics[0]

_PARTITIONS: Final = 4
# Shorter than the gap, so that no session of the first events is over when the last has come.
_OPENED_WITHIN_MS: Final = 20 * 60_000
_CHUNK: Final = 10_000
_QUEUE_FULL_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 180.0
_METRICS_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Restart:
    """One death by SIGKILL and what followed; seconds from then on.

    Attributes:
        behind: offsets that had come since the newest snapshots.
        predicted_seconds: until the state is back, by the metric, just before.
        assigned_seconds: until the group gave the new process the partitions.
        restored_seconds: until the state was back, the last partition's.
        through_seconds: until what was sent after the kill was committed.
    """

    behind: int
    predicted_seconds: float
    assigned_seconds: float
    restored_seconds: float
    through_seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """A service with many sessions open.

    Attributes:
        sessions: how many.
        empty_rss_bytes: of the process before them.
        rss_bytes: with them.
        restarts: one after another.
    """

    sessions: int
    empty_rss_bytes: int
    rss_bytes: int
    restarts: Sequence[Restart]

    @property
    def bytes_per_session(self) -> float:
        """What an open session adds to the process."""
        return (self.rss_bytes - self.empty_rss_bytes) / self.sessions


def events(sessions: range, total: int, start_ms: int, number: int) -> pa.RecordBatch:
    """Return the `number`-th event of each of `sessions`, of `total` that begin one after another from `start_ms`."""
    order = np.array(sessions, dtype=np.int64)
    times = pa.array(start_ms + order * _OPENED_WITHIN_MS // total + number * 1_000)
    columns = batch([event(start_ms, user_id="", page="")])
    columns = columns.take(pa.array(np.zeros(len(order), dtype=np.int64)))
    replaced = {
        "event_id": [f"{one:08d}-{number:04d}-4000-8000-0123456789ab" for one in sessions],
        "client_session_id": [session_key(one) for one in sessions],
        "user_id": [f"user-{one}" for one in sessions],
        "page": [f"/products/{one % 30_000}" for one in sessions],
        "event_time": times.cast(columns.schema.field("event_time").type),
        "received_at": times.cast(columns.schema.field("received_at").type),
    }
    for name, values in replaced.items():
        at = columns.schema.get_field_index(name)
        field = columns.schema.field(at)
        columns = columns.set_column(
            at, field, values if isinstance(values, pa.Array) else pa.array(values, field.type)
        )
    return columns


def session_key(number: int) -> str:
    """Return a client's session id, as long as a UUID."""
    return f"{number:08d}-0000-4000-8000-0123456789ab"


def measure(stack: Stack, sessions: int, behind: int, restarts: int) -> Open:
    """Open so many sessions, then kill the process a few times with about `behind` offsets since its snapshots.

    Raises:
        LoadError: sessions are missing, or the process does not come back.
    """
    send = _Sending(stack, sessions)
    empty = rss_bytes(stack)[SERVICE.title]
    for first in range(0, sessions, _CHUNK):
        send(range(first, min(first + _CHUNK, sessions)))
    wait_until_through(stack, [SERVICE])
    send.all_snapshots_hold(sessions)
    found = int(sum(_metric(stack, "millrace_sessionize_open_sessions")))
    if found != sessions:
        message = f"{found} sessions are open, {sessions} were opened"
        raise LoadError(message)
    full = rss_bytes(stack)[SERVICE.title]
    return Open(sessions, empty, full, [_killed(stack, send, behind) for _ in range(restarts)])


class _Sending:
    """Sends events of sessions, each session's to one partition."""

    def __init__(self, stack: Stack, total: int) -> None:
        self._stack = stack
        self._total = total
        schema = schema_text(TOPIC)
        schema_id = SchemaRegistry({"url": stack.registry_url}).schema_id(TOPIC, schema)
        self._encoder = Encoder(schema, schema_id)
        self._producer = Producer({**PRODUCER_SETTINGS, "bootstrap.servers": stack.bootstrap_servers})
        self._start_ms = int(datetime.now(UTC).timestamp() * 1000) - _OPENED_WITHIN_MS
        self._number = 0

    def __call__(self, sessions: range) -> None:
        self._number += 1
        values = self._encoder.encode(events(sessions, self._total, self._start_ms, self._number % 1_000))
        messages = [
            {"key": session_key(one).encode(), "value": value} for one, value in zip(sessions, values, strict=True)
        ]
        for partition in range(_PARTITIONS):
            left = [message for one, message in zip(sessions, messages, strict=True) if one % _PARTITIONS == partition]
            while left:
                queued = self._producer.produce_batch(TOPIC, left, partition=partition)
                left = [message for message in left if message.pop("_error", None)] if queued < len(left) else []
                self._producer.poll(_QUEUE_FULL_SECONDS if left else 0)
        if unsent := self._producer.flush(_PATIENCE_SECONDS):
            message = f"{unsent} records could not be sent"
            raise LoadError(message)

    def all_snapshots_hold(self, records: int) -> None:
        """Send an event now and then until every partition has a snapshot of what it has by now."""
        folder = self._stack.work_dir / "state" / SERVICE.name / TOPIC
        least = records // _PARTITIONS

        def written() -> bool:
            self(range(_PARTITIONS))
            return all(_newest(folder / str(partition)) >= least for partition in range(_PARTITIONS))

        if not wait_until(written, _PATIENCE_SECONDS):
            message = f"no snapshot was written:\n{self._stack.log_tail(SERVICE.title)}"
            raise LoadError(message)


def _newest(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("*.arrow")), default=0)


def _killed(stack: Stack, send: _Sending, behind: int) -> Restart:
    for first in range(0, behind, _CHUNK):
        send(range(first, min(first + _CHUNK, behind)))
    wait_until_through(stack, [SERVICE])
    # Exported once a second.
    wait_until(lambda: False, _METRICS_SECONDS)
    predicted = sum(_metric(stack, "millrace_predicted_restart_seconds"))
    name = SERVICE.title
    before = next(state for state in stack.states() if state.spec.name == name)
    if before.identity is None:
        message = f"{name} died on its own:\n{stack.log_tail(name)}"
        raise LoadError(message)
    said = log_file(stack.work_dir, name).stat().st_size
    died = time.time()
    os.kill(before.identity.pid, signal.SIGKILL)
    send(range(_PARTITIONS))
    if not wait_until(lambda: _lives_again(stack, before.restarts), _PATIENCE_SECONDS):
        message = f"{name} did not start again"
        raise LoadError(message)
    wait_until_through(stack, [SERVICE])
    through = time.time()
    with log_file(stack.work_dir, name).open(encoding="utf-8") as log:
        log.seek(said)
        return restart(list(_lines(log.read())), predicted, died, through)


def _lives_again(stack: Stack, deaths: int) -> bool:
    state = next(state for state in stack.states() if state.spec.name == SERVICE.title)
    return state.restarts > deaths and state.identity is not None


def restart(log: Sequence[Mapping[str, Any]], predicted_seconds: float, died: float, through: float) -> Restart:
    """Return what the lines of a service's log say about its restart; `died` and `through` are Unix times.

    Raises:
        LoadError: it got no partitions.
    """
    assigned = next((_at(line) for line in log if line["message"] == "partitions assigned"), None)
    if assigned is None:
        message = "it was assigned no partitions"
        raise LoadError(message)
    replays = [line for line in log if line["message"] == "state replayed"]
    return Restart(
        behind=sum(int(line["offsets"]) for line in replays),
        predicted_seconds=predicted_seconds,
        assigned_seconds=assigned - died,
        restored_seconds=max([assigned, *map(_at, replays)]) - died,
        through_seconds=through - died,
    )


def _at(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _lines(log: str) -> Iterator[Mapping[str, Any]]:
    for line in log.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _metric(stack: Stack, name: str) -> list[float]:
    probe = next(state.spec.probe for state in stack.states() if state.spec.name == SERVICE.title)
    return metric_samples(probe).get(name, [0.0])


def table(found: Open) -> list[str]:
    """Return the lines of a table: each restart, predicted and measured."""
    lines = [
        "| restart | offsets to replay | partitions after | state back after | predicted | all committed after |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number, one in enumerate(found.restarts, 1):
        lines.append(
            f"| {number} | {one.behind:,} | {one.assigned_seconds:.1f} s | {one.restored_seconds:.1f} s "
            f"| {one.predicted_seconds:.1f} s | {one.through_seconds:.1f} s |"
        )
    return lines
