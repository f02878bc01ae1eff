"""Table `computations`: from which state of its inputs a job computed a day.

The state is taken before a job reads, and recorded after it has written. What is in the table is therefore computed
from that state or from a later one: a crash in between, or inputs that change meanwhile, cost computing the day again.

Two runs of one job at a time may write their results in another order than they read. The one that records last notices
it, because what a run records has a number that it chose before it read, and records that the state is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from millrace_batch.errors import ConflictError
from millrace_batch.lake import Lake

TABLE: Final = "computations"
DAY_COLUMN: Final = "computed_date"
UNKNOWN: Final = ""
"""No fingerprint is like this: the day is due."""

_SCHEMA: Final = pa.schema(
    [
        pa.field(DAY_COLUMN, pa.date32(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        pa.field("run", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
    ]
)
# Runs of one job that end at the same moment refuse each other; more of them than this is no coincidence.
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """A run of a job that has not read yet.

    Attributes:
        job: its name.
        run: its number.
        table: as of now, so that a commit through it is refused once another run of the job has recorded; None: there
            is none yet. Beginning a run makes nothing in a lake that may turn out to be none.
    """

    job: str
    run: int
    table: DeltaTable | None


def claim(lake: Lake, job: str) -> Claim:
    """Begin a run of `job`; call this before its inputs are looked at."""
    try:
        table = lake.delta_rs(TABLE)
    except TableNotFoundError:
        return Claim(job, 1, None)
    return Claim(job, _next_run(table, job), table)


def record(lake: Lake, claimed: Claim, day: date, fingerprint: str) -> bool:
    """Record that `day` was computed from this state of its inputs; return whether that is so.

    It is not if another run of the job has recorded since `claimed`: then the state is recorded as unknown.

    Raises:
        ConflictError: other runs of the job recorded again and again.
    """
    if _append(lake, claimed, day, fingerprint):
        return True
    for _ in range(_TRIES):
        if _append(lake, claim(lake, claimed.job), day, UNKNOWN):
            return False
    message = (
        f"runs of {claimed.job} ended again and again while this one wanted to record {day}: let fewer run at once"
    )
    raise ConflictError(message)


def recorded(lake: Lake, first: date, last: date) -> Mapping[tuple[str, date], str]:
    """Return the newest fingerprint of each job and day from `first` to `last` that was ever computed."""
    try:
        table = lake.delta_rs(TABLE)
    except TableNotFoundError:
        return {}
    rows = pa.RecordBatchReader.from_stream(
        QueryBuilder()
        .register("computations", table)
        .execute(
            f"select job, {DAY_COLUMN}, fingerprint from computations "
            f"where {DAY_COLUMN} between date '{first}' and date '{last}' order by run"
        )
    )
    return {(row["job"], row[DAY_COLUMN]): row["fingerprint"] for batch in rows for row in batch.to_pylist()}


def _append(lake: Lake, claimed: Claim, day: date, fingerprint: str) -> bool:
    table = claimed.table
    if table is None:
        table = _created(lake)
        if _next_run(table, claimed.job) != claimed.run:
            return False
    row = {DAY_COLUMN: day, "job": claimed.job, "run": claimed.run, "fingerprint": fingerprint}
    numbered = CommitProperties(app_transactions=[Transaction(claimed.job, claimed.run)])
    try:
        write_deltalake(table, pa.Table.from_pylist([row], schema=_SCHEMA), mode="append", commit_properties=numbered)
    except CommitFailedError:
        return False
    return True


def _created(lake: Lake) -> DeltaTable:
    DeltaTable.create(
        lake.table_uri(TABLE),
        schema=_SCHEMA,
        partition_by=DAY_COLUMN,
        mode="ignore",
        storage_options=dict(lake.storage_options),
    )
    return lake.delta_rs(TABLE)


def _next_run(table: DeltaTable, job: str) -> int:
    return (table.transaction_version(job) or 0) + 1
