"""The golden cases of sessionize as one log, a key of its own for each case, and what the batch makes of them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from millrace_batch.session_rules import SessionRules
from millrace_sessionize.testing import event
from session_logs import Row, naive

GOLDEN: Final = Path(__file__).parents[3] / "tests/golden/sessionize"
_TOPIC: Final = "user-events.enriched"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def batch_vectors(rules: SessionRules) -> tuple[list[Row], list[Row], Callable[[Row], bool]]:
    """Return (events, true sessions, whether the stream had closed a session).

    A case's sessions are the stream's own, in expected.ndjson, unless it has a batch.ndjson: there late events count.
    Arrival is the order of lines.
    """
    log: list[Row] = []
    expected: list[Row] = []
    watermarks_ms: dict[str, int] = {}
    default = json.loads((GOLDEN / "defaults.json").read_text())[_TOPIC]["datum"]
    for case in sorted(path.parent for path in GOLDEN.glob("*/input.ndjson")):
        rejected = {line["line"] for line in _lines(case / "rejected.ndjson")}
        lines = [line for number, line in enumerate(_lines(case / "input.ndjson")) if number not in rejected]
        data = [default | line["datum"] for line in lines]
        for datum in data:
            log.append(_event(datum, case.name, len(log)))
        clock = case / "tick.json"
        newest_ms = json.loads(clock.read_text())["now_ms"] if clock.exists() else max(d["event_time"] for d in data)
        watermarks_ms[case.name] = newest_ms - rules.allowed_lateness_ms
        own = case / "batch.ndjson"
        lines = _lines(own if own.exists() else case / "expected.ndjson")
        expected += [_session(line["datum"], case.name) for line in lines if line["topic"] == "session-metrics"]

    def was_closed(session: Row) -> bool:
        ended_ms = (session["ended_at"] - _EPOCH) // timedelta(milliseconds=1)
        case, _ = session["client_session_id"].split("/")
        return bool(session["closed_by"] != "gap" or ended_ms + rules.gap_ms < watermarks_ms[case])

    return log, expected, was_closed


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _event(datum: Row, case: str, number: int) -> Row:
    own = {
        "event_id": f"{number:08}",
        "client_session_id": f"{case}/{datum['client_session_id']}",
        "received_at": naive(datum["received_at"] + number),
        "properties": [],
    }
    rest = {name: value for name, value in datum.items() if name not in {"event_time", "event_date"}}
    return event(datum["event_time"], **{**rest, **own})


def _session(datum: Row, case: str) -> Row:
    times = {name: _EPOCH + timedelta(milliseconds=datum[name]) for name in ("started_at", "ended_at")}
    return {**datum, **times, **{name: f"{case}/{datum[name]}" for name in ("session_id", "client_session_id")}}
