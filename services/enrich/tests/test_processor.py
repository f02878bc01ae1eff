"""The steps of enrich together, and its flow."""

from itertools import pairwise
from typing import Any, Final

from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from millrace_common.codec import Decoder, Encoder
from millrace_common.records import Assigned, Outcome, Partition, Polled, SinkItem, SourceItem, Tick
from millrace_common.testing import InMemorySchemas, Record, avro_datum, avro_value, polled, with_offsets
from millrace_enrich.enricher import Enricher
from millrace_enrich.flow import build_flow
from millrace_enrich.processor import EnrichProcessor
from millrace_enrich.products import ProductTable
from millrace_schemas import schema_text

EVENTS: Final = schema_text("user-events")
ENRICHED: Final = schema_text("user-events.enriched")
TOPIC: Final = "user-events.valid"
T0_MS: Final = 1_760_000_000_000


def new_processor() -> EnrichProcessor:
    decoder = Decoder(InMemorySchemas({1: EVENTS}), EVENTS, max_value_bytes=262_144, wait=lambda seconds: None)
    encoder = Encoder(ENRICHED, 2)
    return EnrichProcessor("user-events.enriched", decoder, Enricher(encoder.schema, ProductTable()), encoder)


def event(**changes: Any) -> dict[str, Any]:
    return {
        "eventId": "e-1",
        "userId": None,
        "sessionId": "s-1",
        "eventType": "purchase",
        "timestamp": T0_MS,
        "properties": {},
        "context": {"userAgent": "curl/8", "ip": "10.0.0.1", "platform": "web", "referrer": None},
    } | changes


def record(**changes: Any) -> Record:
    return Record(avro_value(EVENTS, 1, event(**changes)), b"s-1", 0, T0_MS + 7)


def step(processor: EnrichProcessor, item: SourceItem) -> SinkItem:
    return processor.encode(processor.enrich(processor.decode(item)))


def outcome(processor: EnrichProcessor, run: Polled) -> Outcome:
    result = step(processor, run)
    assert isinstance(result, Outcome)
    return result


texts = st.text(max_size=12)
names = st.one_of(st.sampled_from(["page", "productId", "query", "amount", "price", "brand", "category"]), texts)
values = st.one_of(texts, st.decimals(0, 10_000, places=2).map(str))
records = st.builds(
    lambda properties, timestamp, agent: record(
        properties=properties,
        timestamp=timestamp,
        context={"userAgent": agent, "ip": "", "platform": "", "referrer": None},
    ),
    st.dictionaries(names, values, max_size=9),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**40),
    texts,
)
garbage = st.binary().map(lambda data: Record(data, None, 0, T0_MS))
logs = st.lists(st.one_of(records, records, garbage), max_size=20).map(with_offsets)


@given(logs, st.lists(st.integers(0, 20)))
def test_every_record_is_forwarded_or_dead_whatever_the_batches(log: list[Record], borders: list[int]) -> None:
    processor = new_processor()
    whole = outcome(processor, polled(TOPIC, log))
    assert whole.counts.balanced
    assert whole.counts.read == len(log)
    edges = sorted({0, len(log), *(border for border in borders if border <= len(log))})
    parts = [outcome(processor, polled(TOPIC, log[start:end])) for start, end in pairwise(edges)]
    assert [v for part in parts for o in part.outputs for v in o.values] == [v for o in whole.outputs for v in o.values]
    dead = [(part.records[r.row].offset(), r.reason) for part in parts for r in part.rejects]
    assert dead == [(r.row, r.reason) for r in whole.rejects]


@given(st.dictionaries(names, values, max_size=9))
def test_an_event_says_what_its_properties_say(properties: dict[str, str]) -> None:
    (output,) = outcome(new_processor(), polled(TOPIC, [record(properties=properties)])).outputs
    (value,) = output.values
    assert value is not None
    enriched = avro_datum(ENRICHED, value)
    assert enriched["properties"] == properties
    for column, name in (("page", "page"), ("product_id", "productId"), ("search_query", "query")):
        assert enriched[column] == (properties.get(name) or None)
    for column, name in (("product_brand", "brand"), ("product_category", "category")):
        assert enriched[column] == (properties.get(name) or None)


def test_raw_ip_and_user_agent_end_here() -> None:
    (output,) = outcome(new_processor(), polled(TOPIC, [record()])).outputs
    (value,) = output.values
    assert value is not None
    assert b"10.0.0.1" not in value
    assert b"curl/8" not in value


def test_received_at_is_the_record_timestamp() -> None:
    (output,) = outcome(new_processor(), polled(TOPIC, [record()])).outputs
    (value,) = output.values
    assert value is not None
    assert avro_datum(ENRICHED, value)["received_at"] == T0_MS + 7


def test_the_flow_emits_one_outcome_for_each_run_in_order() -> None:
    out: list[SinkItem] = []
    partition = Partition(TOPIC, 0)
    items: list[SourceItem] = [Assigned(partition, 1, None), polled(TOPIC, [record()]), Tick(partition, 1, 1, T0_MS, 0)]
    run_main(build_flow(TestingSource(items), TestingSink(out), new_processor()))  # type: ignore[no-untyped-call]
    assert [type(item) for item in out] == [Assigned, Outcome, Tick]


def test_step_ids_stay_as_they_are() -> None:
    flow = build_flow(TestingSource([]), TestingSink([]), new_processor())
    names = [step.step_id.removeprefix("millrace_enrich.") for step in flow.substeps]
    assert names == ["read_records", "decode_events", "enrich_events", "encode_events", "commit_outcomes"]
