"""The job enrich with Bytewax as its guides write it: a record at a time, between its own Kafka connectors.

At least once, by Bytewax's recovery store.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.dataflow import Dataflow

import bytewax_running
import framing
from plain_enrich import Product, enriched, read_products

# More than the default of 1,000: the sink waits for its deliveries after each batch, and more records share that.
_BATCH_RECORDS: Final = 5_000


def build_flow(products: Mapping[str, Product]) -> Dataflow:
    """Wire user events to enriched events."""
    decode, encode = framing.input_decoder(), framing.output_encoder()

    def enrich(message: KafkaSourceMessage[bytes, bytes]) -> KafkaSinkMessage[bytes, bytes] | None:
        event = enriched(decode(message.value), products)
        return KafkaSinkMessage(message.key, encode(event)) if event else None

    flow = Dataflow("enrich")
    events = bytewax_running.read(flow, _BATCH_RECORDS)
    bytewax_running.write("write_enriched", op.filter_map("enrich_event", events, enrich))
    return flow


def main() -> None:
    """Read the products, then run until killed."""
    # No state but offsets: they can be stored as often as the others commit.
    bytewax_running.run(build_flow(read_products()), timedelta(seconds=framing.COMMIT_SECONDS))


if __name__ == "__main__":
    main()
