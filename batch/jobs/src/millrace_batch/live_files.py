"""The files that a table has for each day, from its log alone: no data is read."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
from deltalake import DeltaTable


@dataclass(frozen=True, slots=True, order=True)
class LiveFile:
    """A file of a table's newest version.

    Attributes:
        path: within the table's folder; never used twice.
        size_bytes: of the file.
    """

    path: str
    size_bytes: int


FilesByDay = Mapping[date, list[LiveFile]]


def files_by_day(table: DeltaTable, day_column: str) -> FilesByDay:
    """Return the files of each day that has any, at the version of `table`.

    Args:
        table: partitioned by one date.
        day_column: this date.
    """
    files = pa.table(table.get_add_actions(flatten=True))
    found = defaultdict[date, list[LiveFile]](list)
    columns = (files[name].to_pylist() for name in (f"partition.{day_column}", "path", "size_bytes"))
    for day, path, size_bytes in zip(*columns, strict=True):
        found[day].append(LiveFile(path, size_bytes))
    return found


def fingerprint(files: Iterable[LiveFile]) -> str:
    """Return a digest of which files they are, in hexadecimal; their order does not matter.

    Files are never changed: the same files are the same rows. The same rows may come to lie in other files.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.path.encode() + b"\0")
    return digest.hexdigest()
