"""Appends rows to one Delta table, exactly once.

The position of each input partition is a transaction version in the table, written in the same commit as the rows.
Every commit is compare-and-set on the table's version: it succeeds only on the very version whose positions and schema
were looked at. If anything at all was committed in between, by whomever, the handle is refreshed, positions and schema
are looked at again, and only then it is tried again.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from millrace_common import failpoints
from millrace_common.errors import FatalError, FencedError, StartupError
from millrace_common.failpoints import Failpoint
from millrace_common.ledger import LEDGER_KEY, LedgerRow
from millrace_lake import schema_changes
from millrace_lake.fencing import Standing, moved, standing
from millrace_lake.files import DataFile, ParquetFiles
from millrace_lake.ledger import COMMIT_KEY, TOPIC_ID_PROPERTY, row_app_id
from millrace_lake.tables import TableSpec

_log = logging.getLogger(__name__)

T = TypeVar("T")

# What the store or the log can throw for reasons that pass; anything else is a mistake of ours and stops the process.
_PASSING: Final = (DeltaError, OSError)
# Log clean-up belongs to the nightly job: it knows which versions readers and the ledger still need.
_AFTER_COMMIT: Final = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
# No feature that Spark or delta-rs cannot append to; the retention of positions stays unset: they are kept for ever.
_PROPERTIES: Final = {
    # A refresh reads the log behind the newest checkpoint: 20 keeps it under 10 ms.
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 7 days",
    # Each compaction leaves tombstones, and each checkpoint carries all of them.
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


class TableUnavailableError(FatalError):
    """A table could not be written to for longer than allowed; a restart goes on from its positions."""


class TableSchemaError(FatalError):
    """A table's schema was changed against the rows waiting for it; after the restart they become dead letters."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where the tables are.

    Attributes:
        uri: the folder of all tables: a path or an object store's address.
        options: for delta-rs (object store credentials, endpoint); conditional puts stay on.
        retry_seconds: how long a store that does not answer is asked again.
        wait: called with seconds between two tries.
    """

    uri: str
    options: Mapping[str, str]
    retry_seconds: float
    wait: Callable[[float], None]

    def table_uri(self, table: str) -> str:
        """Return the address of one table."""
        return f"{self.uri.rstrip('/')}/{table}"


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of the table's current version."""

    path: str
    size_bytes: int
    records: int


class TableWriter:
    """One table behind one kept handle, for one thread; any number of other writers may be at work elsewhere."""

    def __init__(self, spec: TableSpec, store: Store) -> None:
        """Open the table, create it if it is missing, and add the columns it lacks.

        Raises:
            TableUnavailableError: the store does not answer.
        """
        self.spec = spec
        self.uri = store.table_uri(spec.name)
        self._store = store
        self._begin: dict[str, int | None] = {}
        # Positions that a foreign commit may have moved: looked at again before the next commit.
        self._suspect: set[str] = set()
        self._live_files: Counter[date] = Counter()
        self._handle = self._retried(self._open)
        handler = DeltaStorageHandler(self._handle.table_uri, dict(store.options))
        self.files = ParquetFiles(spec, pafs.PyFileSystem(handler))
        self._look()
        self._add_columns()

    @property
    def conflict(self) -> str | None:
        """Why rows cannot go into the table as it is now; None if they can."""
        return self._change.conflict

    @property
    def live_files(self) -> Mapping[date, int]:
        """About how many live files each day has: exact after a refresh that found foreign commits."""
        return self._live_files

    @property
    def version(self) -> int:
        """The table's version as last seen."""
        return self._handle.version()

    def positions(self, app_ids: Sequence[str]) -> dict[str, int | None]:
        """Look up where each partition stands, None if it never was written, and take it from there.

        Raises:
            TableUnavailableError: the store does not answer.
        """
        self._refresh()
        found = self._held(app_ids)
        self._begin |= found
        self._suspect -= set(found)
        return found

    def position(self, app_id: str) -> int | None:
        """Return where the partition was last taken from or left; None if it has no row in the table yet."""
        return self._begin.get(app_id)

    def topic_id(self, topic: str) -> str | None:
        """Return the id of the topic that the table was fed from first; None if it never was fed from `topic`."""
        found = self._handle.metadata().configuration.get(TOPIC_ID_PROPERTY + topic)
        return None if found is None else str(found)

    def remember_topic_id(self, topic: str, topic_id: str) -> None:
        """Store the id of `topic` in the table, so that a topic created again is noticed.

        Raises:
            TableUnavailableError: the store does not answer.
        """

        def set_property() -> None:
            self._handle.update_incremental()
            if self.topic_id(topic) != topic_id:
                self._handle.alter.set_table_properties(
                    {TOPIC_ID_PROPERTY + topic: topic_id}, raise_if_not_exists=False
                )

        self._retried(set_property)
        self._refresh()

    def append(self, rows: Sequence[pa.RecordBatch], ranges: Sequence[LedgerRow], now_ms: int) -> None:
        """Commit `rows` and the positions behind `ranges`: all of it once, or nothing.

        `rows` may be empty: the positions move all the same. Files of a commit that was refused are left to the vacuum.

        Raises:
            KeyError: the position of a partition was never asked for.
            FencedError: somebody else moved a position; no row was committed by this call.
            TableSchemaError: the table's schema was changed so that the rows do not fit.
            TableUnavailableError: the store does not answer; after a restart the table says whether the rows are in it.
            StartupError: the table is gone.
        """
        begin = {row_app_id(span): self._begin[row_app_id(span)] for span in ranges}
        end = {row_app_id(span): span.next_offset for span in ranges}
        self._refuse_moved({app: position for app, position in begin.items() if app in self._suspect})
        self._refuse_change(rows)
        files = self._retried(lambda: self.files.write(pa.Table.from_batches(rows))) if rows else []
        commit_id = uuid.uuid4().hex
        actions = [file.add_action(self.spec.partition_column, now_ms, new_rows=True) for file in files]
        properties = CommitProperties(
            custom_metadata={LEDGER_KEY: [span.as_record() for span in ranges], COMMIT_KEY: commit_id},
            max_commit_retries=0,
            app_transactions=[Transaction(app, version) for app, version in end.items()],
        )
        seen = self.version
        for pause_seconds in self._pauses():
            problem = self._commit(actions, properties)
            if problem is None:
                self._refresh(own_commits=1)
                break
            self._refresh()
            found = standing(self._held(begin), begin, end)
            if found is Standing.REACHED and self._has_commit(commit_id, seen):
                break  # the answer got lost, the commit did not
            if found is not Standing.UNTOUCHED:
                self._refuse_moved(begin)
            self._refuse_change(rows)
            _log.info("a commit is tried again", extra={"table": self.spec.name, "problem": str(problem)})
            self._store.wait(pause_seconds)
        else:
            raise self._unavailable(problem) from problem
        self._begin |= end
        self._live_files.update(file.day for file in files)

    def replace(self, removed: Sequence[LiveFile], added: DataFile, now_ms: int) -> bool:
        """Put `added`, which has the rows of `removed`, in their place; False if anything was committed in between.

        The old files stay where they are for readers of older versions, until the nightly vacuum.
        """
        column = self.spec.partition_column
        values: dict[str, str | None] = {column: added.day.isoformat()}
        actions: list[AddAction | RemoveAction] = [added.add_action(column, now_ms, new_rows=False)]
        actions += [RemoveAction(file.path, False, now_ms, file.size_bytes, values) for file in removed]
        done = self._commit(actions, CommitProperties(max_commit_retries=0)) is None
        self._refresh(own_commits=int(done))
        if done:
            self._live_files[added.day] += 1 - len(removed)
        return done

    def files_of(self, day: date) -> list[LiveFile]:
        """Return the live files of `day`, oldest first."""
        files = self._files()
        of_day = files.filter(pc.equal(files[self._day_column], pa.scalar(day))).sort_by("modification_time")
        columns = (of_day[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
        return [LiveFile(path, size, records or 0) for path, size, records in zip(*columns, strict=True)]

    def _open(self) -> DeltaTable:
        options = dict(self._store.options)
        try:
            return DeltaTable(self.uri, storage_options=options)
        except TableNotFoundError:
            _log.info("creating a table", extra={"table": self.spec.name, "uri": self.uri})
        return DeltaTable.create(
            self.uri,
            schema=self.spec.schema,
            partition_by=self.spec.partition_column,
            configuration=_PROPERTIES,
            storage_options=options,
        )

    def _add_columns(self) -> None:
        def add() -> None:
            self._handle.update_incremental()
            self._look()
            if self._change.added and self._change.conflict is None:
                names = [field.name for field in self._change.added]
                _log.info("adding columns", extra={"table": self.spec.name, "columns": names})
                self._handle.alter.add_columns(list(Schema.from_arrow(pa.schema(self._change.added)).fields))
                self._handle.update_incremental()
                self._look()

        self._retried(add)

    def _look(self) -> None:
        """Look at what a foreign commit may have changed: schema and live files."""
        self._delta_schema = self._handle.schema()
        self._change = schema_changes.compare(pa.schema(self._delta_schema.to_arrow()), self.spec.schema)
        days = self._files()[self._day_column].to_pylist()
        self._live_files = Counter(days)

    def _files(self) -> pa.Table:
        return pa.table(self._handle.get_add_actions(flatten=True))

    @property
    def _day_column(self) -> str:
        return f"partition.{self.spec.partition_column}"

    def commit_actions(self, actions: Sequence[AddAction | RemoveAction], properties: CommitProperties) -> None:
        """Write the version behind the one last seen.

        Raises:
            CommitFailedError: there is another one by now.
            DeltaError, OSError: the store refused, or its answer got lost.
        """
        self._handle.create_write_transaction(
            list(actions),
            "append",
            self._delta_schema,
            [self.spec.partition_column],
            commit_properties=properties,
            post_commithook_properties=_AFTER_COMMIT,
        )

    def _commit(self, actions: Sequence[AddAction | RemoveAction], properties: CommitProperties) -> Exception | None:
        """Try to write the next version; return what went wrong."""
        failpoints.reach(Failpoint.DELTA_COMMIT_BEFORE)
        try:
            self.commit_actions(actions, properties)
        except _PASSING as error:
            return error
        failpoints.reach(Failpoint.DELTA_COMMIT_AFTER)
        return None

    def _refresh(self, own_commits: int = 0) -> None:
        """Take the handle to the newest version."""
        before = self.version
        self._retried(self._handle.update_incremental)
        if not own_commits and self.version == before and not self._exists():
            message = (
                f"table {self.spec.name} is gone from {self.uri}, dropped while it was written to. Put it back, or "
                f"start again: a new table is refused until `millrace reset lake` says from where it is to be filled"
            )
            raise StartupError(message)
        if self.version != before + own_commits:
            self._look()
            self._suspect = set(self._begin)

    def _exists(self) -> bool:
        return self._retried(lambda: DeltaTable.is_deltatable(self.uri, dict(self._store.options)))

    def _held(self, apps: Iterable[str]) -> dict[str, int | None]:
        """Read the positions at the handle's version; each costs a look through the log behind the last checkpoint."""
        return {app: self._retried(partial(self._handle.transaction_version, app)) for app in apps}

    def _has_commit(self, commit_id: str, since: int) -> bool:
        newer = self.version - since
        return newer > 0 and any(info.get(COMMIT_KEY) == commit_id for info in self._handle.history(newer))

    def _refuse_moved(self, begin: Mapping[str, int | None]) -> None:
        held = self._held(begin)
        self._suspect -= set(begin)
        if held != dict(begin):
            message = f"another writer fills table {self.spec.name}: {moved(held, begin)}"
            raise FencedError(message)

    def _refuse_change(self, rows: Sequence[pa.RecordBatch]) -> None:
        """Refuse to put rows into a table that was changed after they were made for it."""
        lacking = ", ".join(field.name for field in self._change.added)
        problem = self._change.conflict or (f"it lost columns: {lacking}" if lacking else None)
        if rows and problem is not None:
            message = f"table {self.spec.name} was changed: {problem}"
            raise TableSchemaError(message)

    def _pauses(self) -> Iterator[float]:
        """Yield how long to wait after each failed try, until the patience is used up."""
        pause, waited = 0.02, 0.0
        while waited < self._store.retry_seconds:
            yield pause
            waited += pause
            pause = min(pause * 2, 5.0)

    def _retried(self, action: Callable[[], T]) -> T:
        problem: Exception | None = None
        for pause_seconds in self._pauses():
            try:
                return action()
            except _PASSING as error:
                problem = error
                _log.warning("the lake does not answer", extra={"table": self.spec.name, "error": str(error)})
                self._store.wait(pause_seconds)
        raise self._unavailable(problem) from problem

    def _unavailable(self, problem: Exception | None) -> TableUnavailableError:
        message = f"table {self.spec.name} at {self.uri} cannot be written to: {problem}"
        return TableUnavailableError(message)
