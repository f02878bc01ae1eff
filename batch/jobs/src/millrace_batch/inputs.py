"""What a job reads, and which state of it there is now: told from the tables' logs, without reading data."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from deltalake.exceptions import TableNotFoundError

from millrace_batch.compact import LAYOUTS
from millrace_batch.lake import Lake
from millrace_batch.live_files import FilesByDay, LiveFile, files_by_day, fingerprint


@dataclass(frozen=True, slots=True)
class Input:
    """Days of one of the stream's tables that a job reads for a day.

    Attributes:
        table: its name.
        before: how long before the day the first one is.
        after: how long behind the day the last one is.
    """

    table: str
    before: timedelta = timedelta()
    after: timedelta = timedelta()


@dataclass(slots=True)
class LakeState:
    """The tables as they are when each is first asked for; make a new one to look again.

    Attributes:
        lake: the tables.
    """

    lake: Lake
    _tables: dict[str, FilesByDay] = field(default_factory=dict)

    def days(self, table: str, first: date, last: date) -> list[date]:
        """Return the days `first` to `last` that one of the stream's tables has rows of, in order."""
        return sorted(day for day in self._files(table) if first <= day <= last)

    def fingerprint(self, inputs: Iterable[Input], day: date) -> str:
        """Return a digest of the files that hold `inputs` for `day`; a table that is not there has none."""
        digest = hashlib.sha256()
        for one in inputs:
            digest.update(f"{one.table}:{fingerprint(self._around(one, day))}\n".encode())
        return digest.hexdigest()

    def _around(self, one: Input, day: date) -> list[LiveFile]:
        files = self._files(one.table)
        return [file for held, found in files.items() if day - one.before <= held <= day + one.after for file in found]

    def _files(self, table: str) -> FilesByDay:
        if table not in self._tables:
            self._tables[table] = self._read(table)
        return self._tables[table]

    def _read(self, table: str) -> FilesByDay:
        try:
            return files_by_day(self.lake.delta_rs(table), LAYOUTS[table].day_column)
        except TableNotFoundError:
            return {}
