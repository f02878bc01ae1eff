"""What is counted of events, under the same names in every table."""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as f

COUNTED: Final[Mapping[str, str]] = {
    "page_views": "page_view",
    "clicks": "click",
    "searches": "search",
    "add_to_carts": "add_to_cart",
    "purchases": "purchase",
}
"""What a count is called, and of which event type it is."""


def counts(*names: str) -> list[Column]:
    """Return the numbers of events by type, of those in COUNTED called `names`; of all if there are none."""
    return [f.count_if(f.col("event_type") == COUNTED[name]).alias(name) for name in names or COUNTED]


def total(numbers: Column | str) -> Column:
    """Return a sum; 0 if there is nothing to add."""
    return f.coalesce(f.sum(numbers), f.lit(0))


def revenue_cents() -> Column:
    """Return what purchase events were worth; one without an amount is worth nothing."""
    paid = f.when(f.col("event_type") == "purchase", f.col("amount_cents"))
    return total(paid).alias("revenue_cents")


def ratio(part: Column, whole: Column) -> Column:
    """Return a quotient as a double; null if `whole` is 0."""
    return part.cast("double") / f.nullif(whole, f.lit(0)).cast("double")
