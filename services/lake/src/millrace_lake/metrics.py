"""Metrics of lake, beside those of every service in millrace_common.metrics."""

from typing import Final

from millrace_common import metrics

COMMIT_SECONDS: Final = metrics.histogram(
    "millrace_lake_commit_seconds",
    "Writing the files of one Delta commit and the commit itself.",
    what_to_do="Above COMMIT_INTERVAL_SECONDS / 4 commits become rarer: look at the store, then at live files.",
    labels=("table",),
)
ROWS: Final = metrics.counter(
    "millrace_lake_rows_total",
    "Rows committed.",
    what_to_do="Flat while millrace_consumer_lag grows: the table cannot be written to; the log says why.",
    labels=("table",),
)
FRESHNESS_SECONDS: Final = metrics.gauge(
    "millrace_lake_freshness_seconds",
    "Age of the oldest record of the last commit when it could be read in the table, from the record's timestamp.",
    what_to_do="Above 10 s: lake or a service before it is behind; compare their millrace_consumer_lag.",
    labels=("table",),
)
LIVE_FILES: Final = metrics.gauge(
    "millrace_lake_live_files",
    "Data files of the table's current version.",
    what_to_do="Growing from day to day: the nightly OPTIMIZE does not run.",
    labels=("table",),
)
TABLE_VERSION: Final = metrics.gauge(
    "millrace_lake_table_version",
    "Delta version of the table after the last commit.",
    what_to_do="Never goes back; if it does, the table was replaced: stop lake and see docs/runbooks.",
    labels=("table",),
)
MERGED_FILES: Final = metrics.counter(
    "millrace_lake_merged_files_total",
    "Small files merged into larger ones inside the day.",
    what_to_do="0 while live files grow: another engine keeps committing; look for it in the table's history.",
    labels=("table",),
)
WAITING_BYTES: Final = metrics.gauge(
    "millrace_lake_waiting_bytes",
    "Rows in memory that wait for their commit.",
    what_to_do="At COMMIT_MAX_BYTES all the time: raise it, or let fewer tables share the process.",
)
