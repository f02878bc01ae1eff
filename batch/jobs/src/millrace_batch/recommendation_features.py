"""Job `recommendation_features`: how near each user is to each product, and what is bought with it."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from millrace_batch import writing
from millrace_batch.activity import LOOK_BACK, events_of, orders_of
from millrace_batch.lake import Lake
from millrace_batch.measures import counts, ratio
from millrace_batch.night import Outcome

_WEIGHTS: Final = {"views": 1, "add_to_carts": 3, "purchases": 10}
_TOP: Final = 5
# An order of more products is a reseller's: it says nothing of taste, and its pairs grow with the square.
_MOST_PRODUCTS: Final = 50


@dataclass(frozen=True, slots=True)
class Params:
    """What `recommendation_features` is asked: the UTC day at whose end it looks back."""

    day: date


def run(spark: SparkSession, lake: Lake, params: Params) -> Outcome:
    """Write the day into table recommendation_features.

    Raises:
        EmptyInputError: there are no events of the day.
        MissingTableError: events or transactions is not in the lake.
    """
    day, first = params.day, params.day - LOOK_BACK
    with ExitStack() as kept:
        events = writing.keep(kept, events_of(spark, lake, first, day))
        orders = orders_of(spark, lake, first, day, known_until=day)
        tables = {"recommendation_features": recommendation_features(events, orders, params)}
        return writing.replace_days(spark, lake, "feature_date", day, tables)


def recommendation_features(events: DataFrame, orders: DataFrame, params: Params) -> DataFrame:
    """Return a row a user and product that met in the 30 days up to `day`.

    affinity is the product's share of the user's points: one a view, three a cart, ten a purchase. top_co_purchased are
    the products in most orders together with this one, of two in as many the one whose id comes first.
    """
    day = f.lit(params.day)
    met = (
        events.filter(f.col("user_id").isNotNull() & f.col("product_id").isNotNull())
        .filter(f.col("event_date").between(f.lit(params.day - LOOK_BACK), day))
        .groupBy("user_id", "product_id")
        .agg(*counts("page_views", "add_to_carts", "purchases"))
        .withColumnRenamed("page_views", "views")
        .filter("views + add_to_carts + purchases > 0")
    )
    points = sum((f.col(name) * weight for name, weight in _WEIGHTS.items()), f.lit(0))
    affinity = ratio(points, f.sum(points).over(Window.partitionBy("user_id")))
    in_time = orders.filter(f.col("placed_date").between(f.lit(params.day - LOOK_BACK), day))
    none = f.expr("cast(array() as array<struct<product_id: string, orders: bigint>>)")
    return (
        met.withColumn("affinity", affinity)
        .join(co_purchased(in_time), "product_id", "left")
        .select(
            *(day.alias("feature_date"), "user_id", "product_id", "views", "add_to_carts", "purchases", "affinity"),
            f.coalesce("top_co_purchased", none).alias("top_co_purchased"),
        )
    )


def co_purchased(orders: DataFrame) -> DataFrame:
    """Return for each product that was ordered with another the `_TOP` it was ordered with most often."""
    products = orders.select("transaction_id", f.array_distinct("order_items.product_id").alias("products")).filter(
        f.size("products").between(2, _MOST_PRODUCTS)
    )
    pairs = products.select(f.explode("products").alias("product_id"), "products").select(
        "product_id", f.explode("products").alias("other")
    )
    best_first = Window.partitionBy("product_id").orderBy(f.desc("orders"), "other")
    return (
        pairs.filter("product_id <> other")
        .groupBy("product_id", "other")
        .agg(f.count("*").alias("orders"))
        .withColumn("rank", f.row_number().over(best_first))
        .filter(f.col("rank") <= _TOP)
        .groupBy("product_id")
        .agg(f.array_sort(f.collect_list(f.struct("rank", "other", "orders"))).alias("ranked"))
        .select(
            "product_id",
            f.transform(
                "ranked", lambda one: f.struct(one["other"].alias("product_id"), one["orders"].alias("orders"))
            ).alias("top_co_purchased"),
        )
    )
