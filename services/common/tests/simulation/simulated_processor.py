"""What a worker's step does, and what it must have brought about in the end, computed from the log alone.

The step is a `Model`. Here is a small one; a service's tests can put its own step in its place.

It counts the records of a key until the key has been quiet for a while: the shape of sessionize, in a few lines. What
it says of a record depends on every record before it, so that a state that was restored wrongly shows in the output.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from millrace_common.memory_kafka import MemoryMessage
from millrace_common.records import (
    Assigned,
    Counts,
    Outcome,
    Output,
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

OUT: Final = "out"
UPDATES: Final = "updates"
"""What stands there depends on the clock as well: of a key, the last value counts, and None takes it away."""
POISON: Final = b"poison"
GAP_MS: Final = 4_000
LATENESS_MS: Final = 2_000
IDLE_TIMEOUT_MS: Final = 3_000
# Event times are multiples of this; a watermark that came from the clock is one more than a multiple.
TIME_STEP_MS: Final = 10


def event(number: int, at_ms: int) -> bytes:
    """Return an input record's value."""
    return b"%d %d" % (number, at_ms // TIME_STEP_MS * TIME_STEP_MS)


class Step(Protocol):
    """What is between source and sink."""

    def step(self, item: SourceItem) -> list[SinkItem]:
        """Return what `item` brings about; what it says goes to OUT, a line a record."""

    def restored(self) -> Mapping[Partition, Any]:
        """Return the state, in a form that compares, of each partition whose replay is over."""


class State(Protocol):
    """The same state, kept by nobody but the log."""

    @property
    def watermark_ms(self) -> int | None:
        """How far event time has got."""

    def apply(self, key: str, value: bytes) -> tuple[bool, list[str]]:
        """Return whether the record is late, and every line it brings about; those of late records begin so."""

    def advance(self, watermark_ms: int) -> list[str]:
        """Move the watermark, never back, and return what that brings about."""

    def copy(self) -> Any:
        """Return what it is now, in a form that compares."""


@dataclass(frozen=True, slots=True)
class Model:
    """A stateful step.

    Attributes:
        make_step: of a new process.
        make_state: an empty one.
        restore: returns the state in a snapshot, in a form that compares.
        published: the keys that may stand in UPDATES when the state is this one.
        in_order: lines of a partition come in an order that follows from the log.
    """

    make_step: Callable[[], Step]
    make_state: Callable[[], State]
    restore: Callable[[pa.Table], Any]
    published: Callable[[Any], Collection[str]] = lambda state: ()
    in_order: bool = True


@dataclass(slots=True)
class Windows:
    """What is open in one partition: for each key how many records, and the last event time."""

    watermark_ms: int | None = None
    open: dict[str, tuple[int, int]] = field(default_factory=dict)

    def apply(self, key: str, value: bytes) -> tuple[bool, list[str]]:
        """Return whether the record is late, and everything it brings about."""
        number, at_ms = value.decode().split()
        if self.watermark_ms is not None and int(at_ms) + GAP_MS < self.watermark_ms:
            return True, [f"late {number} behind {self.watermark_ms}"]
        count, last_ms = self.open.get(key, (0, int(at_ms)))
        self.open[key] = count + 1, max(last_ms, int(at_ms))
        return False, [f"counted {number} as {count + 1} of {key}", *self.advance(int(at_ms) - LATENESS_MS)]

    def advance(self, watermark_ms: int) -> list[str]:
        """Move the watermark, never back, and return what that closes."""
        self.watermark_ms = max(watermark_ms, self.watermark_ms or watermark_ms)
        quiet = sorted(key for key, (_, last_ms) in self.open.items() if last_ms + GAP_MS < self.watermark_ms)
        return [f"closed {key} with {self.open.pop(key)[0]}" for key in quiet]

    def closes_something(self, watermark_ms: int) -> bool:
        """Return whether moving the watermark would close anything."""
        return any(last_ms + GAP_MS < watermark_ms for _, last_ms in self.open.values())

    def copy(self) -> "Windows":
        """Return the same state, apart."""
        return Windows(self.watermark_ms, dict(self.open))

    def snapshot(self) -> pa.Table:
        """Return the state as a table."""
        return pa.table({"state": [json.dumps([self.watermark_ms, self.open])]})

    @classmethod
    def restore(cls, table: pa.Table | None) -> "Windows":
        """Return the state that `snapshot` wrote, an empty one for None."""
        if table is None:
            return cls()
        watermark_ms, held = json.loads(table.column("state")[0].as_py())
        return cls(watermark_ms, {key: (count, last_ms) for key, (count, last_ms) in held.items()})


@dataclass(slots=True)
class _Live:
    generation: int
    windows: Windows
    is_restored: bool = False


class WindowProcessor:
    """The step between source and sink; it keeps to what `records` says of states, replays and idle advances."""

    def __init__(self) -> None:
        self._live: dict[Partition, _Live] = {}

    def restored(self) -> dict[Partition, Windows]:
        """Return the state of each partition whose replay is over."""
        return {partition: live.windows for partition, live in self._live.items() if live.is_restored}

    def step(self, item: SourceItem) -> list[SinkItem]:
        """Return what `item` brings about."""
        match item:
            case Assigned():
                self._live[item.partition] = _Live(item.generation, Windows.restore(item.state))
                return [item]
            case Revoked():
                self._live.pop(item.partition, None)
                return [item]
            case Polled():
                windows = self._current(item.span.partition, item.span.generation)
                return [] if windows is None else [self._apply(windows, item)]
            case Replayed():
                windows = self._current(item.partition, item.generation)
                if windows is None:
                    return [item]
                self._live[item.partition].is_restored = True
                return [item, *self._catch_up(windows, item)]
            case Tick():
                windows = self._current(item.partition, item.generation)
                return [item] if windows is None else [*self._idle(windows, item), item]

    def _current(self, partition: Partition, generation: int) -> Windows | None:
        live = self._live.get(partition)
        return live.windows if live is not None and live.generation == generation else None

    def _apply(self, windows: Windows, polled: Polled) -> Outcome:
        said, late, rejects = [], 0, []
        for row, record in enumerate(polled.records):
            value = record.value() or b""
            if value.startswith(POISON):
                rejects.append(Reject(row, "decode", "poison", value.decode()))
                continue
            is_late, effects = windows.apply((record.key() or b"").decode(), value)
            late += is_late
            said += effects
        if polled.span.muted:
            return Outcome(polled.span)
        records, dead = len(polled.records), len(rejects)
        return Outcome(
            polled.span,
            Counts(read=records, forwarded=records - dead - late, dead=dead, late=late),
            outputs=_outputs(said),
            rejects=tuple(rejects),
            records=polled.records,
            watermark_ms=windows.watermark_ms,
            state=windows.snapshot() if polled.span.snapshot_due else None,
        )

    def _catch_up(self, windows: Windows, replayed: Replayed) -> Iterator[Outcome]:
        seen_ms = windows.watermark_ms
        if replayed.watermark_ms is not None:
            windows.advance(replayed.watermark_ms)
        if windows.watermark_ms != seen_ms:
            span = Span(replayed.partition, replayed.generation, replayed.offset, replayed.offset)
            yield Outcome(span, watermark_ms=windows.watermark_ms, state=windows.snapshot(), sealed=True)

    def _idle(self, windows: Windows, tick: Tick) -> Iterator[Outcome]:
        watermark_ms = (tick.now_ms - LATENESS_MS) // TIME_STEP_MS * TIME_STEP_MS + 1
        if tick.idle_ms >= IDLE_TIMEOUT_MS and windows.closes_something(watermark_ms):
            span = Span(tick.partition, tick.generation, tick.offset, tick.offset)
            said = windows.advance(watermark_ms)
            yield Outcome(
                span,
                outputs=_outputs(said),
                watermark_ms=windows.watermark_ms,
                state=windows.snapshot(),
                sealed=True,
            )


def _outputs(said: Sequence[str]) -> tuple[Output, ...]:
    return (Output(OUT, [None] * len(said), [line.encode() for line in said]),) if said else ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What one partition must have come to.

    Attributes:
        said: every output, in order.
        dead: offsets of the dead letters, in order.
        states: the state at those of the wanted offsets that were committed, or are behind a record.
        last: the state in the end.
    """

    said: list[str]
    dead: list[int]
    states: dict[int, Any]
    last: Any


def expect(
    state: State,
    records: Sequence[MemoryMessage],
    commits: Sequence[tuple[int, int | None]],
    wanted: Collection[int],
) -> Expected:
    """Return what `records` must bring about, given the (offset, watermark in ms) pairs that were committed.

    The log decides everything but when the partition was idle: that is taken from the committed watermarks. `state` is
    empty at first.
    """
    waiting = list(commits)
    said: list[str] = []
    dead: list[int] = []
    states: dict[int, Any] = {}

    def settle(next_offset: int) -> None:
        while waiting and waiting[0][0] <= next_offset:
            offset, watermark_ms = waiting.pop(0)
            if watermark_ms != state.watermark_ms:
                assert watermark_ms is not None
                assert watermark_ms % TIME_STEP_MS == 1, f"watermark {watermark_ms} at {offset} follows from nothing"
                assert state.watermark_ms is None or watermark_ms > state.watermark_ms, "a watermark went back"
                said.extend(state.advance(watermark_ms))
            note(offset)

    def note(offset: int) -> None:
        if offset in wanted:
            states[offset] = state.copy()

    for record in records:
        settle(record.at)
        value = record.stored_value or b""
        if value.startswith(POISON):
            dead.append(record.at)
        else:
            said.extend(state.apply((record.stored_key or b"").decode(), value)[1])
        note(record.at + 1)
    settle(records[-1].at + 10**9 if records else 10**9)
    return Expected(said, dead, states, state.copy())


WINDOWS: Final = Model(WindowProcessor, Windows, Windows.restore)
