"""What a job is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession

from millrace_batch import metrics
from millrace_batch.lake import Lake
from millrace_batch.warehouse.settings import required_dsn

FRESH_WITHIN: Final = timedelta(hours=1)
"""A shop is open at night: its newest event is hardly ever older at the end of a day."""

Tell = Callable[[str], None]
"""Shows a line to whoever waits for the job, while it runs."""


def tell_nobody(line: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Again:
    """What `reenrich` is asked besides.

    Attributes:
        last: the last UTC day, `Night.day` being the first.
        products: where the new reference data is.
        dry_run: say what would change, and write nothing.
    """

    last: date
    products: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Night:
    """What a job is given.

    Attributes:
        day: the UTC day that it is about.
        lake: the tables.
        spark: gives the session; a job that needs none never asks.
        warehouse: gives the DSN of Postgres; a job that needs none never asks.
        report_dir: gets the report of `quality`; None: none is written.
        again: for `reenrich` only.
        fresh_within: for `check_day`: how long before the end of the day the newest event may be.
        tell: shows what is worth knowing before the job is done.
    """

    day: date
    lake: Lake
    spark: Callable[[], SparkSession]
    warehouse: Callable[[], str] = required_dsn
    report_dir: Path | None = None
    again: Again | None = None
    fresh_within: timedelta = FRESH_WITHIN
    tell: Tell = tell_nobody


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did.

    Attributes:
        lines: for a person.
        figures: name to number, for Prometheus, as metrics.py declares them; names say their unit, like `bytes_before`.
    """

    lines: tuple[str, ...]
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse figures that docs/reference/metrics.md does not know.

        Raises:
            KeyError: a figure is not declared in metrics.py.
        """
        metrics.refuse_undeclared(self.figures)
