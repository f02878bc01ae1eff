"""The job enrich with Quix Streams: a step and a lookup join per record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quixstreams.dataframe.joins.lookups import BaseField, BaseLookup

import framing
import quix_running
from plain_enrich import UNKNOWN, Product, enriched, read_products


@dataclass(frozen=True)
class Fact(BaseField):
    """One fact of a product: its place in the tuple."""

    at: int


_FACTS: Final = {"product_brand": Fact(0), "product_category": Fact(1), "product_price_cents": Fact(2)}


class Products(BaseLookup[Fact]):
    """The products, in memory."""

    def __init__(self, products: Mapping[str, Product]) -> None:
        """Look up in `products`."""
        self._products = products

    def join(
        self, fields: Mapping[str, Fact], on: str, value: framing.Datum, key: Any, timestamp: int, headers: Any
    ) -> None:
        """Put the facts of the product `on` into `value`."""
        product = self._products.get(on, UNKNOWN)
        for name, fact in fields.items():
            value[name] = product[fact.at]


def main() -> None:
    """Read the products, then run until SIGTERM."""
    app = quix_running.application()
    events = app.dataframe(quix_running.input_topic(app, framing.input_decoder()))
    events = events.apply(lambda event: enriched(event, {})).filter(bool)
    events = events.join_lookup(Products(read_products()), _FACTS, on="product_id")
    events.to_topic(quix_running.output_topic(app))
    app.run()


if __name__ == "__main__":
    main()
