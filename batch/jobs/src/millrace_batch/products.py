"""Reference data of products, and what events are enriched with by it: enrich's rule for its product columns, in Spark.

`services/enrich` has the same rule for a stream; a test holds both against each other.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch.errors import EmptyInputError, ProductsError

COLUMNS: Final = ("product_brand", "product_category", "product_price_cents")
"""The columns of events that come from reference data."""

_GIVEN: Final = ("productId", "brand", "category", "price")
_FORMATS: Final[Mapping[str, str]] = {".csv": "csv", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}
# What enrich takes for an amount: what fits decimal(18,2), without a sign.
_AMOUNT: Final = r"^[0-9]{1,16}(\.[0-9]{1,2})?$"
_LARGEST_CENTS: Final = 10**18 - 1


def read_products(spark: SparkSession, uri: str) -> DataFrame:
    """Return the products of a file as _product_id, _brand, _category and _price_cents, null where nothing is known.

    Args:
        spark: the session.
        uri: a .csv file with a header, .ndjson (a product a line), .parquet, or the folder of a Delta table, with the
            columns of subject products: productId, brand, category, price.

    Raises:
        ProductsError: it cannot be read, has other columns, or a product twice or without an id.
        EmptyInputError: it has no product.
    """
    kind = next((found for ending, found in _FORMATS.items() if uri.endswith(ending)), "delta")
    reader = spark.read.option("header", "true").option("mode", "FAILFAST").format(kind)
    try:
        rows = reader.load(uri)
    except AnalysisException as error:
        message = (
            f"there are no products to read in {uri} ({error.getCondition()}): give a .csv, .ndjson or .parquet file, "
            "or the folder of a Delta table"
        )
        raise ProductsError(message) from error
    missing = [name for name in _GIVEN if name not in rows.columns]
    if missing:
        message = f"the products of {uri} lack {', '.join(missing)}: columns are {', '.join(_GIVEN)}"
        raise ProductsError(message)
    texts = rows.select(*(f.col(name).cast("string").alias(name) for name in _GIVEN))
    _refuse_bad_rows(texts, uri)
    # As a double says it shortest, and rounded half to even: enrich's list price.
    price = f.bround(f.col("price").cast("double").cast("string").try_cast("decimal(38,18)"), 2) * 100
    return texts.select(
        f.col("productId").alias("_product_id"),
        _fact("brand").alias("_brand"),
        _fact("category").alias("_category"),
        f.when(price.between(0, _LARGEST_CENTS), price.cast("long")).alias("_price_cents"),
    )


def enriched(events: DataFrame, products: DataFrame) -> DataFrame:
    """Return `events` with the product columns that `products` gives them; all else, and the order of columns, stays.

    What `products` does not know is taken from the event's own properties, as enrich does.
    """
    # Events without a product are many: a join by shuffle would put them all into one task. Enrich holds all products
    # in memory too.
    known = events.join(f.broadcast(products), f.col("product_id") == f.col("_product_id"), "left")
    own_price = _property("price")
    cents = f.when(own_price.rlike(_AMOUNT), own_price).cast("decimal(18,2)") * 100
    given = {
        "product_brand": f.coalesce("_brand", _property("brand")),
        "product_category": f.coalesce("_category", _property("category")),
        "product_price_cents": f.coalesce("_price_cents", cents.cast("long")),
    }
    return known.withColumns(given).select(*events.columns)


def _property(key: str) -> Column:
    """Return the last entry of a key, null if that is empty."""
    of_key = f.filter(f.map_entries("properties"), lambda entry: entry["key"] == key)
    return f.nullif(f.try_element_at(of_key, f.lit(-1))["value"], f.lit(""))


def _fact(name: str) -> Column:
    """Return a text unless it says nothing or has a NUL, which no database takes."""
    return f.when((f.col(name) != "") & ~f.col(name).contains("\0"), f.col(name))


def _refuse_bad_rows(rows: DataFrame, uri: str) -> None:
    counted = rows.agg(
        f.count("*").alias("products"),
        f.count_if(f.col("productId").isNull() | (f.col("productId") == "")).alias("nameless"),
        f.count_distinct("productId").alias("distinct"),
        f.count_if(f.col("price").isNotNull() & f.col("price").try_cast("double").isNull()).alias("priceless"),
    )
    (found,) = counted.collect()
    if not found["products"]:
        message = f"{uri} has no product: events would lose what is known of theirs"
        raise EmptyInputError(message)
    if found["nameless"]:
        message = f"{found['nameless']} products of {uri} have no productId"
        raise ProductsError(message)
    if found["priceless"]:
        message = f"{found['priceless']} products of {uri} have a price that is no number"
        raise ProductsError(message)
    repeated = found["products"] - found["distinct"]
    if repeated:
        message = f"{repeated} products of {uri} are there more than once: which one holds cannot be known"
        raise ProductsError(message)
