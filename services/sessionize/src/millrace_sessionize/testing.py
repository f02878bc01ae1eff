"""Enriched events for tests: rows with everything left out that a test does not speak of."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import pyarrow as pa

from millrace_common import avro
from millrace_schemas import schema_text

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # Arrow gives naive UTC

_DEFAULTS: Final[Mapping[str, Any]] = {
    "event_id": "",
    "event_type": "page_view",
    "client_session_id": "a",
    "properties": [],
    "platform": "web",
    "device_type": "desktop",
    "is_bot": False,
}


def event(at_ms: int, **fields: Any) -> dict[str, Any]:
    """Return a row of user-events.enriched at `at_ms` with every field."""
    time = _EPOCH + timedelta(milliseconds=at_ms)
    known = {**_DEFAULTS, "event_time": time, "event_date": time.date(), "received_at": time, **fields}
    return {name: known.pop(name, None) for name in enriched_schema().names} | known


def batch(rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return `rows` in the shape of user-events.enriched."""
    return pa.RecordBatch.from_pylist(list(rows), schema=enriched_schema())


@cache
def enriched_schema() -> pa.Schema:
    """Return the Arrow shape of user-events.enriched."""
    return avro.arrow_schema(avro.parse(schema_text("user-events.enriched")))
