"""Job `reenrich`: days of `events` enriched again, by new reference data.

Only the product columns. Device and place come from the user agent and the IP address, and these end in enrich by
design: nothing in the lake could give other ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import conflicts
from millrace_batch.lake import Lake
from millrace_batch.night import Outcome, Tell
from millrace_batch.products import COLUMNS, enriched, read_products

_TABLE, _DAY = "events", "event_date"


@dataclass(frozen=True, slots=True)
class Params:
    """What `reenrich` is asked.

    Attributes:
        first: a UTC day.
        last: a UTC day, included.
        products: where the new reference data is, all of it (see `products.read_products`).
        dry_run: say what would change, and write nothing.
    """

    first: date
    last: date
    products: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What changes in a column of a day, in rows.

    Attributes:
        column: of events.
        gained: had no value and get one.
        lost: have a value and get none.
        replaced: have a value and get another.
    """

    column: str
    gained: int
    lost: int
    replaced: int

    @property
    def rows(self) -> int:
        """How many rows change."""
        return self.gained + self.lost + self.replaced

    def __str__(self) -> str:
        """Return what a person reads of it."""
        return f"{self.column}: {self.rows:,} ({self.gained:,} gained, {self.lost:,} lost, {self.replaced:,} replaced)"


def run(spark: SparkSession, lake: Lake, params: Params, tell: Tell) -> Outcome:
    """Write the days of which anything changes anew, a commit a day; a second run finds nothing to change.

    Args:
        spark: the session.
        lake: has table events.
        params: what is asked.
        tell: gets the differences of a day, column by column, before it is written.

    Raises:
        EmptyInputError: there are no events of these days, or no products.
        MissingTableError: there is no table events.
        ProductsError: the reference data is not what it should be.
        ConflictError: the stream wrote to a day again and again; the days before are done.
    """
    days = _days(lake.days_with_rows(spark, _TABLE, _DAY, params.first, params.last))
    products = read_products(spark, params.products).persist()
    try:
        changed = sum(_reenrich(spark, lake, products, day, params, tell) for day in days)
    finally:
        products.unpersist()
    done = "would be written anew" if params.dry_run else "written anew"
    asked = (params.last - params.first) // timedelta(days=1) + 1
    line = f"{changed} days {done}; {len(days) - changed} stay, and {asked - len(days)} have no events"
    return Outcome((line,), {"days_written": 0 if params.dry_run else changed})


def changes(events: DataFrame, products: DataFrame) -> DataFrame:
    """Return one row: the number of `events`, and for each product column how many gain, lose and change a value."""
    # Beside each other in one pass: what is there, and what enrich would say now.
    both = enriched(events.withColumns({f"_old_{name}": f.col(name) for name in COLUMNS}), products)
    counted = [f.count_if(how).alias(f"{name}_{kind}") for name in COLUMNS for kind, how in _kinds(name).items()]
    return both.agg(f.count("*").alias("rows"), *counted)


def _kinds(name: str) -> dict[str, Column]:
    old, new = f.col(f"_old_{name}"), f.col(name)
    return {
        "gained": old.isNull() & new.isNotNull(),
        "lost": old.isNotNull() & new.isNull(),
        "replaced": old != new,
    }


def _days(events: DataFrame) -> Sequence[date]:
    return [row[_DAY] for row in events.select(_DAY).distinct().orderBy(_DAY).collect()]


def _reenrich(spark: SparkSession, lake: Lake, products: DataFrame, day: date, params: Params, tell: Tell) -> bool:
    """Return whether anything of the day changes."""
    (found,) = changes(_of_day(spark, lake, day), products).collect()
    differences = [Change(name, *(found[f"{name}_{kind}"] for kind in _kinds(name))) for name in COLUMNS]
    for change in differences:
        tell(f"{day} {change} of {found['rows']:,} rows")
    if not any(change.rows for change in differences):
        return False
    if not params.dry_run:
        conflicts.retried(f"replacing {_TABLE}, {day}", _replacing(spark, lake, products, day))
    return True


def _replacing(spark: SparkSession, lake: Lake, products: DataFrame, day: date) -> Callable[[], None]:
    def replace() -> None:
        # Not persisted: Delta reads the day within the commit's own transaction. So it has what the stream has appended
        # since, and what it appends meanwhile refuses the commit.
        rows = enriched(_of_day(spark, lake, day), products)
        writer = rows.write.format("delta").mode("overwrite").option("replaceWhere", f"{_DAY} = '{day}'")
        writer.save(lake.table_uri(_TABLE))

    return replace


def _of_day(spark: SparkSession, lake: Lake, day: date) -> DataFrame:
    return lake.days(spark, _TABLE, _DAY, day, day)
