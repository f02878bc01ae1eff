"""Clocks that are wrong, and partitions that fall silent: what moves a watermark when nobody should."""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

import fastavro
from prometheus_client.parser import text_string_to_metric_families

from arms.arm import Arm
from bench import Bench, Form, TortureError
from millrace_common.codec import HEADER_BYTES, RowEncoder
from millrace_generator import Plan
from millrace_generator.partitions import partition_for
from millrace_generator.traffic import EVENTS, Event, FaultKind, Record, SchemaIds
from millrace_local.probes import fetch
from millrace_schemas import schema_text

_MS: Final = timedelta(milliseconds=1)
_PARTITIONS: Final = 4
_AHEAD_PARTITION: Final = 1
_SILENT_PARTITION: Final = 2
_STEADY_PARTITION: Final = 0
_AHEAD: Final = timedelta(hours=1)
# In the shop's time after the first event: some 6 s in the short form, 12 s in the long one, for each hour.
_AHEAD_FROM: Final = timedelta(hours=1)
_AHEAD_UNTIL: Final = timedelta(hours=2)
_SILENT_FROM: Final = timedelta(hours=1)
# Long enough for no other partition to seem idle while processes are killed, short enough for a test.
_IDLE_SECONDS: Final = 10
_IDLE_TIMEOUT: Final = "IDLE_TIMEOUT_SECONDS"
# From the last record of the partition to its watermark's move, and to its being seen, more passes than the timeout.
_SEEN_LATER_SECONDS: Final = 30
# When the silent partition wakes, its watermark is five minutes behind the time of the advance. Events so far back are
# not late then (gap 30 minutes), whatever was made before it was sent, and can be over soon after the end.
_WOKEN_BACK: Final = timedelta(minutes=34, seconds=45)
_WATERMARK_LAG: Final = "millrace_sessionize_watermark_lag_seconds"
_OPEN_SESSIONS: Final = "millrace_sessionize_open_sessions"


def jump_clocks(bench: Bench) -> None:
    """Wait until one partition runs ahead and another one is idle, and kill sessionize then; see that it wakes."""
    bench.until(partial(_runs_ahead, bench), "no partition runs ahead")
    bench.struck["partition an hour ahead"] += 1
    bench.kill_and_wait(["sessionize"], signal.SIGKILL)
    bench.until(partial(_has_idled, bench), "the idle partition keeps its watermark")
    bench.struck["idle partition moved its watermark"] += 1
    idled = time.monotonic()
    bench.kill_and_wait(["sessionize"], signal.SIGKILL)
    bench.until(partial(_is_awake, bench), "the idle partition does not wake", after_seconds=bench.form.silent_seconds)
    _see_silence(bench, time.monotonic() - idled)
    bench.struck["idle partition woke"] += 1
    bench.pause(2.0)
    # From here on only records move watermarks again: the end of the traffic is no idleness.
    bench.stack.change_service("sessionize", {_IDLE_TIMEOUT: "0"})
    bench.stack.wait_ready()


def _runs_ahead(bench: Bench) -> bool:
    lag = _gauge(bench, _WATERMARK_LAG)
    ahead, steady = lag.get(_AHEAD_PARTITION), lag.get(_STEADY_PARTITION)
    return ahead is not None and steady is not None and steady - ahead > _AHEAD.total_seconds() / 2


def _has_idled(bench: Bench) -> bool:
    """Return whether the silent partition has followed the clock, from days ago."""
    lag = _gauge(bench, _WATERMARK_LAG).get(_SILENT_PARTITION)
    return lag is not None and lag < _WOKEN_BACK.total_seconds()


def _is_awake(bench: Bench) -> bool:
    return _gauge(bench, _OPEN_SESSIONS).get(_SILENT_PARTITION, 0) > 0


def _see_silence(bench: Bench, seconds: float) -> None:
    """Count for how long the partition stayed silent after its watermark had moved."""
    if seconds < bench.form.silent_seconds - _IDLE_SECONDS - _SEEN_LATER_SECONDS:
        message = f"the idle partition woke after {seconds:.0f} s already"
        raise TortureError(message)
    bench.struck["second of silence after that"] += int(seconds)


def _gauge(bench: Bench, name: str) -> dict[int, float]:
    """Return a metric of sessionize by partition; nothing while it does not answer."""
    page = fetch(bench.state("sessionize").spec.probe.target.removesuffix("/readyz") + "/metrics")
    return {
        int(sample.labels["partition"]): sample.value
        for family in text_string_to_metric_families(page or "")
        if family.name == name
        for sample in family.samples
    }


@dataclass(slots=True)
class _Clocks:
    """Changes the times of events while records are made.

    Attributes:
        schema_ids: of the registry.
        silent_records: for so many records of all partitions, one gets none. Records are sent at a constant rate, and
            as many hours of the shop are not: how long they take depends on the time of day.
        now: epoch seconds.
    """

    schema_ids: SchemaIds
    silent_records: int
    now: Callable[[], float] = time.time
    _parsed: Any = field(init=False)
    _encoder: RowEncoder = field(init=False)

    def __post_init__(self) -> None:
        schema = schema_text(EVENTS)
        self._parsed = fastavro.parse_schema(json.loads(schema))
        self._encoder = RowEncoder(schema, self.schema_ids[EVENTS])

    def change(self, records: Iterator[Record]) -> Iterator[Record]:
        start_ms: int | None = None
        sent = 0
        silent_until: int | None = None
        for record in records:
            start_ms = record.at_ms if start_ms is None else start_ms
            changed: Record | None = record
            where = partition_for(record.key, _PARTITIONS) if record.topic == EVENTS else None
            if where == _AHEAD_PARTITION:
                changed = self._ahead(record, start_ms)
            elif where == _SILENT_PARTITION and record.at_ms >= start_ms + _SILENT_FROM // _MS:
                silent_until = sent + self.silent_records if silent_until is None else silent_until
                changed = None if sent < silent_until else self._woken(record)
            if changed is not None:
                sent += 1
                yield changed

    def _ahead(self, record: Record, start_ms: int) -> Record:
        """Decide by the event's own time: a duplicate of it is changed likewise."""
        about = record.about
        if not isinstance(about, Event):
            return record
        hurried = _AHEAD_FROM // _MS <= about.time_ms - start_ms < _AHEAD_UNTIL // _MS
        return self._at(record, about, about.time_ms + _AHEAD // _MS) if hurried else record

    def _woken(self, record: Record) -> Record | None:
        """Let events be of about now, and leave duplicates out: they repeat what was left out."""
        if record.fault is not None and record.fault.kind == FaultKind.DUPLICATE:
            return None
        about = record.about
        return (
            self._at(record, about, int(self.now() * 1000) - _WOKEN_BACK // _MS) if isinstance(about, Event) else record
        )

    def _at(self, record: Record, about: Event, time_ms: int) -> Record:
        """Return `record` as it would be at another time."""
        fields = fastavro.schemaless_reader(io.BytesIO(record.value[HEADER_BYTES:]), self._parsed, None)
        if not isinstance(fields, dict):
            message = "an event is no record"
            raise TypeError(message)
        return record._replace(
            value=self._encoder.encode({**fields, "timestamp": time_ms}), about=about._replace(time_ms=time_ms)
        )


def _with_wrong_clocks(plan: Plan, form: Form) -> Plan:
    silent_records = round(form.rate * form.silent_seconds)
    return replace(
        plan,
        records=lambda schema_ids: _Clocks(schema_ids, silent_records).change(plan.records(schema_ids)),
        disorder=plan.disorder + _AHEAD,
    )


ARMS: Final = (
    Arm(
        "clocks",
        "events of one partition an hour ahead for an hour of theirs, and those behind them late; another partition "
        "idle beyond `IDLE_TIMEOUT_SECONDS` (for minutes in the long form), then awake; sessionize killed each time",
        jump_clocks,
        fires={
            "partition an hour ahead": 1,
            "idle partition moved its watermark": 1,
            "idle partition woke": 1,
            "SIGKILL sessionize": 2,
        },
        environment={_IDLE_TIMEOUT: str(_IDLE_SECONDS)},
        traffic=_with_wrong_clocks,
    ),
)
