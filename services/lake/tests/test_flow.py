"""The whole flow on an in-memory source, with real tables behind it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from bytewax.testing import TestingSource, run_main

from millrace_common.assignments import Assignments
from millrace_common.brake import Brake
from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Assigned, Committed, Partition, Polled, Replayed, SourceItem, Span, Tick
from millrace_common.testing import InMemorySchemas, Record
from millrace_lake.dead_letters import Burial
from millrace_lake.flow import build_flow
from millrace_lake.loading import Feed, Loader
from millrace_lake.pacing import Limits
from millrace_lake.sink import LakeSink, SinkConfig
from millrace_lake.tables import tables
from millrace_lake.writer import Store, TableWriter
from millrace_schemas import schema_text

GENERATION = 1


class Effects:
    """What the flow does to Kafka, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def positions(self, partitions: Any) -> dict[Partition, int]:
        return {}

    def commit(self, burial: Burial) -> None:
        self.seen.append(("dead letters", [letter.record.offset() for letter in burial.letters]))

    def commit_group(self, committed: Mapping[Partition, Committed]) -> None:
        self.seen.append(("group", {partition: place.offset for partition, place in committed.items()}))


def test_records_of_two_topics_become_rows_of_two_tables(
    store: Store, session_rows: Callable[..., pa.RecordBatch]
) -> None:
    texts = {1: schema_text("session-metrics"), 2: schema_text("transactions")}
    registry = InMemorySchemas(texts)
    writers = {spec.topic: TableWriter(spec, store) for spec in tables(["sessions", "transactions"])}
    sessions, orders = Partition("session-metrics", 0), Partition("transactions.valid", 0)
    assert writers[sessions.topic].positions(["s-0"]) == {"s-0": None}
    assert writers[orders.topic].positions(["o-0"]) == {"o-0": None}
    encoder = Encoder(texts[1], 1)
    rows = session_rows(["a", "b", "c"]).drop_columns(["session_date"])
    values = encoder.encode(rows.cast(encoder.schema))
    order = {
        "transactionId": "t1",
        "userId": "u1",
        "orderItems": [{"productId": "7", "quantity": 2, "price": 19.99, "category": "shoes"}],
        "totalAmount": 39.98,
        "currency": "EUR",
        "paymentMethod": "card",
        "status": "paid",
        "timestamp": 1_772_370_000_123,
    }
    order_encoder = Encoder(texts[2], 2)
    order_values = order_encoder.encode(pa.RecordBatch.from_pylist([order], schema=order_encoder.schema))

    def run(partition: Partition, values: Sequence[bytes], first: int) -> Polled:
        records = [Record(value, None, first + number) for number, value in enumerate(values)]
        return Polled(Span(partition, GENERATION, first, first + len(values)), records)

    items: list[SourceItem] = [
        item
        for partition in (sessions, orders)
        for item in (Assigned(partition, GENERATION, None), Replayed(partition, GENERATION, 0, None))
    ]
    items += [
        run(sessions, values[:2], 0),
        run(orders, order_values, 0),
        run(sessions, [b"junk", values[2]], 2),
        Tick(sessions, GENERATION, 5, 0, 0),
    ]
    effects, assignments = Effects(), Assignments()
    assignments.topic_ids = {sessions.topic: "s", orders.topic: "o"}
    assignments._generations = {sessions: GENERATION, orders: GENERATION}
    assignments.committed = {sessions: None, orders: None}
    sink = LakeSink(
        config=SinkConfig("lake-0", "dead-letters", Limits(100, 1_000_000, 1e9), 0),
        assignments=assignments,
        writers=writers,
        dead_letters=effects,
        commit_group=effects.commit_group,
        brake=Brake(1_000, 0.5),
    )
    feeds = {
        topic: Feed(
            Decoder(registry, schema_text(writer.spec.subject), max_value_bytes=10_000, wait=lambda seconds: None),
            writer,
        )
        for topic, writer in writers.items()
    }
    run_main(build_flow(TestingSource(items), sink, Loader(feeds)))  # type: ignore[no-untyped-call]
    assert effects.seen == []  # nothing was due before the end
    sink.commits.close()
    assert effects.seen == [("dead letters", [2]), ("group", {sessions: 5}), ("group", {orders: 1})]
    read = {name: pl.scan_delta(store.table_uri(name)).collect() for name in ("sessions", "transactions")}
    assert sorted(read["sessions"]["session_id"]) == ["a", "b", "c"]
    assert read["transactions"]["total_amount"].to_list()[0] * 100 == 3998
