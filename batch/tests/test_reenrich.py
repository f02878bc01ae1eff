"""Days enriched again: by enrich's own rule, beside a stream that goes on, and without a row lost."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from millrace_batch import reenrich
from millrace_batch.errors import EmptyInputError, MissingTableError, ProductsError
from millrace_batch.lake import Lake
from millrace_batch.ledger_sums import committed
from millrace_batch.night import tell_nobody
from millrace_batch.products import enriched, read_products
from millrace_common import avro
from millrace_enrich.enricher import Enricher
from millrace_enrich.products import ProductTable
from millrace_lake.tables import tables
from millrace_schemas import schema_text
from millrace_sessionize.testing import enriched_schema
from stream_tables import APP_ID, DAY, NOON, StreamTable, row

pytestmark = pytest.mark.spark

Row = dict[str, Any]
PRODUCTS: Final = """productId,brand,category,price
p-1,Acme,shoes,12.345
p-2,,hats,
"""


def act(product: str | None, known: str | None, days_back: int = 0, **properties: str) -> Row:
    at = NOON - timedelta(days=days_back)
    return {
        "event_time": at,
        "product_id": product,
        "product_brand": known,
        "properties": list(properties.items()),
        "is_bot": False,
    }


@pytest.fixture
def products(tmp_path: Path) -> str:
    path = tmp_path / "products.csv"
    path.write_text(PRODUCTS)
    return str(path)


@pytest.fixture
def events(stream_table: Callable[[str], StreamTable]) -> StreamTable:
    """Return events of two days, the day before all right already."""
    table = stream_table("events")
    table.append([act("p-1", "Old"), act("p-2", "Gone"), act("p-3", None, brand="Own"), act(None, None)])
    right = {"product_category": "shoes", "product_price_cents": 1234}
    table.append([act("p-1", "Acme", 1) | right])
    return table


def params(products: str, *, dry_run: bool = False) -> reenrich.Params:
    return reenrich.Params(DAY - timedelta(days=2), DAY, products, dry_run)


def brands(lake: Lake, spark: SparkSession) -> dict[str | None, str | None]:
    rows = lake.read(spark, "events").filter(f.col("event_date") == f.lit(DAY)).collect()
    return {one["product_id"]: one["product_brand"] for one in rows}


def test_dry_run_tells_and_writes_nothing(spark: SparkSession, lake: Lake, events: StreamTable, products: str) -> None:
    version = lake.delta_rs("events").version()
    told: list[str] = []
    done = reenrich.run(spark, lake, params(products, dry_run=True), told.append)
    assert done.lines == ("1 days would be written anew; 1 stay, and 1 have no events",)
    assert told[3:] == [
        "2026-03-01 product_brand: 3 (1 gained, 1 lost, 1 replaced) of 4 rows",
        "2026-03-01 product_category: 2 (2 gained, 0 lost, 0 replaced) of 4 rows",
        "2026-03-01 product_price_cents: 1 (1 gained, 0 lost, 0 replaced) of 4 rows",
    ]
    assert told[0] == "2026-02-28 product_brand: 0 (0 gained, 0 lost, 0 replaced) of 1 rows"
    assert lake.delta_rs("events").version() == version


def test_changed_days_are_written_once_and_the_stream_goes_on(
    spark: SparkSession, lake: Lake, events: StreamTable, products: str
) -> None:
    version = lake.delta_rs("events").version()
    columns = lake.read(spark, "events").columns
    told: list[int] = []
    # The differences are told before anything is written.
    reenrich.run(spark, lake, params(products), lambda _: told.append(lake.delta_rs("events").version()))
    assert set(told) == {version}
    assert brands(lake, spark) == {"p-1": "Acme", "p-2": None, "p-3": "Own", None: None}
    assert lake.delta_rs("events").version() == version + 1
    assert lake.read(spark, "events").columns == columns
    again = reenrich.run(spark, lake, params(products), tell_nobody)
    assert again.lines == ("0 days written anew; 2 stay, and 1 have no events",)
    assert lake.delta_rs("events").version() == version + 1
    events.append([act("p-9", "Late")])
    after = lake.delta_rs("events")
    assert (after.transaction_version(APP_ID), lake.read(spark, "events").count()) == (6, 6)
    # And quality finds the day's rows in the books as before.
    found = committed(spark, lake, "events", after.version(), "event_date", DAY)
    assert (found.day_rows, found.added_rows, found.ledger_rows) == (5, 5, 5)


def test_what_the_stream_appends_before_the_commit_is_kept(
    spark: SparkSession, lake: Lake, events: StreamTable, products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = enriched
    asked: list[DataFrame] = []

    def then_append(rows: DataFrame, by: DataFrame) -> DataFrame:
        asked.append(rule(rows, by))
        if len(asked) == 3:  # a day that stays, the day's differences, and the rows that are to be written
            events.append([act("p-1", "Meanwhile")])
        return asked[-1]

    monkeypatch.setattr(reenrich, "enriched", then_append)
    reenrich.run(spark, lake, params(products), tell_nobody)
    assert len(asked) == 3
    assert lake.read(spark, "events").filter("product_id = 'p-1'").count() == 3


def test_what_the_stream_appends_during_the_commit_refuses_it(
    spark: SparkSession,
    lake: Lake,
    events: StreamTable,
    products: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    uri, done = lake.table_uri("events"), tmp_path / "appended"
    filled = row(events.spec, 0, act("p-1", "Meanwhile"))
    appended = pa.Table.from_pylist([filled], schema=events.spec.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, appended.schema) as stream:
        stream.write_table(appended)
    data = sink.getvalue().to_pybytes()
    rule = enriched
    tries: list[DataFrame] = []

    def append(brand: str | None) -> str | None:
        if not done.exists():
            done.touch()
            write_deltalake(uri, pa.ipc.open_stream(data).read_all(), mode="append")
        return brand

    def appending(rows: DataFrame, by: DataFrame) -> DataFrame:
        tries.append(rule(rows, by))
        if len(tries) < 3:
            return tries[-1]
        # Spark calls it while it writes the files, within the transaction.
        return tries[-1].withColumn("product_brand", f.udf(append, "string", useArrow=False)("product_brand"))

    monkeypatch.setattr(reenrich, "enriched", appending)
    reenrich.run(spark, lake, params(products), tell_nobody)
    assert len(tries) == 4
    assert lake.read(spark, "events").count() == 6


def test_rule_is_that_of_enrich(
    spark: SparkSession, lake: Lake, stream_table: Callable[[str], StreamTable], tmp_path: Path
) -> None:
    random = Random(6)
    known = [
        {"productId": f"p-{number}", "brand": brand, "category": "c", "price": price}
        for number, (brand, price) in enumerate(
            [("b", 0.125), ("", 0.135), (None, -1.0), ("a\0b", 1e30), ("b", None), ("b", 2.675), ("b", 1e15)]
        )
    ]
    texts = ("", "own", "12.5", "12.345", "-1", "1e3", "9999999999999999.99", "10000000000000000")
    sent = [
        {
            "eventId": str(number),
            "sessionId": "s",
            "eventType": "click",
            "timestamp": int(NOON.timestamp() * 1000),
            "properties": [
                ("productId", f"p-{random.randrange(9)}"),
                *((random.choice(("brand", "category", "price")), random.choice(texts)) for _ in range(6)),
            ],
            "context": {"userAgent": "", "ip": "", "platform": "web", "referrer": None},
        }
        for number in range(300)
    ]
    batch = pa.RecordBatch.from_pylist(sent, schema=avro.arrow_schema(avro.parse(schema_text("user-events"))))
    table = ProductTable()
    table.upsert(pa.RecordBatch.from_pylist(known))
    spec = tables(["events"])[0]
    by_enrich = Enricher(enriched_schema(), table).enrich(batch, batch.column("timestamp").to_numpy())
    expected = spec.convert(by_enrich, spec.schema).to_pylist()
    nothing = dict.fromkeys(("product_brand", "product_category", "product_price_cents"))
    stream_table("events").append([one | nothing for one in expected])
    write_deltalake(str(tmp_path / "products"), pa.Table.from_pylist(known))
    reenrich.run(spark, lake, params(str(tmp_path / "products")), tell_nobody)
    found = {one["event_id"]: one.asDict() for one in lake.read(spark, "events").collect()}
    for one in expected:
        assert {name: found[one["event_id"]][name] for name in nothing} == {name: one[name] for name in nothing}
    assert len({one["product_price_cents"] for one in expected}) > 5


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("productId,brand,category,price\n", EmptyInputError, "has no product"),
        ("productId,brand,category\np-1,b,c\n", ProductsError, "lack price"),
        (PRODUCTS + "p-1,,,\n", ProductsError, "1 products of .* more than once"),
        (PRODUCTS + ",b,,\n", ProductsError, "1 products of .* no productId"),
        (PRODUCTS + "p-3,b,,cheap\n", ProductsError, "1 products of .* a price that is no number"),
    ],
)
def test_reference_data_that_cannot_be_is_refused(
    spark: SparkSession, tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "given.csv").write_text(text)
    with pytest.raises(error, match=message):
        read_products(spark, str(tmp_path / "given.csv"))


def test_absent_input_is_refused(spark: SparkSession, lake: Lake, products: str, tmp_path: Path) -> None:
    with pytest.raises(ProductsError, match=r"no products to read in .*/none.csv \(PATH_NOT_FOUND\)"):
        read_products(spark, str(tmp_path / "none.csv"))
    with pytest.raises(MissingTableError, match="no table events"):
        reenrich.run(spark, lake, params(products), tell_nobody)
    StreamTable(lake.uri, "events").append([act(None, None, 9)])
    with pytest.raises(EmptyInputError, match="no rows of 2026-02-27 to 2026-03-01"):
        reenrich.run(spark, lake, params(products), tell_nobody)
