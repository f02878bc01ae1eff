"""Two days of a small shop, written as the stream does it, for runs of the whole night."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final

from millrace_sessionize.rules import SessionRules
from session_logs import START_MS, one_event, stored, stream
from stream_tables import StreamTable

Row = dict[str, Any]
FIRST: Final = datetime.fromtimestamp(START_MS / 1000, UTC).date()
DAYS: Final = (FIRST, FIRST + timedelta(days=1))
AFTER: Final = FIRST + timedelta(days=2)
"""The day after: it has only the end of a session that began before midnight."""

_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000


def write_small_night(lake: Path, visitors: int = 40) -> None:
    """Write events, sessions, late events and orders of `DAYS` into the lake; some events come too late."""
    random = Random(7)  # the same each time
    log = _log(random, visitors)
    made = stream(log, SessionRules(), partitions=2)
    folder = str(lake)
    StreamTable(folder, "events").append(stored(log))
    StreamTable(folder, "sessions").append(stored(made.sessions))
    StreamTable(folder, "late_events").append(stored(made.late_events))
    StreamTable(folder, "transactions").append(_orders(random))


def _log(random: Random, visitors: int) -> list[Row]:
    """Return events in order of arrival; one in fifty comes two hours late."""
    sent = []
    for visitor in range(visitors):
        at_ms = START_MS + random.randrange(0, 10 * 60) * _MINUTE_MS + visitor % 2 * _DAY_MS
        for _ in range(random.randint(1, 9)):
            at_ms += random.choice((1, 5, 10)) * _MINUTE_MS
            sent.append((at_ms + (120 * _MINUTE_MS if random.random() < 0.02 else 0), at_ms, f"visitor-{visitor}"))
    midnight_ms = START_MS + _DAY_MS + 12 * 60 * _MINUTE_MS
    sent += [(at_ms, at_ms, "night-owl") for at_ms in (midnight_ms - 5 * _MINUTE_MS, midnight_ms + 5 * _MINUTE_MS)]
    return [
        one_event(number, at_ms, key, received_ms, random)
        for number, (received_ms, at_ms, key) in enumerate(sorted(sent))
    ]


def _orders(random: Random) -> list[Row]:
    """Return statuses of orders, some of which are cancelled the day after."""
    rows: list[Row] = []
    for number in range(12):
        placed = datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(minutes=13 * number)
        price = Decimal(random.randint(100, 9999)) / 100
        order = {
            "transaction_id": f"order-{number}",
            "user_id": f"u-{number % 2 + 1}",
            "order_items": [{"product_id": "1", "quantity": 2, "price": price, "category": "things"}],
            "total_amount": 2 * price,
            "currency": "USD",
            "payment_method": "card",
        }
        rows.append({**order, "status": "pending", "occurred_at": placed})
        later = "cancelled" if number % 4 == 0 else "completed"
        rows.append({**order, "status": later, "occurred_at": placed + timedelta(days=1)})
    return rows
