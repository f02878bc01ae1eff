"""Job `user_segments`: recency, frequency and money of 30 days, scored 1 to 5, and a name for the mixture."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import writing
from millrace_batch.activity import LOOK_BACK, events_of, orders_of
from millrace_batch.lake import Lake
from millrace_batch.night import Outcome

# A score is 5 less the number of bounds that are passed.
_RECENCY_DAYS: Final = (1, 3, 7, 14)
# A score is 1 and the number of bounds that are reached.
_FREQUENCY_ORDERS: Final = (1, 2, 3, 5)
_MONETARY_CENTS: Final = (1, 5_000, 20_000, 100_000)


@dataclass(frozen=True, slots=True)
class Params:
    """What `user_segments` is asked: the UTC day at whose end the users are looked at."""

    day: date


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Write the day into table user_segments.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: events or transactions is not in the lake.
    """
    day = params.day
    with ExitStack() as kept:
        events = writing.keep(kept, events_of(spark, lake, day - LOOK_BACK, day))
        orders = orders_of(spark, lake, day - LOOK_BACK, day, known_until=day)
        return writing.replace_days(
            spark, lake, "segment_date", day, {"user_segments": user_segments(events, orders, params)}
        )


def user_segments(events: DataFrame, orders: DataFrame, params: Params) -> DataFrame:
    """Return a row a user that did or ordered anything in the 30 days up to `day`.

    Args:
        events: of the 30 days, each once; later ones do not count.
        orders: placed in the 30 days, as known at the end of `day`.
        params: the day.
    """
    day = f.lit(params.day)
    acts = events.select(
        "user_id", f.col("event_date").alias("_on"), f.lit(0).alias("_orders"), f.lit(0).alias("_cents")
    )
    bought = orders.select(
        "user_id", f.col("placed_date").alias("_on"), f.lit(1).alias("_orders"), f.col("total_cents").alias("_cents")
    )
    recency, frequency, monetary = (f.col(f"{name}_score") for name in ("recency", "frequency", "monetary"))
    return (
        acts.unionByName(bought)
        .filter(f.col("user_id").isNotNull() & f.col("_on").between(f.lit(params.day - LOOK_BACK), day))
        .groupBy("user_id")
        .agg(
            f.date_diff(day, f.max("_on")).alias("recency_days"),
            f.sum("_orders").alias("frequency_orders"),
            f.sum("_cents").alias("monetary_cents"),
        )
        .withColumns(
            {
                "recency_score": 5 - _bounds_below(f.col("recency_days"), _RECENCY_DAYS),
                "frequency_score": 1 + _bounds_reached(f.col("frequency_orders"), _FREQUENCY_ORDERS),
                "monetary_score": 1 + _bounds_reached(f.col("monetary_cents"), _MONETARY_CENTS),
            }
        )
        .select(
            *(day.alias("segment_date"), "user_id", "recency_days", "frequency_orders", "monetary_cents"),
            *(recency, frequency, monetary),
            segment(recency, frequency, monetary).alias("segment"),
        )
    )


def segment(recency: Column, frequency: Column, monetary: Column) -> Column:
    """Return the name of a mixture of scores: the first rule that holds (batch/jobs/README.md has them as a table)."""
    return (
        f.when((recency >= 4) & (frequency >= 4) & (monetary >= 4), "champion")
        .when((frequency >= 3) & (recency <= 2), "at_risk")
        .when(frequency >= 3, "loyal")
        .when(monetary >= 4, "big_spender")
        .when((frequency == 2) & (recency >= 3), "new_buyer")
        .when(recency >= 3, "visitor")
        .otherwise("dormant")
    )


def _bounds_reached(value: Column, bounds: Sequence[int]) -> Column:
    return _number_of([value >= bound for bound in bounds])


def _bounds_below(value: Column, bounds: Sequence[int]) -> Column:
    return _number_of([value > bound for bound in bounds])


def _number_of(conditions: Sequence[Column]) -> Column:
    total = f.lit(0)
    for condition in conditions:
        total += condition.cast("int")
    return total
