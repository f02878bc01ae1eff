"""sessionize in the simulated world of `services/common/tests/simulation`: any order of faults, the same sessions."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis.stateful import run_state_machine_as_test

from millrace_common.records import (
    Assigned,
    Decoded,
    Outcome,
    Partition,
    Polled,
    Reject,
    Replayed,
    Revoked,
    SinkItem,
    SourceItem,
    Span,
    Tick,
)
from millrace_sessionize.processor import Destination, SessionProcessor
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.shapes import LATE_EVENTS
from millrace_sessionize.state import OpenSessions
from millrace_sessionize.testing import batch, event
from simulated_processor import GAP_MS, IDLE_TIMEOUT_MS, LATENESS_MS, OUT, POISON, TIME_STEP_MS, UPDATES, Model
from simulated_schedules import Simulation, quiet, schedules

RULES: Final = SessionRules(gap_ms=GAP_MS, allowed_lateness_ms=LATENESS_MS, max_events=6)
KINDS: Final = ("page_view", "click", "search", "add_to_cart", "purchase")
UPDATE_INTERVAL_MS: Final = 1_000
WATERMARK: Final = LATE_EVENTS.names[-2]


class SessionLines:
    """Encodes sessions so that a person can read them."""

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        return [f"closed {sorted(row.items())}".encode() for row in batch.to_pylist()]


class LateLines:
    """Encodes late events likewise."""

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        watermarks_ms = batch[WATERMARK].cast(pa.int64()).to_pylist()
        return [late_line(*late).encode() for late in zip(batch["event_id"].to_pylist(), watermarks_ms, strict=True)]


def late_line(event_id: str, watermark_ms: int | None) -> str:
    return f"late {event_id} behind {watermark_ms}"


@dataclass(frozen=True)
class Frozen:
    """A state at one moment: how event time stands, and the sessions in an order of their own."""

    watermark_ms: int | None
    sessions: tuple[str, ...]
    ids: frozenset[str]


def freeze(table: pa.Table) -> Frozen:
    rows = table.to_pylist()
    return Frozen(
        OpenSessions.restore(RULES, table).watermark_ms,
        tuple(sorted(repr({name: _set(value) for name, value in row.items()}) for row in rows)),
        frozenset(f"{row['client_session_id']}-{row['start_ms']}" for row in rows),
    )


def _set(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def row_of(key: str, value: bytes) -> dict[str, Any]:
    number, at_ms = map(int, value.split())
    kind = KINDS[number % len(KINDS)]
    amount = number if kind == "purchase" else None
    return event(
        at_ms,
        event_id=f"{number}",
        client_session_id=key,
        event_type=kind,
        page=f"/{number % 3}",
        product_id=f"p-{number % 2}",
        user_id=f"u-{number}" if number % 4 else None,
        amount_cents=amount,
    )


def decode(polled: Polled) -> Decoded:
    rows, good, rejects = [], [], []
    for number, record in enumerate(polled.records):
        value = record.value() or b""
        if value.startswith(POISON):
            rejects.append(Reject(number, "decode", "poison", value.decode()))
        else:
            rows.append(row_of((record.key() or b"").decode(), value))
            good.append(number)
    return Decoded(polled, batch(rows), np.array(good, dtype=np.int64), tuple(rejects))


class Sessionize:
    """The real processor; ticks come a millisecond late, so that a watermark tells whether the clock has moved it."""

    def __init__(self) -> None:
        self._processor = SessionProcessor(
            RULES,
            Destination(OUT, SessionLines()),
            Destination(UPDATES, SessionLines()),
            Destination(OUT, LateLines()),
            IDLE_TIMEOUT_MS,
            UPDATE_INTERVAL_MS,
        )
        self._replayed: dict[Partition, int] = {}

    def step(self, item: SourceItem) -> list[SinkItem]:
        match item:
            case Polled():
                return self._processor.step(decode(item))
            case Tick():
                return self._processor.step(replace(item, now_ms=item.now_ms // TIME_STEP_MS * TIME_STEP_MS + 1))
            case Assigned() | Revoked():
                self._replayed.pop(item.partition, None)
            case Replayed():
                self._replayed[item.partition] = item.generation
        return self._processor.step(item)

    def restored(self) -> dict[Partition, Frozen]:
        found = {}
        for partition, generation in self._replayed.items():
            nothing = Polled(Span(partition, generation, 0, 0, snapshot_due=True), [])
            for outcome in self._processor.step(decode(nothing)):
                if isinstance(outcome, Outcome) and outcome.state is not None:
                    found[partition] = freeze(outcome.state)
        return found


class Undisturbed:
    """The sessions of one partition in a process that nothing happens to, a record at a time."""

    def __init__(self) -> None:
        self._state = OpenSessions(RULES)

    @property
    def watermark_ms(self) -> int | None:
        return self._state.watermark_ms

    def apply(self, key: str, value: bytes) -> tuple[bool, list[str]]:
        row, before_ms = row_of(key, value), self.watermark_ms
        is_late = bool(len(self._state.apply(batch([row])).late_rows))
        late = [late_line(row["event_id"], before_ms)] if is_late else []
        return is_late, [*late, *self._close()]

    def advance(self, watermark_ms: int) -> list[str]:
        self._state.advance(watermark_ms)
        return self._close()

    def copy(self) -> Frozen:
        return freeze(self._state.snapshot())

    def _close(self) -> list[str]:
        return [line.decode() for line in SessionLines().encode(self._state.close().sessions)]


class SessionSimulation(Simulation):
    """Draws schedules for workers of sessionize."""

    model = Model(Sessionize, Undisturbed, freeze, published=lambda state: state.ids, in_order=False)


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    with quiet():
        yield


def test_every_schedule_comes_to_the_sessions_of_the_log() -> None:
    run_state_machine_as_test(SessionSimulation, settings=schedules(int(os.environ.get("SESSION_SCHEDULES", "100"))))
