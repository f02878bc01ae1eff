"""The Arrow shapes of what sessionize writes: those of its Avro subjects."""

from typing import Final

import pyarrow as pa

from millrace_common import avro
from millrace_schemas import schema_text

EVENT_TYPES: Final = ("page_view", "click", "search", "add_to_cart", "purchase")
"""Event types in the order of COUNT_FIELDS."""

COUNT_FIELDS: Final = ("page_views", "clicks", "searches", "add_to_carts", "purchases")
PURCHASE: Final = EVENT_TYPES.index("purchase")

CLOSED_BY: Final = ("gap", "max_duration", "max_events")
"""Why a session ended; the state keeps the index."""

BY_GAP, BY_MAX_DURATION, BY_MAX_EVENTS = range(3)


def _shape(subject: str) -> pa.Schema:
    return avro.arrow_schema(avro.parse(schema_text(subject)))


SESSION_UPDATES: Final = _shape("session-updates")
"""An open session so far."""

SESSION_METRICS: Final = _shape("session-metrics")
"""A closed session."""

LATE_EVENTS: Final = _shape("late-events")
"""An event that came after its session was over."""

STAGE: Final = "sessionize"
TIME_OUT_OF_RANGE: Final = "event_time_out_of_range"
"""The one reason for which this service itself rejects a record."""

MIN_TIME_MS: Final = -62_135_596_800_000  # 0001-01-01T00:00:00Z
MAX_TIME_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
