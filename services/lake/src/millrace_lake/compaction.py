"""Merging small files inside the day, a bounded piece of work between two commits.

A day that gets a commit every two seconds has 43,200 files by midnight, which no reader enjoys. Files are merged by
size class, so that a row is rewritten twice at most (oftener where merged files stay small). What is large enough is
left to the nightly OPTIMIZE, which also orders rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from millrace_lake.writer import LiveFile, TableWriter

KIB: Final = 1024
# A file is small, middling, or large enough for the day. Behind a backlog a commit of 50,000 rows writes 2 MB: to merge
# such files would cost a sixth of the CPU time, just when there is none to spare.
SIZE_CLASSES_BYTES: Final = (64 * KIB, 1_024 * KIB)
# The most one merge reads; at 2 µs a row and 50 bytes a row about a second of work.
MAX_MERGE_BYTES: Final = 32_768 * KIB
_PORTION_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Merge:
    """What a compaction did."""

    day: date
    files: int
    records: int


def plan(files: Sequence[LiveFile], fan_in: int) -> list[LiveFile]:
    """Choose the files to merge, in the given order: the lowest size class that has `fan_in` of them; else none.

    With one merge whenever a class is full a day never has more than 2 x `fan_in` files below the largest class.
    """
    below = 0
    for limit in SIZE_CLASSES_BYTES:
        members = [file for file in files if below <= file.size_bytes < limit]
        if len(members) >= fan_in:
            return _within(members, MAX_MERGE_BYTES)
        below = limit
    return []


def compact(writer: TableWriter, day: date, fan_in: int, now_ms: int) -> Merge | None:
    """Merge small files of `day` if there are enough of them; None if there are not, or if somebody else was faster.

    Raises:
        OSError: a file could not be read or written; the table is as it was.
    """
    chosen = plan(writer.files_of(day), fan_in)
    if len(chosen) < 2:
        return None
    merged = writer.files.rewrite([file.path for file in chosen], day, _PORTION_ROWS)
    if merged.records != sum(file.records for file in chosen):
        return None  # deletion vectors, or statistics by somebody else: the nightly job knows more
    return Merge(day, len(chosen), merged.records) if writer.replace(chosen, merged, now_ms) else None


def _within(files: Sequence[LiveFile], limit_bytes: int) -> list[LiveFile]:
    chosen, total = [], 0
    for file in files:
        total += file.size_bytes
        if total > limit_bytes:
            break
        chosen.append(file)
    return chosen
