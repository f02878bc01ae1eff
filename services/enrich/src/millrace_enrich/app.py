"""The enrich process: real parts from settings, then the flow."""

import logging
import threading

from bytewax.dataflow import Dataflow

from millrace_common.service import Parts, run
from millrace_enrich.enricher import Enricher
from millrace_enrich.flow import build_flow
from millrace_enrich.places import Places
from millrace_enrich.processor import EnrichProcessor
from millrace_enrich.products import ProductFeed, ProductTable, product_consumer
from millrace_enrich.settings import EnrichSettings

_log = logging.getLogger(__name__)


def build(parts: Parts, settings: EnrichSettings) -> Dataflow:
    """Return the flow of enrich between real ends; returns when the products topic was read to its end.

    Raises:
        StartupError: a topic, a subject or the geo database is missing, or the topics differ in partitions.
    """
    valid, enriched = settings.topic("user-events.valid"), settings.topic("user-events.enriched")
    parts.refuse_uneven_topics(valid, enriched)
    encoder = parts.encoder("user-events.enriched")
    feed = _read_products(parts, settings)
    processor = EnrichProcessor(
        topic=enriched,
        decoder=parts.decoder("user-events"),
        enricher=Enricher(encoder.schema, feed.table, _places(settings)),
        encoder=encoder,
        feed=feed,
    )
    source = parts.source([valid], outputs={valid: enriched})
    return build_flow(source, parts.sink(source, [enriched]), processor)


def main(stopping: threading.Event) -> int:
    """Run enrich until `stopping` is set; return its exit code."""
    return run("enrich", EnrichSettings, build, stopping)


def _read_products(parts: Parts, settings: EnrichSettings) -> ProductFeed:
    topic = settings.topic("products")
    partitions = parts.topology.partition_counts([topic])[topic]
    consumer = product_consumer(parts.client, topic, partitions)
    parts.on_close(consumer.close)
    feed = ProductFeed(consumer, parts.decoder("products"), ProductTable(), partitions)
    feed.read_to_end(going_on=lambda: parts.wait(0))
    return feed


def _places(settings: EnrichSettings) -> Places | None:
    if settings.geo_database is None:
        _log.info("no GEO_DATABASE: country_code and region stay null")
        return None
    return Places(settings.geo_database)
