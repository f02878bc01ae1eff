"""How a batch is held against an ordered list of rules: whole columns first, single rows only where one is broken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from millrace_common.columns import Bools, Int64s, Text, list_lengths, rows_with_text, string_bytes
from millrace_common.records import Decoded, Reject
from millrace_ingest.reasons import VALIDATE, Reason

# 2000-01-01T00:00Z. Before it no shop sent events: such a time is an unset or broken clock, even where MAX_AGE is off.
EARLIEST_MS: Final = 946_684_800_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still acceptable.

    Attributes:
        max_ahead_ms: how far a timestamp may lie ahead of the broker's append time.
        max_age_ms: how far it may lie behind; 0: as far as EARLIEST_MS.
        max_properties: entries in an event's property map.
    """

    max_ahead_ms: int
    max_age_ms: int
    max_properties: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a rule looks at.

    Attributes:
        columns: the decoded records.
        appended_at_ms: the broker's append timestamp of each, epoch ms. Times are judged against it and not against
            the clock of this process: then the verdict is the same in every replay.
        limits: the settings.
    """

    columns: pa.RecordBatch
    appended_at_ms: Int64s
    limits: Limits


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold.

    Attributes:
        reason: what a record that breaks it is refused for.
        broken: returns the rows that break it, in order.
        detail: says for a person what is wrong with one of them, without repeating personal data.
    """

    reason: Reason
    broken: Callable[[Batch], Int64s]
    detail: Callable[[Batch, int], str]


@dataclass(frozen=True, slots=True)
class Validated:
    """A decoded run and what the rules say of it.

    Attributes:
        decoded: the run.
        appended_at_ms: int64, append timestamp of each of `decoded.columns`' rows, epoch ms.
        valid: which of those rows break no rule.
        rejects: what failed, here or in decoding, by record.
    """

    decoded: Decoded
    appended_at_ms: Int64s
    valid: Bools
    rejects: tuple[Reject, ...]


def validate(decoded: Decoded, limits: Limits, rules: Sequence[Rule]) -> Validated:
    """Hold `decoded` against `rules`; a row is refused for the first one it breaks. No record makes this raise."""
    records = decoded.polled.records
    stamps = np.array([record.timestamp()[1] for record in records], dtype=np.int64)
    batch = Batch(decoded.columns, stamps[decoded.rows], limits)
    valid = np.ones(len(decoded.rows), dtype=np.bool_)
    refused: list[Reject] = []
    for rule in rules:
        broken = rule.broken(batch)
        if not len(broken):
            continue
        for row in broken[valid[broken]].tolist():
            refused.append(Reject(int(decoded.rows[row]), VALIDATE, rule.reason, rule.detail(batch, row)))
        valid[broken] = False
    rejects = tuple(sorted((*decoded.rejects, *refused), key=lambda reject: reject.row)) if refused else decoded.rejects
    return Validated(decoded, batch.appended_at_ms, valid, rejects)


def rows_of(broken: Bools) -> Int64s:
    """Return the numbers of the rows that are set, in order."""
    return np.flatnonzero(broken)


def empty_strings(columns: Sequence[pa.Array]) -> Int64s:
    """Return the rows in which any of `columns` is "" (a null is not)."""
    found = np.zeros(len(columns[0]), dtype=np.bool_)
    for column in columns:
        empty = list_lengths(column) == 0
        if column.null_count:
            empty &= np.asarray(column.is_valid())
        found |= empty
    return rows_of(found)


def strings_with_nul(column: pa.Array) -> Int64s:
    """Return the rows that hold a NUL character in any string of `column`, however deep in structs, lists and maps."""
    return rows_with_text(
        column, lambda strings: Text(strings).rows_with(0) if _has_nul(strings) else np.empty(0, dtype=np.int64)
    )


def _has_nul(strings: pa.StringArray) -> bool:
    """Return whether a zero byte is among the strings' bytes; looking for its row is rarely worth it."""
    return bool(string_bytes(strings).min(initial=1) == 0)


def timestamp_rules() -> tuple[Rule, Rule]:
    """Return the two rules on a record's own `timestamp` (epoch ms, UTC) against its append time."""
    return (
        Rule(Reason.TIMESTAMP_IN_FUTURE, _in_future, _distance),
        Rule(Reason.TIMESTAMP_TOO_OLD, _too_old, _distance),
    )


def _timestamps(batch: Batch) -> Int64s:
    return np.asarray(batch.columns.column("timestamp"))


def _in_future(batch: Batch) -> Int64s:
    return rows_of(_timestamps(batch) > batch.appended_at_ms + batch.limits.max_ahead_ms)


def _too_old(batch: Batch) -> Int64s:
    if not batch.limits.max_age_ms:
        return rows_of(_timestamps(batch) < EARLIEST_MS)
    return rows_of(_timestamps(batch) < np.maximum(batch.appended_at_ms - batch.limits.max_age_ms, EARLIEST_MS))


def _distance(batch: Batch, row: int) -> str:
    at_ms, appended_at_ms = int(_timestamps(batch)[row]), int(batch.appended_at_ms[row])
    return f"timestamp {at_ms}, appended at {appended_at_ms}"
