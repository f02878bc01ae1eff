"""From a valid event to an enriched one, a batch of columns at a time."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace_common.columns import Int64s, StringMap, Text
from millrace_enrich.devices import DeviceTable
from millrace_enrich.money import cents
from millrace_enrich.places import NOWHERE, Places
from millrace_enrich.products import ProductTable

_MS_A_DAY: Final = 86_400_000
_TIMESTAMP: Final = pa.timestamp("ms")
_TEXT: Final = pa.string()


@dataclass(frozen=True, slots=True)
class Enricher:
    """Knows products, devices and places.

    Attributes:
        schema: the Arrow schema of what comes out: that of subject user-events.enriched.
        products: joined by product id.
        places: None: country and region stay null.
        devices: joined by user agent.
    """

    schema: pa.Schema
    products: ProductTable
    places: Places | None = None
    devices: DeviceTable = field(default_factory=DeviceTable)

    def enrich(self, events: pa.RecordBatch, received_at_ms: Int64s) -> pa.RecordBatch:
        """Return `events` (columns of subject user-events) enriched, row by row; raw IP and user agent are gone.

        Times are UTC. Brand, category and price are those of the product table; what it does not know is taken from the
        event's own properties. An empty property counts as none; amount_cents is that of purchases only.

        Args:
            events: timestamps lie between 1970 and 9999.
            received_at_ms: when ingest forwarded each event, epoch ms.
        """
        properties = StringMap(events.column("properties"), empty_is_null=True)
        context = events.column("context")
        times = events.column("timestamp")
        columns = {
            "event_id": events.column("eventId"),
            "event_type": events.column("eventType"),
            "event_time": times.view(_TIMESTAMP),
            "event_date": pa.array((np.asarray(times) // _MS_A_DAY).astype(np.int32)).view(pa.date32()),
            "received_at": pa.array(received_at_ms).view(_TIMESTAMP),
            "client_session_id": events.column("sessionId"),
            "user_id": events.column("userId"),
            "page": properties.get("page"),
            "search_query": properties.get("query"),
            "amount_cents": _amounts(events.column("eventType"), properties),
            "properties": events.column("properties"),
            "platform": context.field("platform"),
            "referrer": context.field("referrer"),
        }
        devices = self.devices.join(context.field("userAgent"))
        columns |= dict(zip(devices.schema.names, devices.columns, strict=True))
        columns |= self._product(properties) | self._place(context.field("ip"))
        return pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)

    def _product(self, properties: StringMap) -> dict[str, pa.Array]:
        product_ids = properties.get("productId")
        known = self.products.join(product_ids)
        prices_cents, prices = known.column("price_cents"), properties.get("price")
        if _has_values_for(prices_cents, prices):
            prices_cents = pc.coalesce(prices_cents, cents(prices))
        return {
            "product_id": product_ids,
            "product_brand": _coalesce(known.column("brand"), properties.get("brand")),
            "product_category": _coalesce(known.column("category"), properties.get("category")),
            "product_price_cents": prices_cents,
        }

    def _place(self, addresses: pa.StringArray) -> dict[str, pa.Array]:
        if self.places is None:
            nothing = pa.nulls(len(addresses), _TEXT)
            return {"country_code": nothing, "region": nothing}
        encoded = addresses.dictionary_encode()
        found = [self.places.find(address) for address in encoded.dictionary.to_pylist()] or [NOWHERE]
        return {
            "country_code": pa.array([place.country_code for place in found], _TEXT).take(encoded.indices),
            "region": pa.array([place.region for place in found], _TEXT).take(encoded.indices),
        }


def _has_values_for(known: pa.Array, given: pa.Array) -> bool:
    """Return whether any row that is not `known` is `given`: mostly none is, and to find that out is cheap."""
    if not known.null_count or given.null_count == len(given):
        return False
    return bool(pc.any(pc.and_(known.is_null(), given.is_valid())).as_py())


def _coalesce(known: pa.StringArray, given: pa.StringArray) -> pa.StringArray:
    return pc.coalesce(known, given) if _has_values_for(known, given) else known


def _amounts(event_types: pa.StringArray, properties: StringMap) -> pa.Int64Array:
    purchases = Text(event_types).rows_equal("purchase")
    of_row = np.full(len(event_types), -1, dtype=np.int64)
    of_row[purchases] = np.arange(len(purchases))
    amounts = cents(properties.get("amount").take(pa.array(purchases)))
    return amounts.take(pa.array(of_row, mask=of_row < 0))
