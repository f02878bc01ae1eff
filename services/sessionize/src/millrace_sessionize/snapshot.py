"""The state of a partition as an Arrow table, and back.

One row a session. Beside the columns of `SessionColumns` there are `pages` and `products`, the distinct ones of the
session. Strings are dictionary columns, so that a page many sessions saw is written once. The schema's metadata has
`sessions_version`, `largest_time_ms` and `floor_ms` (empty: none yet). What was published to session-updates is left
out: it does not follow from the log.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from millrace_common.errors import StartupError
from millrace_sessionize.columns import NEVER_MS, SessionColumns
from millrace_sessionize.shapes import COUNT_FIELDS
from millrace_sessionize.vocabulary import Vocabulary

STATE_VERSION: Final = 1
"""Raised whenever a snapshot would be read differently."""

_PLAIN: Final = (
    "start_ms",
    "end_ms",
    "events",
    "revenue_cents",
    "user_ms",
    "entry_ms",
    "exit_ms",
    "closed_by",
    "is_bot",
)


class StateVersionError(StartupError):
    """A snapshot was written by a version of this program that kept its state differently."""


def to_table(columns: SessionColumns, strings: Vocabulary, largest_ms: int, floor_ms: int) -> pa.Table:
    """Return all sessions of `columns` as a table."""
    slots = columns.in_use()
    positions, seen = columns.seen.distinct(slots)
    is_product = (seen & 1).astype(np.bool_)
    fields: dict[str, pa.Array] = {
        "client_session_id": strings.strings(columns.client_session_id[slots]),
        **{name: pa.array(getattr(columns, name)[slots]) for name in _PLAIN},
        **{name: pa.array(columns.counts[slots, i]) for i, name in enumerate(COUNT_FIELDS)},
        **{name: strings.dictionary(getattr(columns, name)[slots]) for name in columns.STRINGS[1:]},
    }
    for name, chosen in (("pages", ~is_product), ("products", is_product)):
        sizes = np.bincount(positions[chosen], minlength=len(slots))
        offsets = np.append(0, np.cumsum(sizes)).astype(np.int32)
        fields[name] = pa.ListArray.from_arrays(offsets, strings.dictionary(seen[chosen] >> 1))
    return pa.table(fields).replace_schema_metadata(
        {
            "sessions_version": str(STATE_VERSION),
            "largest_time_ms": "" if largest_ms == NEVER_MS else str(largest_ms),
            "floor_ms": "" if floor_ms == NEVER_MS else str(floor_ms),
        }
    )


def fill(columns: SessionColumns, strings: Vocabulary, table: pa.Table) -> tuple[int, int]:
    """Put the sessions of `table` into empty `columns`; return (largest time, floor), NEVER_MS where there is none.

    Raises:
        StateVersionError: the table is of another version.
    """
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if facts.get("sessions_version") != str(STATE_VERSION):
        msg = f"the snapshot has state version {facts.get('sessions_version')}, this program reads {STATE_VERSION}"
        raise StateVersionError(msg)
    table = table.combine_chunks()
    slots = columns.allocate(table.num_rows)
    for name in _PLAIN:
        getattr(columns, name)[slots] = _column(table, name).to_numpy(zero_copy_only=False)
    for i, name in enumerate(COUNT_FIELDS):
        columns.counts[slots, i] = _column(table, name).to_numpy()
    for name in columns.STRINGS:
        getattr(columns, name)[slots] = strings.ids(_column(table, name))[0]
    for name, kind in (("pages", 0), ("products", 1)):
        lists = _column(table, name)
        sizes = np.diff(lists.offsets.to_numpy()).astype(np.int64)
        columns.seen.append(slots, sizes, (strings.ids(lists.flatten())[0] << 1) | kind)
    columns.changed[slots] = True
    largest, floor = facts["largest_time_ms"], facts["floor_ms"]
    return int(largest) if largest else NEVER_MS, int(floor) if floor else NEVER_MS


def _column(table: pa.Table, name: str) -> pa.Array:
    chunked = table.column(name)
    return chunked.chunk(0) if chunked.num_chunks else pa.array([], type=chunked.type)
