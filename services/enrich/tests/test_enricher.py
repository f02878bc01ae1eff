"""Columns that the golden cases cannot show: places, and products that change."""

from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa

from millrace_common.codec import Encoder
from millrace_enrich.devices import DeviceTable, DeviceType, parse
from millrace_enrich.enricher import Enricher
from millrace_enrich.places import NOWHERE, Place, Places
from millrace_enrich.products import ProductTable
from millrace_schemas import schema_text

SCHEMA: Final = Encoder(schema_text("user-events.enriched"), 1).schema
CONTEXT: Final = pa.struct(
    [(name, pa.string()) for name in ("userAgent", "ip", "platform", "referrer")],
)
EVENT: Final = pa.schema(
    [
        ("eventId", pa.string()),
        ("userId", pa.string()),
        ("sessionId", pa.string()),
        ("eventType", pa.string()),
        ("timestamp", pa.int64()),
        ("properties", SCHEMA.field("properties").type),
        ("context", CONTEXT),
    ]
)


def events(*addresses: str) -> pa.RecordBatch:
    rows = [
        {
            "eventId": str(number),
            "userId": None,
            "sessionId": "s",
            "eventType": "click",
            "timestamp": 0,
            "properties": [("productId", "1")],
            "context": {"userAgent": "", "ip": address, "platform": "", "referrer": None},
        }
        for number, address in enumerate(addresses)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=EVENT)


def enriched(enricher: Enricher, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = enricher.enrich(batch, np.zeros(batch.num_rows, dtype=np.int64)).to_pylist()
    return rows


def test_each_event_gets_the_place_of_its_own_address() -> None:
    known = {"1.1.1.1": Place("AU", "Queensland"), "2.2.2.2": Place("FR")}
    places = cast(Places, SimpleNamespace(find=lambda address: known.get(address, NOWHERE)))
    rows = enriched(Enricher(SCHEMA, ProductTable(), places), events("2.2.2.2", "1.1.1.1", "3.3.3.3", "2.2.2.2"))
    assert [row["country_code"] for row in rows] == ["FR", "AU", None, "FR"]
    assert [row["region"] for row in rows] == [None, "Queensland", None, None]


def test_no_events_make_no_events() -> None:
    assert enriched(Enricher(SCHEMA, ProductTable()), events()) == []


def test_the_next_batch_sees_a_changed_product() -> None:
    table = ProductTable()
    enricher = Enricher(SCHEMA, table)
    assert enriched(enricher, events("1.1.1.1"))[0]["product_brand"] is None
    table.upsert(pa.RecordBatch.from_pylist([{"productId": "1", "brand": "a", "category": None, "price": 0.5}]))
    (row,) = enriched(enricher, events("1.1.1.1"))
    assert (row["product_brand"], row["product_price_cents"]) == ("a", 50)


def test_an_endless_agent_is_no_trouble() -> None:
    assert parse("(" * 200_000).device_type is DeviceType.OTHER


def test_each_event_gets_its_own_device_however_few_agents_are_remembered() -> None:
    agents = [f"Mozilla/5.0 (X11; Linux x86_64) Firefox/{number}.0" for number in range(5)] + ["curl/8.0", "iPad", ""]
    table, few = DeviceTable(), DeviceTable(remembered=3)
    for wanted in (agents[:2], agents[1:6], agents[::-1] * 2, agents[:2], []):
        expected = [
            {"device_type": kind.value, "os": system, "browser": browser, "is_bot": kind is DeviceType.BOT}
            for kind, system, browser in ((it.device_type, it.os, it.browser) for it in map(parse, wanted))
        ]
        column = pa.array(wanted, pa.string())
        assert table.join(column).to_pylist() == expected
        assert few.join(column).to_pylist() == expected
