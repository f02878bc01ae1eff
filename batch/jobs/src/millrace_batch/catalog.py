"""The tables of the lake, by who writes them, and which version each is at."""

from collections.abc import Mapping
from typing import Final

from deltalake.exceptions import TableNotFoundError

from millrace_batch import computations
from millrace_batch.compact import LAYOUTS
from millrace_batch.lake import Lake

STREAM_TABLES: Final = tuple(LAYOUTS)
BATCH_TABLES: Final = (
    *("reconciliation", "user_daily_metrics", "product_metrics", "session_metrics_daily", "fact_daily_metrics"),
    *("user_segments", "user_features", "recommendation_features", "quality_results"),
)
RECORDS: Final = (computations.TABLE,)
"""Tables about the tables: nobody computes anything from them."""


def versions(lake: Lake) -> Mapping[str, int]:
    """Return the version of each table that is there, without those of `RECORDS`."""
    found = {}
    for name in (*STREAM_TABLES, *BATCH_TABLES):
        try:
            found[name] = lake.delta_rs(name).version()
        except TableNotFoundError:
            continue
    return found
