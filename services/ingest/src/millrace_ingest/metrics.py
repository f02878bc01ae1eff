"""Metrics of ingest, beside those of every service in millrace_common.metrics."""

from typing import Final

from millrace_common import metrics

SEEN_IDS: Final = metrics.gauge(
    "millrace_ingest_seen_ids",
    "Ids remembered for finding duplicates, as of the partition's last snapshot.",
    what_to_do="As many as records in DEDUP_WINDOW_SECONDS, about 30 bytes each. Too many: shorten the window.",
    labels=("topic", "partition"),
)
