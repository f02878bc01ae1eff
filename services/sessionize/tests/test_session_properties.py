"""What comes out depends on the records, their order and the idle advances alone, and is what the reference says."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_common.records import Assigned, Decoded, Outcome, Partition, Polled, Replayed, Span, Tick
from millrace_common.testing import Record
from millrace_sessionize.processor import Destination, SessionProcessor
from millrace_sessionize.reference import Reference, Row, ms
from millrace_sessionize.rules import SessionRules
from millrace_sessionize.state import OpenSessions
from millrace_sessionize.testing import batch, event

RULES = SessionRules(gap_ms=30, allowed_lateness_ms=5, max_duration_ms=60, max_events=6)
# sessions stay alive for long behind the largest time: several of one key, and merges, are common
PATIENT = SessionRules(gap_ms=10, allowed_lateness_ms=60, max_duration_ms=70, max_events=8)
SPEC = Path(__file__).parents[4] / "shared" / "spec" / "session_rules.py"
HERE = Partition("user-events.enriched", 3)


@dataclass(frozen=True)
class Log:
    """Events in order of arrival; at some offsets the partition is idle first and the watermark may move to a floor."""

    events: list[Row]
    floors: dict[int, int]
    rules: SessionRules = RULES


def maybe(*words: object) -> st.SearchStrategy[object]:
    return st.sampled_from([None, *words])


FIELDS = st.fixed_dictionaries(
    {
        "client_session_id": st.sampled_from("ab"),
        "event_type": st.sampled_from(["page_view", "click", "search", "add_to_cart", "purchase"]),
        "user_id": maybe("u", "v"),
        "page": maybe("/", "/x", "/y"),
        "product_id": maybe("1", "2", "/x"),
        "amount_cents": maybe(1, 250),
        "referrer": maybe("r", "s"),
        "device_type": st.sampled_from(["desktop", "mobile"]),
        "country_code": maybe("DE", "FR"),
        "is_bot": st.booleans(),
    }
)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    span = draw(st.sampled_from([60, 300]))
    drafts = draw(st.lists(st.tuples(st.integers(0, span), st.integers(0, 40), FIELDS), max_size=40))
    arrived = sorted(drafts, key=lambda draft: draft[0] + draft[1])
    floors: dict[int, int] = {}
    for offset in sorted(draw(st.sets(st.integers(0, len(arrived)), max_size=3))):
        largest = max((at for at, _, _ in arrived[:offset]), default=0)
        floors[offset] = max(largest + draw(st.integers(0, 80)), max(floors.values(), default=0))
    rules = draw(st.sampled_from([RULES, PATIENT]))
    return Log([event(at, **fields) for at, _, fields in arrived], floors, rules)


Result = tuple[list[str], list[tuple[int, int, int]], list[str]]
"""Closed sessions, late events as (offset, watermark, lateness), open sessions."""


def texts(rows: Sequence[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in rows)


def by_reference(log: Log) -> Result:
    state = Reference(log.rules)
    closed: list[Row] = []
    late: list[tuple[int, int, int]] = []
    for offset in range(len(log.events) + 1):
        floor = log.floors.get(offset)
        ends = [session.end for own in state.sessions.values() for session in own]
        if floor is not None and ends and min(ends) + log.rules.gap_ms < floor:
            state.advance(floor)
        closed += state.close()
        if offset < len(log.events):
            found = state.apply(log.events[offset])
            late += [(offset, *found)] if found else []
            closed += state.close()
    return texts(closed), late, texts(state.open())


def by_columns(log: Log, borders: list[int], restarts: list[bool], *, walk: bool = False) -> Result:
    state = OpenSessions(log.rules)
    closed: list[Row] = []
    late: list[tuple[int, int, int]] = []
    starts = sorted({0, len(log.events), *log.floors, *(border for border in borders if border < len(log.events))})
    for i, first in enumerate(starts):
        if first in log.floors:
            closed += state.close().sessions.to_pylist()
            closes_at = state.earliest_close_ms
            if closes_at is not None and closes_at < log.floors[first]:
                state.advance(log.floors[first])
        if restarts and restarts[i % len(restarts)]:
            state = OpenSessions.restore(log.rules, state.snapshot())
        events = log.events[first : starts[i + 1]] if i + 1 < len(starts) else []
        applied = state.apply(batch(events))
        for row, watermark in zip(applied.late_rows.tolist(), applied.late_watermarks_ms.tolist(), strict=True):
            late.append((first + row, watermark, watermark - log.rules.gap_ms - ms(events[row])))
        closed += state.close().sessions.to_pylist() if i % 2 else []
    closed += state.close().sessions.to_pylist()
    state._columns.changed[state._columns.in_use()] = True
    return texts(closed), late, texts(state.updates_since_last(1_000).to_pylist())


BORDERS = st.lists(st.integers(0, 40), max_size=40)
RESTARTS = st.lists(st.booleans(), max_size=5)


@settings(max_examples=100)
@given(logs(), BORDERS, RESTARTS)
def test_columns_agree_with_the_reference_in_every_field(log: Log, borders: list[int], restarts: list[bool]) -> None:
    assert by_columns(log, borders, restarts) == by_reference(log)


@settings(max_examples=60)
@given(logs(), BORDERS)
def test_the_walked_path_agrees_with_the_vectorised_one(log: Log, borders: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace_sessionize.assign._plain_keys", lambda rules, run, *_: np.zeros(len(run.found), bool))
        walked = by_columns(log, borders, [])
    assert walked == by_columns(log, borders, [])


@pytest.fixture(scope="module")
def specification() -> ModuleType:
    found = importlib.util.spec_from_file_location("session_rules", SPEC)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.skipif(not SPEC.exists(), reason=f"{SPEC} is not there")
@settings(max_examples=60)
@given(logs(), BORDERS)
def test_columns_agree_with_the_executable_specification(
    specification: ModuleType, log: Log, borders: list[int]
) -> None:
    rules = specification
    assert (RULES.gap_ms, RULES.allowed_lateness_ms) == (rules.GAP, rules.ALLOWED_LATENESS)
    assert (RULES.max_duration_ms, RULES.max_events) == (rules.MAX_DURATION, rules.MAX_EVENTS)
    state, emitted, late = rules.State(), [], []
    for offset, row in enumerate(log.events):
        if state.apply(row["client_session_id"], ms(row)):
            late.append(offset)
        emitted += state.close()
    closed, found_late, _ = by_columns(Log(log.events, {}), borders, [])
    rows = [json.loads(text) for text in closed]
    assert sorted((key, end - start, events, cut) for key, start, end, events, cut in emitted) == sorted(
        (row["client_session_id"], row["duration_ms"], row["event_count"], row["closed_by"] != "gap") for row in rows
    )
    assert sorted(f"{key}-{start}" for key, start, *_ in emitted) == sorted(row["session_id"] for row in rows)
    assert [offset for offset, _, _ in found_late] == late


class AsJson:
    """Encodes a row as JSON, so that a test can read it."""

    def encode(self, rows: pa.RecordBatch) -> list[bytes]:
        return [json.dumps(row, sort_keys=True, default=str).encode() for row in rows.to_pylist()]


def processor(rules: SessionRules) -> SessionProcessor:
    return SessionProcessor(
        rules=rules,
        sessions=Destination("session-metrics", AsJson()),
        updates=Destination("session-updates", AsJson()),
        late_events=Destination("late-events", AsJson()),
        idle_timeout_ms=1,
        update_interval_ms=1,
    )


def decoded(events: list[Row], span: Span) -> Decoded:
    columns = batch(events)
    return Decoded(Polled(span, [Record(b"")] * len(events)), columns, np.arange(len(events), dtype=np.int64))


@dataclass
class Cluster:
    """A log, a transactional sink, a snapshot store in memory, and a processor that may die between any two steps."""

    log: Log
    processor: SessionProcessor = field(init=False)
    generation: int = 0
    position: int = 0
    pending: list[Outcome] = field(default_factory=list)
    committed: int = 0
    watermark_ms: int | None = None
    snapshots: dict[int, pa.Table] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    late: list[tuple[int, int, int]] = field(default_factory=list)
    updates: dict[str, str] = field(default_factory=dict)
    counted: int = 0
    idled: set[int] = field(default_factory=set)
    now_ms: int = 10_000_000

    def start(self, *, lose_snapshot: bool = False) -> None:
        """Begin as a new process does: snapshot, muted replay, committed watermark."""
        self.generation += 1
        self.processor = processor(self.log.rules)
        self.pending = []
        first = max((offset for offset in self.snapshots if offset <= self.committed), default=0)
        self.processor.step(Assigned(HERE, self.generation, self.snapshots.get(first)))
        if first < self.committed:
            span = Span(HERE, self.generation, first, self.committed, muted=True)
            self.processor.step(decoded(self.log.events[first : self.committed], span))
        self.position = self.committed
        self.idled = {offset for offset in self.idled if offset <= self.committed}
        self.take(Replayed(HERE, self.generation, self.committed, self.watermark_ms))
        self.write_sealed(lose_snapshot=lose_snapshot)

    def eat(self, records: int, *, snapshot: bool) -> None:
        barriers = [offset for offset in self.log.floors if offset >= self.position and offset not in self.idled]
        until = min(self.position + records, len(self.log.events), *barriers)
        if until > self.position:
            span = Span(HERE, self.generation, self.position, until, snapshot_due=snapshot)
            self.take(decoded(self.log.events[self.position : until], span))
            self.position = until

    def tick(self, *, lose_snapshot: bool) -> None:
        """Let time pass: publish updates, and move the watermark if the partition is idle here."""
        floor = self.log.floors.get(self.position)
        if floor is None or self.position in self.idled:
            self.now_ms += 1
            self.take(Tick(HERE, self.generation, self.position, self.now_ms, 0))
            return
        self.commit()
        self.idled.add(self.position)
        self.take(Tick(HERE, self.generation, self.position, floor + self.log.rules.allowed_lateness_ms, 1))
        self.write_sealed(lose_snapshot=lose_snapshot)

    def write_sealed(self, *, lose_snapshot: bool) -> None:
        """Commit a sealed outcome at once; perhaps die between the commit and the end of the write."""
        if any(outcome.sealed for outcome in self.pending):
            self.commit(write_snapshots=not lose_snapshot)
            if lose_snapshot:
                self.start()

    def take(self, item: Decoded | Replayed | Tick) -> None:
        self.pending += [out for out in self.processor.step(item) if isinstance(out, Outcome)]

    def commit(self, *, write_snapshots: bool = True) -> None:
        for outcome in self.pending:
            assert outcome.counts.balanced
            self.counted += outcome.counts.read
            for output in outcome.outputs:
                self.produce(output.topic, output.keys, output.values)
            if outcome.watermark_ms is not None:
                self.watermark_ms = outcome.watermark_ms
            self.committed = outcome.span.next_offset
            if outcome.state is not None and write_snapshots:
                self.snapshots[outcome.span.next_offset] = outcome.state
        self.pending = []
        open_ids = {json.loads(text)["session_id"] for text in self.open()}
        assert set(self.updates) <= open_ids or self.position != self.committed

    def produce(self, topic: str, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> None:
        for key, value in zip(keys, values, strict=True):
            assert key is not None
            if topic == "session-updates" and value is None:
                self.updates.pop(key.decode(), None)
                continue
            assert value is not None
            text = value.decode()
            if topic == "session-updates":
                self.updates[key.decode()] = text
            elif topic == "session-metrics":
                self.closed.append(text)
            else:
                row = json.loads(text)
                lateness = row["lateness_ms"]
                self.late.append((int(row["event_id"]), -1, lateness))

    def open(self) -> list[str]:
        state = self.processor._live[HERE].state
        slots = state._columns.in_use()
        return texts(pa.RecordBatch.from_pydict(state._fields(slots)).to_pylist())


ACTIONS = st.lists(
    st.tuples(st.just("eat"), st.integers(1, 9), st.booleans())
    | st.tuples(st.sampled_from(["commit", "tick", "crash"]), st.just(0), st.booleans()),
    max_size=40,
)


def run(log: Log, actions: Sequence[tuple[str, int, bool]]) -> Cluster:
    for offset, row in enumerate(log.events):
        row["event_id"] = str(offset)
    cluster = Cluster(log)
    cluster.start()
    ending = [("eat", 9, False), ("tick", 0, False), ("commit", 0, True)] * (len(log.events) + 4)
    for action, argument, flag in [*actions, *ending]:
        if action == "eat":
            cluster.eat(argument, snapshot=flag)
        elif action == "tick":
            cluster.tick(lose_snapshot=flag)
        elif action == "commit":
            cluster.commit(write_snapshots=flag)
        else:
            cluster.start(lose_snapshot=flag)
    return cluster


@settings(max_examples=100)
@given(logs(), ACTIONS)
def test_crashes_and_replays_change_nothing(log: Log, actions: list[tuple[str, int, bool]]) -> None:
    cluster = run(log, actions)
    closed, late, still_open = by_reference(log)
    assert sorted(cluster.closed) == closed
    assert cluster.late == [(offset, -1, lateness) for offset, _, lateness in late]
    assert cluster.counted == len(log.events) == cluster.committed
    assert cluster.open() == still_open
    assert sorted(cluster.updates.values()) == still_open


def test_idle_advance_whose_snapshot_was_lost_survives_a_second_crash() -> None:
    log = Log([event(0), event(10)], floors={1: 36})
    cluster = run(
        log, [("eat", 1, False), ("tick", 0, True), ("eat", 1, False), ("commit", 0, False), ("crash", 0, False)]
    )
    closed, _, still_open = by_reference(log)
    assert (sorted(cluster.closed), cluster.open()) == (closed, still_open)
    assert [json.loads(row)["event_count"] for row in [*closed, *still_open]] == [1, 1]
