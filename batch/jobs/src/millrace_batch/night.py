"""What a job is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pyspark.sql import SparkSession

from millrace_batch.lake import Lake
from millrace_batch.warehouse.settings import required_dsn


@dataclass(frozen=True, slots=True)
class Night:
    """What a job is given.

    Attributes:
        day: the UTC day that it is about.
        lake: the tables.
        spark: gives the session; a job that needs none never asks.
        warehouse: gives the DSN of Postgres; a job that needs none never asks.
    """

    day: date
    lake: Lake
    spark: Callable[[], SparkSession]
    warehouse: Callable[[], str] = required_dsn


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did.

    Attributes:
        lines: for a person.
        figures: name to number, for Prometheus; names say their unit, like `rows` or `bytes_before`.
    """

    lines: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
