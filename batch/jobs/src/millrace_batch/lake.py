"""Where the tables are, and reading them without guessing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from deltalake import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch.errors import EmptyInputError, MissingTableError

# What Spark says of a folder that is no Delta table.
_NO_TABLE: Final = frozenset(
    {"PATH_NOT_FOUND", "DELTA_TABLE_NOT_FOUND", "DELTA_PATH_DOES_NOT_EXIST", "DELTA_MISSING_DELTA_TABLE"}
)


@dataclass(frozen=True, slots=True)
class Lake:
    """The folder of all tables.

    Attributes:
        uri: a path or an object store's address, as in lake's `LAKE_URI`.
        storage_options: for delta-rs, as in lake's `LAKE_STORAGE_OPTIONS`; Spark has settings of its own.
    """

    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def table_uri(self, table: str) -> str:
        """Return the address of one table as Spark wants it: a path is absolute, s3:// is s3a://."""
        uri = self.uri.rstrip("/")
        if "://" not in uri:
            uri = str(Path(uri).absolute())
        elif uri.startswith("s3://"):
            uri = f"s3a://{uri.removeprefix('s3://')}"
        return f"{uri}/{table}"

    def sql_name(self, table: str) -> str:
        """Return how SQL names one table."""
        return f"delta.`{self.table_uri(table)}`"

    def delta_rs(self, table: str) -> DeltaTable:
        """Return a table as the stream's engine sees it, at its newest version.

        Raises:
            deltalake.exceptions.TableNotFoundError: it is not in the lake.
        """
        return DeltaTable(self.table_uri(table), storage_options=dict(self.storage_options))

    def has(self, spark: SparkSession, table: str) -> bool:
        """Say whether the table is there."""
        return self._found(spark, table) is not None

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """Return all rows of a table, as of now: the frame keeps this version.

        Raises:
            MissingTableError: it is not in the lake.
        """
        found = self._found(spark, table)
        if found is None:
            message = f"there is no table {table} in {self.uri}: has the stream written to this lake yet?"
            raise MissingTableError(message)
        return found

    def days(self, spark: SparkSession, table: str, column: str, first: date, last: date) -> DataFrame:
        """Return the rows of the days `first` to `last`, both included, by the table's partition `column`.

        Raises:
            MissingTableError: the table is not in the lake.
        """
        return self.read(spark, table).where(f.col(column).between(f.lit(first), f.lit(last)))

    def days_with_rows(self, spark: SparkSession, table: str, column: str, first: date, last: date) -> DataFrame:
        """Return what `days` returns, if it is anything.

        Raises:
            MissingTableError: the table is not in the lake.
            EmptyInputError: it has no row of these days.
        """
        rows = self.days(spark, table, column, first, last)
        if rows.isEmpty():
            days = f"{first}" if first == last else f"{first} to {last}"
            message = f"table {table} has no rows of {days}: is the date right, and has the stream caught up with it?"
            raise EmptyInputError(message)
        return rows

    def _found(self, spark: SparkSession, table: str) -> DataFrame | None:
        try:
            rows = spark.read.format("delta").load(self.table_uri(table))
            rows.schema  # noqa: B018  # it is the look that may fail
        except AnalysisException as error:
            if error.getCondition() in _NO_TABLE:
                return None
            raise
        return rows
