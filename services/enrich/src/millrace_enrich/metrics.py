"""Metrics of enrich, beside those of every service in millrace_common.metrics."""

from typing import Final

from millrace_common import metrics

PRODUCTS: Final = metrics.gauge(
    "millrace_enrich_products",
    "Products in the table that is joined to events.",
    what_to_do="0 while the shop has products: the products topic is empty, or nobody may read it.",
)
PRODUCTS_REJECTED: Final = metrics.counter(
    "millrace_enrich_products_rejected_total",
    "Product records that could not be read; the facts known before stay.",
    what_to_do="The log names offset and reason of each; mend the producer and send the product again.",
    labels=("reason",),
)
