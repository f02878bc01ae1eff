"""The truth about what was sent, written beside it: one JSON object a line.

Lines, by `type`: `run` first, `totals` last, and in between, as they become known, `session`, `session_with_late`,
`late`, `duplicate`, `malformed` and `invalid`. The README says what each holds.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TextIO

from millrace_generator.errors import InputError
from millrace_generator.sessions import Late, Rules, SessionReader, TrueSession
from millrace_generator.traffic import EVENTS, Event, FaultKind, Order, Plan, Record

FORMAT: Final = 1
_DEAD: Final = (FaultKind.MALFORMED, FaultKind.INVALID)


class Truth:
    """Reads records in the order in which they were handed to the producer; it sees no others.

    Attributes:
        totals: what the last line says, so far.
    """

    def __init__(self, out: TextIO, plan: Plan, partitions: int, rules: Rules | None = None) -> None:
        """Write the first line. `partitions` is that of user-events: each has its own watermark."""
        rules = rules or Rules()
        self._out = out
        self._streamed = SessionReader(partitions, rules)
        patient = plan.disorder // timedelta(milliseconds=1)
        # Waits long enough for nothing to be late; where the pipeline does so too, one reading is enough.
        self._complete = (
            SessionReader(partitions, Rules(rules.gap_ms, patient, rules.max_duration_ms, rules.max_events))
            if patient > rules.allowed_lateness_ms
            else None
        )
        self.totals: dict[str, Any] = {
            "events": 0,
            "orders": 0,
            "order_cents": 0,
            "revenue_cents": 0,
            "sessions": 0,
            "late": 0,
            "sessions_with_late": 0,
            "duplicates": Counter[str](),
            "malformed": Counter[str](),
            "invalid": Counter[str](),
            "held_back": 0,
            "out_of_order": 0,
        }
        self._write("run", {"format": FORMAT, "partitions": partitions, "rules": asdict(rules), **plan.facts})

    def __call__(self, records: Sequence[Record], /) -> None:
        """Take note of records that are on their way."""
        for record in records:
            if record.fault is not None:
                self._fault(record)
            if not record.good:
                continue
            if isinstance(record.about, Event):
                self._event(record.about)
            elif isinstance(record.about, Order):
                self.totals["orders"] += 1
                self.totals["order_cents"] += record.about.total_cents

    def finish(self, **facts: object) -> None:
        """Write the sessions that are still open, and the totals with `facts` beside them."""
        for session in self._streamed.finish():
            self._session("session", session)
        if self._complete is None:
            self.totals["sessions_with_late"] = self.totals["sessions"]
        else:
            for session in self._complete.finish():
                self._session("session_with_late", session)
        self._write("totals", self.totals | facts)

    def _event(self, event: Event) -> None:
        self.totals["events"] += 1
        self.totals["revenue_cents"] += event.amount_cents or 0
        late, closed = self._streamed.read(event)
        if late is not None:
            self._late(late)
        for session in closed:
            self._session("session", session)
        if self._complete is not None:
            for session in self._complete.read(event)[1]:
                self._session("session_with_late", session)

    def _late(self, late: Late) -> None:
        self.totals["late"] += 1
        line = {
            "event_id": late.event.event_id,
            "client_session_id": late.event.session_id,
            "event_time_ms": late.event.time_ms,
            "lateness_ms": late.lateness_ms,
        }
        self._write("late", line)

    def _fault(self, record: Record) -> None:
        kind, stage, reason = record.fault or ("", "", "")
        if kind in _DEAD:
            self.totals[kind][reason] += 1
            line = {
                "topic": record.topic,
                "key": record.key.decode(),
                "stage": stage,
                "reason": reason,
                "value_sha256": hashlib.sha256(record.value).hexdigest(),
            }
            self._write(kind, line)
        elif kind == FaultKind.DUPLICATE:
            self.totals["duplicates"][record.topic] += 1
            about = record.about
            identity = about.event_id if isinstance(about, Event) else about.transaction_id if about else ""
            self._write(kind, {"topic": record.topic, "key": record.key.decode(), "id": identity})
        else:
            self.totals[kind] += 1

    def _session(self, kind: str, session: TrueSession) -> None:
        self.totals[f"{kind.replace('session', 'sessions', 1)}"] += 1
        line = {
            "session_id": session.session_id,
            "client_session_id": session.client_session_id,
            "user_id": session.user_id,
            "started_ms": session.started_ms,
            "ended_ms": session.ended_ms,
            "event_count": session.events,
            "page_views": session.kinds["page_view"],
            "clicks": session.kinds["click"],
            "searches": session.kinds["search"],
            "add_to_carts": session.kinds["add_to_cart"],
            "purchases": session.kinds["purchase"],
            "unique_pages": len(session.pages),
            "unique_products": len(session.products),
            "revenue_cents": session.revenue_cents,
            "closed_by": session.closed_by,
        }
        self._write(kind, line)

    def _write(self, kind: str, line: Mapping[str, Any]) -> None:
        self._out.write(json.dumps({"type": kind, **line}) + "\n")


@contextmanager
def truth_file(path: Path | None, plan: Plan) -> Iterator[Callable[[Mapping[str, int]], Sequence[Truth]]]:
    """Write the truth about a send of `plan` to `path`; yields what `send` takes as its observers. None: no truth.

    The last lines are written when the block ends, also by an error: `ended_by_error` says so in `totals`, and the file
    covers what was handed over until then.

    Raises:
        InputError: the file cannot be written.
    """
    if path is None:
        yield lambda partitions: ()
        return
    try:
        out = path.open("w", encoding="utf-8")
    except OSError as error:
        message = f"{path}: {error}"
        raise InputError(message) from error
    truths: list[Truth] = []

    def begin(partitions: Mapping[str, int]) -> Sequence[Truth]:
        truths.append(Truth(out, plan, partitions[EVENTS]))
        return truths

    with out:
        ended_by_error = True
        try:
            yield begin
            ended_by_error = False
        finally:
            for truth in truths:
                truth.finish(ended_by_error=ended_by_error)


def read_truth(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return a truth file's lines by their type. For files that fit in memory."""
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            lines[line["type"]].append(line)
    return dict(lines)
